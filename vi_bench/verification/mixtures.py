"""Small problems with mixtures of many families, on which the full form is tested."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
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
from vi_bench.mixture.mixture import Mixture, bind, data_centre
from vi_bench.mixture.types import Parameters
from vi_bench.runtime.environment import computing, find_device
from vi_bench.runtime.keys import Key
from vi_bench.spec import Spec
from vi_bench.verification.finding import literal

ENUMERABLE = 8
"""Largest number of rows for which all assignments are enumerated."""

EXACT = 10_000
"""Number of draws from the exact posterior, among which others are ranked."""

UNIFORM = {"name": "uniform"}


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
    weights: Mapping[str, Any] = field(default_factory=lambda: UNIFORM)
    seed: int = 0

    @property
    def size(self) -> tuple[int, int]:
        """Sort key by which problems go from small to large."""
        return self.data.size, self.K

    def __str__(self) -> str:
        n, d = self.data.shape
        weights = "" if self.weights == UNIFORM else f", {self.weights['name']} weights"
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
    def centre(self) -> np.ndarray:
        """The centre (d,) that was subtracted from the data."""
        return data_centre(self.mixture.family, self.data)

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
        drawn = self.weights != UNIFORM and self.K > 1
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


DIRICHLET = {"name": "dirichlet", "concentration": 0.7}
STICKS = {"name": "stick-breaking", "concentration": 1.5}

Place = tuple[str, str, int, int, int, Mapping[str, Any], float]

PLACES: tuple[Place, ...] = (
    ("gaussian", "no rows", 0, 2, 3, UNIFORM, 0.0),
    ("gaussian", "one component", 6, 3, 1, UNIFORM, 0.0),
    ("gaussian", "overlapping", 8, 1, 2, UNIFORM, 1.0),
    ("gaussian", "overlapping", 7, 2, 3, UNIFORM, 1.0),
    ("gaussian", "few rows, weights drawn", 8, 2, 2, DIRICHLET, 1.0),
    ("gaussian", "weights by stick-breaking", 7, 1, 3, STICKS, 1.0),
    ("gaussian", "separated", 24, 2, 3, UNIFORM, 25.0),
    ("gaussian", "overlapping, more rows", 40, 3, 4, UNIFORM, 1.0),
    ("poisson", "no rows, weights drawn", 0, 1, 2, DIRICHLET, 0.0),
    ("poisson", "one component", 6, 2, 1, UNIFORM, 0.0),
    ("poisson", "overlapping", 8, 1, 2, UNIFORM, 0.7),
    ("poisson", "few rows, weights drawn", 8, 1, 2, DIRICHLET, 0.7),
    ("poisson", "separated", 20, 2, 2, UNIFORM, 4.0),
    ("poisson", "overlapping, weights drawn", 30, 2, 3, DIRICHLET, 0.7),
    ("exponential", "one component", 6, 1, 1, UNIFORM, 0.0),
    ("exponential", "overlapping", 8, 1, 2, UNIFORM, 1.0),
    ("bernoulli", "one component", 6, 3, 1, UNIFORM, 0.0),
    ("bernoulli", "overlapping", 8, 3, 2, UNIFORM, 1.5),
    ("categorical", "one component", 6, 2, 1, UNIFORM, 0.0),
    ("categorical", "overlapping, weights drawn", 8, 2, 2, DIRICHLET, 1.0),
    ("gaussian-spherical", "one component", 6, 2, 1, UNIFORM, 0.0),
    ("gaussian-spherical", "overlapping", 8, 2, 2, UNIFORM, 1.0),
    ("gaussian-diagonal", "one component", 6, 2, 1, UNIFORM, 0.0),
    ("gaussian-diagonal", "overlapping", 8, 2, 2, UNIFORM, 1.0),
    ("gaussian-diagonal", "separated", 20, 2, 2, UNIFORM, 25.0),
    ("gaussian-full", "one component", 6, 2, 1, UNIFORM, 0.0),
    ("gaussian-full", "overlapping", 8, 2, 2, UNIFORM, 1.0),
    ("gaussian-full", "overlapping, more rows", 30, 2, 3, DIRICHLET, 1.0),
    ("gaussian-semiconjugate", "one component", 6, 1, 1, UNIFORM, 0.0),
    ("gaussian-semiconjugate", "overlapping", 12, 2, 2, UNIFORM, 1.0),
)
"""Problems: family, description, N, d, K, weights, and separation of components."""

FAMILIES = tuple(dict.fromkeys(place[0] for place in PLACES))


def mixture_battery(
    seed: int = 0, families: Sequence[str] | None = None
) -> list[MixtureProblem]:
    """Small problems of the families, the smallest first: K from 1 to 4, N to 40.

    Raises:
        InputError: a family has no problems here.
    """
    for name in families or ():
        if name not in FAMILIES:
            catalogue.known("model", name)
            raise unknown(
                "family", name, FAMILIES, "the battery", error=VerificationError
            )
    random = np.random.default_rng([seed, 20170415, 1])
    found = []
    for family, about, n, d, K, weights, apart in PLACES:
        labels = random.permutation(np.arange(n) % K)
        level = apart * _levels(random, K, d, apart > 3)
        rows = (
            ROWS[family](random, labels, level)
            if family in ROWS
            else _normal(random, labels, level)
        )
        seeded = int(random.integers(2**31))
        if families is None or family in families:
            model = {"name": family} | usual_prior(family)
            found.append(MixtureProblem(about, model, rows, K, weights, seeded))
    return sorted(found, key=lambda p: p.size)


def _levels(random: np.random.Generator, K: int, d: int, separated: bool) -> Any:
    """Locations of the components (K, d): at random, or evenly spaced if separated."""
    if separated:
        steps = np.arange(K) - 0.5 * (K - 1)
        return steps[:, None] * random.choice([-1.0, 1.0], d)
    return random.normal(size=(K, d))


def _normal(random: Any, labels: np.ndarray, level: np.ndarray) -> np.ndarray:
    rows = level[labels] + random.normal(size=(len(labels), level.shape[1]))
    return np.asarray(rows.round(2))


def _poisson(random: Any, labels: np.ndarray, level: np.ndarray) -> np.ndarray:
    return np.asarray(random.poisson(3.0 * np.exp(level[labels])), float)


def _exponential(random: Any, labels: np.ndarray, level: np.ndarray) -> np.ndarray:
    return np.asarray(random.exponential(np.exp(level[labels])).round(3) + 1e-3)


def _choices(
    levels: int, random: Any, labels: np.ndarray, level: np.ndarray
) -> np.ndarray:
    noise = random.logistic(size=(len(labels), level.shape[1]))
    place = 1 / (1 + np.exp(-level[labels] - noise))
    return np.asarray(np.floor(levels * place), float)


ROWS: dict[str, Callable[..., np.ndarray]] = {
    "poisson": _poisson,
    "exponential": _exponential,
    "bernoulli": partial(_choices, 2),
    "categorical": partial(_choices, 3),
}
"""Family -> function that simulates its rows; others have Gaussian rows."""
