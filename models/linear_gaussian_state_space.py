"""Linear Gaussian state space: a level, or a level and its slope, seen through noise.

x_0 ~ Normal(first_mean, first_sd^2), x_t ~ Normal(phi x_{t-1}, 1 / process), y_t ~
Normal(x_t, 1 / noise), with Gamma priors of both precisions; the local level model of
Durbin and Koopman (2012), chapter 2, where phi = 1. Their local linear trend (section
3.2) has a slope: level_t ~ Normal(level_{t-1} + slope_{t-1}, 1 / process[0]) and
slope_t ~ Normal(phi slope_{t-1}, 1 / process[1]). q(process) q(noise) q(x_0, ..., x_T),
the whole path in one Gaussian factor (Beal 2003, chapter 5; Barber and Chiappa 2007).
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
from annotated_types import Gt
from jaxtyping import Array, Float

from vi_bench.contract import Key
from vi_bench.factors import LOG_2PI, Gamma
from vi_bench.factors.kalman import StateSpace, smoothed
from vi_bench.models._state_space import GaussianPath, LinearGaussian

DATA = {"y": ("time",)}

Positive = Annotated[float, Gt(0)]


class States(NamedTuple):
    """Of the factor of the path.

    Attributes:
        steps: sum of E[(x_t - its prediction from x_{t-1})^2], in the shape of process.
        residual: sum of E[(y_t - level_t)^2].
        first: E[(x_0 - prior mean)^2 / prior variance], summed over the state.
        entropy: that of the path, nats.
    """

    steps: Float[Array, "*d"]
    residual: Float[Array, ""]
    first: Float[Array, ""]
    entropy: Float[Array, ""]


@dataclass(frozen=True)
class LinearGaussianStateSpace:
    """What moves, and the priors.

    Attributes:
        form: "level", or "trend": a level and its slope.
        phi: what of the level, or of the slope, is left after a step.
        first_mean: prior mean of the first level.
        first_sd: prior standard deviation of the first level.
        slope_mean: prior mean of the first slope.
        slope_sd: prior standard deviation of the first slope.
        a: prior shape of the precision of the steps, or of both.
        b: prior rate of the precision of the steps, or of both.
        c: prior shape of the precision of the noise.
        d: prior rate of the precision of the noise.
    """

    form: Literal["level", "trend"] = "level"
    phi: float = 1.0
    first_mean: float = 0.0
    first_sd: Positive = 10.0
    slope_mean: float = 0.0
    slope_sd: Positive = 1.0
    a: Positive = 1.0
    b: Positive = 1.0
    c: Positive = 1.0
    d: Positive = 1.0

    summary: ClassVar[str] = "a level or a trend that moves, observed with noise"
    references: ClassVar[tuple[str, ...]] = ("beal2003", "barber2007", "durbin2012")
    compared: ClassVar[tuple[str, ...]] = ("log_process", "log_noise")

    def model(self, y: Any) -> None:
        """The states summed out by the Kalman filter."""
        path = LinearGaussian(self._space(*self._sampled()), len(y))
        numpyro.sample("y", path, obs=y)

    def full(self, y: Any) -> None:
        """The states (T, 1 or 2) as a site of their own."""
        process, noise = self._sampled()
        path = GaussianPath.of(self._space(process, noise), len(y))
        states = numpyro.sample("states", path)
        rows = numpyro.distributions.Normal(states[:, 0], noise**-0.5)
        numpyro.sample("y", rows.to_event(1), obs=y)

    def statistics(self, y: Any) -> Array:
        """The values themselves."""
        return jnp.asarray(y, float)

    def init(self, key: Key, y: Array) -> dict[str, Any]:
        """Precisions around those of the differences, within some orders of it."""
        one, other = jax.random.split(key)
        scale = jnp.sum(jnp.diff(y) ** 2) / max(len(y) - 1, 1)
        process, noise = self._priors()
        far = jnp.exp(2 * jax.random.normal(one, process.shape.shape))
        steps = Gamma(process.shape, (process.rate + self.a * scale) * far)
        far = jnp.exp(2 * jax.random.normal(other))
        errors = Gamma(noise.shape, (noise.rate + self.c * scale) * far)
        return self.local(y, {"process": steps, "noise": errors})

    def local(self, y: Array, q: dict[str, Any]) -> dict[str, Any]:
        """The path by the Kalman smoother, from expected precisions."""
        process, noise = q["process"].mean(), q["noise"].mean()
        space = self._space(process, noise)
        found = smoothed(space, y)
        first = jnp.sum(jnp.diagonal(found.first) / jnp.diagonal(space.covariance))
        steps = jnp.diagonal(found.steps).reshape(process.shape)
        return {**q, "states": States(steps, found.residual, first, found.entropy)}

    def sweep(self, y: Array, q: dict[str, Any]) -> dict[str, Any]:
        """The path, then both precisions, which are independent given it."""
        found = self.local(y, q)["states"]
        process, noise = self._priors()
        shape = process.shape + 0.5 * max(len(y) - 1, 0)
        return {
            "process": Gamma(shape, process.rate + 0.5 * found.steps),
            "noise": Gamma(
                noise.shape + 0.5 * len(y), noise.rate + 0.5 * found.residual
            ),
            "states": found,
        }

    def bound(self, y: Array, q: dict[str, Any]) -> Float[Array, ""]:
        """E log p(y, states | precisions) + H(states), minus the divergences."""
        process, noise, found = q["process"], q["noise"], q["states"]
        own = max(len(y) - 1, 0) * (process.mean_log() - LOG_2PI)
        own = jnp.sum(own - process.mean() * found.steps)
        own += len(y) * (noise.mean_log() - LOG_2PI) - noise.mean() * found.residual
        first = self._space(process.mean(), noise.mean()).covariance
        own -= jnp.sum(jnp.log(jnp.diagonal(first)) + LOG_2PI) + found.first
        prior_process, prior_noise = self._priors()
        far = process.kl(prior_process) + noise.kl(prior_noise)
        total: Array = 0.5 * own + found.entropy - far
        return total

    def local_factors(self, y: Array, q: dict[str, Any]) -> dict[str, Any]:
        """The path's factor, from its last state backwards."""
        space = self._space(q["process"].mean(), q["noise"].mean())
        return {"states": GaussianPath.given(space, y)}

    def example(self, random: np.random.Generator, rows: int) -> dict[str, Any]:
        """A path, and what is seen of its level."""
        shape = self._priors()[0].shape.shape
        space = self._space(random.gamma(self.a, 1 / self.b, shape), 1.0)
        F, first, steps = map(
            np.asarray, (space.transition, space.covariance, space.process)
        )
        states = [random.multivariate_normal(np.asarray(space.mean), first)]
        for _ in range(rows - 1):
            states.append(random.multivariate_normal(F @ states[-1], steps))
        errors = random.gamma(self.c, 1 / self.d) ** -0.5 * random.normal(size=rows)
        return {"y": np.array([x[0] for x in states[:rows]]) + errors}

    def _space(self, process: Any, noise: Any) -> StateSpace:
        """The states and what is seen of them, at precisions that are known."""
        trend = self.form == "trend"
        F = [[1.0, 1.0], [0.0, self.phi]] if trend else [[self.phi]]
        size = 2 if trend else 1
        mean = [self.first_mean, self.slope_mean][:size]
        first = jnp.diag(jnp.square(jnp.array([self.first_sd, self.slope_sd][:size])))
        steps, seen = jnp.diag(1 / jnp.atleast_1d(process)), jnp.eye(size)[0]
        return StateSpace(
            jnp.asarray(mean),
            first,
            jnp.asarray(F),
            steps,
            seen,
            1 / jnp.asarray(noise),
        )

    def _sampled(self) -> tuple[Array, Array]:
        """The sites of the precisions."""
        process, noise = self._priors()
        each = numpyro.plate("state", 2) if self.form == "trend" else nullcontext()
        with each:
            steps = numpyro.sample("process", process.distribution())
            numpyro.deterministic("log_process", jnp.log(steps))
        errors = numpyro.sample("noise", noise.distribution())
        numpyro.deterministic("log_noise", jnp.log(errors))
        return steps, errors

    def _priors(self) -> tuple[Gamma, Gamma]:
        """Those of the precisions of the steps and of the noise."""
        size = (2,) if self.form == "trend" else ()
        process = Gamma(jnp.full(size, self.a), jnp.full(size, self.b))
        return process, Gamma(jnp.asarray(self.c), jnp.asarray(self.d))


MODEL = LinearGaussianStateSpace
