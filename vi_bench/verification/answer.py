"""Call an implementation of the full form, and validate its result."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import norm, t

from vi_bench.contract import Draws, Method, Problem, told
from vi_bench.inference.stages import calling, compiled, drive, prepare
from vi_bench.mixture.types import Parameters
from vi_bench.mixture.weights import STICK, log_volume, sticks_of
from vi_bench.verification.mixtures import MixtureProblem, accurately
from vi_bench.verification.sandbox import (
    Broken,
    array_of,
    described,
    guarded,
    trace_of,
)

Full = Callable[[MixtureProblem], Any]
"""f(problem) -> an object with `sample(key, n)` and optionally `log_prob`, `bound` and
the other attributes from which an `Answer` is made."""

DRAWS = 4000
"""Number of draws that are asked for."""

CHAINS = 4
"""Number of chains of a registered MCMC method."""

RUNS = 16
"""Number of independent runs of a registered particle method."""


@dataclass(frozen=True)
class Answer:
    """The result of an implementation, in 64 bits and the mixture's own coordinates.

    Attributes:
        draws: parameters (chain, draw, *dims), centred like the mixture's data, the
            weights as sticks.
        log_q: log density of q at the draws (chain, draw), with respect to the sticks;
            None for a method that only gives draws.
        bound: lower bounds on log p(X), nats, the last one that of q; possibly empty.
        bound_se: Monte-Carlo error of the last bound.
        keeps_labels: whether the bound has the assignments in q; None if not stated.
        log_evidence: an estimate of log p(X), nats, or None.
        log_evidence_se: its standard error; 0 means exact.
        freedom: degrees of freedom of that error.
        kind: dependence of the draws: "independent", "chains", or "runs" that are
            independent of one another.
        approximate: whether the draws are not claimed to be from the posterior.
        eps: machine epsilon of the type in which densities and bounds were given.
        remarks: what is worth knowing of the result, and no fault.
        faults: promises that were broken, though the checks can be made.
    """

    draws: dict[str, np.ndarray]
    log_q: np.ndarray | None
    bound: np.ndarray
    bound_se: float
    keeps_labels: bool | None
    log_evidence: float | None
    log_evidence_se: float
    freedom: float
    kind: str
    approximate: bool
    eps: float
    remarks: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()

    @property
    def flat(self) -> Parameters:
        """The draws of all chains (draws, *dims), in JAX's current precision."""
        return {
            n: jnp.asarray(v.reshape(-1, *v.shape[2:])) for n, v in self.draws.items()
        }


def call(
    function: Full, problem: MixtureProblem, limit: float
) -> tuple[Answer, list[str]]:
    """Fit one problem; the result, and what the call changed that it must not change.

    Args:
        function: an implementation of the full form.
        problem: the problem to fit.
        limit: seconds that the call may take.

    Raises:
        Broken: it raised, did not end in time, or its result is not valid.
        NotApplicable: it does not apply to this problem.
    """
    handed = replace(problem, data=problem.data.copy())
    given, changed = guarded(lambda: _asked(function(handed), problem), limit)
    if not np.array_equal(handed.data, problem.data):
        changed.append("the data that it was given")
    return given if isinstance(given, Answer) else read(given, problem), changed


def _asked(fitted: Any, problem: MixtureProblem) -> Any:
    """Everything the fitted object gives; runs within the time limit of the call."""
    if isinstance(fitted, Answer):
        return fitted
    if not callable(getattr(fitted, "sample", None)):
        raise Broken(
            f"returned {described(fitted)}, expected an object with sample(key, n)"
        )
    draws = fitted.sample(jax.random.key(problem.seed), DRAWS)
    asked = {
        name: getattr(fitted, name)
        for name in (*NUMBERS, "keeps_labels", "chains", "approximate")
        if getattr(fitted, name, None) is not None
    }
    if callable(getattr(fitted, "log_prob", None)):
        asked["log_prob"] = fitted.log_prob(draws)
    return draws, asked


NUMBERS = ("bound", "bound_se", "log_evidence", "log_evidence_se")


def read(given: tuple[Any, dict[str, Any]], problem: MixtureProblem) -> Answer:
    """Validate the shapes and values of a result.

    Raises:
        Broken: they are wrong; the message says how.
    """
    sampled, asked = given
    if not isinstance(sampled, Mapping):
        raise Broken(f"sample gave {described(sampled)}, expected a dict")
    wanted = problem.dims
    if set(sampled) != set(wanted):
        raise Broken(
            f"sample gave {sorted(map(str, sampled))}, expected {sorted(wanted)}"
        )
    values = {
        name: array_of(sampled[name], name, (DRAWS, *shape))[0]
        for name, shape in wanted.items()
    }
    numbers, remarks, faults = {}, [], []
    eps = float(np.finfo(np.float64).eps)
    for name in (n for n in NUMBERS if n in asked):
        found, own, remark, fault = trace_of(asked[name], name)
        eps = max(eps, own)
        remarks += [remark] if remark else []
        faults += [fault] if fault else []
        if found.size:  # an empty trace is none
            numbers[name] = found
    log_q = None
    if "log_prob" in asked:
        log_q, own = array_of(asked["log_prob"], "log_prob", (DRAWS,))
        eps = max(eps, own)
    chains = _chains(asked.get("chains", 1))
    theta, log_q = _own_coordinates(values, log_q, problem)
    shape = (chains, DRAWS // chains)
    draws = {n: np.asarray(v).reshape(*shape, *v.shape[1:]) for n, v in theta.items()}
    evidence = numbers.get("log_evidence")
    return Answer(
        draws=draws,
        log_q=None if log_q is None else log_q.reshape(shape),
        bound=numbers.get("bound", np.zeros(0)),
        bound_se=float(numbers.get("bound_se", np.zeros(1))[-1]),
        keeps_labels=_flag(asked, "keeps_labels"),
        log_evidence=None if evidence is None else float(evidence[-1]),
        log_evidence_se=float(numbers.get("log_evidence_se", np.zeros(1))[-1]),
        freedom=np.inf,
        kind="chains" if "chains" in asked else "independent",
        approximate=bool(_flag(asked, "approximate")),
        eps=eps,
        remarks=tuple(remarks),
        faults=tuple(faults),
    )


def _chains(given: Any) -> int:
    """The number of chains.

    Raises:
        Broken: it does not divide the number of draws.
    """
    number, _ = array_of(given, "chains", ())
    if not (number >= 1 and DRAWS % number == 0):
        raise Broken(f"chains = {float(number):g}: expected a divisor of {DRAWS}")
    return int(number)


def _flag(asked: Mapping[str, Any], name: str) -> bool | None:
    """An attribute that is True or False, None if it was not given.

    Raises:
        Broken: it is neither.
    """
    given = asked.get(name)
    if given is None or isinstance(given, (bool, np.bool_)):
        return None if given is None else bool(given)
    raise Broken(f"{name} is {described(given)}, expected True or False")


def _own_coordinates(
    values: dict[str, np.ndarray], log_q: np.ndarray | None, problem: MixtureProblem
) -> tuple[Parameters, np.ndarray | None]:
    """Convert a user's draws and log density to the coordinates of the mixture."""
    with accurately():
        theta: Parameters = {n: jnp.asarray(v) for n, v in values.items()}
        weight = theta.pop("weight", None)
        theta = problem.mixture.recentred(theta)
        if weight is None:
            return theta, log_q
        off = float(np.abs(values["weight"].sum(axis=1) - 1).max())
        if not (values["weight"].min() >= 0 and off < 1e-5):
            raise Broken("weight: expected probabilities that add up to 1")
        theta[STICK] = sticks_of(jnp.log(weight))
        if not bool(jnp.all(jnp.isfinite(theta[STICK]))):
            raise Broken("weight has values that are exactly 0 or 1")
        if log_q is not None:
            log_q = log_q + np.asarray(log_volume(theta))
        return theta, log_q


def registered(method: Method) -> Full:
    """A method of this package, or one that follows its contract, in the full form."""
    kind = {"particles": "runs", "mcmc": "chains"}.get(method.kind, "independent")
    # a population method may have several runs of each chain
    chains = RUNS if kind == "runs" and not hasattr(method, "runs") else CHAINS

    def fit(problem: MixtureProblem) -> Answer:
        with accurately():
            key = jax.random.key(problem.seed)
            raw = through(method, problem.mixture, key, chains)
        report = raw.report
        log_q = None if raw.log_q is None else np.asarray(raw.log_q)
        evidence = told(report, "log_evidence", np.nan)
        freedom, wider = chains - 1.0 if kind == "runs" else np.inf, 1.0
        if (stated := told(report, "log_evidence_df")) is not None:
            # the error is stated so that 1.96 of it hold 95 %; the tests here know of t
            freedom = float(stated)
            wider = t.ppf(0.975, freedom) / norm.ppf(0.975)
        bound = told(report, "bound", np.zeros(0))
        if told(report, "fall") is not None:  # its trace may only rise
            bound = told(report, "trace")[: int(told(report, "iterations"))]
        draws = {n: array_of(v, n, np.shape(v))[0] for n, v in raw.parameters.items()}
        return Answer(
            draws=draws,
            log_q=log_q,
            bound=np.atleast_1d(np.asarray(bound)),
            bound_se=float(told(report, "bound_se", 0.0)),
            keeps_labels=method.bound_keeps_labels,
            log_evidence=float(evidence) if np.isfinite(evidence) else None,
            log_evidence_se=float(told(report, "log_evidence_se", 0.0)) / wider,
            freedom=freedom,
            kind=kind,
            approximate=method.kind == "variational" and log_q is None,
            eps=float(np.finfo(np.float64).eps),
        )

    return fit


def through(method: Method, mixture: Any, key: Any, chains: int) -> Draws:
    """Run all stages of a method, compiled, each called until it is done."""
    problem = Problem(mixture, chains, DRAWS // chains)
    stages = prepare(method, problem, key)
    raw = drive(stages, key, mixture, calling(compiled(stages)))
    found: Draws = jax.tree.map(np.asarray, raw)
    return found
