"""A two-state Poisson hidden Markov model of earthquakes, with a CAVI by hand.

The data are the numbers of earthquakes in the world of magnitude 7 or more in each year
from 1900 to 2006, by the US Geological Survey, as Zucchini and MacDonald (2009) list
them in table 1.1.

The states have no names: the posterior is the same with their numbers exchanged. So the
model makes the quantities that are compared: the rates from low to high, and the
probability of staying in the state of each.
"""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from scipy.special import digamma, gammaln

STATES, SHAPE, RATE, ROW = 2, 2.0, 0.1, 1.0


def data():
    """Earthquakes by year (107,)."""
    counts = """
    13 14 8 10 16 26 32 27 18 32 36 24 22 23 22 18 25 21 21 14 8 11 14 23 18 17
    19 20 22 19 13 26 13 14 22 24 21 22 26 21 23 24 27 41 31 27 35 26 28 36 39
    21 17 22 17 19 15 34 10 15 22 18 15 20 15 22 19 16 30 27 29 23 20 16 21 21
    25 16 18 15 18 14 10 15 8 15 6 11 8 7 18 16 13 12 13 20 15 16 12 18 15 16 13
    15 16 11 11"""
    return {"counts": np.array(counts.split(), float)}


def model(counts):
    """Rates (2,) and rows of transition probabilities (2, 2); states summed out."""
    with numpyro.plate("state", STATES):
        rate = numpyro.sample("rate", dist.Gamma(SHAPE, RATE))
        move = numpyro.sample("move", dist.Dirichlet(jnp.full(STATES, ROW)))
    order = jnp.argsort(rate)
    numpyro.deterministic("rates", rate[order])
    numpyro.deterministic("staying", jnp.diagonal(move)[order])
    emission = dist.Poisson(rate).log_prob(counts[:, None])

    def forward(log_alpha, terms):
        reached = jax.nn.logsumexp(log_alpha[:, None] + jnp.log(move), axis=0)
        return reached + terms, None

    start = emission[0] - jnp.log(STATES)
    log_alpha, _ = jax.lax.scan(forward, start, emission[1:])
    numpyro.factor("counts", jax.nn.logsumexp(log_alpha))


def cavi(counts, seed=0):
    """Mean field: q(rate) q(move) q(states); Beal (2003), chapter 3."""
    x, k = counts[:, None], STATES
    random = np.random.default_rng(seed)
    shape = SHAPE + len(x) / k * np.ones(k)
    rate = shape / np.quantile(x, (np.arange(k) + 0.5) / k)
    rows = ROW + len(x) / k**2 * (np.eye(k) * k + random.random((k, k)))
    trace = []
    while len(trace) < 2 or trace[-1] - trace[-2] > 1e-10:
        # E-step: forward-backward with exp of the expected logs, which do not sum to 1
        log_rate = digamma(shape) - np.log(rate)
        log_move = digamma(rows) - digamma(rows.sum(axis=1, keepdims=True))
        emission = x * log_rate - shape / rate - gammaln(x + 1)
        alpha = [emission[0] - np.log(k)]
        for terms in emission[1:]:
            reached = np.logaddexp.reduce(alpha[-1][:, None] + log_move, axis=0)
            alpha.append(reached + terms)
        log_evidence = np.logaddexp.reduce(alpha[-1])
        beta, pairs = np.zeros(k), np.zeros((k, k))
        phi = [np.exp(alpha[-1] - log_evidence)]
        for t in range(len(x) - 1, 0, -1):
            onward = log_move + emission[t] + beta
            pairs += np.exp(alpha[t - 1][:, None] + onward - log_evidence)
            beta = np.logaddexp.reduce(onward, axis=1)
            phi.append(np.exp(alpha[t - 1] + beta - log_evidence))
        phi = np.array(phi[::-1])
        # the bound: the E-step's normaliser, minus the divergence of q from the prior
        kl = (shape - SHAPE) * digamma(shape) - gammaln(shape) + gammaln(SHAPE)
        kl = kl + SHAPE * np.log(rate / RATE) + shape * (RATE - rate) / rate
        of_rows = gammaln(rows.sum(axis=1)) - gammaln(rows).sum(axis=1)
        of_rows += ((rows - ROW) * log_move).sum(axis=1) - gammaln(k * ROW)
        of_rows += k * gammaln(ROW)
        trace.append(log_evidence - kl.sum() - of_rows.sum())
        fitted = {"rate": dist.Gamma(shape, rate), "move": dist.Dirichlet(rows)}
        # M-step
        shape, rate = SHAPE + (phi * x).sum(axis=0), RATE + phi.sum(axis=0)
        rows = ROW + pairs
    # the bound has the states in q, which the model sums out
    return {"q": fitted, "elbo": trace, "form": "augmented"}
