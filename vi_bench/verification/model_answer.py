"""Call a fit of a NumPyro model, and validate its result."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from vi_bench.errors import InputError, NotApplicable
from vi_bench.posterior.arguments import for_fit
from vi_bench.posterior.fit import entries
from vi_bench.verification.factors import Factor, factors_of
from vi_bench.verification.mixtures import accurately
from vi_bench.verification.model_problems import ModelProblem
from vi_bench.verification.sandbox import (
    Broken,
    NotFinite,
    Raised,
    Unreadable,
    first_line,
    guarded,
    trace_of,
)

ELBO, JAAKKOLA_JORDAN, AUGMENTED = "elbo", "jaakkola-jordan", "augmented"

FORMS = {
    ELBO: "E_q[log p - log q]",
    JAAKKOLA_JORDAN: "Jaakkola and Jordan's bound of the logistic likelihood (2000)",
    AUGMENTED: "another lower bound, such as one with further latent variables",
}
"""What `elbo` may be -> in words."""

INVALID = "got invalid"
"""What NumPyro says of parameters that are no numbers, or of the wrong sign: a fault of
the fit, not of how its result is laid out."""

FEW = 5
"""Rows below which a fit may refuse a data set."""

SWEEPS = (
    "iterations",
    "max_iter",
    "maxiter",
    "max_iterations",
    "n_iter",
    "num_iter",
    "n_iterations",
    "num_iterations",
    "sweeps",
    "max_sweeps",
    "n_sweeps",
    "steps",
    "n_steps",
    "num_steps",
)
"""Arguments that are taken for a limit of iterations."""


@dataclass(frozen=True)
class ModelAnswer:
    """The result of a fit of a NumPyro model.

    Attributes:
        factors: q, site by site.
        elbo: the bound by iteration, nats; possibly empty.
        form: what the bound is; None if it was not stated.
        q: site -> its entry, as it was returned.
        bound: the bound as a function of such a q; None if it was not given.
        eps: machine epsilon of the least precise array given.
        remarks: what is not as documented, but no fault.
        fault: a promise that was broken, though checks can be made; or empty.
    """

    factors: tuple[Factor, ...]
    elbo: np.ndarray
    form: str | None
    q: Mapping[str, Any]
    bound: Callable[[Mapping[str, Any]], Any] | None
    eps: float
    remarks: tuple[str, ...]
    fault: str

    @property
    def sites(self) -> set[str]:
        """Names of the sites that q has."""
        return {factor.site for factor in self.factors}


def call(
    function: Callable[..., Any],
    problem: ModelProblem,
    limit: float,
    **further: Any,
) -> tuple[ModelAnswer, list[str]]:
    """Fit one problem; the result, and what the call changed that it must not change.

    Args:
        function: a fit, which takes arguments of the model by name.
        problem: the problem to fit.
        limit: seconds that the call may take.
        further: further arguments, such as a limit of iterations.

    Raises:
        Broken: it raised, did not end in time, or its result is not valid.
        NotApplicable: it cannot take so few rows, or does not apply.
        InputError: it needs an argument that the model does not have.
    """
    handed = {
        name: value.copy() if isinstance(value, np.ndarray) else value
        for name, value in problem.data.items()
    }
    name = getattr(function, "__name__", type(function).__name__)
    given = for_fit(function, handed, problem.seed, f"fit {name!r}")
    if untold := [site for site in problem.known if site not in given]:
        raise NotApplicable(f"the fit has no argument {untold[0]!r}")
    few = problem.rows is not None and problem.rows < FEW
    try:
        with accurately():  # as in a run
            returned, changed = guarded(lambda: function(**given, **further), limit)
    except Raised as error:
        if few:
            raise NotApplicable(f"the fit {error}") from None
        raise
    for name, value in problem.data.items():
        if isinstance(value, np.ndarray) and not np.array_equal(handed[name], value):
            changed.append(f"the data {name!r} that it was given")
    try:
        return read(returned, problem), changed
    except NotFinite as error:
        if problem.rows == 0:
            raise NotApplicable(f"the fit's {error}") from None
        raise


def read(returned: Any, problem: ModelProblem) -> ModelAnswer:
    """Validate the form of a result, and its numbers.

    Raises:
        Broken: they are wrong; the message says how.
    """
    sites = problem.structure.sites
    with accurately():
        try:
            q = entries(returned, sites, "the fit")
        except InputError as error:
            said = str(error).removeprefix("the fit: ")
            raise (Broken if INVALID in said else Unreadable)(said) from None
        except (TypeError, ValueError, RuntimeError) as error:
            raise Unreadable(f"q cannot be read: {error}") from None
        try:
            supports = {s.name: problem.trace[s.name]["fn"].support for s in sites}
            factors = factors_of(q, sites, supports)
        except InputError as error:
            raise Broken(str(error)) from None
        except Broken:
            raise
        except Exception as error:  # a user's distribution may raise anything
            raise Unreadable(f"q cannot be evaluated: {first_line(error)}") from None
    trace = returned.get("elbo")
    elbo, eps, remark, fault = trace_of(() if trace is None else trace, "elbo")
    form = returned.get("form")
    if form is not None and form not in FORMS:
        raise Unreadable(f"form = {form!r}: expected one of {', '.join(FORMS)}")
    if form == JAAKKOLA_JORDAN and problem.logistic is None:
        raise Unreadable(
            f"form = {form!r}: the model has no Bernoulli or binomial observations"
        )
    bound = returned.get("bound")
    if bound is not None and not callable(bound):
        raise Unreadable("bound is no function: expected the bound as a function of q")
    eps = max([eps, *(factor.eps for factor in factors)])
    return ModelAnswer(
        factors=factors,
        elbo=elbo,
        form=form,
        q=returned["q"],
        bound=bound,
        eps=eps,
        remarks=tuple(filter(None, [remark])),
        fault=fault,
    )


def limit_of(function: Callable[..., Any]) -> str | None:
    """The argument of a fit that limits its iterations; None if it has none."""
    known = inspect.signature(function).parameters
    return next((name for name in SWEEPS if name in known), None)
