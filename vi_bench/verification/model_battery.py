"""Small data sets of any NumPyro model, on which a fit of it is tested.

They are rows of the user's own data and data simulated from the model, with the
covariates of some of these rows. Every identity that is checked holds for any data, so
it does not matter which rows they are.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from numpyro import handlers

from vi_bench import catalogue
from vi_bench.contract import CAVIModel
from vi_bench.data.arrays import arrays
from vi_bench.errors import unknown
from vi_bench.posterior.arguments import arguments, model_arguments, named_data
from vi_bench.posterior.bound import example_of, library_model
from vi_bench.verification.library import whole_model
from vi_bench.verification.mixtures import accurately
from vi_bench.verification.model_problems import ModelProblem
from vi_bench.verification.model_rows import (
    new_seed,
    partners,
    rows_of,
    taken,
    unusable,
)

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

VAGUE = (
    f"each of {TRIES} draws from the prior has a value over {TAME:,.0f}, and over ten "
    "times the largest of the data: with narrower hyperparameters simulated data are "
    "tried, too"
)
"""Why no simulated data are tried."""


class Left(NamedTuple):
    """What is not tried, and why."""

    about: str
    why: str


def model_battery(
    model: Callable[..., Any], data: Mapping[str, Any], seed: int = 0
) -> tuple[list[ModelProblem], list[Left]]:
    """Small problems of a model, the smallest first, and what was not tried, and why.

    Args:
        model: the NumPyro model.
        data: its arguments by name.
        seed: random seed of the choice of rows and of simulated data.

    Raises:
        InputError: the model cannot be run on the data, or not be inferred.
    """
    random = np.random.default_rng([seed, 20170415, 2])
    whole = ModelProblem("the data", model, dict(data), new_seed(random))
    _ = whole.structure
    found: list[ModelProblem] = []
    left: list[Left] = []
    rows = rows_of(whole)
    if rows is None:
        left.append(
            Left("subsets of rows", "no array has the observations' leading axis")
        )
        found.append(whole)
        found += _simulated(whole, "simulated from the model", random, left)
    else:
        number, sliced = rows
        whole = replace(whole, rows=number)
        chosen = list(_subsets(number, random))
        if number > 1:
            one = next(index for _, index in chosen if len(index) == 1)
            chosen += _another_row(whole, sliced, one)
        for about, index in chosen:
            problem = taken(whole, sliced, index, about, new_seed(random))
            if (why := unusable(problem, whole)) is not None:
                left.append(Left(about, why))
                continue
            found.append(problem)
            if len(index) >= 2:
                found += _simulated(problem, f"{about}, simulated", random, left)
        if number <= WHOLE:
            found.append(whole)
        found += partners(whole, sliced, found, random)
    largest = [p for p in found if p.rows == max(q.rows or 0 for q in found)][:2]
    found += [made for p in largest for made in _single(p, random)]
    return sorted(found, key=lambda p: p.size), left


def battery_of(
    model: Any, data: Any, seed: int = 0
) -> tuple[list[ModelProblem], list[Left]]:
    """Small problems of a model that is named, or given as a function.

    Args:
        model: a NumPyro model, or "mine.py:model"; or a model that brings its CAVI, or
            its name.
        data: its arguments by name; or a file of them; or "mine.py:data"; or None:
            what the function data() in the model's file returns, or an example.
        seed: see `model_battery`.

    Raises:
        InputError: they cannot be read, or do not fit each other.
    """
    if (own := library_model(model)) is not None:
        return _of_library(own, model, data, seed)
    if isinstance(model, str) and not catalogue.is_function(model):
        raise unknown("model", model, [*catalogue.library(), "mine.py:model"])
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


def _of_library(
    own: CAVIModel, model: Any, data: Any, seed: int
) -> tuple[list[ModelProblem], list[Left]]:
    """Problems of a model that brings its CAVI; its own example where data are None."""
    name = model if isinstance(model, str) else type(own).__name__
    if data is None:
        known = arrays(example_of(own, seed), "an example")
    elif isinstance(data, (str, Path)):
        known = named_data(name, str(data))
    else:
        known = arrays(data)
    dims = catalogue.dimensions(type(own))
    given, _, _ = model_arguments(own.model, dims, known, f"model {name!r}")
    return model_battery(whole_model(own, given), given, seed)


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


def _another_row(
    whole: ModelProblem, sliced: Sequence[str], one: np.ndarray
) -> Iterator[tuple[str, np.ndarray]]:
    """The row that differs most from `one`: what depends on covariates is no constant.

    Simulated data have the covariates of others, which leaves such terms as they are.
    """
    far = np.zeros(whole.rows or 0)
    for name in sliced:
        values = np.asarray(whole.data[name])
        if values.dtype.kind in "fiub":
            values = values.reshape(len(values), -1).astype(float)
            size = values.std(axis=0)
            away = np.abs(values - values[one]) / np.where(size > 0, size, 1.0)
            far += away.sum(axis=1)
    if far.any():
        yield "1 row of the data, another", np.array([np.argmax(far)])


def _simulated(
    problem: ModelProblem, about: str, random: np.random.Generator, left: list[Left]
) -> list[ModelProblem]:
    """The problem with data drawn from the model; none if that cannot be done."""
    structure, places = problem.structure, problem.observed
    seed = new_seed(random)
    if not structure.proper:
        left.append(Left(about, "a prior is improper, scaled or masked"))
        return []
    if lost := [site for site in structure.observed if site not in places]:
        left.append(Left(about, f"the values of {lost[0]!r} are none of the arguments"))
        return []
    most = max([TAME, *(10 * _largest(problem.data[name]) for name in places.values())])
    for attempt in range(TRIES):
        trace = _drawn(problem, jax.random.fold_in(jax.random.key(seed), attempt))
        values = {n: np.asarray(trace[n]["value"]) for n in structure.observed}
        truth = {s.name: np.asarray(trace[s.name]["value"]) for s in structure.sites}
        if all(_tame(v, most) for v in (*values.values(), *truth.values())):
            data = dict(problem.data)
            for site, name in places.items():
                data[name] = values[site].astype(_kind(data[name], values[site]))
            made = replace(problem, about=about, data=data, seed=seed, truth=truth)
            return [] if unusable(made, problem) else [made, *_known(made)]
    left.append(Left(about, VAGUE))
    return []


def _known(problem: ModelProblem) -> Iterator[ModelProblem]:
    """Simulated problems with a latent site given: where the model can be told it."""
    truth = problem.truth or {}
    for name in inspect.signature(problem.model).parameters:
        if name in truth and problem.data.get(name) is None:
            data = dict(problem.data) | {name: truth[name]}
            rest = {site: value for site, value in truth.items() if site != name}
            about = f"{problem.about}, {name} known"
            made = replace(problem, about=about, data=data, truth=rest, known=(name,))
            if name in made.structure.observed and made.structure.sites:
                yield made


def _drawn(problem: ModelProblem, key: Any) -> dict[str, Any]:
    with accurately():
        model = handlers.uncondition(handlers.seed(problem.model, key))
        found: dict[str, Any] = handlers.trace(model).get_trace(**problem.data)
    return found


def _tame(values: np.ndarray, most: float) -> bool:
    return bool(np.all(np.isfinite(values)) and np.all(np.abs(values) < most))


def _largest(values: Any) -> float:
    return float(np.abs(np.asarray(values, float)).max(initial=0.0))


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
                about, problem.model, data, new_seed(random), rows=problem.rows
            )
            lost = unusable(made, problem) or not made.has_possible_values
            return [] if lost else [made]
    return []
