"""The factors of a user's q: draws, log densities, and what their parameters are.

The parameters are the arrays that a factor's log density depends on, whatever names
its distribution gives them. A factor that is a function of other sites, such as q(w |
z) of spike and slab, keeps its parameters in the function's closure: they are what
tracing finds there.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array, Float

from vi_bench.posterior.fit import check_shape
from vi_bench.posterior.structure import Site, bare
from vi_bench.runtime.keys import Key
from vi_bench.verification.sandbox import Broken

Values = Mapping[str, Array]
"""Name of a site -> its value."""

FIXED = ("low", "high", "support", "_support", "transforms", "total_count", "df")
"""Fields of distributions that are the form of q, and not moved by ascent."""


@dataclass(frozen=True)
class Factor:
    """The part of q for one site.

    Attributes:
        site: name of the site.
        names: name of each array of parameters.
        leaves: the arrays, in 64 bits.
        fixed: arrays that are no parameters, such as limits of a support.
        point: whether it is a point estimate.
        log_prob: (leaves, fixed, value, values of other sites) -> log density, summed.
        sample: (leaves, fixed, key, values of other sites) -> a draw.
        eps: machine epsilon of the least precise array, as it was given.
        alike: what factors have in common whose functions are the same; None if that
            is not known.
    """

    site: str
    names: tuple[str, ...]
    leaves: tuple[Array, ...]
    fixed: tuple[Array, ...]
    point: bool
    log_prob: Callable[..., Float[Array, ""]]
    sample: Callable[..., Array]
    eps: float
    alike: Hashable

    def flat_names(self) -> list[str]:
        """A name for every scalar parameter, in the order of the flattened leaves."""
        return [
            f"{name}[{', '.join(map(str, index))}]" if index else name
            for name, leaf in zip(self.names, self.leaves, strict=True)
            for index in np.ndindex(leaf.shape)
        ]


def factors_of(q: Mapping[str, Any], sites: Sequence[Site]) -> tuple[Factor, ...]:
    """The factors of q, those that are functions of others last.

    Args:
        q: site -> a NumPyro distribution, or a function of other sites that gives one.
        sites: latent variables of the model.

    Raises:
        Broken: an array of parameters is not finite, or a function does not give a
            distribution of the site's shape.
    """
    known = {site.name: site for site in sites}
    plain = {n: _plain(n, d) for n, d in q.items() if not inspect.isfunction(d)}
    drawn = draw(list(plain.values()), jax.random.key(0))
    tied = [
        _conditional(known[name], function, drawn)
        for name, function in q.items()
        if inspect.isfunction(function)
    ]
    found = (*plain.values(), *tied)
    for factor in found:
        for name, leaf in zip(factor.names, factor.leaves, strict=True):
            if not bool(jnp.all(jnp.isfinite(leaf))):
                lost = int(jnp.sum(~jnp.isfinite(leaf)))
                raise Broken(
                    f"q of {factor.site!r}: {name} has {lost} values not finite"
                )
    return found


def _plain(site: str, given: Any) -> Factor:
    """The factor of a distribution."""
    if isinstance(core := bare(given), dist.Delta):
        return _point(site, jnp.broadcast_to(jnp.asarray(core.v), given.shape()))
    leaves, shape = jax.tree.flatten(given)
    named = _names(given)
    if len(named) != len(leaves):  # a class with its own way to flatten
        named = [f"parameter {i}" for i in range(len(leaves))]
    whole = [_wide(leaf) for leaf in leaves]
    moved = [
        i
        for i, leaf in enumerate(whole)
        if named[i].rpartition(".")[2] not in FIXED
        and jnp.issubdtype(leaf.dtype, jnp.floating)
    ]

    still = [i for i in range(len(whole)) if i not in moved]

    def filled(own: Sequence[Array], fixed: Sequence[Array]) -> Any:
        every = list(whole)
        for place, leaf in zip((*moved, *still), (*own, *fixed), strict=True):
            every[place] = leaf
        return jax.tree.unflatten(shape, every)

    def log_prob(
        own: Sequence[Array], fixed: Sequence[Array], value: Array, _: Values
    ) -> Float[Array, ""]:
        return jnp.sum(filled(own, fixed).log_prob(value))

    def sample(
        own: Sequence[Array], fixed: Sequence[Array], key: Key, _: Values
    ) -> Array:
        found: Array = filled(own, fixed).sample(key)
        return found

    return Factor(
        site=site,
        names=tuple(named[i] for i in moved),
        leaves=tuple(whole[i] for i in moved),
        fixed=tuple(whole[i] for i in still),
        point=False,
        log_prob=log_prob,
        sample=sample,
        eps=_eps(leaves),
        alike=_hashable((site, shape, tuple(moved))),
    )


def _hashable(given: tuple[Any, ...]) -> Hashable:
    """The same, or None: some distributions have arrays among what is static."""
    try:
        hash(given)
        return given if given == given else None
    except (TypeError, ValueError):
        return None


def _point(site: str, value: Array) -> Factor:
    """The factor of a point estimate: of no entropy, its parameter its value."""
    wide = _wide(value)
    return Factor(
        site=site,
        names=("value",),
        leaves=(wide,),
        fixed=(),
        point=True,
        log_prob=lambda own, fixed, value, _: jnp.zeros(()),
        sample=lambda own, fixed, key, _: own[0],
        eps=_eps([value]),
        alike=(site, "point"),
    )


def _conditional(site: Site, function: Callable[..., Any], drawn: Values) -> Factor:
    """The factor of a function of other sites, which gives a distribution."""
    needs = tuple(inspect.signature(function).parameters)
    where = f"q of {site.name!r}"

    def at(values: Values) -> Any:
        found = function(*(values[name] for name in needs))
        if not isinstance(found, dist.Distribution):
            raise Broken(f"{where} gave a {type(found).__name__}, not a distribution")
        return check_shape(found, site, where)

    value = at(drawn).sample(jax.random.key(1))
    given = {name: drawn[name] for name in needs}
    closed = jax.make_jaxpr(lambda v, given: jnp.sum(at(given).log_prob(v)))(
        value, given
    )
    consts = [jnp.asarray(c) for c in closed.consts]
    moved = [i for i, c in enumerate(consts) if jnp.issubdtype(c.dtype, jnp.floating)]

    def log_prob(
        own: Sequence[Array], _: Sequence[Array], value: Array, values: Values
    ) -> Float[Array, ""]:
        every = list(consts)
        for place, leaf in zip(moved, own, strict=True):
            every[place] = leaf.astype(consts[place].dtype)
        inputs = jax.tree.leaves((value, {name: values[name] for name in needs}))
        inputs = [
            jnp.asarray(v, a.dtype)
            for v, a in zip(inputs, closed.in_avals, strict=True)
        ]
        found: Array
        (found,) = jax.core.eval_jaxpr(closed.jaxpr, every, *inputs)
        return found

    return Factor(
        site=site.name,
        names=_closure_names(function, [consts[i] for i in moved]),
        leaves=tuple(_wide(consts[i]) for i in moved),
        fixed=(),
        point=False,
        log_prob=log_prob,
        sample=lambda own, fixed, key, values: at(values).sample(key),
        eps=_eps([consts[i] for i in moved]),
        alike=None,
    )


def draw(
    factors: Sequence[Factor],
    key: Key,
    parameters: Sequence[tuple[Sequence[Array], Sequence[Array]]] | None = None,
) -> dict[str, Array]:
    """One draw of all sites.

    Args:
        factors: the factors of q.
        key: a random key.
        parameters: `leaves` and `fixed` of each; by default those that it has.
    """
    if parameters is None:
        parameters = [(f.leaves, f.fixed) for f in factors]
    values: dict[str, Array] = {}
    keys = jax.random.split(key, len(factors))
    for own, factor, given in zip(keys, factors, parameters, strict=True):
        values[factor.site] = factor.sample(*given, own, values)
    return values


def _names(given: Any, prefix: str = "") -> list[str]:
    """Names of the leaves of a distribution, in the order of its flattening."""
    found: list[str] = []
    for name in type(given).gather_pytree_data_fields():
        value = given.__dict__.get(name)
        label = f"{prefix}{name}"
        if isinstance(value, dist.Distribution):
            inside = "" if name in ("base_dist", "_dirichlet") else f"{label}."
            found += _names(value, inside)
        else:
            found += [label] * len(jax.tree.leaves(value))
    return found


def _closure_names(
    function: Callable[..., Any], arrays: Sequence[Array]
) -> tuple[str, ...]:
    """Names of arrays that a function has from around it."""
    around = inspect.getclosurevars(function)
    known = {**around.globals, **around.nonlocals}
    found = []
    for i, array in enumerate(arrays):
        same = [
            name
            for name, value in known.items()
            if hasattr(value, "shape")
            and value.shape == array.shape
            and np.array_equal(np.asarray(value), np.asarray(array))
        ]
        found.append(same[0] if same else f"array {i}")
    return tuple(found)


def _wide(leaf: Any) -> Array:
    """An array of numbers in 64 bits."""
    array = jnp.asarray(leaf)
    if jnp.issubdtype(array.dtype, jnp.floating):
        return array.astype(jnp.float64)
    return array


def _eps(leaves: Sequence[Any]) -> float:
    """Machine epsilon of the least precise of some arrays."""
    kinds = [np.dtype(jnp.asarray(leaf).dtype) for leaf in leaves]
    real = [kind for kind in kinds if kind.kind == "f"] or [np.dtype("f8")]
    return max(float(np.finfo(kind).eps) for kind in real)
