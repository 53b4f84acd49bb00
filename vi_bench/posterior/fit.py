"""A fit of a model by hand: q by site, and the trace of its bound."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpyro import distributions as dist
from numpyro.distributions import constraints

from vi_bench.errors import ModelError, unknown
from vi_bench.posterior.structure import Site
from vi_bench.runtime.keys import Key

FORM = "{'q': {site: distribution}, 'elbo': trace}"

KEYS = ("q", "elbo", "form", "bound")
"""What a fit may return: q and its bound; also what kind of bound it is, and the bound
as a function of q, which only a verification uses."""

BY_PARAMETERS: dict[frozenset[str], Callable[..., Any]] = {
    frozenset({"loc", "scale"}): dist.Normal,
    frozenset({"loc", "covariance_matrix"}): dist.MultivariateNormal,
    frozenset({"loc", "precision_matrix"}): dist.MultivariateNormal,
    frozenset({"loc", "scale_tril"}): dist.MultivariateNormal,
    frozenset({"value"}): dist.Delta,
    frozenset({"concentration", "rate"}): dist.Gamma,
    frozenset({"concentration", "scale_tril"}): dist.Wishart,
    frozenset({"concentration", "scale_matrix"}): dist.Wishart,
    frozenset({"concentration", "rate_matrix"}): dist.Wishart,
    frozenset({"loc", "scale", "low", "high"}): dist.TruncatedNormal,
    frozenset({"total_count", "probs"}): dist.MultinomialProbs,
    frozenset({"concentration"}): dist.Dirichlet,
    frozenset({"concentration1", "concentration0"}): dist.Beta,
    frozenset({"rate"}): dist.Exponential,
    frozenset({"df", "loc", "scale"}): dist.StudentT,
    frozenset({"probs"}): dist.CategoricalProbs,
    frozenset({"logits"}): dist.CategoricalLogits,
}
"""Names of the parameters in a plain dict -> the distribution that is meant."""

OF_SCIPY: dict[str, Callable[..., Any]] = {
    "norm": lambda loc, scale: dist.Normal(loc, scale),
    "halfnorm": lambda loc, scale: _at_0("halfnorm", loc, dist.HalfNormal(scale)),
    "expon": lambda loc, scale: _at_0("expon", loc, dist.Exponential(1 / scale)),
    "gamma": lambda a, loc, scale: _at_0("gamma", loc, dist.Gamma(a, 1 / scale)),
    "invgamma": lambda a, loc, scale: _at_0(
        "invgamma", loc, dist.InverseGamma(a, scale)
    ),
    "lognorm": lambda s, loc, scale: _at_0(
        "lognorm", loc, dist.LogNormal(jnp.log(scale), s)
    ),
    "beta": lambda a, b, loc, scale: _at_0("beta", loc, dist.Beta(a, b), scale=scale),
    "t": lambda df, loc, scale: dist.StudentT(df, loc, scale),
    "uniform": lambda loc, scale: dist.Uniform(loc, loc + scale),
    "truncnorm": lambda a, b, loc, scale: dist.TruncatedNormal(
        loc, scale, low=loc + a * scale, high=loc + b * scale
    ),
    "bernoulli": lambda p, loc, _: _at_0("bernoulli", loc, dist.BernoulliProbs(p)),
    "poisson": lambda mu, loc, _: _at_0("poisson", loc, dist.Poisson(mu)),
    "binom": lambda n, p, loc, _: _at_0("binom", loc, dist.BinomialProbs(p, n)),
}
"""Name of a frozen SciPy distribution -> the same one, from its parameters."""


class Fit(NamedTuple):
    """A fitted q, and its bound.

    Attributes:
        q: site -> its distribution; sites are independent of each other.
        elbo: the bound by iteration, nats; empty if it was not given.
    """

    q: dict[str, Any]
    elbo: Float[Array, " iterations"]


def entries(returned: Any, sites: Sequence[Site], where: str) -> dict[str, Any]:
    """Q by site, from what a user's function returned.

    Args:
        returned: {"q": {site: distribution}, "elbo": trace}. A distribution is
            NumPyro's, a frozen one of SciPy, or a dict of its parameters by NumPyro's
            names; or a function of other sites, by the names of its arguments, that
            gives one. Discrete sites may be left out.
        sites: latent variables of the model.
        where: the function, for messages.

    Raises:
        InputError: it has another form, lacks a site, or has one of another shape.
    """
    if not isinstance(returned, Mapping):
        raise ModelError(f"{where}: returned {_kind(returned)}; expected {FORM}")
    if odd := [str(k) for k in returned if k not in KEYS]:
        raise unknown("key", odd[0], KEYS, where, error=ModelError)
    given = returned.get("q")
    if not isinstance(given, Mapping):
        raise ModelError(f"{where}: q is {_kind(given)}; expected {FORM}")
    known = {site.name: site for site in sites}
    for name in given:
        if name not in known:
            raise unknown("site", str(name), known, f"q of {where}", error=ModelError)
    q = {}
    for site in sites:
        if site.name not in given:
            if site.discrete:
                continue
            raise ModelError(
                f"{where}: q has no {site.name!r}; expected a distribution for each of "
                f"{', '.join(s.name for s in sites if not s.discrete)}"
            )
        entry = given[site.name]
        if inspect.isfunction(entry):
            _check_conditional(entry, site.name, given, where)
            q[site.name] = entry
            continue
        own = f"{where}: q of {site.name!r}"
        q[site.name] = check_shape(distribution(entry, own, site), site, own)
    return q


def check_shape(found: Any, site: Site, where: str) -> Any:
    """The distribution itself.

    Raises:
        InputError: its draws do not have the shape of the site.
    """
    if tuple(found.shape()) != site.shape:
        raise ModelError(
            f"{where} has the shape {tuple(found.shape())}; expected {site.shape}, as "
            "in the model"
        )
    return found


def _check_conditional(
    entry: Callable[..., Any], name: str, given: Mapping[str, Any], where: str
) -> None:
    """Check that the arguments of an entry that is a function are other sites.

    Raises:
        InputError: one of them is not, or itself a function.
    """
    for needed in inspect.signature(entry).parameters:
        if needed not in given or inspect.isfunction(given[needed]):
            raise ModelError(
                f"{where}: q of {name!r} is a function of {needed!r}; expected sites "
                "of q that are distributions"
            )


def read_fit(returned: Any, sites: Sequence[Site], where: str) -> Fit:
    """A fit whose sites are independent; discrete ones, summed out, are not used.

    Args:
        returned: see `entries`.
        sites: latent variables of the model.
        where: the function, for messages.

    Raises:
        InputError: it has another form, lacks a site, or has one of another shape.
    """
    q = entries(returned, sites, where)
    discrete = {site.name for site in sites if site.discrete}
    for name, entry in q.items():
        if name not in discrete and inspect.isfunction(entry):
            raise ModelError(
                f"{where}: q of {name!r} depends on other sites; expected a "
                "distribution (verify takes functions)"
            )
    elbo = np.atleast_1d(np.asarray(returned.get("elbo", ()), float))
    if elbo.ndim != 1:
        raise ModelError(f"{where}: elbo has the shape {elbo.shape}; expected a trace")
    kept = {name: entry for name, entry in q.items() if name not in discrete}
    return Fit(kept, jnp.asarray(elbo))


def draw(key: Key, q: Mapping[str, Any]) -> tuple[dict[str, Array], Float[Array, ""]]:
    """One draw from q, and log q of it."""
    theta, log_q = {}, jnp.zeros(())
    for own, (name, distribution) in zip(
        jax.random.split(key, len(q)), q.items(), strict=True
    ):
        theta[name] = distribution.sample(own)
        log_q += jnp.sum(distribution.log_prob(theta[name]))
    return theta, log_q


def distribution(given: Any, where: str, site: Site) -> Any:
    """A NumPyro distribution for a site, from any form that is taken.

    Raises:
        InputError: it has none of them.
    """
    if isinstance(given, dist.Distribution):
        return given
    if isinstance(given, Mapping):
        kind = BY_PARAMETERS.get(frozenset(map(str, given)))
        if kind is None:
            forms = "; ".join(
                f"{', '.join(sorted(names))} ({_called(kind)})"
                for names, kind in BY_PARAMETERS.items()
            )
            raise ModelError(
                f"{where}: parameters {', '.join(map(str, given))}; expected one of: "
                f"{forms}"
            )
        values = {str(k): jnp.asarray(v, float) for k, v in given.items()}
        if set(values) == {"probs"} and values["probs"].shape == site.shape:
            kind = dist.BernoulliProbs
        kind = _of_prior(kind, site, where)
        try:
            return kind(**values)
        except (TypeError, ValueError) as error:  # of shapes, or of values
            raise ModelError(f"{where}: {_with_values(error, values)}") from None
    if type(given).__module__.startswith("scipy.stats"):
        return _from_scipy(given, where)
    raise ModelError(
        f"{where}: {_kind(given)}; expected a distribution of NumPyro or SciPy, or a "
        "dict of its parameters"
    )


def _called(kind: Any) -> str:
    return str(kind.__name__).removesuffix("Probs").removesuffix("Logits")


def _with_values(error: Exception, values: Mapping[str, Array]) -> str:
    """What NumPyro says of a parameter, and what its values are."""
    text = str(error).rstrip(".")
    found = re.search(r"got invalid (\w+) parameter", text)
    if found is None or found[1] not in values:
        return text
    numbers = np.asarray(values[found[1]])
    lost = int(np.sum(~np.isfinite(numbers)))
    if lost:
        return f"{text}: {lost} of {numbers.size} values not finite"
    return f"{text}: the least is {numbers.min():.3g}"


def _of_prior(kind: Any, site: Site, where: str) -> Any:
    """The distribution that parameters mean, where the prior's class has their names.

    Raises:
        InputError: they are those of a normal, and the variable is positive.
    """
    if kind is dist.Gamma and site.kind is dist.InverseGamma:
        return dist.InverseGamma
    if kind is dist.Normal and site.kind is dist.LogNormal:
        return dist.LogNormal
    if (
        kind is dist.Normal
        and getattr(site.kind, "support", None) is constraints.positive
    ):
        raise ModelError(
            f"{where}: loc and scale of a variable that is positive; expected a "
            "distribution, such as dist.LogNormal(loc, scale)"
        )
    return kind


def _from_scipy(given: Any, where: str) -> Any:
    if hasattr(given, "alpha"):
        return dist.Dirichlet(jnp.asarray(given.alpha))
    if hasattr(given, "_dist") and type(given).__name__ == "multinomial_frozen":
        return dist.MultinomialProbs(jnp.asarray(given.p), jnp.asarray(given.n))
    if hasattr(given, "cov_object"):
        mean, cov = jnp.asarray(given.mean), jnp.asarray(given.cov_object.covariance)
        return dist.MultivariateNormal(mean, cov)
    name = getattr(getattr(given, "dist", None), "name", "")
    if name not in OF_SCIPY:
        raise ModelError(
            f"{where}: SciPy's {name or type(given).__name__}; expected one of "
            f"{', '.join([*OF_SCIPY, 'dirichlet', 'multivariate_normal'])}"
        )
    shapes, loc, scale = given.dist._parse_args(*given.args, **given.kwds)
    try:
        return OF_SCIPY[name](*map(jnp.asarray, (*shapes, loc, scale)))
    except ValueError as error:
        raise ModelError(f"{where}: {error}") from None


def _at_0(name: str, loc: Any, found: Any, scale: Any = 1.0) -> Any:
    """A distribution that NumPyro has without a location, or a scale."""
    for what, value, usual in (("loc", loc, 0), ("scale", scale, 1)):
        if np.any(np.asarray(value) != usual):
            raise ValueError(
                f"SciPy's {name} with {what} = {value}; expected {what} = {usual}"
            )
    return found


def _kind(given: Any) -> str:
    name = type(given).__name__
    return f"{'an' if name[:1] in 'aeiouAEIOU' else 'a'} {name}"
