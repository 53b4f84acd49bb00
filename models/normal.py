"""Normal rows of unknown mean and precision, whose priors are independent.

mu ~ Normal(mean, 1 / kappa), tau ~ Gamma(a, b), x_i ~ Normal(mu, 1 / tau).
q(mu) q(tau) is the first example of mean field in Bishop (2006), section 10.1.3, which
has the conjugate prior instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
from annotated_types import Gt
from jaxtyping import Array, Float
from numpyro import distributions as dist

from vi_bench.contract import Key
from vi_bench.factors import LOG_2PI, Gamma, Normal

DATA = {"x": ("row",)}


class Statistics(NamedTuple):
    """Of the rows: their number, mean, and sum of squares about the mean."""

    rows: Float[Array, ""]
    mean: Float[Array, ""]
    squares: Float[Array, ""]


@dataclass(frozen=True)
class NormalModel:
    """Priors of the mean and of the precision.

    Attributes:
        mean: prior mean of mu.
        kappa: prior precision of mu.
        a: prior shape of tau.
        b: prior rate of tau.
    """

    mean: float = 0.0
    kappa: Annotated[float, Gt(0)] = 1.0
    a: Annotated[float, Gt(0)] = 1.0
    b: Annotated[float, Gt(0)] = 1.0

    summary: ClassVar[str] = "normal rows, mean and precision unknown"
    references: ClassVar[tuple[str, ...]] = ("bishop2006",)
    compared: ClassVar[tuple[str, ...]] = ("mu", "log_tau")

    def model(self, x: Any) -> None:
        """The mean mu and the precision tau."""
        mu = numpyro.sample("mu", dist.Normal(self.mean, self.kappa**-0.5))
        tau = numpyro.sample("tau", dist.Gamma(self.a, self.b))
        numpyro.deterministic("log_tau", jnp.log(tau))
        with numpyro.plate("row", len(x)):
            numpyro.sample("x", dist.Normal(mu, tau**-0.5), obs=x)

    def statistics(self, x: Any) -> Statistics:
        """Of the rows, about their mean."""
        x = jnp.asarray(x, float)
        mean = jnp.sum(x) / max(x.size, 1)
        return Statistics(jnp.asarray(float(x.size)), mean, jnp.sum((x - mean) ** 2))

    def init(self, key: Key, s: Statistics) -> dict[str, Any]:
        """A precision at random, up to the rows' and down to that about the prior mean.

        Where that mean is many prior sds away there is an optimum near it, too.
        """
        rows = jnp.maximum(s.rows, 1)
        near = self.b + 0.5 * s.squares
        far = self.b + 0.5 * (s.squares + rows * (s.mean - self.mean) ** 2)
        share = 3 * jax.random.uniform(key) - 1  # up to three fold in logarithms
        rate = near * (far / near) ** jnp.clip(share, 0, 1)
        tau = Gamma(self.a + 0.5 * s.rows, rate)
        return {"mu": self._mean(s, tau), "tau": tau}

    def sweep(self, s: Statistics, q: dict[str, Any]) -> dict[str, Any]:
        """The mean, then the precision."""
        mu = self._mean(s, q["tau"])
        rate = self.b + 0.5 * self._square(s, mu)
        return {"mu": mu, "tau": Gamma(self.a + 0.5 * s.rows, rate)}

    def bound(self, s: Statistics, q: dict[str, Any]) -> Float[Array, ""]:
        """E log p(x | mu, tau) minus the divergences of both factors."""
        mu, tau = q["mu"], q["tau"]
        likelihood = 0.5 * s.rows * (tau.mean_log() - LOG_2PI)
        likelihood -= 0.5 * tau.mean() * self._square(s, mu)
        kappa = jnp.asarray(self.kappa)
        prior = Normal(kappa * self.mean, kappa)
        of_tau = Gamma(jnp.asarray(self.a), jnp.asarray(self.b))
        found: Array = likelihood - mu.kl(prior) - tau.kl(of_tau)
        return found

    def example(self, random: np.random.Generator, rows: int) -> dict[str, Any]:
        """Rows of the model."""
        mu = random.normal(self.mean, self.kappa**-0.5)
        tau = random.gamma(self.a, 1 / self.b)
        return {"x": random.normal(mu, tau**-0.5, rows)}

    def _mean(self, s: Statistics, tau: Gamma) -> Normal:
        each = tau.mean()
        shift = self.kappa * self.mean + each * s.rows * s.mean
        return Normal(shift, self.kappa + each * s.rows)

    def _square(self, s: Statistics, mu: Normal) -> Float[Array, ""]:
        """E of the sum of (x_i - mu)^2."""
        return s.squares + s.rows * mu.square(s.mean)


MODEL = NormalModel
