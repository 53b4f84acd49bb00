"""Batch and match: a normal whose scores are those of the posterior.

Cai, Modi, Pillaud-Vivien, Margossian, Gower, Blei and Saul (2024), algorithm 1: each
step draws a batch from the normal q, and moves to the normal whose scores match the
posterior's at these draws best while it stays near q, which has a closed form
(equations 10 and 11). No gradient is followed and no rate is set but that of the steps'
decay, D batch / (step + 1) as they propose.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Gt
from jax import lax
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, Float, Int

from vi_bench.contract import (
    Draws,
    Kind,
    Outcome,
    Posterior,
    Problem,
    Report,
    Stage,
    as_it_is,
    remembered,
)
from vi_bench.errors import NotApplicable
from vi_bench.inference import starts
from vi_bench.methods._normal import BATCH, flat_density, flat_start, normal_draws
from vi_bench.runtime.keys import Key

WINDOW = 50
"""Steps of one call of the fit stage."""

LARGEST = 500
"""Unconstrained parameters of which a covariance is kept."""

TESTED = 2000
"""Fresh draws at which the scores are compared in the end."""

TRUST, LEAST = 0.5, 1e-6
"""Nats per parameter by which a step may move the normal, which the paper does not
limit: long steps end where densities overflow. And the least strength of a step."""

CAREFUL = 0.25
"""Factor of the strength of steps after one that was taken back."""

APART = 0.1
"""Mean difference of the scores, in sds of q, beyond which a fit has not converged."""


class Fit(NamedTuple):
    """The normal so far.

    Attributes:
        mean: unconstrained and flat.
        covariance: likewise.
        kept_mean: that of the last normal at whose draws all scores were finite.
        kept_covariance: likewise.
        caution: share of the usual strength with which a step is made.
        step: steps so far.
        refused: steps that were taken back, as some score was not finite after them.
    """

    mean: Float[Array, " D"]
    covariance: Float[Array, "D D"]
    kept_mean: Float[Array, " D"]
    kept_covariance: Float[Array, "D D"]
    caution: Float[Array, ""]
    step: Int[Array, ""]
    refused: Int[Array, ""]


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class BatchAndMatchReport(Report):
    """Of the fit, and of scores at fresh draws.

    Attributes:
        apart: largest mean difference of the posterior's score from 0 over q, in sds.
        apart_se: its standard error.
        refused: steps that were taken back, as some score was not finite after them.
    """

    bound: Float[Array, ""]
    bound_se: Float[Array, ""]
    iterations: Int[Array, ""]
    apart: Float[Array, ""]
    apart_se: Float[Array, ""]
    refused: Int[Array, ""]


@dataclass(frozen=True)
class BatchAndMatch:
    """Settings of batch and match.

    Attributes:
        steps: number of steps.
        batch: draws of each step.
        init_scale: standard deviation of the normal that it starts with.
    """

    steps: Annotated[int, Gt(0)] = 1000
    batch: Annotated[int, Gt(1)] = 32
    init_scale: Annotated[float, Gt(0)] = 0.1

    kind: ClassVar[Kind] = "variational"
    summary: ClassVar[str] = "a full-rank normal by matching scores, in closed form"
    references: ClassVar[tuple[str, ...]] = ("cai2024",)
    bound_keeps_labels: ClassVar[bool] = False

    def prepare(self, problem: Problem, key: Key) -> tuple[Stage, ...]:
        """The stages start, fit (in windows) and draw.

        Raises:
            NotApplicable: there are too many parameters for a covariance.
        """
        if (size := starts.size_of(problem.posterior)) > LARGEST:
            raise NotApplicable(
                f"keeps a covariance of {size} parameters; the most are {LARGEST}"
            )
        return self._stages((problem.chains, problem.draws))

    @remembered
    def _stages(self, shape: tuple[int, int]) -> tuple[Stage, ...]:
        def start(key: Key, posterior: Posterior, _: Any) -> Fit:
            mean = flat_start(key, posterior)
            covariance = self.init_scale**2 * jnp.eye(mean.shape[0], dtype=mean.dtype)
            none, whole = jnp.zeros((), jnp.int32), jnp.ones((), mean.dtype)
            return Fit(mean, covariance, mean, covariance, whole, none, none)

        def fit(key: Key, posterior: Posterior, state: Fit) -> Fit:
            last = jnp.minimum(state.step + WINDOW, self.steps)

            def step(state: Fit) -> Fit:
                own = jax.random.fold_in(key, state.step)
                return self._stepped(own, posterior, state)

            return lax.while_loop(lambda s: s.step < last, step, state)

        def draw(key: Key, posterior: Posterior, state: Fit) -> Draws:
            return _drawn(key, posterior, state, shape)

        calls = -(-self.steps // WINDOW)
        return (
            Stage("start", start),
            Stage("fit", fit, calls=calls, cut=as_it_is),
            Stage("draw", draw, again="same", part_of_inference=False),
        )

    def _stepped(self, key: Key, posterior: Posterior, state: Fit) -> Fit:
        """The next normal; where some score is not finite, back and on with caution.

        The first steps are long ones, and may end where densities overflow.
        """
        size = state.mean.shape[0]
        draws, scores = _scores(key, posterior, state, self.batch)
        usual = size * self.batch / (state.step.astype(state.mean.dtype) + 1)
        strength = state.caution * usual
        mean, covariance = _near(state, draws, scores, strength)
        good = jnp.all(jnp.isfinite(mean)) & jnp.all(jnp.isfinite(covariance))
        return Fit(
            mean=jnp.where(good, mean, state.kept_mean),
            covariance=jnp.where(good, covariance, state.kept_covariance),
            kept_mean=jnp.where(good, state.mean, state.kept_mean),
            kept_covariance=jnp.where(good, state.covariance, state.kept_covariance),
            caution=jnp.where(
                good, jnp.minimum(1.1 * state.caution, 1), CAREFUL * state.caution
            ),
            step=state.step + 1,
            refused=state.refused + (~good).astype(state.refused.dtype),
        )

    def outcome(self, draws: Draws) -> Outcome:
        """Converged where the posterior's mean score over q is 0 but for noise."""
        report: BatchAndMatchReport = draws.report
        bound, apart = float(report.bound), float(report.apart)
        refused = int(report.refused)
        if not np.isfinite(bound) or not np.isfinite(apart):
            return Outcome(
                "not finite",
                f"scores or densities are not finite at draws of q; {refused} of "
                f"{self.steps} steps were taken back for that",
            )
        error = float(report.apart_se)
        said = f"the mean score over q is {apart:.2g} +- {error:.1g}"
        if error > APART:
            return Outcome(
                "suspect", f"{said}, in sds of q: scores have too heavy tails over q"
            )
        if apart - 3 * error > APART:
            return Outcome(
                "iteration limit", f"{said}, in sds of q, and not 0: raise steps, batch"
            )
        if 2 * refused > self.steps:
            return Outcome(
                "suspect", f"{refused} of {self.steps} steps were taken back"
            )
        return Outcome("converged", f"{said}, in sds of q, after {self.steps} steps")


def _near(
    state: Fit, draws: Array, scores: Array, strength: Float[Array, ""]
) -> tuple[Array, Array]:
    """`matched`, its strength halved until the normal is no further than TRUST."""

    def at(strength: Array) -> tuple[Array, Array]:
        return matched(state.mean, state.covariance, draws, scores, strength)

    def too_far(tried: tuple[Array, tuple[Array, Array]]) -> Array:
        strength, new = tried
        far = divergence(*new, state.mean, state.covariance)
        return (far > TRUST * state.mean.shape[0]) & (strength > LEAST)

    def halved(tried: tuple[Array, tuple[Array, Array]]) -> Any:
        strength = tried[0] / 2
        return strength, at(strength)

    return lax.while_loop(too_far, halved, (strength, at(strength)))[1]


def divergence(
    mean: Float[Array, " D"],
    covariance: Float[Array, "D D"],
    other_mean: Float[Array, " D"],
    other: Float[Array, "D D"],
) -> Float[Array, ""]:
    """KL(N(mean, covariance) || N(other_mean, other)) in nats."""
    root, lower = jnp.linalg.cholesky(covariance), jnp.linalg.cholesky(other)
    scaled = solve_triangular(lower, root, lower=True)
    away = solve_triangular(lower, mean - other_mean, lower=True)
    logs = jnp.log(jnp.diagonal(lower)) - jnp.log(jnp.diagonal(root))
    squares = jnp.sum(scaled**2) + jnp.sum(away**2)
    return 0.5 * (squares - mean.shape[0]) + jnp.sum(logs)


def matched(
    mean: Float[Array, " D"],
    covariance: Float[Array, "D D"],
    draws: Float[Array, "B D"],
    scores: Float[Array, "B D"],
    strength: Float[Array, ""] | float,
) -> tuple[Float[Array, " D"], Float[Array, "D D"]]:
    """The normal that matches scores at draws best, near another one.

    With C and G the covariances of draws and scores over the batch, z and g their
    means, V = S + lambda C + lambda / (1 + lambda) (m - z)(m - z)^T and U = lambda G +
    lambda / (1 + lambda) g g^T, the new covariance solves S' U S' + S' = V. With V = L
    L^T and the eigenvalues u of L^T U L it is L Q diag(2 / (1 + sqrt(1 + 4 u))) Q^T
    L^T.

    Args:
        mean: of the normal so far, m.
        covariance: of the normal so far, S.
        draws: from it.
        scores: the gradients of the log density there.
        strength: lambda; at 0 the normal stays, at infinity it forgets where it was.
    """
    number = draws.shape[0]
    share = strength / (1 + strength)
    z, g = jnp.mean(draws, axis=0), jnp.mean(scores, axis=0)
    spread, bent = (draws - z[None]) / number**0.5, (scores - g[None]) / number**0.5
    away = mean - z
    v = covariance + strength * spread.T @ spread + share * jnp.outer(away, away)
    u = strength * bent.T @ bent + share * jnp.outer(g, g)
    lower = jnp.linalg.cholesky(v)
    sizes, axes = jnp.linalg.eigh(lower.T @ u @ lower)
    shrunk = jnp.sqrt(2 / (1 + jnp.sqrt(1 + 4 * jnp.maximum(sizes, 0))))
    half = lower @ axes * shrunk[None]
    new = half @ half.T
    return (1 - share) * mean + share * (new @ g + z), new


def _scores(
    key: Key, posterior: Posterior, state: Fit, number: int
) -> tuple[Float[Array, "B D"], Float[Array, "B D"]]:
    """Draws of q, and the posterior's scores there."""
    _, density = flat_density(posterior)
    noise = jax.random.normal(key, (number, state.mean.shape[0]), state.mean.dtype)
    draws = state.mean[None] + noise @ jnp.linalg.cholesky(state.covariance).T
    return draws, lax.map(jax.grad(density), draws, batch_size=BATCH)


def _drawn(key: Key, posterior: Posterior, state: Fit, shape: tuple[int, int]) -> Draws:
    """Draws of the normal, its bound, and scores at fresh draws."""
    of_draws, of_scores = jax.random.split(key)
    root = jnp.linalg.cholesky(state.covariance)
    found = normal_draws(of_draws, posterior, state.mean, root, shape)
    _, scores = _scores(of_scores, posterior, state, TESTED)
    whitened = scores @ root
    mean = jnp.mean(whitened, axis=0)
    most = jnp.argmax(jnp.abs(mean))
    report = BatchAndMatchReport(
        bound=found.bound,
        bound_se=found.bound_se,
        iterations=state.step,
        apart=jnp.abs(mean[most]),
        apart_se=jnp.std(whitened[:, most]) / TESTED**0.5,
        refused=state.refused,
    )
    # no names of a mixture's own parameters: those would be moved with its data
    q = {"location": state.mean, "covariance": state.covariance}
    return Draws(found.parameters, {}, found.log_q, q, report)


METHOD = BatchAndMatch
