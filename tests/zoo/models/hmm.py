"""A two-state hidden Markov model of counts: CAVI by hand, right and with one fault.

q(states) is a Markov chain too, with free potentials. Every mutant overrides one step
of `Right`. Its docstring names the fault.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.distributions import constraints
from scipy import stats
from scipy.special import digamma, entr, gammaln

K = 2
SHAPE, RATE = 4.0, 1.0
FIRST = np.full(K, 1.5)
ROWS = np.array([[3.0, 1.0], [1.0, 3.0]])


class Chain(dist.Distribution):
    """States of a Markov chain, from the first's probabilities and the moves'."""

    arg_constraints = {
        "initial": constraints.simplex,
        "transition": constraints.independent(constraints.simplex, 1),
    }
    pytree_data_fields = ("initial", "transition")
    pytree_aux_fields = ("length",)

    def __init__(self, initial, transition, length, *, validate_args=None):
        self.initial, self.transition, self.length = initial, transition, length
        super().__init__((), (length,), validate_args=validate_args)

    @constraints.dependent_property(is_discrete=True, event_dim=1)
    def support(self):
        states = self.initial.shape[-1]
        return constraints.independent(constraints.integer_interval(0, states - 1), 1)

    def log_prob(self, value):
        states = jnp.asarray(value).astype(int)
        first = jnp.log(self.initial)[states[..., 0]]
        moves = jnp.log(self.transition)[states[..., :-1], states[..., 1:]]
        return first + moves.sum(axis=-1)

    def sample(self, key, sample_shape=()):
        keys = jax.random.split(key, self.length)
        state = jax.random.categorical(keys[0], jnp.log(self.initial), -1, sample_shape)

        def move(state, key):
            state = jax.random.categorical(key, jnp.log(self.transition)[state])
            return state, state

        rest = jax.lax.scan(move, state, keys[1:])[1]
        return jnp.moveaxis(jnp.concatenate([state[None], rest]), 0, -1)


class TimeChain(dist.Distribution):
    """States of a chain whose potentials differ by time, and need not add up to 1.

    log q(s) = log_first[s_0] + sum_t log_steps[t, s_t, s_t+1] - log of the sum of all.
    """

    arg_constraints = {
        "log_first": constraints.real_vector,
        "log_steps": constraints.independent(constraints.real, 3),
    }
    pytree_data_fields = ("log_first", "log_steps")

    def __init__(self, log_first, log_steps, *, validate_args=None):
        self.log_first, self.log_steps = jnp.asarray(log_first), jnp.asarray(log_steps)
        length = self.log_steps.shape[-3] + 1
        super().__init__((), (length,), validate_args=validate_args)

    @constraints.dependent_property(is_discrete=True, event_dim=1)
    def support(self):
        states = self.log_first.shape[-1]
        return constraints.independent(constraints.integer_interval(0, states - 1), 1)

    def onward(self):
        """Log of the sum over all that follows, by time and state."""

        def back(beta, step):
            return jax.nn.logsumexp(step + beta, axis=-1), beta

        last = jnp.zeros_like(self.log_first)
        first, rest = jax.lax.scan(back, last, self.log_steps, reverse=True)
        return first, rest

    def log_prob(self, value):
        states = jnp.asarray(value).astype(int)
        times = jnp.arange(self.log_steps.shape[0])
        first = self.log_first[states[..., 0]]
        steps = self.log_steps[times, states[..., :-1], states[..., 1:]]
        total = jax.nn.logsumexp(self.log_first + self.onward()[0])
        return first + steps.sum(axis=-1) - total

    def sample(self, key, sample_shape=()):
        beta, rest = self.onward()
        keys = jax.random.split(key, self.log_steps.shape[0] + 1)
        logits = self.log_first + beta
        state = jax.random.categorical(keys[0], logits, -1, sample_shape)

        def move(state, given):
            key, step, beta = given
            state = jax.random.categorical(key, (step + beta)[state])
            return state, state

        rest = jax.lax.scan(move, state, (keys[1:], self.log_steps, rest))[1]
        return jnp.moveaxis(jnp.concatenate([state[None], rest]), 0, -1)


def model(y):
    """Rates (2,), the first state's probabilities (2,), moves (2, 2), states (T,)."""
    with numpyro.plate("state", K):
        rate = numpyro.sample("rate", dist.Gamma(SHAPE, RATE))
        move = numpyro.sample("move", dist.Dirichlet(jnp.asarray(ROWS)))
    first = numpyro.sample("first", dist.Dirichlet(jnp.asarray(FIRST)))
    states = numpyro.sample("states", Chain(first, move, len(y)))
    with numpyro.plate("time", len(y)):
        numpyro.sample("y", dist.Poisson(rate[states.astype(int)]), obs=y)


def data(seed=0):
    """Counts y (25,)."""
    random = np.random.default_rng(seed)
    rate = random.gamma(SHAPE, 1 / RATE, K)
    move = np.array([random.dirichlet(row) for row in ROWS])
    state = random.choice(K, p=random.dirichlet(FIRST))
    y = []
    for _ in range(25):
        y.append(random.poisson(rate[state]))
        state = random.choice(K, p=move[state])
    return {"y": np.array(y)}


def log_sum(x, axis=None):
    return np.logaddexp.reduce(x, axis=axis)


def kl_gamma(a, b):
    terms = (a - SHAPE) * digamma(a) - gammaln(a) + gammaln(SHAPE)
    return np.sum(terms + SHAPE * np.log(b / RATE) + a * (RATE - b) / b)


def kl_dirichlet(q, prior):
    """The divergence, summed over the leading axes."""
    log_p = digamma(q) - digamma(q.sum(axis=-1, keepdims=True))
    sizes = gammaln(q.sum(axis=-1)) - gammaln(q).sum(axis=-1)
    sizes = sizes - gammaln(prior.sum(axis=-1)) + gammaln(prior).sum(axis=-1)
    return np.sum(sizes) + np.sum((q - prior) * log_p)


class Right:
    """Beal (2003), chapter 3: forward-backward, then the counts."""

    tol = 1e-11
    most = 5000

    def __call__(self, y, seed):
        if len(y) == 0:
            raise ValueError("y has no rows; expected at least one")
        y = np.asarray(y, float)
        q = self.m_step(y, *self.start(y, np.random.default_rng(seed)))
        trace = []
        for _ in range(self.most):
            first, steps = self.potentials(y, q)
            phi, pairs, log_z = self.forward_backward(first, steps)
            trace.append(self.bound(y, q, first, steps, phi, pairs, log_z))
            if len(trace) > 1 and self.ended(trace):
                break
            before, q = q, self.m_step(y, phi, pairs)
        else:
            q = before
        return self.result(q, first, steps, phi, trace)

    def ended(self, trace):
        return trace[-1] - trace[-2] < self.tol

    def start(self, y, random):
        phi = np.where(y > np.median(y), 0.2, 0.8) + random.uniform(-0.2, 0.2, len(y))
        phi = np.stack([phi, 1 - phi], axis=1)
        return phi, phi[:-1, :, None] * phi[1:, None, :]

    def m_step(self, y, phi, pairs):
        return {
            "shape": self.shape(y, phi),
            "rate": self.rate(phi),
            "first": self.first(phi),
            "rows": self.rows(pairs),
        }

    def shape(self, y, phi):
        return SHAPE + phi.T @ y

    def rate(self, phi):
        return RATE + phi.sum(axis=0)

    def first(self, phi):
        return FIRST + phi[0]

    def rows(self, pairs):
        return ROWS + pairs.sum(axis=0)

    def log_rate(self, q):
        return digamma(q["shape"]) - np.log(q["rate"])

    def log_rows(self, q):
        return digamma(q["rows"]) - digamma(q["rows"].sum(axis=1, keepdims=True))

    def log_first(self, q):
        return digamma(q["first"]) - digamma(q["first"].sum())

    def emission(self, y, q):
        mean = q["shape"] / q["rate"]
        return y[:, None] * self.log_rate(q) - mean - self.factorials(y)[:, None]

    def factorials(self, y):
        return gammaln(y + 1)

    def potentials(self, y, q):
        """Each step has the emission of the state it leads to."""
        emission = self.emission(y, q)
        steps = self.log_rows(q) + emission[1:, None, :]
        return self.log_first(q) + emission[0], steps

    def forward_backward(self, first, steps):
        """Marginals (T, K), of pairs (T-1, K, K), and the log of the total."""
        alpha, beta = [first], [np.zeros(K)]
        for step in steps:
            alpha.append(log_sum(alpha[-1][:, None] + step, axis=0))
        for step in steps[::-1]:
            beta.append(log_sum(step + beta[-1], axis=1))
        alpha, beta = np.array(alpha), np.array(beta[::-1])
        log_z = log_sum(alpha[-1])
        phi = np.exp(alpha + beta - log_z)
        pairs = np.exp(alpha[:-1, :, None] + steps + beta[1:, None, :] - log_z)
        return phi, pairs, log_z

    def kl(self, q):
        weights = kl_dirichlet(q["first"], FIRST) + kl_dirichlet(q["rows"], ROWS)
        return kl_gamma(q["shape"], q["rate"]) + weights

    def bound(self, y, q, first, steps, phi, pairs, log_z):
        return log_z - self.kl(q)

    def result(self, q, first, steps, phi, trace):
        return {
            "q": {
                "rate": dist.Gamma(q["shape"], q["rate"]),
                "move": dist.Dirichlet(q["rows"]),
                "first": dist.Dirichlet(q["first"]),
                "states": TimeChain(first, steps),
            },
            "elbo": trace,
        }


class LongBound(Right):
    """The bound term by term: expected log joint, and the entropy of each factor."""

    def bound(self, y, q, first, steps, phi, pairs, log_z):
        emission = np.sum(phi * self.emission(y, q))
        moves = np.sum(pairs * self.log_rows(q)) + phi[0] @ self.log_first(q)
        own = phi[0] @ first + np.sum(pairs * steps) - log_z
        return emission + moves - own - self.kl(q)


class OtherForms(Right):
    """SciPy's Dirichlet, dicts of parameters; conditionals as the potentials."""

    def result(self, q, first, steps, phi, trace):
        found = super().result(q, first, steps, phi, trace)
        pairs = self.forward_backward(first, steps)[1]
        moves = pairs / np.maximum(pairs.sum(axis=2, keepdims=True), 1e-300)
        with np.errstate(divide="ignore"):
            moves = np.maximum(np.log(moves), -700)
        found["q"]["states"] = TimeChain(np.log(phi[0]), moves)
        found["q"]["rate"] = {"concentration": q["shape"], "rate": q["rate"]}
        found["q"]["move"] = {"concentration": q["rows"]}
        found["q"]["first"] = stats.dirichlet(q["first"])
        return found


class RightJax:
    """Compiled sweeps; the expected counts are gradients of the chain's normaliser."""

    def __call__(self, y, seed):
        if len(y) == 0:
            raise ValueError("y has no rows; expected at least one")
        y = jnp.asarray(y, float)
        random = np.random.default_rng(seed)
        phi = random.dirichlet(np.ones(K), len(y))
        pairs = phi[:-1, :, None] * phi[1:, None, :]
        q, trace = _m_step(y, phi, phi[0], pairs.sum(axis=0)), []
        while True:
            bound, states, following = _sweep(y, q)
            trace.append(float(bound))
            rise = np.diff(trace[-2:])
            if (len(trace) > 1 and rise < 1e-11) or len(trace) > 5000:
                break
            q = following
        shape, rate, first, rows = q
        found = {"rate": dist.Gamma(shape, rate), "move": dist.Dirichlet(rows)}
        found |= {"first": dist.Dirichlet(first), "states": TimeChain(*states)}
        return {"q": found, "elbo": np.array(trace)}


def _m_step(y, phi, first, pairs):
    return SHAPE + phi.T @ y, RATE + phi.sum(axis=0), FIRST + first, ROWS + pairs


def _log_total(first, move, emission):
    def step(alpha, terms):
        return jax.nn.logsumexp(alpha[:, None] + move, axis=0) + terms, None

    alpha = jax.lax.scan(step, first + emission[0], emission[1:])[0]
    return jax.nn.logsumexp(alpha)


@jax.jit
def _sweep(y, q):
    shape, rate, first, rows = q
    psi, lgamma = jax.scipy.special.digamma, jax.scipy.special.gammaln
    log_rate = psi(shape) - jnp.log(rate)
    emission = y[:, None] * log_rate - shape / rate - lgamma(y + 1)[:, None]
    log_first = psi(first) - psi(first.sum())
    log_rows = psi(rows) - psi(rows.sum(1, keepdims=True))
    log_z, (phi_0, pairs, phi) = jax.value_and_grad(_log_total, (0, 1, 2))(
        log_first, log_rows, emission
    )
    prior = (
        dist.Gamma(SHAPE, RATE).expand((K,)).to_event(1),
        dist.Dirichlet(FIRST),
        dist.Dirichlet(ROWS).to_event(1),
    )
    own = (
        dist.Gamma(shape, rate).to_event(1),
        dist.Dirichlet(first),
        dist.Dirichlet(rows).to_event(1),
    )
    kl = sum(map(dist.kl_divergence, own, prior))
    states = log_first + emission[0], log_rows + emission[1:, None]
    return log_z - kl, states, _m_step(y, phi, phi_0, pairs)


class RateAsPoint(Right):
    """Coarse: the rates are points, at the maximum of the expected log joint."""

    def shape(self, y, phi):
        return super().shape(y, phi) - 1

    def log_rate(self, q):
        return np.log(q["shape"]) - np.log(q["rate"])

    def kl(self, q):
        rate = q["shape"] / q["rate"]
        log_prior = stats.gamma.logpdf(rate, SHAPE, scale=1 / RATE).sum()
        weights = kl_dirichlet(q["first"], FIRST) + kl_dirichlet(q["rows"], ROWS)
        return weights - log_prior

    def result(self, q, first, steps, phi, trace):
        found = super().result(q, first, steps, phi, trace)
        found["q"]["rate"] = dist.Delta(q["shape"] / q["rate"])
        return found


class StatesIndependent(Right):
    """Coarse: the states are independent of each other in q, updated in turn."""

    def start(self, y, random):
        self.phi, pairs = super().start(y, random)
        return self.phi, pairs

    def forward_backward(self, first, steps):
        phi = self.phi = self.phi.copy()
        for t in range(len(phi)):
            scores = phi[t - 1] @ steps[t - 1] if t else first
            if t < len(steps):
                scores = scores + steps[t] @ phi[t + 1]
            phi[t] = np.exp(scores - log_sum(scores))
        pairs = phi[:-1, :, None] * phi[1:, None, :]
        return phi, pairs, phi[0] @ first + np.sum(pairs * steps) + entr(phi).sum()

    def result(self, q, first, steps, phi, trace):
        found = super().result(q, first, steps, phi, trace)
        found["q"]["states"] = dist.Categorical(probs=phi)
        return found


class MovesNormalised(Right):
    """Forward-backward with the moves' expected weights scaled to add up to 1."""

    def log_rows(self, q):
        log_rows = super().log_rows(q)
        return log_rows - log_sum(log_rows, axis=1)[:, None]


class LogOfMeanMoves(Right):
    """Expected probabilities of the moves for exp of the expected logs."""

    def log_rows(self, q):
        return np.log(q["rows"] / q["rows"].sum(axis=1, keepdims=True))


class NoDigammaOfTotal(Right):
    """digamma of the total is missing for the first state's probabilities.

    The total is known, FIRST.sum() + 1, so q is right and the bound off by a constant.
    """

    constant = True

    def log_first(self, q):
        return digamma(q["first"])


class NoDigammaOfRowTotals(Right):
    """digamma of each row's total is missing in the moves."""

    def log_rows(self, q):
        return digamma(q["rows"])


class TotalOverColumns(Right):
    """digamma of the columns' totals for the rows' in the moves."""

    def log_rows(self, q):
        return digamma(q["rows"]) - digamma(q["rows"].sum(axis=0, keepdims=True))


class LogOfMeanRate(Right):
    """log of the mean rate for the mean of its log in the emissions."""

    def log_rate(self, q):
        return np.log(q["shape"] / q["rate"])


class ModeOfRate(Right):
    """The mode of the rate for its mean in the emissions."""

    def emission(self, y, q):
        return super().emission(y, q) + 1 / q["rate"]


class Filtered(Right):
    """States given the past only: the backward pass is left out of the counts."""

    def forward_backward(self, first, steps):
        _, pairs, log_z = super().forward_backward(first, steps)
        alpha = [first]
        for step in steps:
            alpha.append(log_sum(alpha[-1][:, None] + step, axis=0))
        alpha = np.array(alpha)
        return np.exp(alpha - log_sum(alpha, axis=1)[:, None]), pairs, log_z


class PairsAsProduct(Right):
    """Pairs of states as the product of their marginals."""

    def rows(self, pairs):
        return ROWS + np.einsum("tij,tkl->il", pairs, pairs)


class MovesTransposed(Right):
    """Counts of moves from and to are exchanged."""

    def rows(self, pairs):
        return ROWS + pairs.sum(axis=0).T


class NoPriorOfMoves(Right):
    """The prior's counts are left out of the rows of moves."""

    def rows(self, pairs):
        return pairs.sum(axis=0) + 1e-6


class LastMoveIgnored(Right):
    """The last move is not counted."""

    def rows(self, pairs):
        return ROWS + pairs[:-1].sum(axis=0)


class FirstRowIgnored(Right):
    """The first row is left out of the rates."""

    def shape(self, y, phi):
        return SHAPE + phi[1:].T @ y[1:]

    def rate(self, phi):
        return RATE + phi[1:].sum(axis=0)


class FirstFromAll(Right):
    """The first state's counts are of all times."""

    def first(self, phi):
        return FIRST + phi.sum(axis=0)


class RateFromLastSweep(Right):
    """The bound's divergence of the rates is of the sweep before; five sweeps."""

    def __call__(self, y, seed):
        self.before = None
        return super().__call__(y, seed)

    def kl(self, q):
        older, self.before = self.before or q, q
        return super().kl({**q, "shape": older["shape"], "rate": older["rate"]})

    def ended(self, trace):
        return len(trace) == 5


class NoFactorials(Right):
    """log y! is dropped from the bound."""

    constant = True

    def factorials(self, y):
        return np.zeros_like(y)


class NoEntropy(LongBound):
    """The entropy of the states is left out of the bound."""

    def bound(self, y, q, first, steps, phi, pairs, log_z):
        own = phi[0] @ first + np.sum(pairs * steps) - log_z
        return super().bound(y, q, first, steps, phi, pairs, log_z) + own


class EntropyOfMarginals(LongBound):
    """The entropy of the states as if they were independent."""

    def bound(self, y, q, first, steps, phi, pairs, log_z):
        own = phi[0] @ first + np.sum(pairs * steps) - log_z
        found = super().bound(y, q, first, steps, phi, pairs, log_z)
        return found + own + entr(phi).sum()


class ScaleForRate(Right):
    """The Gamma that is returned has the scale in the place of the rate."""

    def result(self, q, first, steps, phi, trace):
        q = {**q, "rate": 1 / q["rate"]}
        return super().result(q, first, steps, phi, trace)


class MarginalsAsPotentials(Right):
    """The chain that is returned has the log of pairs' marginals as its potentials."""

    def result(self, q, first, steps, phi, trace):
        pairs = self.forward_backward(first, steps)[1]
        log_pairs = np.log(np.maximum(pairs, 1e-300))
        log_first = np.log(np.maximum(phi[0], 1e-300))
        return super().result(q, log_first, log_pairs, phi, trace)


class StoppedEarly(Right):
    """Stopped after three sweeps."""

    most = 3


RIGHT = [Right, RightJax, LongBound, OtherForms]
COARSE = [RateAsPoint, StatesIndependent]
MUTANTS = [
    MovesNormalised,
    LogOfMeanMoves,
    NoDigammaOfTotal,
    NoDigammaOfRowTotals,
    TotalOverColumns,
    LogOfMeanRate,
    ModeOfRate,
    Filtered,
    PairsAsProduct,
    MovesTransposed,
    NoPriorOfMoves,
    LastMoveIgnored,
    FirstRowIgnored,
    FirstFromAll,
    RateFromLastSweep,
    NoFactorials,
    NoEntropy,
    EntropyOfMarginals,
    ScaleForRate,
    MarginalsAsPotentials,
    StoppedEarly,
]
