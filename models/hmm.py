"""Hidden Markov model: Gaussian, Poisson or categorical rows along a hidden path.

initial ~ Dirichlet, rows of transition ~ Dirichlet, z_0 ~ initial, z_t ~
transition[z_{t-1}], y_t ~ emission of state z_t with its conjugate prior. q(initial)
q(transition) q(emission) q(z_0, ..., z_T), the whole path in one factor (MacKay 1997;
Beal 2003, section 3.4).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Literal, Self

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
from annotated_types import Ge, Gt
from jax.scipy.special import entr
from jaxtyping import Array, Float

from vi_bench.contract import Key
from vi_bench.factors import Dirichlet
from vi_bench.factors.chain import Hidden, hidden
from vi_bench.models._emissions import (
    CategoricalEmission,
    Emission,
    GaussianEmission,
    PoissonEmission,
)
from vi_bench.models._hidden_markov import HiddenMarkov, MarkovPath

DATA = {"y": ("time", "feature")}

Positive = Annotated[float, Gt(0)]


@dataclass(frozen=True)
class HMM:
    """What states emit, their number, and the priors.

    Attributes:
        emission: "gaussian" (Normal-Gamma prior), "poisson" (Gamma) or "categorical"
            (Dirichlet).
        states: number of hidden states K.
        first: concentration of the first state's Dirichlet prior.
        switch: concentration of the prior on leaving a state for each other one.
        stay: concentration of the prior on staying.
        mean: of a Gaussian's mean.
        kappa: rows that the prior mean is worth.
        a: shape of the precisions' prior, or of the rates'.
        b: rate of the precisions' prior, or of the rates'.
        categories: number of codes; by default one more than the largest.
        concentration: of the codes' Dirichlet prior.
    """

    emission: Literal["gaussian", "poisson", "categorical"] = "gaussian"
    states: Annotated[int, Ge(1)] = 2
    first: Positive = 1.0
    switch: Positive = 1.0
    stay: Positive = 1.0
    mean: float = 0.0
    kappa: Positive = 0.1
    a: Positive = 2.0
    b: Positive = 1.0
    categories: Annotated[int, Ge(2)] | None = None
    concentration: Positive = 1.0

    summary: ClassVar[str] = "rows emitted by a hidden Markov chain"
    references: ClassVar[tuple[str, ...]] = ("mackay1997", "beal2003")

    @property
    def compared(self) -> tuple[str, ...]:
        """The emission's parameters and the probabilities of staying."""
        return (*self._emits().compared, "remain")

    def complete(self, y: Any) -> Self:
        """With the number of codes that the data have."""
        if self.emission != "categorical" or self.categories is not None:
            return self
        return replace(self, categories=int(np.max(y, initial=1)) + 1)

    def model(self, y: Any) -> None:
        """The path summed out by the forward algorithm."""
        initial, transition, theta = self._sampled(y)
        rows = self._emits().distribution(theta)
        path = HiddenMarkov(initial, transition, rows, len(y))
        numpyro.sample("y", path, obs=y)

    def full(self, y: Any) -> None:
        """The path z as a site of its own."""
        initial, transition, theta = self._sampled(y)
        nothing = jnp.zeros((len(y), self.states))
        path = MarkovPath(jnp.log(initial), jnp.log(transition), nothing)
        z = numpyro.sample("z", path)
        rows = self._emits().distribution({k: v[z] for k, v in theta.items()})
        numpyro.sample("y", rows.to_event(2), obs=y)

    def statistics(self, y: Any) -> Array:
        """The rows themselves."""
        return (
            jnp.asarray(y) if self.emission == "categorical" else jnp.asarray(y, float)
        )

    def init(self, key: Key, y: Array) -> dict[str, Any]:
        """Factors from random states, drawn for stretches of one to T / 4 times."""
        length, which = jax.random.split(key)
        longest = max(2, len(y) // 4)
        each = jax.random.randint(length, (), 1, longest)
        drawn = jax.random.gumbel(which, (len(y), self.states))
        phi = jax.nn.softmax(3 * drawn[jnp.arange(len(y)) // each])
        entropy = jnp.sum(entr(phi))  # states that are independent of each other
        return self._update(y, Hidden(phi, phi[:-1].T @ phi[1:], entropy))

    def local(self, y: Array, q: dict[str, Any]) -> dict[str, Any]:
        """The path by the forward-backward algorithm, from expected logs."""
        return {**q, "z": hidden(*self._weights(y, q))}

    def sweep(self, y: Array, q: dict[str, Any]) -> dict[str, Any]:
        """The path, then all other factors, which are independent given it."""
        return self._update(y, self.local(y, q)["z"])

    def bound(self, y: Array, q: dict[str, Any]) -> Float[Array, ""]:
        """E log p(y, z | parameters) + H(z), minus the other factors' divergences."""
        z, emits = q["z"], self._emits()
        initial, transition = self._priors()
        own = jnp.sum(z.marginals * emits.expected(q[emits.name], y))
        own += jnp.sum(z.marginals[0] * q["initial"].mean_log())
        own += jnp.sum(z.moves * q["transition"].mean_log())
        far = q["initial"].kl(initial) + q["transition"].kl(transition)
        found: Array = own + z.entropy - far - q[emits.name].kl(emits.prior(y))
        return found

    def counts(self, q: dict[str, Any]) -> Float[Array, " K"]:
        """Expected times in each state."""
        counted: Array = jnp.sum(q["z"].marginals, axis=0)
        return counted

    def local_factors(self, y: Array, q: dict[str, Any]) -> dict[str, Any]:
        """The path's factor, by its weights."""
        return {"z": MarkovPath(*self._weights(y, q))}

    def example(self, random: np.random.Generator, rows: int) -> dict[str, Any]:
        """A path that stays with probability 0.9, and rows some sds apart."""
        moved = random.random(rows) > 0.9
        z = (np.cumsum(moved * random.integers(1, 3, rows))) % self.states
        return {"y": self._emits().example(random, z)[:, None]}

    def _update(self, y: Array, z: Hidden) -> dict[str, Any]:
        """The other factors given that of the path."""
        initial, transition = self._priors()
        emits = self._emits()
        return {
            "initial": Dirichlet(initial.concentration + z.marginals[0]),
            "transition": Dirichlet(transition.concentration + z.moves),
            emits.name: emits.update(emits.prior(y), y, z.marginals),
            "z": z,
        }

    def _sampled(self, y: Any) -> tuple[Array, Array, dict[str, Array]]:
        """The sites of the parameters: initial, transition, and the emission's."""
        size, emits = self.states, self._emits()
        first, moves = (prior.distribution() for prior in self._priors())
        initial = numpyro.sample("initial", first)
        with numpyro.plate("component", size):
            transition = numpyro.sample("transition", moves)
            numpyro.deterministic("remain", jnp.diagonal(transition))
        each = numpyro.plate("feature", y.shape[1], dim=-1)
        with numpyro.plate("component", size, dim=-2), each:
            theta = emits.sample()
        return initial, transition, theta

    def _weights(self, y: Array, q: dict[str, Any]) -> tuple[Array, Array, Array]:
        """Expected logs of the first state's weights, the moves' and the rows'."""
        emits = self._emits()
        emission = emits.expected(q[emits.name], y)
        return q["initial"].mean_log(), q["transition"].mean_log(), emission

    def _priors(self) -> tuple[Dirichlet, Dirichlet]:
        """Those of the first state and of the moves."""
        moves = self.switch + (self.stay - self.switch) * jnp.eye(self.states)
        return Dirichlet(jnp.full(self.states, self.first)), Dirichlet(moves)

    def _emits(self) -> Emission:
        if self.emission == "gaussian":
            return GaussianEmission(self.states, self.mean, self.kappa, self.a, self.b)
        if self.emission == "poisson":
            return PoissonEmission(self.states, self.a, self.b)
        codes = self.categories or 2
        return CategoricalEmission(self.states, codes, self.concentration)


MODEL = HMM
