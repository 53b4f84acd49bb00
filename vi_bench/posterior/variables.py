"""The variables of a NumPyro model: their dimensions, and what is compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from vi_bench.comparison.quantities import (
    WEIGHT,
    Quantity,
    flatten,
    in_arrays,
)
from vi_bench.data.table import spaced
from vi_bench.errors import ModelError, unknown
from vi_bench.posterior.numpyro_posterior import NumPyroPosterior, Values
from vi_bench.posterior.structure import Site
from vi_bench.runtime.keys import Key

Named = Mapping[str, Any]
"""Name -> array (chain, draw, ...), of NumPy or JAX."""

NONE = "none"
"""`component_dim` of a model whose components, if any, are not exchangeable."""

COMPONENT = "component"
"""The plate, by default, whose members are exchangeable."""

MOST = 100
"""Scalars of one variable that are compared; of a larger one, evenly spaced ones."""


@dataclass(frozen=True)
class Variable:
    """A variable of the model as it is reported.

    Attributes:
        dims: names of its dimensions, "component" first where it has that.
        kept: flat indices, over its other dimensions, of the scalars that vary with
            the parameters, and are compared.
        varying: how many vary.
        moved: axis of the components; None if it has none.
    """

    dims: tuple[str, ...]
    kept: tuple[int, ...]
    varying: int
    moved: int | None

    @property
    def lead(self) -> int:
        """Axes of its draws before its other dimensions: chain, draw, component."""
        return 2 if self.moved is None else 3


@dataclass(frozen=True, eq=False)
class Variables:
    """The variables of a model, and which of their scalars are compared.

    Attributes:
        each: name -> how a variable is reported.
        chosen: names of those that are compared.
        weights: name of the components' weights, if they have any.
    """

    each: Mapping[str, Variable]
    chosen: tuple[str, ...]
    weights: str | None

    @classmethod
    def of(
        cls,
        posterior: NumPyroPosterior,
        component_dim: Sequence[str] | None = None,
        wanted: Sequence[str] | None = None,
    ) -> Variables:
        """How variables are reported, from their values at a few points.

        Args:
            posterior: the posterior.
            component_dim: dimensions of exchangeable components, or "none"; by default
                "component", if there is one.
            wanted: names of the variables to compare; by default all.

        Raises:
            InputError: a variable has two dimensions of components, there is no such
                dimension or variable, or none that varies.
        """
        each = _reported(posterior, component_dim)
        return cls(each, _chosen(each, wanted), _weights_among(posterior, each))

    def components_first(self, values: Named) -> Named:
        """The values (chain, draw, ...) of variables, the axis of components first."""
        return {name: self._first(name, value) for name, value in values.items()}

    def _first(self, name: str, value: Any) -> Any:
        axis = self.each[name].moved
        if axis is None:
            return value
        order = [i for i in range(value.ndim) if i != axis + 2]
        return value.transpose([*order[:2], axis + 2, *order[2:]])

    def scalars(self, values: Named) -> tuple[dict[Quantity, Any], dict[Quantity, Any]]:
        """Every scalar that varies, of the variables that are compared.

        Args:
            values: name -> draws (chain, draw, ...), components first.

        Returns:
            Columns (chain, draw, K) of what each component has, and scalars
            (chain, draw).
        """
        columns: dict[Quantity, Any] = {}
        shared: dict[Quantity, Any] = {}
        for name in self.chosen:
            own, others = self._of_one(name, values[name])
            columns |= own
            shared |= others
        return columns, shared

    def _of_one(
        self, name: str, value: Any
    ) -> tuple[dict[Quantity, Any], dict[Quantity, Any]]:
        """`scalars` of one variable."""
        variable = self.each[name]
        rest = variable.dims[variable.lead - 2 :]
        numbers = dict(zip(rest, map(range, value.shape[variable.lead :]), strict=True))
        every = (
            list(p.items()) for p in flatten({name: (value, variable.dims)}, numbers)
        )
        columns, shared = (dict(p[i] for i in variable.kept if p) for p in every)
        if name == self.weights:
            columns[WEIGHT] = columns.pop(Quantity(name))
        return columns, shared

    def batches(self, values: Named) -> list[tuple[list[Quantity], Any]]:
        """The compared quantities of arrays of JAX, those of a kind as one array.

        They are `scalars`, each component's by itself, and their `averages`.

        Args:
            values: name -> draws (chain, draw, ...), components first.

        Returns:
            Quantities, and their values (quantity, chain, draw), of each kind.
        """
        found: list[tuple[list[Quantity], Any]] = []
        weights = self.weights if self.weights in self.chosen else None
        share = values[weights] if weights else None
        for name in self.chosen:
            variable, value = self.each[name], values[name]
            columns, shared = self._of_one(name, np.empty(value.shape))
            flat = value.reshape(*value.shape[: variable.lead], -1)
            kept = flat[..., np.asarray(variable.kept, int)]
            found.extend(in_arrays(columns, shared, kept, share))
        return found


def _reported(
    posterior: NumPyroPosterior, component_dim: Sequence[str] | None
) -> dict[str, Variable]:
    """How each variable is reported, from its values at a few points.

    Args:
        posterior: the posterior.
        component_dim: dimensions of exchangeable components, or "none"; by default
            "component", if there is one.

    Raises:
        InputError: a variable has two dimensions of components, or there is no such
            dimension.
    """
    values = jax.tree.map(np.asarray, _somewhere(posterior))
    dims = posterior.structure.made | {s.name: s.dims for s in posterior.latent}
    dims |= {n: dims_of(n, v[0]) for n, v in values.items() if n not in dims}
    components = _components(posterior, dims, component_dim)
    found = {}
    for name, value in values.items():
        axes = [i for i, dim in enumerate(dims[name]) if dim in components]
        if len(axes) > 1:
            raise ModelError(
                f"{name!r} has {len(axes)} dimensions of components, "
                f"{', '.join(dims[name][i] for i in axes)}: labels cannot be undone; "
                "expected variables without it, or component_dim = 'none'"
            )
        moved = axes[0] if axes else None
        rest = dims[name]
        if moved is not None:
            value = np.moveaxis(value, moved + 1, 1)
            rest = (COMPONENT, *(d for i, d in enumerate(rest) if i != moved))
        varies = np.any(value != value[:1], axis=0)
        if moved is not None:
            varies = varies.any(axis=0)
        kept = np.flatnonzero(varies)
        few = kept[spaced(len(kept), MOST)] if len(kept) else kept
        found[name] = Variable(rest, tuple(few.tolist()), len(kept), moved)
    return found


@jax.jit
def _somewhere(posterior: NumPyroPosterior) -> Values:
    """All variables at three points: what is alike there does not vary."""

    def one(key: Key) -> Values:
        theta, _ = posterior.constrain(posterior.point(key))
        return theta | posterior.deterministic(theta)

    found: Values = jax.vmap(one)(jax.random.split(jax.random.key(0), 3))
    return found


def _components(
    posterior: NumPyroPosterior,
    dims: Mapping[str, tuple[str, ...]],
    component_dim: Sequence[str] | None,
) -> set[str]:
    """Dimensions of exchangeable components."""
    known = {dim for own in dims.values() for dim in own}
    if component_dim is None:
        named = {COMPONENT} & known
    elif tuple(component_dim) == (NONE,):
        return set()
    else:
        named = set(component_dim)
        if odd := sorted(named - known):
            raise unknown(
                "component_dim", odd[0], {*known, NONE}, "the model", error=ModelError
            )
    weights = _weights(posterior, named)
    return named | ({dims[weights][0]} if weights else set())


def _weights(posterior: NumPyroPosterior, components: set[str]) -> str | None:
    """The one variable of as many weights as there are components; None if none."""
    sizes = {
        size
        for site in posterior.latent
        for dim, size in zip(site.dims, site.shape, strict=True)
        if dim in components
    }
    found = [s.name for s in posterior.latent if _sums_to_1(s) and s.shape[0] in sizes]
    return found[0] if len(found) == 1 else None


def _weights_among(
    posterior: NumPyroPosterior, variables: Mapping[str, Variable]
) -> str | None:
    """The weights of the components, if they have any."""
    known = (s.name for s in posterior.latent if _sums_to_1(s))
    return next((name for name in known if variables[name].moved is not None), None)


def _sums_to_1(site: Site) -> bool:
    """Whether a variable is one point of a simplex, which has a coordinate fewer."""
    return len(site.shape) == 1 and site.free == (site.shape[0] - 1,)


def _chosen(
    variables: Mapping[str, Variable], given: Sequence[str] | None
) -> tuple[str, ...]:
    """The variables that are compared.

    Raises:
        InputError: there is no such variable, or none that varies.
    """
    wanted = list(variables) if given is None else list(given)
    for name in wanted:
        if name not in variables:
            raise unknown("variable", name, variables, "the model", error=ModelError)
    varying = tuple(name for name in wanted if variables[name].kept)
    if not varying:
        raise ModelError(f"variables {wanted}: none of them depends on the parameters")
    return varying


def dims_of(name: str, value: np.ndarray) -> tuple[str, ...]:
    """Names of the dimensions of a variable that names none itself."""
    return tuple(f"{name}_dim_{i}" for i in range(value.ndim))
