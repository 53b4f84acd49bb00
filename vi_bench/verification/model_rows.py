"""Rows of the data of a model: the arrays that have them, and selections of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import jax
import numpy as np
from numpyro import handlers, infer

from vi_bench.errors import InputError
from vi_bench.posterior.structure import is_array, outcomes
from vi_bench.verification.mixtures import accurately
from vi_bench.verification.model_problems import ModelProblem

POINTS = 10
"""Draws of the prior at which a model is seen not to depend on the order of rows: at
one of them it may be the same by chance, as at a change point in the middle."""

MOST_ARRAYS = 4
"""Arrays, beside the observed ones, of which each selection is tried as the rows'."""

EMPTY_PLATE = "size of plate should be positive"
"""What NumPyro says of a plate without rows."""


def rows_of(whole: ModelProblem) -> tuple[int, tuple[str, ...]] | None:
    """Number of rows, and the arguments that have them; None if there are no rows."""
    found = _rows(whole)
    return found and found[:2]


def _rows(whole: ModelProblem) -> tuple[int, tuple[str, ...], bool] | None:
    """The same, and whether the model does not depend on their order."""
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
    return (number, *_of_rows(whole, number, sliced)) if sliced else None


def _of_rows(
    whole: ModelProblem, number: int, sliced: tuple[str, ...]
) -> tuple[tuple[str, ...], bool]:
    """Those of the arrays of as many rows that go with the rows.

    Also whether the model does not depend on the order of these.

    An array of groups may be of the same length by chance. The model does not depend
    on the order of rows once only what belongs to them is permuted; where it does
    depend on it, all such arrays are taken.
    """
    observed = set(whole.observed.values())
    others = [name for name in sliced if name not in observed]
    if len(others) > MOST_ARRAYS:
        return sliced, _exchangeable(whole, number, sliced)
    for dropped in range(len(others) + 1):
        for left in combinations(others, dropped):
            kept = tuple(name for name in sliced if name not in left)
            if kept and _exchangeable(whole, number, kept):
                return kept, True
    return sliced, False


def _exchangeable(problem: ModelProblem, number: int, sliced: tuple[str, ...]) -> bool:
    """Whether the model does not depend on the order of the rows.

    Latent variables of as many elements may go with the rows, or not.
    """
    order = np.arange(number)[::-1]
    moved = {
        name: np.asarray(value)[order] if name in sliced else value
        for name, value in problem.data.items()
    }
    density = infer.util.log_density

    def same(trace: Mapping[str, Any]) -> bool:
        here = {n: s["value"] for n, s in trace.items() if _latent(s)}
        there = {
            n: v[order] if np.shape(v)[:1] == (number,) else v for n, v in here.items()
        }
        known = float(density(problem.model, (), dict(problem.data), here)[0])
        others = (
            float(density(problem.model, (), moved, values)[0])
            for values in (here, there)
        )
        return any(abs(known - other) <= 1e-9 * (1 + abs(known)) for other in others)

    with accurately():
        try:
            return all(map(same, _traces(problem)))
        except Exception:  # a user's code may raise anything
            return False


def _traces(problem: ModelProblem) -> Iterator[Mapping[str, Any]]:
    """The model at the problem's point, and at further draws of the prior."""
    yield problem.trace
    for key in jax.random.split(jax.random.key(0), POINTS - 1):
        seeded = handlers.seed(problem.model, key)
        yield handlers.trace(seeded).get_trace(**problem.data)


def permuted(problem: ModelProblem) -> ModelProblem | None:
    """The problem, its rows in reverse; None if the model depends on their order."""
    rows = _rows(problem)
    if rows is None or rows[0] < 2:
        return None
    number, sliced, exchangeable = rows
    order = np.arange(number)[::-1]
    about = f"{problem.about}, in reverse"
    moved = taken(problem, sliced, order, about, problem.seed)
    return moved if exchangeable and not unusable(moved, problem) else None


def _latent(site: Mapping[str, Any]) -> bool:
    return bool(site["type"] == "sample" and not site["is_observed"])


def partners(
    whole: ModelProblem,
    sliced: tuple[str, ...],
    known: Sequence[ModelProblem],
    random: np.random.Generator,
) -> Iterator[ModelProblem]:
    """Problems of the sizes that only one has: two tell what depends on sizes alone."""
    sizes = Counter(problem.rows for problem in known)
    for rows, times in sizes.items():
        if rows and times == 1:
            about = f"{rows} row{'s' * (rows > 1)} of the data, drawn with replacement"
            index = random.integers(whole.rows or 0, size=rows)
            made = taken(whole, sliced, index, about, new_seed(random))
            if unusable(made, whole) is None:
                yield made


def taken(
    whole: ModelProblem,
    sliced: tuple[str, ...],
    index: np.ndarray,
    about: str,
    seed: int,
) -> ModelProblem:
    """The problem with some rows; numbers that count rows follow, if they have to."""
    data = {
        name: np.asarray(value)[index] if name in sliced else value
        for name, value in whole.data.items()
    }
    made = ModelProblem(about, whole.model, data, seed, rows=len(index))
    counting = {
        name: type(value)(len(index))
        for name, value in data.items()
        if isinstance(value, int | np.integer) and value == whole.rows
    }
    if counting and unusable(made, whole):
        other = replace(made, data=data | counting)
        return made if unusable(other, whole) else other
    return made


def new_seed(random: np.random.Generator) -> int:
    """The seed of a problem."""
    return int(random.integers(2**31))


def unusable(problem: ModelProblem, whole: ModelProblem) -> str | None:
    """Why a model cannot take a subset of the rows; None if it can."""
    try:
        _ = problem.structure
    except InputError as error:
        said = str(error)
        if EMPTY_PLATE in said:
            return "a NumPyro plate cannot be empty"
        return f"the model itself, not the fit, cannot take them: {said}"
    if whole.agrees and not problem.agrees:
        return "the model expects another number of rows, which no argument gives"
    return None
