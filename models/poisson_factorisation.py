"""Poisson factorisation of a table of counts, with Gamma factors on both sides.

theta_ik ~ Gamma(a, b), beta_kj ~ Gamma(c, d), x_ij ~ Poisson(sum_k theta_ik beta_kj),
each count a sum over factors that is summed out. q(theta) q(beta) q(counts by factor),
the last one multinomial. Cemgil (2009); Gopalan, Hofman and Blei (2015), section 2.2,
without their rates of users and items.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
from annotated_types import Ge, Gt
from jaxtyping import Array, Float
from numpyro import distributions as dist

from vi_bench.contract import Key
from vi_bench.factors import Gamma
from vi_bench.models._shares import Multinomial, Table, share_out, shares_of, table_of

DATA = {"counts": ("row", "column")}


@dataclass(frozen=True)
class PoissonFactorisation:
    """The number of factors, and the priors.

    Attributes:
        factors: K.
        a: prior shape of theta.
        b: prior rate of theta.
        c: prior shape of beta.
        d: prior rate of beta.
        entries: how many of the counts are not 0; by default sweeps read all of them.
    """

    factors: Annotated[int, Ge(1)] = 2
    a: Annotated[float, Gt(0)] = 1.0
    b: Annotated[float, Gt(0)] = 1.0
    c: Annotated[float, Gt(0)] = 1.0
    d: Annotated[float, Gt(0)] = 1.0
    entries: Annotated[int, Ge(0)] | None = None

    summary: ClassVar[str] = "Poisson factorisation of a table of counts"
    references: ClassVar[tuple[str, ...]] = ("cemgil2009", "gopalan2015")
    compared: ClassVar[tuple[str, ...]] = ("rate",)

    def complete(self, counts: Any) -> PoissonFactorisation:
        """The model whose sweeps read no count of 0."""
        return replace(self, entries=int(np.count_nonzero(counts)))

    def model(self, counts: Any) -> None:
        """Factors of the rows theta (I, K) and of the columns beta (K, J)."""
        self._model(counts)

    def full(self, counts: Any) -> None:
        """How much of each count comes from which factor (I, J, K), too.

        p(counts) p(parts | counts) is the density of independent Poisson parts.
        """
        theta, beta, seen = self._model(counts)
        each = theta[:, None] * beta.T
        share = each / jnp.sum(each, axis=-1, keepdims=True)
        rows = numpyro.plate("row", len(theta), dim=-2)
        with rows, numpyro.plate("column", beta.shape[1], dim=-1):
            numpyro.sample("parts", Multinomial(share, seen))

    def statistics(self, counts: Any) -> Table:
        """The counts that are not 0, or all."""
        return table_of(counts, self.entries)

    def init(self, key: Key, s: Table) -> dict[str, Any]:
        """Sums of rows and of columns shared out at random among the factors."""
        one, other = jax.random.split(key)
        spread = jnp.ones(self.factors)
        of_rows, of_columns = (
            jax.random.dirichlet(k, spread, v.shape) * v[:, None]
            for k, v in ((one, s.rows), (other, s.columns))
        )
        # rates for which both sides have means of about one size
        level = jnp.sqrt(jnp.sum(s.rows) / (s.rows.size * s.columns.size) + 1e-6)
        theta = self._theta(of_rows, jnp.full(self.factors, level * s.columns.size))
        return self.local(
            s, {"theta": theta, "beta": self._beta(of_columns.T, theta.mean())}
        )

    def local(self, s: Table, q: dict[str, Any]) -> dict[str, Any]:
        """Counts shared out by phi_ijk ~ exp(E log theta_ik + E log beta_kj)."""
        return {**q, "parts": share_out(s, *self._scores(q))}

    def sweep(self, s: Table, q: dict[str, Any]) -> dict[str, Any]:
        """The counts' parts, then theta, then beta."""
        parts = self.local(s, q)["parts"]
        theta = self._theta(parts.rows, jnp.sum(q["beta"].mean(), axis=1))
        beta = self._beta(parts.columns.T, theta.mean())
        return {"theta": theta, "beta": beta, "parts": parts}

    def bound(self, s: Table, q: dict[str, Any]) -> Float[Array, ""]:
        """E log p(parts) + their entropy, minus both divergences."""
        theta, beta, parts = q["theta"], q["beta"], q["parts"]
        log_theta, log_beta = self._scores(q)
        counts = jnp.sum(parts.rows * log_theta) + jnp.sum(parts.columns * log_beta)
        # z! of the Poisson parts cancels that of the multinomials, x! is left
        counts += parts.entropy - s.log_factorials
        rates = jnp.sum(theta.mean(), axis=0) @ jnp.sum(beta.mean(), axis=1)
        a, b = (jnp.full_like(theta.shape, v) for v in (self.a, self.b))
        c, d = (jnp.full_like(beta.shape, v) for v in (self.c, self.d))
        found: Array = counts - rates - theta.kl(Gamma(a, b)) - beta.kl(Gamma(c, d))
        return found

    def counts(self, q: dict[str, Any]) -> Float[Array, " K"]:
        """Expected counts of each factor."""
        found: Array = jnp.sum(q["parts"].rows, axis=0)
        return found

    def local_factors(self, s: Table, q: dict[str, Any]) -> dict[str, Any]:
        """How each count is shared out among the factors."""
        return {"parts": shares_of(s, *self._scores(q))}

    def example(self, random: np.random.Generator, rows: int) -> dict[str, Any]:
        """Rows of five counts."""
        theta = random.gamma(self.a, 1 / self.b, (rows, self.factors))
        beta = random.gamma(self.c, 1 / self.d, (self.factors, 5))
        return {"counts": random.poisson(theta @ beta)}

    def _model(self, counts: Any) -> tuple[Any, Any, Any]:
        rows, columns = counts.shape
        across = numpyro.plate("row", rows, dim=-2)
        down = numpyro.plate("column", columns, dim=-1)
        ones = jnp.ones(self.factors)
        with numpyro.plate("row", rows):
            sides = dist.Gamma(self.a * ones, self.b).to_event(1)
            theta = numpyro.sample("theta", sides)
        with numpyro.plate("factor", self.factors, dim=-2), down:
            beta = numpyro.sample("beta", dist.Gamma(self.c, self.d))
        rate = numpyro.deterministic("rate", theta @ beta)
        with across, down:
            seen = numpyro.sample("counts", dist.Poisson(rate), obs=counts)
        return theta, beta, seen

    def _theta(self, sums: Array, rates: Array) -> Gamma:
        return Gamma(self.a + sums, self.b + jnp.broadcast_to(rates, sums.shape))

    def _beta(self, sums: Array, theta: Array) -> Gamma:
        """Of counts by factor (K, J), and the means of theta (I, K)."""
        rates = jnp.sum(theta, axis=0)[:, None]
        return Gamma(self.c + sums, self.d + jnp.broadcast_to(rates, sums.shape))

    def _scores(self, q: dict[str, Any]) -> tuple[Array, Array]:
        """E log theta (I, K), and E log beta (J, K)."""
        return q["theta"].mean_log(), q["beta"].mean_log().T


MODEL = PoissonFactorisation
