"""Group effects around a common mean, measured with known errors: eight schools.

mu ~ Normal(mean, sd^2), tau ~ Gamma(a, rate), theta_j ~ Normal(mu, 1 / tau),
y_j ~ Normal(theta_j, sigma_j^2); q(theta) q(mu) q(tau). The scale tau^(-1/2) has a
half-Cauchy prior of scale A where rate ~ Gamma(1/2, 1 / A^2) and a = 1/2, by the
representation of Wand, Ormerod, Padoan and Fruehwirth (2011), result 5; then q(rate) is
a factor too. Gelman, Carlin, Stern, Dunson, Vehtari and Rubin (2013), section 5.5.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
from annotated_types import Gt
from jax.scipy.special import gammaln
from jaxtyping import Array, Float
from numpyro import distributions as dist

from vi_bench.contract import Key, Parameters
from vi_bench.factors import LOG_2PI, Gamma, Normal

DATA = {"y": ("group",), "sigma": ("group",)}


class Statistics(NamedTuple):
    """The measurements, and the precisions of their errors."""

    y: Float[Array, " J"]
    precision: Float[Array, " J"]


@dataclass(frozen=True)
class HierarchicalNormal:
    """Priors of the common mean and of the precision of the effects.

    Attributes:
        mean: prior mean of mu.
        sd: prior standard deviation of mu.
        a: prior shape of tau.
        b: prior rate of tau.
        half_cauchy: scale A of a half-Cauchy prior of tau^(-1/2), in place of a and b.
    """

    mean: float = 0.0
    sd: Annotated[float, Gt(0)] = 10.0
    a: Annotated[float, Gt(0)] = 1.0
    b: Annotated[float, Gt(0)] = 1.0
    half_cauchy: Annotated[float, Gt(0)] | None = None

    summary: ClassVar[str] = "group effects with known errors, as eight schools"
    references: ClassVar[tuple[str, ...]] = ("gelman2013", "wand2011")
    compared: ClassVar[tuple[str, ...]] = ("theta", "mu", "log_tau")

    def model(self, y: Any, sigma: Any) -> None:
        """The effects theta, their mean mu, and their precision tau."""
        mu = numpyro.sample("mu", dist.Normal(self.mean, self.sd))
        a, rate = self.a, self.b
        if self.half_cauchy is not None:
            a, rate = 0.5, numpyro.sample("rate", dist.Gamma(0.5, self.half_cauchy**-2))
        tau = numpyro.sample("tau", dist.Gamma(a, rate))
        numpyro.deterministic("log_tau", jnp.log(tau))
        with numpyro.plate("group", len(y)):
            theta = numpyro.sample("theta", dist.Normal(mu, tau**-0.5))
            numpyro.sample("y", dist.Normal(theta, sigma), obs=y)

    def centring(self, theta: Parameters) -> dict[str, tuple[Array, Array]]:
        """Samplers move the effects in units of their spread, around their mean."""
        return {"theta": (theta["mu"], theta["tau"] ** -0.5)}

    def statistics(self, y: Any, sigma: Any) -> Statistics:
        """The measurements, and the precisions of their errors."""
        return Statistics(jnp.asarray(y, float), 1 / jnp.asarray(sigma, float) ** 2)

    def init(self, key: Key, s: Statistics) -> dict[str, Any]:
        """A random common mean and a random precision; effects given both."""
        place, size = jax.random.split(key)
        wide = jnp.asarray(self.sd**-2)
        mu = Normal(wide * (self.mean + self.sd * jax.random.normal(place)), wide)
        rate = self.b if self.half_cauchy is None else self.half_cauchy**2
        tau = Gamma(jnp.asarray(2.0), rate * jax.random.gamma(size, 2.0))
        q = {"theta": self._effects(s, mu, tau), "mu": mu, "tau": tau}
        return q | self._rate(tau)

    def sweep(self, s: Statistics, q: dict[str, Any]) -> dict[str, Any]:
        """The effects, their mean, their precision, and its rate if that is unknown."""
        theta = self._effects(s, q["mu"], q["tau"])
        each, groups = q["tau"].mean(), theta.shift.size
        shift = self.mean / self.sd**2 + each * jnp.sum(theta.mean())
        mu = Normal(shift, self.sd**-2 + each * groups)
        a, rate, _ = self._prior(q)
        spread = jnp.sum(theta.square(mu.mean())) + groups * mu.variance()
        tau = Gamma(a + 0.5 * groups, rate + 0.5 * spread)
        return {"theta": theta, "mu": mu, "tau": tau} | self._rate(tau)

    def bound(self, s: Statistics, q: dict[str, Any]) -> Float[Array, ""]:
        """E log p(y, theta | mu, tau) + H(theta), minus the other divergences."""
        theta, mu, tau = q["theta"], q["mu"], q["tau"]
        errors = jnp.log(s.precision) - LOG_2PI - s.precision * theta.square(s.y)
        spread = theta.square(mu.mean()) + mu.variance()
        effects = tau.mean_log() - LOG_2PI - tau.mean() * spread
        wide = jnp.asarray(self.sd**-2)
        a, rate, log_rate = self._prior(q)
        own = a * log_rate - gammaln(a) + (a - 1) * tau.mean_log() - rate * tau.mean()
        own += tau.entropy()
        if "rate" in q:
            own -= q["rate"].kl(self._half_cauchy())
        far = mu.kl(Normal(wide * self.mean, wide))
        found: Array = 0.5 * jnp.sum(errors + effects) + theta.entropy() - far + own
        return found

    def example(self, random: np.random.Generator, rows: int) -> dict[str, Any]:
        """Groups of the model, with errors between 1 and 2."""
        mu = random.normal(self.mean, self.sd)
        sd = random.gamma(self.a, 1 / self.b) ** -0.5
        sigma = random.uniform(1, 2, rows)
        return {"y": random.normal(random.normal(mu, sd, rows), sigma), "sigma": sigma}

    def _effects(self, s: Statistics, mu: Normal, tau: Gamma) -> Normal:
        shift = s.precision * s.y + tau.mean() * mu.mean()
        return Normal(shift, s.precision + tau.mean())

    def _prior(self, q: dict[str, Any]) -> tuple[Any, Any, Any]:
        """Shape of tau's prior, and E[rate] and E[log rate]."""
        if "rate" in q:
            return 0.5, q["rate"].mean(), q["rate"].mean_log()
        return self.a, self.b, np.log(self.b)

    def _rate(self, tau: Gamma) -> dict[str, Gamma]:
        """The factor of the rate, if that is unknown."""
        if self.half_cauchy is None:
            return {}
        prior = self._half_cauchy()
        return {"rate": Gamma(prior.shape + 0.5, prior.rate + tau.mean())}

    def _half_cauchy(self) -> Gamma:
        """The prior of the rate that makes that of tau^(-1/2) half-Cauchy."""
        assert self.half_cauchy is not None
        return Gamma(jnp.asarray(0.5), jnp.asarray(self.half_cauchy**-2))


MODEL = HierarchicalNormal
