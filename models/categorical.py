"""Categorical components: columns of codes, or one row of counts per observation.

Codes: probability_j,k ~ Dirichlet(concentration), x_ij | c_i = k ~ Categorical(
probability_j,k), each column j with its own number of levels. Counts: probability_k ~
Dirichlet(concentration), x_i | c_i = k ~ Multinomial(sum_j x_ij, probability_k).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Ge, Gt
from jax.scipy.special import digamma, gammaln
from jaxtyping import Array, Float

from vi_bench.contract import Factor, Parameters, SmallProblem, Standard
from vi_bench.errors import SpecError
from vi_bench.mixture.conjugate import Conjugate, check_length
from vi_bench.models._small import DIRICHLET, chosen

if TYPE_CHECKING:
    from vi_bench.data.table import Table

Levels = Annotated[int, Ge(1)]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Categorical(Conjugate):
    """Codes 0, 1, ... in d columns, or multinomial counts; see the module.

    The statistics are the columns' indicators side by side (or the counts) and 1; the
    natural parameters of q = prod_j Dirichlet(alpha_j) are alpha - 1 and an unused 0.

    Attributes:
        concentration: alpha of the symmetric Dirichlet priors, the prior's number of
            rows of each level.
        levels: number of codes, one for all columns or one per column; by default one
            more than the largest code of the column.
        counts: whether rows are counts of categories, not codes.
        total: sum of a simulated row of counts; by default the data's mean.
    """

    concentration: Annotated[float, Gt(0)] = 1.0
    levels: Levels | tuple[Levels, ...] | None = field(
        default=None, metadata={"static": True}
    )
    counts: bool = field(default=False, metadata={"static": True})
    total: Annotated[int, Ge(1)] | None = field(default=None, metadata={"static": True})

    summary: ClassVar[str] = (
        "categorical columns or multinomial counts; Dirichlet prior"
    )
    calibration: ClassVar[Mapping[str, Any]] = {"concentration": 1.0, "levels": 3}
    verification: ClassVar[tuple[SmallProblem, ...]] = (
        SmallProblem("one component", 6, 2, 1),
        SmallProblem("overlapping, weights drawn", 8, 2, 2, 1.0, DIRICHLET),
        SmallProblem("many features", 8, 8, 2, 0.7),
        SmallProblem("unbalanced, one empty", 80, 8, 5, 0.7),
    )

    @staticmethod
    def rows_around(random: np.random.Generator, level: np.ndarray) -> np.ndarray:
        """0, 1 or 2, the larger the likelier as the level rises."""
        return chosen(3, random, level)

    @property
    def sizes(self) -> tuple[int, ...]:
        """The number of levels of each Dirichlet, in a complete family."""
        assert isinstance(self.levels, tuple)
        return self.levels

    def _names(self) -> list[str]:
        if self.counts:
            return ["probability"]
        return [f"probability_{j}" for j in range(len(self.sizes))]

    @property
    def dims(self) -> dict[str, tuple[str, ...]]:
        """One probability vector per column (K, levels); of counts, one (K, d)."""
        ends = [n.replace("probability", "level") for n in self._names()]
        return {
            name: ("component", "feature" if self.counts else end)
            for name, end in zip(self._names(), ends, strict=True)
        }

    def coordinates(self, features: tuple[str, ...]) -> dict[str, list[str]]:
        """Coordinates of the levels, "column=code"; of counts, the columns' names."""
        found = {"feature": list(features)}
        if not self.counts:
            for j, (name, size) in enumerate(zip(features, self.sizes, strict=True)):
                found[f"level_{j}"] = [f"{name}={code}" for code in range(size)]
        return found

    def check(self, table: Table) -> None:
        """Refuse values that are no codes (or no counts), and codes beyond `levels`."""
        x, what = table.values, "counts" if self.counts else "codes"
        table.refuse((x < 0) | (x % 1 != 0), f"{what} 0, 1, 2, ...")
        if self.counts:
            if self.levels is not None and self.levels != (x.shape[1],):
                raise SpecError("model categorical: levels are the columns of counts")
            return
        check_length("categorical", "levels", self.levels, x.shape[1])
        if self.levels is not None:
            table.refuse(x >= np.asarray(self.levels), f"codes under {self.levels}")
        elif x.max() >= 1000:
            raise SpecError(
                f"data {table.name!r}: codes up to {x.max():g}; if they are counts, "
                "set counts = true, else set levels"
            )

    def complete(self, values: np.ndarray, components: int) -> Self:
        """The family with the number of levels of each column, from the data."""
        d = values.shape[1]
        if self.counts:
            mean = max(1, round(float(values.sum(axis=1).mean())))
            return replace(self, levels=(d,), total=self.total or mean)
        if self.levels is None:
            found = tuple(int(v) + 1 for v in values.max(axis=0))
            return replace(self, levels=found)
        levels = self.levels if isinstance(self.levels, tuple) else (self.levels,)
        return replace(self, levels=levels * d if len(levels) == 1 else levels)

    @property
    def statistics(self) -> Callable[[Float[Array, "d n"]], Float[Array, "P n"]]:
        """Sufficient statistics: (indicators or counts, 1)."""
        return _counts if self.counts else _indicators(self.sizes)

    def log_base(self, x: Float[Array, "d n"]) -> Float[Array, " n"]:
        """Log base measure: log multinomial coefficient of counts, 0 of codes."""
        if not self.counts:
            return jnp.zeros(x.shape[1:], x.dtype)
        return gammaln(jnp.sum(x, axis=0) + 1) - jnp.sum(gammaln(x + 1), axis=0)

    def natural_prior(self) -> Float[Array, " P"]:
        """Natural parameters of the prior, (concentration - 1, ..., 0)."""
        each = jnp.full(sum(self.sizes), self.concentration - 1)
        return jnp.append(each, 0.0)

    def _split(self, vector: Float[Array, "*b L"]) -> dict[str, Array]:
        """Split a vector over all levels (..., L) by columns: name -> (..., levels)."""
        cuts = np.cumsum(self.sizes)[:-1]
        parts = jnp.split(vector, cuts, axis=-1)
        return dict(zip(self._names(), parts, strict=True))

    def standard(self, lam: Float[Array, "*b P"]) -> Standard:
        """The alpha of q's Dirichlet for each column (K, levels)."""
        alpha = self._split(lam[..., :-1] + 1)
        return {n.replace("probability", "alpha"): v for n, v in alpha.items()}

    def log_normaliser(self, lam: Float[Array, "*b P"]) -> Float[Array, "*b"]:
        """A = sum_j [ sum_l log Gamma(alpha_jl) - log Gamma(sum_l alpha_jl) ]."""
        terms = [
            jnp.sum(gammaln(alpha), axis=-1) - gammaln(jnp.sum(alpha, axis=-1))
            for alpha in self.standard(lam).values()
        ]
        return jnp.sum(jnp.stack(terms), axis=0)

    def moments(self, lam: Float[Array, "*b P"]) -> Float[Array, "*b P"]:
        """E s(theta) = (psi(alpha_jl) - psi(sum_l alpha_jl), 0)."""
        parts = [
            digamma(alpha) - digamma(jnp.sum(alpha, axis=-1, keepdims=True))
            for alpha in self.standard(lam).values()
        ]
        return jnp.concatenate([*parts, jnp.zeros_like(lam[..., :1])], axis=-1)

    def natural(self, theta: Parameters) -> Float[Array, "*b K P"]:
        """s(theta) = (log probability, 0)."""
        logs = [jnp.log(theta[name]) for name in self._names()]
        return jnp.concatenate([*logs, jnp.zeros_like(logs[0][..., :1])], axis=-1)

    def centre(self, q: Float[Array, "K P"]) -> Parameters:
        """Means of the probabilities under q: name -> (K, levels)."""
        return {
            name: alpha / jnp.sum(alpha, axis=-1, keepdims=True)
            for name, alpha in self._split(q[:, :-1] + 1).items()
        }

    def hyperparameters(self) -> Standard:
        """The alpha of the prior for each column (levels,)."""
        each = jnp.full(sum(self.sizes), self.concentration)
        alpha = self._split(each)
        return {n.replace("probability", "alpha"): v for n, v in alpha.items()}

    def constraints(self) -> dict[str, Any]:
        """Every alpha is positive."""
        from numpyro.distributions import constraints

        names = [n.replace("probability", "alpha") for n in self._names()]
        return dict.fromkeys(names, constraints.positive)

    def factors(self, standard: Standard) -> dict[str, Factor]:
        """NumPyro's Dirichlet(alpha_j) of each probability vector."""
        import numpyro.distributions as dist

        return {
            name: dist.Dirichlet(standard[name.replace("probability", "alpha")])
            for name in self._names()
        }

    def component(self, theta: Parameters) -> Any:
        """NumPyro's distribution of a row: columns padded to equal numbers of levels.

        Of counts it is one multinomial.
        """
        if self.counts:
            return _row_distributions()[1](theta["probability"], self.total)
        most = max(self.sizes)
        columns = []
        for name in self._names():
            p = theta[name]
            ends = [(0, 0)] * (p.ndim - 1) + [(0, most - p.shape[-1])]
            columns.append(jnp.pad(p, ends))
        return _row_distributions()[0](jnp.stack(columns, axis=-2)).to_event(1)


@cache
def _row_distributions() -> tuple[Any, Any]:
    """NumPyro's categorical and multinomial with a support that is the same for all.

    `MixtureSameFamily` needs that of its components.
    """
    import numpyro.distributions as dist
    from numpyro.distributions import constraints

    class Codes(dist.CategoricalProbs):  # type: ignore[misc]
        support = constraints.nonnegative_integer

        def log_prob(self, value: Array) -> Any:
            return super().log_prob(jnp.asarray(value, int))

    class Counts(dist.MultinomialProbs):  # type: ignore[misc]
        """A multinomial whose total is that of the row at which it is evaluated."""

        support = constraints.independent(constraints.nonnegative_integer, 1)

        def log_prob(self, value: Array) -> Any:
            total = jnp.sum(value, axis=-1)
            return dist.MultinomialProbs(self.probs, total).log_prob(value)

    return Codes, Counts


def _counts(x: Float[Array, "d n"]) -> Float[Array, "P n"]:
    return jnp.concatenate([x, jnp.ones_like(x[:1])])


@cache  # compiled programs depend on the function: one for the same levels
def _indicators(
    sizes: tuple[int, ...],
) -> Callable[[Float[Array, "d n"]], Float[Array, "P n"]]:
    def statistics(x: Float[Array, "d n"]) -> Float[Array, "P n"]:
        parts = [
            (x[j][None] == jnp.arange(size, dtype=x.dtype)[:, None]).astype(x.dtype)
            for j, size in enumerate(sizes)
        ]
        return jnp.concatenate([*parts, jnp.ones_like(x[:1])])

    return statistics


MODEL = Categorical
