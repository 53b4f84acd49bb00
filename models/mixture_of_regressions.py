"""A mixture of linear regressions, each with its own noise.

weights ~ Dirichlet(concentration), w_k ~ Normal(0, 1 / precision) in each coefficient,
tau_k ~ Gamma(a, b), z_i ~ Categorical(weights), y_i ~ Normal(x_i w_k, 1 / tau_k) where
z_i = k; z is summed out. q(weights) q(w) q(tau) q(z), w_k with a full covariance. The
updates of Bishop (2006), section 10.2, with the regressions of his section 14.5.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
from annotated_types import Ge, Gt
from jaxtyping import Array, Float
from numpyro import distributions as dist

from vi_bench.contract import Key
from vi_bench.factors import LOG_2PI, Dirichlet, Gamma, Gaussian

DATA = {"x": ("row", "predictor"), "y": ("row",)}


class Statistics(NamedTuple):
    """The rows, predictors first."""

    x: Float[Array, "p N"]
    y: Float[Array, " N"]


class Assignments(NamedTuple):
    """Components of all rows: sums weighted by phi_ik, and the entropy.

    They are of 1, x_i x_i^T, x_i r_ik and r_ik^2, where r_ik = y_i - x_i near_k is a
    residual of coefficients that are not far, so that no digits are lost.
    """

    counts: Float[Array, " K"]
    gram: Float[Array, "K p p"]
    cross: Float[Array, "K p"]
    squares: Float[Array, " K"]
    near: Float[Array, "K p"]
    entropy: Float[Array, ""]


@dataclass(frozen=True)
class MixtureOfRegressions:
    """The number of components, and the priors.

    Attributes:
        components: K.
        concentration: prior concentration of every weight.
        precision: prior precision of every coefficient.
        a: prior shape of every tau.
        b: prior rate of every tau.
    """

    components: Annotated[int, Ge(1)] = 2
    concentration: Annotated[float, Gt(0)] = 1.0
    precision: Annotated[float, Gt(0)] = 0.1
    a: Annotated[float, Gt(0)] = 2.0
    b: Annotated[float, Gt(0)] = 1.0

    summary: ClassVar[str] = "mixture of linear regressions, each with its noise"
    references: ClassVar[tuple[str, ...]] = ("bishop2006",)
    compared: ClassVar[tuple[str, ...]] = ("weights", "w", "log_tau")

    def model(self, x: Any, y: Any) -> None:
        """The weights, the coefficients w (K, p) and precisions tau (K,)."""
        weights, w, tau = self._parameters(x)
        of_row = dist.Normal(x @ w.T, tau**-0.5)
        mixing = dist.Categorical(weights)
        with numpyro.plate("row", len(y)):
            numpyro.sample("y", dist.MixtureSameFamily(mixing, of_row), obs=y)

    def full(self, x: Any, y: Any) -> None:
        """The component z of each row, too."""
        weights, w, tau = self._parameters(x)
        with numpyro.plate("row", len(y)):
            z = numpyro.sample("z", dist.Categorical(weights))
            mean = jnp.sum(x * w[z], axis=-1)
            numpyro.sample("y", dist.Normal(mean, tau[z] ** -0.5), obs=y)

    def statistics(self, x: Any, y: Any) -> Statistics:
        """The rows, the predictors first."""
        return Statistics(jnp.asarray(x, float).T, jnp.asarray(y, float))

    def init(self, key: Key, s: Statistics) -> dict[str, Any]:
        """A regression on few random rows for each component, with little noise."""
        few, noise = jax.random.split(key)
        (size, number), K = s.x.shape, self.components
        places = jax.random.randint(few, (K, size + 1), 0, max(number, 1))
        picks = jnp.zeros((K, number)).at[jnp.arange(K)[:, None], places].add(1.0)
        centred = s.y - jnp.sum(s.y) / max(number, 1)
        spread = (self.b + jnp.sum(centred**2)) / (self.a + number)
        tau = jax.random.gamma(noise, 2.0, (K,)) * K**2 / spread
        gram = (picks[:, None] * s.x) @ s.x.T
        weights = Dirichlet(jnp.full(K, self.concentration + 1.0))
        w = self._coefficients(tau, gram, (picks * s.y) @ s.x.T)
        shape = jnp.full(K, self.a)
        return self.local(
            s, {"weights": weights, "w": w, "tau": Gamma(shape, shape / tau)}
        )

    def local(self, s: Statistics, q: dict[str, Any]) -> dict[str, Any]:
        """Responsibilities (Bishop 2006, 10.46 and 10.49) and what is made of them."""
        logits, residuals = self._logits(s, q)
        phi = jax.nn.softmax(logits, axis=0)
        weighted = phi * residuals
        found = Assignments(
            counts=jnp.sum(phi, axis=1),
            gram=jax.lax.map(lambda each: (each * s.x) @ s.x.T, phi),
            cross=weighted @ s.x.T,
            squares=jnp.sum(weighted * residuals, axis=1),
            near=q["w"].mean(),
            entropy=jnp.sum(jax.nn.logsumexp(logits, axis=0)) - jnp.sum(phi * logits),
        )
        return {**q, "assignments": found}

    def sweep(self, s: Statistics, q: dict[str, Any]) -> dict[str, Any]:
        """Responsibilities; weights; coefficients, then precisions given them."""
        known = self.local(s, q)["assignments"]
        cross = known.cross + jnp.einsum("kij,kj->ki", known.gram, known.near)
        w = self._coefficients(q["tau"].mean(), known.gram, cross)
        weights = Dirichlet(self.concentration + known.counts)
        rate = self.b + 0.5 * _squares(known, w)
        tau = Gamma(self.a + 0.5 * known.counts, rate)
        return {"weights": weights, "w": w, "tau": tau, "assignments": known}

    def bound(self, s: Statistics, q: dict[str, Any]) -> Float[Array, ""]:
        """E log p(y, z | weights, w, tau) + H(z) - divergences (Bishop 2006, 10.70)."""
        weights, w, tau, known = (q[k] for k in ("weights", "w", "tau", "assignments"))
        each = weights.mean_log() + 0.5 * (tau.mean_log() - LOG_2PI)
        rows = known.counts * each - 0.5 * tau.mean() * _squares(known, w)
        even = Dirichlet(jnp.full_like(known.counts, self.concentration))
        nothing = jnp.zeros_like(known.near)
        wide = self._coefficients(nothing[:, 0], jnp.zeros_like(known.gram), nothing)
        a, b = (jnp.full_like(known.counts, v) for v in (self.a, self.b))
        divergence = weights.kl(even) + w.kl(wide) + tau.kl(Gamma(a, b))
        found: Array = jnp.sum(rows) + known.entropy - divergence
        return found

    def counts(self, q: dict[str, Any]) -> Float[Array, " K"]:
        """Expected rows of each component."""
        found: Array = q["assignments"].counts
        return found

    def local_factors(self, s: Statistics, q: dict[str, Any]) -> dict[str, Any]:
        """The component of each row."""
        return {"z": dist.Categorical(logits=self._logits(s, q)[0].T)}

    def example(self, random: np.random.Generator, rows: int) -> dict[str, Any]:
        """Rows of an intercept and one predictor."""
        x = np.column_stack([np.ones(rows), random.normal(size=rows)])
        weights = random.dirichlet(np.full(self.components, self.concentration + 1))
        w = random.normal(0, self.precision**-0.5, (self.components, 2))
        tau = random.gamma(self.a, 1 / self.b, self.components)
        z = random.choice(self.components, rows, p=weights)
        return {"x": x, "y": random.normal(np.sum(x * w[z], axis=1), tau[z] ** -0.5)}

    def _parameters(self, x: Any) -> tuple[Any, Any, Any]:
        even = jnp.full(self.components, self.concentration)
        weights = numpyro.sample("weights", dist.Dirichlet(even))
        sd = jnp.full(x.shape[1], self.precision**-0.5)
        with numpyro.plate("component", self.components):
            w = numpyro.sample("w", dist.Normal(0.0, sd).to_event(1))
            tau = numpyro.sample("tau", dist.Gamma(self.a, self.b))
            numpyro.deterministic("log_tau", jnp.log(tau))
        return weights, w, tau

    def _coefficients(self, tau: Array, gram: Array, cross: Array) -> Gaussian:
        unit = jnp.eye(gram.shape[-1], dtype=gram.dtype)
        precision = self.precision * unit + tau[:, None, None] * gram
        return Gaussian.of(tau[:, None] * cross, precision)

    def _logits(self, s: Statistics, q: dict[str, Any]) -> tuple[Array, Array]:
        """E log p(y_i, z_i = k), and y_i - x_i E[w_k], both (K, N)."""
        w, tau = q["w"], q["tau"]
        residuals = s.y - w.mean() @ s.x
        of_w = jax.lax.map(lambda c: jnp.sum(s.x * (c @ s.x), axis=0), w.covariance)
        each = q["weights"].mean_log() + 0.5 * (tau.mean_log() - LOG_2PI)
        far = 0.5 * tau.mean()[:, None] * (residuals**2 + of_w)
        return each[:, None] - far, residuals


def _squares(known: Assignments, w: Gaussian) -> Float[Array, " K"]:
    """Sum of phi_ik E (y_i - x_i w_k)^2, by component."""
    away = w.mean() - known.near
    around = known.gram @ away[..., None]
    moved = jnp.einsum("kp,kp->k", away, around[..., 0] - 2 * known.cross)
    spread = jnp.sum(known.gram * w.covariance, axis=(1, 2))
    return known.squares + moved + spread


MODEL = MixtureOfRegressions
