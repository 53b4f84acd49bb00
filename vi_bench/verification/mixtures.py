"""Small problems with mixtures of many families, on which the full form is tested."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vi_bench import catalogue
from vi_bench.calibration.priors import fixed_family, usual_prior
from vi_bench.data.table import Table, feature_names
from vi_bench.enumeration.marginals import check
from vi_bench.enumeration.single import conjugate_posterior
from vi_bench.enumeration.subsets import enumerate_subsets
from vi_bench.errors import NotApplicable, VerificationError, unknown
from vi_bench.mixture.mixture import Mixture, bind
from vi_bench.mixture.types import (
    UNIFORM_WEIGHTS,
    Parameters,
    SmallProblem,
    Verifiable,
)
from vi_bench.runtime.environment import computing, find_device
from vi_bench.runtime.keys import Key
from vi_bench.spec import Spec
from vi_bench.verification.finding import literal

ENUMERABLE = 8
"""Largest number of rows for which all assignments are enumerated."""

CROWDED = 5
"""Number of components from which on they are unbalanced, and one is empty."""

EXACT = 10_000
"""Number of draws from the exact posterior, among which others are ranked."""


class Truth(NamedTuple):
    """The exact posterior: log p(X) in nats, and independent draws (EXACT, *dims)."""

    log_evidence: Float[Array, ""]
    draws: Parameters


@dataclass(frozen=True, eq=False)
class MixtureProblem:
    """A test problem: a data set, the mixture to fit to it, and a seed.

    Attributes:
        about: short description of the problem.
        model: {"name": name of the family, every hyperparameter}, as in a spec.
        data: the rows (N, d).
        K: number of components.
        weights: {"name": "uniform", "dirichlet" or "stick-breaking", settings}.
        seed: seed that is handed to the implementation.
    """

    about: str
    model: Mapping[str, Any]
    data: np.ndarray
    K: int
    weights: Mapping[str, Any] = field(default_factory=lambda: UNIFORM_WEIGHTS)
    seed: int = 0

    @property
    def size(self) -> tuple[int, int]:
        """Sort key by which problems go from small to large."""
        return self.data.size, self.K

    def __str__(self) -> str:
        n, d = self.data.shape
        name = self.weights["name"]
        weights = "" if name == "uniform" else f", {name} weights"
        return (
            f"{self.model['name']}, N = {n}, d = {d}, K = {self.K}{weights}: "
            f"{self.about}"
        )

    def script(self, name: str = "f") -> str:
        """Python code that tests the function `name` on exactly this problem."""
        return (
            f"{literal(self.data)}"
            f"problem = MixtureProblem({self.about!r}, {dict(self.model)!r}, data, "
            f"K={self.K}, weights={dict(self.weights)!r}, seed={self.seed})\n"
            f"check_cavi({name}, problems=[problem])"
        )

    @cached_property
    def mixture(self) -> Mixture:
        """The mixture, with its data centred if the family allows it.

        Raises:
            InputError: a hyperparameter is unknown or missing, or the data do not fit.
        """
        spec = Spec(
            model=dict(self.model), weights=dict(self.weights), components=self.K
        )
        family = fixed_family(spec, self.data.shape[1])
        family.check(Table("data", self.data, self.features))
        with accurately():
            return bind(family, self.data, self.K, jnp.float64, spec.mixing())

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the d features."""
        return feature_names(self.data.shape[1])

    @cached_property
    def dims(self) -> dict[str, tuple[int, ...]]:
        """Parameter -> its shape, with "weight" (K,) if the weights are drawn."""
        mixture = self.mixture
        with accurately():
            theta = jax.eval_shape(
                lambda: mixture.draw(jax.random.key(0), mixture.prior(), ())
            )
        family = mixture.family
        found = {name: theta[name].shape for name in theta if name in family.dims}
        drawn = self.weights != UNIFORM_WEIGHTS and self.K > 1
        return found | ({"weight": (self.K,)} if drawn else {})

    @cached_property
    def truth(self) -> Truth | None:
        """The exact posterior; None if it cannot be enumerated."""
        if len(self.data) > ENUMERABLE and self.K > 1:
            return None
        key = jax.random.key(20260101)
        with accurately():
            if not len(self.data):
                return Truth(jnp.zeros(()), _from_prior(self.mixture, key))
            try:
                check(self.mixture)
            except NotApplicable:
                return None
            found: Truth = _enumerated(self.mixture, key)
            return found


def accurately() -> Any:
    """A context that computes in 64 bits on the CPU; the problems are small."""
    return computing(find_device("cpu"), 64)


@jax.jit
def _from_prior(mixture: Mixture, key: Key) -> Parameters:
    return mixture.draw(key, mixture.prior(), (EXACT,))


@jax.jit
def _enumerated(mixture: Mixture, key: Key) -> Truth:
    way: Callable[..., Any]
    way = conjugate_posterior if mixture.components == 1 else enumerate_subsets
    posterior = way(mixture)
    return Truth(posterior.log_evidence, posterior.draw(key, (EXACT,)))


def covered() -> dict[str, type[Verifiable]]:
    """Family -> its class, of all that bring small problems.

    Those of the defaults come first, in their order: a family's random numbers follow
    those of the families before it, so what a plug-in adds changes none of theirs.
    """
    known = catalogue.loaded("model")
    every = dict.fromkeys([*catalogue.defaults()["verify"]["families"], *known])
    return {n: known[n] for n in every if hasattr(known[n], "verification")}


def mixture_battery(
    seed: int = 0, families: Sequence[str] | None = None
) -> list[MixtureProblem]:
    """Small problems of the families, the smallest first: K to 5, d to 8, N to 80.

    Raises:
        InputError: a family has no problems here.
    """
    every = covered()
    for name in families or ():
        if name not in every:
            catalogue.known("model", name)
            raise unknown(
                "family", name, tuple(every), "the battery", error=VerificationError
            )
    random = np.random.default_rng([seed, 20170415, 1])
    found = []
    for name, family in every.items():
        for small in family.verification:
            data = rows_of(family, small, random)
            seeded = int(random.integers(2**31))
            if families is None or name in families:
                model = {"name": name} | usual_prior(name)
                about, K, weights = small.about, small.components, small.weights
                problem = MixtureProblem(about, model, data, K, weights, seeded)
                found.append(problem)
    return sorted(found, key=lambda p: p.size)


def rows_of(
    family: type[Verifiable], small: SmallProblem, random: np.random.Generator
) -> np.ndarray:
    """The data of a small problem (N, d).

    Components are about equally large; of CROWDED or more each has half the rows of the
    one before, and the last one none.
    """
    n, d, K = small.rows, small.features, small.components
    labels = random.permutation(np.arange(n) % K)
    if K >= CROWDED:
        ends = np.cumsum(0.5 ** np.arange(1, K - 1))
        labels = np.searchsorted(ends, (random.permutation(n) + 0.5) / n)
    level = small.apart * _levels(random, K, d, small.apart > 3)
    return family.rows_around(random, level[labels])


def _levels(random: np.random.Generator, K: int, d: int, separated: bool) -> Any:
    """Locations of the components (K, d): at random, or evenly spaced if separated."""
    if separated:
        steps = np.arange(K) - 0.5 * (K - 1)
        return steps[:, None] * random.choice([-1.0, 1.0], d)
    return random.normal(size=(K, d))
