"""Small data sets of any NumPyro model, on which a fit of it is tested.

They are rows of the user's own data and data simulated from the model, with the
covariates of some of these rows. Every identity that is checked holds for any data, so
it does not matter which rows they are.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import numpy as np
from numpyro import handlers
from numpyro.infer.util import log_density

from vi_bench import catalogue
from vi_bench.data.arrays import arrays
from vi_bench.errors import InputError
from vi_bench.posterior.arguments import arguments, named_data
from vi_bench.posterior.structure import (
    Structure,
    is_array,
    outcomes,
    places_of,
    read_model,
    run_once,
)
from vi_bench.verification.mixtures import accurately

SIZES = (1, 2, 5, 20)
"""Numbers of rows of the data sets."""

WHOLE = 60
"""Rows up to which the data are tried as they are, too."""

COMPONENTS = ("K", "k", "components", "n_components", "topics", "n_topics", "states")
"""Arguments that are taken for a number of components: with one, the latent labels are
known."""

TAME = 1e4
"""Largest absolute value in data that are simulated."""

TRIES = 20
"""Simulated data sets of which the first tame one is taken."""


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
    """

    about: str
    model: Callable[..., Any]
    data: Mapping[str, Any]
    seed: int = 0
    truth: Mapping[str, Any] | None = None
    rows: int | None = None

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
    def observed(self) -> dict[str, str]:
        """Observed site -> the argument whose values it has, of those that have one."""
        data = dict(self.data)
        places = places_of(outcomes(self.trace), data)
        leaves = jax.tree_util.tree_leaves_with_path(data)
        return {
            site: str(getattr(leaves[place][0][0], "key", ""))
            for site, place in places.items()
        }


def model_battery(
    model: Callable[..., Any], data: Mapping[str, Any], seed: int = 0
) -> tuple[list[ModelProblem], list[str]]:
    """Small problems of a model, the smallest first, and what was not tried, and why.

    Args:
        model: the NumPyro model.
        data: its arguments by name.
        seed: random seed of the choice of rows and of simulated data.

    Raises:
        InputError: the model cannot be run on the data, or not be inferred.
    """
    random = np.random.default_rng([seed, 20170415, 2])
    whole = ModelProblem("the data", model, dict(data), _seed(random))
    _ = whole.structure
    found: list[ModelProblem] = []
    left: list[str] = []
    rows = rows_of(whole)
    if rows is None:
        left.append("subsets of rows: no array has the observations' leading axis")
        found.append(whole)
        found += _simulated(whole, "simulated from the model", random, left)
    else:
        number, sliced = rows
        whole = replace(whole, rows=number)
        for about, index in _subsets(number, random):
            problem = _taken(whole, sliced, index, about, _seed(random))
            if (why := _unusable(problem)) is not None:
                left.append(f"{about}: {why}")
                continue
            found.append(problem)
            if len(index) >= 2:
                found += _simulated(problem, f"{about}, simulated", random, left)
        if number <= WHOLE:
            found.append(whole)
    found += _single(found[-1], random)
    return sorted(found, key=lambda p: p.size), left


def battery_of(
    model: Any, data: Any, seed: int = 0
) -> tuple[list[ModelProblem], list[str]]:
    """Small problems of a model that is named, or given as a function.

    Args:
        model: a NumPyro model, or "mine.py:model".
        data: its arguments by name; or a file of them; or "mine.py:data"; or None:
            what the function data() in the model's file returns.
        seed: see `model_battery`.

    Raises:
        InputError: they cannot be read, or do not fit each other.
    """
    where = model if isinstance(model, str) else catalogue.add_function(model)
    function = catalogue.function(where)
    if data is None or isinstance(data, (str, Path)):
        known = named_data(where, "" if data is None else str(data))
    else:
        known = arrays(data)
    given, _ = arguments(
        function,
        known.values,
        f"model {where!r}",
        f"the data {known.name!r}",
        known.unfit,
    )
    return model_battery(function, given, seed)


def rows_of(whole: ModelProblem) -> tuple[int, tuple[str, ...]] | None:
    """Number of rows, and the arguments that have them; None if there are no rows."""
    values = [np.shape(v) for v in outcomes(whole.trace).values()]
    sizes = {shape[0] for shape in values if shape}
    if len(sizes) != 1:
        return None
    (number,) = sizes
    sliced = tuple(
        name
        for name, value in whole.data.items()
        if is_array(value) and np.shape(value)[0] == number
    )
    return (number, sliced) if sliced else None


def permuted(problem: ModelProblem) -> ModelProblem | None:
    """The problem, its rows in reverse; None if the model depends on their order."""
    rows = rows_of(problem)
    if rows is None or rows[0] < 2:
        return None
    number, sliced = rows
    order = np.arange(number)[::-1]
    about = f"{problem.about}, in reverse"
    moved = _taken(problem, sliced, order, about, problem.seed)
    if _unusable(moved):
        return None
    with accurately():
        # local latent variables go with their rows
        here = {n: s["value"] for n, s in problem.trace.items() if _latent(s)}
        there = {
            n: v[order] if np.shape(v)[:1] == (number,) else v for n, v in here.items()
        }
        one, other = (
            float(log_density(p.model, (), dict(p.data), values)[0])
            for p, values in ((problem, here), (moved, there))
        )
    return moved if abs(one - other) <= 1e-9 * (1 + abs(one)) else None


def _latent(site: Mapping[str, Any]) -> bool:
    return bool(site["type"] == "sample" and not site["is_observed"])


def _subsets(
    number: int, random: np.random.Generator
) -> Iterator[tuple[str, np.ndarray]]:
    """Descriptions and indices of rows, in increasing order."""
    yield "no rows", np.zeros(0, int)
    for size in SIZES:
        if size > number:
            return
        for label in ("", ", others") if size == 5 else ("",):
            rows = np.sort(random.permutation(number)[:size])
            yield f"{size} row{'s' * (size > 1)} of the data{label}", rows


def _taken(
    whole: ModelProblem,
    sliced: tuple[str, ...],
    index: np.ndarray,
    about: str,
    seed: int,
) -> ModelProblem:
    data = {
        name: np.asarray(value)[index] if name in sliced else value
        for name, value in whole.data.items()
    }
    return ModelProblem(about, whole.model, data, seed, rows=len(index))


def _unusable(problem: ModelProblem) -> str | None:
    """Why a model cannot take a subset of the rows; None if it can."""
    try:
        _ = problem.structure
    except InputError as error:
        return str(error)
    return None


def _simulated(
    problem: ModelProblem, about: str, random: np.random.Generator, left: list[str]
) -> list[ModelProblem]:
    """The problem with data drawn from the model; none if that cannot be done."""
    structure, places = problem.structure, problem.observed
    seed = _seed(random)
    if not structure.proper:
        left.append(f"{about}: a prior is improper, scaled or masked")
        return []
    if lost := [site for site in structure.observed if site not in places]:
        left.append(f"{about}: the values of {lost[0]!r} are none of the arguments")
        return []
    for attempt in range(TRIES):
        trace = _drawn(problem, jax.random.fold_in(jax.random.key(seed), attempt))
        values = {n: np.asarray(trace[n]["value"]) for n in structure.observed}
        truth = {s.name: np.asarray(trace[s.name]["value"]) for s in structure.sites}
        if all(_tame(v) for v in (*values.values(), *truth.values())):
            data = dict(problem.data)
            for site, name in places.items():
                data[name] = values[site].astype(_kind(data[name], values[site]))
            made = replace(problem, about=about, data=data, seed=seed, truth=truth)
            return [] if _unusable(made) else [made]
    left.append(f"{about}: the prior gives no data below {TAME:g}")
    return []


def _drawn(problem: ModelProblem, key: Any) -> dict[str, Any]:
    with accurately():
        model = handlers.uncondition(handlers.seed(problem.model, key))
        found: dict[str, Any] = handlers.trace(model).get_trace(**problem.data)
    return found


def _tame(values: np.ndarray) -> bool:
    return bool(np.all(np.isfinite(values)) and np.all(np.abs(values) < TAME))


def _kind(given: Any, drawn: np.ndarray) -> Any:
    """The type of simulated data: that of the given ones, where it can hold them."""
    own = np.asarray(given).dtype
    return drawn.dtype if own.kind in "iub" and drawn.dtype.kind == "f" else own


def _single(problem: ModelProblem, random: np.random.Generator) -> list[ModelProblem]:
    """The problem with one component, if the model is told how many there are."""
    for name in COMPONENTS:
        value = problem.data.get(name)
        if value is not None and np.ndim(value) == 0 and int(value) > 1:
            data = dict(problem.data) | {name: 1}
            about = f"{problem.about}, {name} = 1"
            made = ModelProblem(
                about, problem.model, data, _seed(random), rows=problem.rows
            )
            return [] if _unusable(made) else [made]
    return []


def _seed(random: np.random.Generator) -> int:
    return int(random.integers(2**31))


def _literal(value: Any) -> str:
    """An argument as code that gives exactly the same numbers."""
    if not is_array(value):
        return repr(value.item() if hasattr(value, "item") else value)
    array = np.asarray(value)
    return f"np.array({array.tolist()}, {array.dtype.name!r}).reshape({array.shape})"
