"""Exact marginals of q, and VSBC (Yao, Vehtari, Simpson and Gelman 2018).

VSBC needs p = Q(theta*), one number for each component of the truth, component of q,
and coordinate.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from vi_bench.comparison.quantities import WEIGHT, flatten
from vi_bench.enumeration.posterior import univariate
from vi_bench.errors import NotApplicable
from vi_bench.mixture.compared_quantities import Coordinates, columns_of
from vi_bench.mixture.mixture import Factors, Mixture
from vi_bench.mixture.types import Parameters

Distribution = Callable[[Array], Array]


def marginals(mixture: Mixture, q: Factors) -> dict[str, Any]:
    """Parameter -> univariate distributions of its coordinates under q.

    Parameters that are drawn given another one, and matrices, are left out.
    """
    family, found = mixture.family, {}
    for name, factor in family.factors(family.describe(q.components)).items():
        if not hasattr(factor, "log_prob") or "component" not in family.dims[name]:
            continue
        try:
            marginal = univariate(factor, name)
            marginal.cdf(jnp.full(marginal.batch_shape, 0.5))
        except (NotApplicable, NotImplementedError):
            continue
        found[name] = marginal
    return found


def normal_means(
    mixture: Mixture, q: Factors, coordinates: Coordinates
) -> dict[str, tuple[Array, Array]]:
    """Quantity -> mean and sd under q, of the quantities that are Normal under q.

    These are averages over components of independent Normals, with fixed weights.
    """
    import numpyro.distributions as dist

    if mixture.prior_sticks().shape[1]:
        return {}
    found = {}
    compared = mixture.family.compared(mixture.family.centre(q.components))
    for name, normal in marginals(mixture, q).items():
        if not isinstance(normal, dist.Normal) or name not in compared:
            continue
        shape = normal.batch_shape
        mean = jnp.broadcast_to(normal.loc, shape).mean(axis=0)
        sd = jnp.sqrt(jnp.sum(jnp.broadcast_to(normal.scale, shape) ** 2, axis=0))
        for label, value in _named(mixture, name, mean, coordinates).items():
            spread = _named(mixture, name, sd / mixture.components, coordinates)
            found[f"mean {label}"] = (value, spread[label])
    return found


def _named(
    mixture: Mixture, name: str, values: Array, coordinates: Coordinates
) -> dict[str, Array]:
    """Label -> value, of a parameter that is given without its component axis."""
    dims = mixture.family.dims[name][1:]
    _, shared = flatten({name: (values[None, None], dims)}, coordinates)
    return {label: v[0, 0] for label, v in shared.items()}


def pairs(
    mixture: Mixture,
    q: Factors | None,
    draws: Parameters,
    truth: Parameters,
    coordinates: Coordinates,
) -> dict[str, Float[Array, "..."]]:
    """The p-values Q_j(theta*_k) for all components k of the truth and j of q.

    Args:
        mixture: the mixture.
        q: q as factors, if it is known in that form: the exact distribution function is
            then used where there is one.
        draws: draws from q (draws, *dims).
        truth: the true parameters theta*.
        coordinates: dimension of the family -> labels along it.

    Returns:
        "p" (F, K, K), "centre" (F, K), q's mean by component, and "cost" (K, K), the
        squared distance of k and j in q's sds, times the sum of their weights where
        these are drawn. The F coordinates are those of `coordinates_compared`.
    """
    of_q, _ = columns_of(mixture, draws, coordinates)
    of_truth, _ = columns_of(
        mixture, {name: v[None] for name, v in truth.items()}, coordinates
    )
    weight = of_q.pop(WEIGHT, None)
    known = {} if q is None else _exact(mixture, q, truth, coordinates)
    cost, p, centre = jnp.zeros(()), [], []
    for label, values in of_q.items():
        own = of_truth[label][0]
        mean = values.mean(axis=0)
        gap = (own[:, None] - mean) / jnp.maximum(values.std(), 1e-300)
        cost = cost + gap**2
        below = jnp.mean(values[:, None, :] < own[:, None], axis=0)
        p.append(known.get(label, below))
        centre.append(mean)
    if weight is not None:
        cost = cost * (of_truth[WEIGHT][0][:, None] + weight.mean(axis=0))
    return {"p": jnp.stack(p), "centre": jnp.stack(centre), "cost": cost}


def coordinates_compared(
    mixture: Mixture, theta: Parameters, coordinates: Coordinates
) -> list[str]:
    """Names of the F coordinates of `pairs`, in its order, given one theta."""
    columns, _ = columns_of(
        mixture, {name: v[None] for name, v in theta.items()}, coordinates
    )
    return [label for label in columns if label != WEIGHT]


def _exact(
    mixture: Mixture, q: Factors, truth: Parameters, coordinates: Coordinates
) -> dict[str, Array]:
    """Label -> Q_j(theta*_k) (K, K) by the exact marginal distribution function.

    Labels of logarithms are included, as some families compare these; p is the same.
    """
    found: dict[str, Array] = {}
    for name, marginal in marginals(mixture, q).items():
        p = marginal.cdf(truth[name][:, None])
        dims = mixture.family.dims[name]
        columns, _ = flatten({name: (jnp.moveaxis(p, 1, 0)[None], dims)}, coordinates)
        for label, value in columns.items():
            found[label] = found[f"log {label}"] = value[0].T
    return found
