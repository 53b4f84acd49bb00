"""What hidden states emit: rows of features, independent given the state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
from jax.scipy.special import gammaln
from jaxtyping import Array, Float
from numpyro import distributions as dist

from vi_bench.factors import LOG_2PI, Dirichlet, Gamma, NormalGamma


class Emission(Protocol):
    """A distribution of rows (T, d) for each of K states, and its conjugate prior.

    Its factor of q stands for all states together.

    Attributes:
        name: of the factor in q.
        compared: names of the variables that are compared.
    """

    name: ClassVar[str]
    compared: ClassVar[tuple[str, ...]]

    def prior(self, y: Array) -> Any:
        """The factor that equals the prior."""

    def expected(self, factor: Any, y: Array) -> Float[Array, "T K"]:
        """E_q log p(y_t | state k), every constant included."""

    def update(self, prior: Any, y: Array, phi: Float[Array, "T K"]) -> Any:
        """The optimal factor given the states' probabilities phi."""

    def sample(self) -> dict[str, Array]:
        """Draw the variables (K, d, ...) from the prior, within the model's plates."""

    def distribution(self, theta: dict[str, Array]) -> Any:
        """Of a row in each state: batches (K, d), from the variables."""

    def example(self, random: np.random.Generator, z: np.ndarray) -> np.ndarray:
        """One feature along a path z, for checks."""


@dataclass(frozen=True)
class GaussianEmission:
    """Normal features, a Normal-Gamma prior on each mean and precision."""

    states: int
    mean: float
    kappa: float
    a: float
    b: float

    name: ClassVar[str] = "emission"
    compared: ClassVar[tuple[str, ...]] = ("mu", "log_tau")

    def prior(self, y: Array) -> NormalGamma:
        """Mean, kappa, shape a and rate b everywhere."""
        size = (self.states, y.shape[1])
        values = (self.mean, self.kappa, self.a, self.b)
        return NormalGamma(*(jnp.full(size, v) for v in values))

    def expected(self, factor: NormalGamma, y: Array) -> Float[Array, "T K"]:
        """Of normal densities, by the expected squares."""
        logs = jnp.sum(factor.precision.mean_log() - LOG_2PI, axis=1)
        return 0.5 * (logs - jnp.sum(factor.square(y[:, None, :]), axis=2))

    def update(self, prior: NormalGamma, y: Array, phi: Array) -> NormalGamma:
        """Bishop (2006), equations 10.60 to 10.63, with independent features."""
        rows = jnp.sum(phi, axis=0)[:, None]
        kappa = prior.kappa + rows
        middle = (prior.kappa * prior.middle + phi.T @ y) / kappa
        # squares about the new means: nothing large is left to cancel
        far = jnp.einsum("tk,tkd->kd", phi, (y[:, None, :] - middle) ** 2)
        far += prior.kappa * (middle - prior.middle) ** 2
        return NormalGamma(
            middle, kappa, prior.shape + 0.5 * rows, prior.rate + far / 2
        )

    def sample(self) -> dict[str, Array]:
        """Means and precisions, within the model's plates."""
        tau = numpyro.sample("tau", dist.Gamma(self.a, self.b))
        scale = (self.kappa * tau) ** -0.5
        mu = numpyro.sample("mu", dist.Normal(self.mean, scale))
        numpyro.deterministic("log_tau", jnp.log(tau))
        return {"mu": mu, "tau": tau}

    def distribution(self, theta: dict[str, Array]) -> Any:
        """Normal features."""
        return dist.Normal(theta["mu"], theta["tau"] ** -0.5)

    def example(self, random: np.random.Generator, z: np.ndarray) -> np.ndarray:
        """Means three sds apart."""
        return random.normal(3.0 * z)


@dataclass(frozen=True)
class PoissonEmission:
    """Poisson features, a Gamma(a, b) prior on each rate."""

    states: int
    a: float
    b: float

    name: ClassVar[str] = "rate"
    compared: ClassVar[tuple[str, ...]] = ("rate",)

    def prior(self, y: Array) -> Gamma:
        """Shape a and rate b everywhere."""
        size = (self.states, y.shape[1])
        return Gamma(jnp.full(size, self.a), jnp.full(size, self.b))

    def expected(self, factor: Gamma, y: Array) -> Float[Array, "T K"]:
        """Of Poisson probabilities."""
        constants = jnp.sum(gammaln(y + 1.0), axis=1)[:, None]
        linear = y @ factor.mean_log().T - jnp.sum(factor.mean(), axis=1)
        return linear - constants

    def update(self, prior: Gamma, y: Array, phi: Array) -> Gamma:
        """Counts add to the shapes, rows to the rates."""
        rows = jnp.sum(phi, axis=0)[:, None]
        return Gamma(prior.shape + phi.T @ y, prior.rate + rows)

    def sample(self) -> dict[str, Array]:
        """Rates, within the model's plates."""
        return {"rate": numpyro.sample("rate", dist.Gamma(self.a, self.b))}

    def distribution(self, theta: dict[str, Array]) -> Any:
        """Poisson features."""
        return dist.Poisson(theta["rate"])

    def example(self, random: np.random.Generator, z: np.ndarray) -> np.ndarray:
        """Rates 1, 6, ..."""
        return random.poisson(1.0 + 5 * z)


@dataclass(frozen=True)
class CategoricalEmission:
    """Codes 0 to V - 1, a Dirichlet(concentration) prior on their probabilities."""

    states: int
    categories: int
    concentration: float

    name: ClassVar[str] = "probability"
    compared: ClassVar[tuple[str, ...]] = ("probability",)

    def prior(self, y: Array) -> Dirichlet:
        """The concentration everywhere (K, d, V)."""
        size = (self.states, y.shape[1], self.categories)
        return Dirichlet(jnp.full(size, self.concentration))

    def expected(self, factor: Dirichlet, y: Array) -> Float[Array, "T K"]:
        """Of the codes' probabilities."""
        logs = factor.mean_log()
        features = jnp.arange(y.shape[1])
        return jnp.sum(logs[:, features, y], axis=2).T

    def update(self, prior: Dirichlet, y: Array, phi: Array) -> Dirichlet:
        """Expected counts of every code."""
        shown = jax.nn.one_hot(y, self.categories, dtype=phi.dtype)
        return Dirichlet(prior.concentration + jnp.einsum("tk,tdv->kdv", phi, shown))

    def sample(self) -> dict[str, Array]:
        """Probabilities of the codes, within the model's plates."""
        every = jnp.full((self.categories,), self.concentration)
        return {"probability": numpyro.sample("probability", dist.Dirichlet(every))}

    def distribution(self, theta: dict[str, Array]) -> Any:
        """Codes."""
        return dist.Categorical(theta["probability"])

    def example(self, random: np.random.Generator, z: np.ndarray) -> np.ndarray:
        """The codes rise with the state."""
        share = 0.2 + 0.6 * z / self.states
        return random.binomial(self.categories - 1, share)
