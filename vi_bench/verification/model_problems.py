"""A problem of any NumPyro model: a small data set that a fit is tested on."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import jax
import numpy as np
from numpyro import distributions as dist

from vi_bench.posterior.structure import (
    Structure,
    bare,
    is_array,
    outcomes,
    places_of,
    read_model,
    run_once,
)
from vi_bench.verification.mixtures import accurately

BY_LOGITS = (dist.BernoulliLogits, dist.BinomialLogits)
"""Likelihoods that are logistic."""

BERNOULLIS = (*BY_LOGITS, dist.BernoulliProbs, dist.BinomialProbs)
"""Likelihoods that may be."""


class Logistic(NamedTuple):
    """A logistic likelihood.

    Attributes:
        site: the observed site.
        trials: number of trials of each of its values (n,).
        by_logits: whether the model gives the logits themselves.
    """

    site: str
    trials: np.ndarray
    by_logits: bool


@dataclass(frozen=True, eq=False)
class ModelProblem:
    """A test problem: a NumPyro model, the data that it is given, and a seed.

    Attributes:
        about: short description of the problem.
        model: the NumPyro model.
        data: its arguments by name.
        seed: seed that is handed to the fit, if it takes one.
        truth: the latent values from which the data were simulated, by site, so an
            exact draw from the posterior; None if they were not.
        rows: number of rows; None if that is not known.
        known: latent sites of the model that are given here, as arguments of that name.
    """

    about: str
    model: Callable[..., Any]
    data: Mapping[str, Any]
    seed: int = 0
    truth: Mapping[str, Any] | None = None
    rows: int | None = None
    known: tuple[str, ...] = ()

    @property
    def size(self) -> tuple[int, int]:
        """Sort key by which problems go from small to large."""
        return sum(np.size(v) for v in self.data.values()), 0

    def __str__(self) -> str:
        name = getattr(self.model, "__name__", "model")
        known = "" if self.rows is None else f", N = {self.rows}"
        return f"{name}{known}: {self.about}"

    def script(self, name: str = "f") -> str:
        """Python code that tests the function `name` on exactly this problem."""
        lines = [
            f"    {key!r}: {_literal(value)},\n" for key, value in self.data.items()
        ]
        return (
            f"data = {{\n{''.join(lines)}}}\n"
            f"problem = ModelProblem({self.about!r}, model, data, seed={self.seed})\n"
            f"check_cavi({name}, problems=[problem])"
        )

    @cached_property
    def arrays(self) -> dict[str, np.ndarray]:
        """Arrays among the data."""
        return {n: v for n, v in self.data.items() if isinstance(v, np.ndarray)}

    @cached_property
    def alike(self) -> Hashable:
        """What problems have in common whose data differ in arrays' values alone.

        None if that is not known, as some argument cannot be compared.
        """
        still = tuple((n, v) for n, v in self.data.items() if n not in self.arrays)
        shapes = tuple((n, v.shape, v.dtype.str) for n, v in self.arrays.items())
        try:
            hash(still)
        except TypeError:
            return None
        return self.model, shapes, still

    @cached_property
    def trace(self) -> dict[str, Any]:
        """One run of the model on these data.

        Raises:
            InputError: it cannot be run.
        """
        with accurately():
            return run_once(self.model, (), dict(self.data))

    @cached_property
    def structure(self) -> Structure:
        """What that run shows.

        Raises:
            InputError: the model cannot be inferred as it is.
        """
        with accurately():
            return read_model(
                self.model, (), dict(self.data), self.trace, enumerated=False
            )

    @cached_property
    def agrees(self) -> bool:
        """Whether observed values have the shape of their distributions."""
        sites = [self.trace[name] for name in self.structure.observed]
        return all(
            tuple(site["fn"].shape()) == np.shape(site["value"])
            for site in sites
            if site["value"] is not None
        )

    @property
    def has_possible_values(self) -> bool:
        """Whether observed counts and categories are in their supports."""
        sites = [self.trace[name] for name in self.structure.observed]
        return all(
            bool(np.all(site["fn"].support(site["value"])))
            for site in sites
            if site["value"] is not None and site["fn"].support.is_discrete
        )

    @cached_property
    def logistic(self) -> Logistic | None:
        """The one observed site that is Bernoulli or binomial; None if there is none.

        Whether their probabilities are logistic in something is not known.
        """
        found = []
        for name in self.structure.observed:
            site = self.trace[name]
            fn = bare(site["fn"])
            if isinstance(fn, BERNOULLIS) and site.get("scale") is None:
                trials = np.asarray(getattr(fn, "total_count", 1), float)
                trials = np.broadcast_to(trials, np.shape(site["value"]))
                found.append(Logistic(name, trials.ravel(), isinstance(fn, BY_LOGITS)))
        return found[0] if len(found) == 1 else None

    @cached_property
    def observed(self) -> dict[str, str]:
        """Observed site -> the argument whose values it has, of those that have one."""
        data = dict(self.data)
        places = places_of(outcomes(self.trace), data)
        leaves = jax.tree_util.tree_leaves_with_path(data)
        return {
            site: str(getattr(leaves[place][0][0], "key", ""))
            for site, place in places.items()
        }


def _literal(value: Any) -> str:
    """An argument as code that gives exactly the same numbers."""
    if not is_array(value):
        return repr(value.item() if hasattr(value, "item") else value)
    array = np.asarray(value)
    return f"np.array({array.tolist()}, {array.dtype.name!r}).reshape({array.shape})"
