"""Bernoulli components: binary vectors, a Beta prior on each probability.

probability_kj ~ Beta(a, b),   x_ij | c_i = k ~ Bernoulli(probability_kj)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Gt
from jax.scipy.special import digamma
from jaxtyping import Array, Float

from vi_bench.contract import Factor, Parameters, SmallProblem, Standard
from vi_bench.mixture.conjugate import Conjugate, per_feature
from vi_bench.mixture.log_beta import log_beta
from vi_bench.models._small import DIRICHLET, chosen

if TYPE_CHECKING:
    from vi_bench.data.table import Table

Positive = Annotated[float, Gt(0)]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Bernoulli(Conjugate):
    """Independent binary features; see the module for the densities.

    The statistics are (x, 1); the natural parameters of q(probability_k) = prod_j
    Beta(a_kj, b_kj) are (a_j - 1, a_j + b_j - 2), the last one the same for all j.

    Attributes:
        a: first parameter of the Beta priors, the prior's number of ones.
        b: second parameter of the Beta priors, the prior's number of zeros.
    """

    a: Positive = 1.0
    b: Positive = 1.0

    summary: ClassVar[str] = "binary vectors, Bernoulli; Beta prior on each probability"
    calibration: ClassVar[Mapping[str, Any]] = {"a": 1.0, "b": 1.0}
    verification: ClassVar[tuple[SmallProblem, ...]] = (
        SmallProblem("one component", 6, 3, 1),
        SmallProblem("overlapping", 8, 3, 2, 1.5),
        SmallProblem("many features", 8, 8, 2, 0.7),
        SmallProblem("unbalanced, one empty", 80, 8, 5, 0.7, DIRICHLET),
    )

    @staticmethod
    def rows_around(random: np.random.Generator, level: np.ndarray) -> np.ndarray:
        """0 or 1, with the level as the logit of 1."""
        return chosen(2, random, level)

    @property
    def dims(self) -> dict[str, tuple[str, ...]]:
        """The probabilities have the dimensions (K, d)."""
        return {"probability": ("component", "feature")}

    def check(self, table: Table) -> None:
        """Refuse values other than 0 and 1."""
        table.refuse((table.values != 0) & (table.values != 1), "0 or 1")

    @staticmethod
    def statistics(x: Float[Array, "d n"]) -> Float[Array, "P n"]:
        """Sufficient statistics (x, 1)."""
        return jnp.concatenate([x, jnp.ones_like(x[:1])])

    def log_base(self, x: Float[Array, "d n"]) -> Float[Array, " n"]:
        """Log base measure: 0 for every row."""
        return jnp.zeros(x.shape[1:], x.dtype)

    def bind(self, centre: np.ndarray, dtype: Any) -> Self:
        """The bound family, with an a and a b for each feature."""
        bound = super().bind(centre, dtype)
        spread: dict[str, Any] = {
            name: per_feature(getattr(bound, name), len(centre)) for name in ("a", "b")
        }
        return replace(bound, **spread)

    def natural_prior(self) -> Float[Array, " P"]:
        """Natural parameters of the prior, (a - 1, a + b - 2)."""
        a, b = jnp.asarray(self.a), jnp.asarray(self.b)
        return jnp.append(a - 1, a[0] + b[0] - 2)

    def standard(self, lam: Float[Array, "*b P"]) -> Standard:
        """The parameters a and b of q's Betas, both (K, d)."""
        a = lam[..., :-1] + 1
        return {"a": a, "b": lam[..., -1:] + 2 - a}

    def log_normaliser(self, lam: Float[Array, "*b P"]) -> Float[Array, "*b"]:
        """A = sum_j log B(a_j, b_j)."""
        q = self.standard(lam)
        return jnp.sum(log_beta(q["a"], q["b"]), axis=-1)

    def moments(self, lam: Float[Array, "*b P"]) -> Float[Array, "*b P"]:
        """E s(theta) = (psi(a) - psi(b), sum_j [psi(b_j) - psi(a_j + b_j)])."""
        q = self.standard(lam)
        b = digamma(q["b"])
        none = jnp.sum(b - digamma(q["a"] + q["b"]), axis=-1, keepdims=True)
        return jnp.concatenate([digamma(q["a"]) - b, none], axis=-1)

    def natural(self, theta: Parameters) -> Float[Array, "*b K P"]:
        """s(theta) = (logit probability, sum_j log(1 - probability_j))."""
        p = theta["probability"]
        none = jnp.log1p(-p)
        total = jnp.sum(none, axis=-1, keepdims=True)
        return jnp.concatenate([jnp.log(p) - none, total], axis=-1)

    def centre(self, q: Float[Array, "K P"]) -> Parameters:
        """Means of the probabilities under q (K, d)."""
        standard = self.standard(q)
        return {"probability": standard["a"] / (standard["a"] + standard["b"])}

    def hyperparameters(self) -> Standard:
        """The parameters a and b of the prior."""
        return {"a": jnp.asarray(self.a), "b": jnp.asarray(self.b)}

    def constraints(self) -> dict[str, Any]:
        """Both a and b are positive."""
        from numpyro.distributions import constraints

        return dict.fromkeys(("a", "b"), constraints.positive)

    def factors(self, standard: Standard) -> dict[str, Factor]:
        """NumPyro's Beta(a, b) of the probabilities."""
        import numpyro.distributions as dist

        return {"probability": dist.Beta(standard["a"], standard["b"]).to_event(1)}

    def component(self, theta: Parameters) -> Any:
        """NumPyro's distribution of a row, x_j ~ Bernoulli(probability_kj)."""
        import numpyro.distributions as dist

        return dist.Bernoulli(theta["probability"]).to_event(1)

    def location(self, theta: Parameters) -> Any:
        """E[x | theta], the probabilities (..., K, d)."""
        return theta["probability"]


MODEL = Bernoulli
