"""The factors of a user's q: draws, log densities, and what their parameters are.

The parameters are the arrays that a factor's log density depends on, whatever names
its distribution gives them. A factor that is a function of other sites, such as q(w |
z) of spike and slab, keeps its parameters in the function's closure: they are what
tracing finds there.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import CellType, FunctionType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpyro import distributions as dist
from numpyro.distributions import biject_to

from vi_bench.posterior.fit import check_shape
from vi_bench.posterior.structure import Site, bare
from vi_bench.runtime.keys import Key
from vi_bench.verification.sandbox import Broken, Unreadable, first_line

Values = Mapping[str, Array]
"""Name of a site -> its value."""

FIXED = ("low", "high", "support", "_support", "transforms", "total_count", "df")
"""Fields of distributions that are the form of q, and not moved by ascent."""


BY_ELEMENT = (
    dist.CategoricalProbs,
    dist.CategoricalLogits,
    dist.BernoulliProbs,
    dist.BernoulliLogits,
)
"""Distributions of discrete variables of which every element is independent."""


@dataclass(frozen=True)
class Factor:
    """The part of q for one site.

    Attributes:
        site: name of the site.
        names: name of each array of parameters.
        leaves: the arrays, in 64 bits.
        fixed: arrays that are no parameters, such as limits of a support.
        point: whether it is a point estimate.
        transform: of a point estimate that can be moved, the map to it from
            unconstrained values; None of others.
        by_element: whether it is a discrete one, its elements independent.
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
    transform: Any
    by_element: bool
    log_prob: Callable[..., Float[Array, ""]]
    sample: Callable[..., Array]
    eps: float
    alike: Hashable

    def flat(self) -> list[tuple[str, float]]:
        """Name and value of every scalar parameter, in order.

        Those of a point estimate are unconstrained: the log of what is positive.
        """
        names, leaves = self.names, self.leaves
        if self.transform is not None:
            leaves = (self.transform.inv(leaves[0]),)
            if leaves[0] is not self.leaves[0]:
                names = ("unconstrained value",)
        return [
            (
                f"{name}[{', '.join(map(str, index))}]" if index else name,
                float(leaf[index]),
            )
            for name, leaf in zip(names, leaves, strict=True)
            for index in np.ndindex(leaf.shape)
        ]


def factors_of(
    q: Mapping[str, Any], sites: Sequence[Site], supports: Mapping[str, Any]
) -> tuple[Factor, ...]:
    """The factors of q, those that are functions of others last.

    Args:
        q: site -> a NumPyro distribution, or a function of other sites that gives one.
        sites: latent variables of the model.
        supports: site -> the support of its prior.

    Raises:
        Broken: an array of parameters is not finite, or a function does not give a
            distribution of the site's shape.
    """
    known = {site.name: site for site in sites}
    plain = {
        n: _plain(n, d, supports[n]) for n, d in q.items() if not inspect.isfunction(d)
    }
    drawn = draw(list(plain.values()), jax.random.key(0))
    tied = [
        _conditional(known[name], function, drawn, supports[name])
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


def _plain(site: str, given: Any, support: Any) -> Factor:
    """The factor of a distribution."""
    if isinstance(core := bare(given), dist.Delta):
        value = jnp.broadcast_to(jnp.asarray(core.v), given.shape())
        return _point(site, value, support)
    leaves, shape = jax.tree.flatten(given)
    named = _names(given)
    if len(named) != len(leaves):  # a class with its own way to flatten
        named = [f"parameter {i}" for i in range(len(leaves))]
    free = [name.rpartition(".")[2] not in FIXED for name in named]
    # counts as parameters are as good as real numbers
    whole = [_wide(leaf, real) for leaf, real in zip(leaves, free, strict=True)]
    moved = [
        i
        for i, leaf in enumerate(whole)
        if free[i] and jnp.issubdtype(leaf.dtype, jnp.floating)
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
        return density(filled(own, fixed), value, support)

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
        transform=None,
        by_element=isinstance(core, BY_ELEMENT),
        log_prob=log_prob,
        sample=sample,
        eps=_eps(leaves),
        alike=_comparable((site, shape, tuple(moved)), given),
    )


def density(fn: Any, value: Array, support: Any) -> Float[Array, ""]:
    """Log density of a distribution for a site of this support, summed.

    Where the distribution's own support is less than the real line NumPyro gives some
    number outside of it.
    """
    each = fn.log_prob(value)
    if is_real(support):
        for part, at in _underneath(fn, value):
            if not is_real(part.support):
                each = jnp.where(part.support(at), each, -jnp.inf)
    return jnp.sum(each)


def _underneath(fn: Any, value: Array) -> Iterator[tuple[Any, Array]]:
    """The distribution at the value, and those that it transforms, where they are.

    A half line that is mirrored says that its support is the real line.
    """
    yield fn, value
    base = getattr(fn, "base_dist", None)
    if isinstance(fn, dist.TransformedDistribution):
        for transform in reversed(fn.transforms):
            value = transform.inv(value)
    elif not isinstance(fn, (dist.Independent, dist.ExpandedDistribution)):
        return
    yield from _underneath(base, value)


def is_real(support: Any) -> bool:
    """Whether a support is the real line, or several."""
    base = getattr(support, "base_constraint", support)
    return base is dist.constraints.real or base is dist.constraints.real_vector


def _comparable(key: tuple[Any, ...], held: Any) -> Hashable:
    """The same, or None: some distributions have arrays among what is static.

    Args:
        key: a key, of parts of what is `held`.
        held: a distribution or a support; its copy shares no array with it, so that
            comparing the two compares the arrays, too.
    """
    try:
        hash(key)
        copied = copy.deepcopy(held)
        one: Any = jax.tree.structure(copied)
        same = bool(one == jax.tree.structure(held))
    except (TypeError, ValueError):
        return None
    return key if same else None


def _point(site: str, value: Array, support: Any) -> Factor:
    """The factor of a point estimate: of no entropy, its parameter its value."""
    wide = _wide(value)
    limits, form = jax.tree.flatten(support)
    bounds = tuple((np.shape(v), np.asarray(v).tobytes()) for v in limits)
    transform = None
    if not support.is_discrete:
        transform = biject_to(support)
        # at the border of its support it has no unconstrained value
        if not bool(jnp.all(jnp.isfinite(transform.inv(wide)))):
            transform = None
    return Factor(
        site=site,
        names=("value",),
        leaves=(wide,),
        fixed=(),
        point=True,
        transform=transform,
        by_element=bool(support.is_discrete),
        log_prob=lambda own, fixed, value, _: jnp.sum(
            jnp.where(value == own[0], 0.0, -jnp.inf)
        ),
        sample=lambda own, fixed, key, _: own[0],
        eps=_eps([value]),
        alike=_comparable((site, form, bounds, transform is None), support),
    )


def _conditional(
    site: Site, function: Callable[..., Any], drawn: Values, support: Any
) -> Factor:
    """The factor of a function of other sites, which gives a distribution.

    Its parameters are the arrays that it has from around it, and single numbers that
    are local to where it is defined.
    """
    needs = tuple(inspect.signature(function).parameters)
    where = f"q of {site.name!r}"

    def at(values: Values, numbers: Mapping[str, Any]) -> Any:
        own = _with_numbers(function, numbers)
        found = own(*(values[name] for name in needs))
        if not isinstance(found, dist.Distribution):
            raise Broken(f"{where} gave a {type(found).__name__}, not a distribution")
        return check_shape(found, site, where)

    value = at(drawn, {}).sample(jax.random.key(1))
    given = {name: drawn[name] for name in needs}
    closed, numbers = _traced(function, where, at, value, given, support)
    consts = [jnp.asarray(c) for c in closed.consts]
    moved = [i for i, c in enumerate(consts) if jnp.issubdtype(c.dtype, jnp.floating)]
    arrays = [consts[i] for i in moved]

    def log_prob(
        own: Sequence[Array], _: Sequence[Array], value: Array, values: Values
    ) -> Float[Array, ""]:
        scalars, others = own[: len(numbers)], own[len(numbers) :]
        every = list(consts)
        for place, leaf in zip(moved, others, strict=True):
            every[place] = leaf.astype(consts[place].dtype)
        tree = dict(zip(numbers, scalars, strict=True)), value
        inputs = jax.tree.leaves((*tree, {name: values[name] for name in needs}))
        inputs = [
            jnp.asarray(v, a.dtype)
            for v, a in zip(inputs, closed.in_avals, strict=True)
        ]
        found: Array
        (found,) = jax.core.eval_jaxpr(closed.jaxpr, every, *inputs)
        return found

    return Factor(
        site=site.name,
        names=(*numbers, *_closure_names(function, arrays)),
        leaves=(*numbers.values(), *map(_wide, arrays)),
        fixed=(),
        point=False,
        transform=None,
        by_element=False,
        log_prob=log_prob,
        sample=lambda own, fixed, key, values: at(values, {}).sample(key),
        eps=_eps(arrays),
        alike=None,
    )


def _traced(
    function: Callable[..., Any],
    where: str,
    at: Callable[[Values, Mapping[str, Any]], Any],
    value: Array,
    given: Values,
    support: Any,
) -> tuple[Any, dict[str, Array]]:
    """The log density as a program of the local numbers, a value and other sites.

    Raises:
        Broken: JAX cannot trace the function.
    """

    def traced(numbers: Mapping[str, Any], value: Array, given: Values) -> Array:
        return density(at(given, numbers), value, support)

    local = _numbers(function)
    # NumPy's functions, and shapes, do not take numbers that are traced
    reals = {n: v for n, v in local.items() if isinstance(v, float | np.floating)}
    for tried in (local, reals, {}):
        numbers = {n: jnp.asarray(v, jnp.float64) for n, v in sorted(tried.items())}
        try:
            return jax.make_jaxpr(traced)(numbers, value, given), numbers
        except (TypeError, jax.errors.JAXTypeError) as error:
            last = error
    raise Unreadable(
        f"{where}: JAX cannot trace the function: {first_line(last)}; expected one in "
        "jax.numpy, not in NumPy"
    )


def _numbers(function: Callable[..., Any]) -> dict[str, Any]:
    """Single numbers that a function has from the function around it, also in lists."""
    return {
        label: leaf
        for name, value in inspect.getclosurevars(function).nonlocals.items()
        for label, leaf in _leaves(name, value)
        if np.ndim(leaf) == 0
        and not isinstance(leaf, bool | np.bool_)
        and isinstance(leaf, int | float | np.number | np.ndarray | jax.Array)
    }


def _leaves(name: str, value: Any) -> list[tuple[str, Any]]:
    """What a variable holds, each with its name."""
    found = jax.tree_util.tree_leaves_with_path(value)
    return [(name + jax.tree_util.keystr(path), leaf) for path, leaf in found]


def _with_numbers(
    function: Callable[..., Any], numbers: Mapping[str, Any]
) -> Callable[..., Any]:
    """The function with other values of some of its local numbers."""
    cells = []
    for name, cell in zip(
        function.__code__.co_freevars, function.__closure__ or (), strict=True
    ):
        held = _leaves(name, cell.cell_contents)
        if any(label in numbers for label, _ in held):
            new = [numbers.get(label, leaf) for label, leaf in held]
            structure = jax.tree.structure(cell.cell_contents)
            cell = CellType(jax.tree.unflatten(structure, new))
        cells.append(cell)
    return FunctionType(
        function.__code__,
        function.__globals__,
        function.__name__,
        function.__defaults__,
        tuple(cells),
    )


def parameters_of(
    factors: Sequence[Factor],
) -> list[tuple[tuple[Array, ...], tuple[Array, ...]]]:
    """`leaves` and `fixed` of each factor."""
    return [(f.leaves, f.fixed) for f in factors]


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
        parameters = parameters_of(factors)
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
            if isinstance(value, np.ndarray | jax.Array)
            and value.shape == array.shape
            and np.array_equal(np.asarray(value), np.asarray(array))
        ]
        found.append(same[0] if same else f"array {i}")
    return tuple(found)


def _wide(leaf: Any, real: bool = False) -> Array:
    """An array of numbers in 64 bits; integers become real numbers if that is asked."""
    array = jnp.asarray(leaf)
    kind = array.dtype
    if jnp.issubdtype(kind, jnp.floating) or (
        real and jnp.issubdtype(kind, jnp.integer)
    ):
        return array.astype(jnp.float64)
    return array


def _eps(leaves: Sequence[Any]) -> float:
    """Machine epsilon of the least precise of some arrays."""
    kinds = [np.dtype(jnp.asarray(leaf).dtype) for leaf in leaves]
    real = [kind for kind in kinds if kind.kind == "f"] or [np.dtype("f8")]
    return max(float(np.finfo(kind).eps) for kind in real)
