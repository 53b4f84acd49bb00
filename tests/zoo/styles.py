"""Right fits of the plain form, as different people write them; none has a fault.

Each is f(data, K, sigma, seed) as `vi_bench.verify` takes it. They differ in what is
computed first, in how scores and the ELBO are written, in starts, stopping rules, types
and what is returned.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import logsumexp, softmax
from scipy.stats import norm

MOST = 3000


def means(x, phi, sigma):
    s2 = 1 / (1 / sigma**2 + phi.sum(axis=0))
    return phi.T @ x * s2[:, None], s2


def expanded(x, m, s2):
    """Scores with |x|^2 left out and the square expanded."""
    return x @ m.T - 0.5 * ((m**2).sum(axis=1) + x.shape[1] * s2)


def centred(x, m, s2):
    """Scores that subtract before they square."""
    return -0.5 * (((x[:, None] - m) ** 2).sum(axis=2) + x.shape[1] * s2)


def kl(m, s2, sigma):
    d, ratio = m.shape[1], s2 / sigma**2
    return 0.5 * np.sum(d * (ratio - 1 - np.log(ratio)) + (m**2).sum(axis=1) / sigma**2)


def constants(n, d, K):
    return -n * (0.5 * d * np.log(2 * np.pi) + np.log(K))


def compact(x, m, s2, sigma):
    """The ELBO with optimal assignments, by logsumexp."""
    (n, d), K = x.shape, len(m)
    rows = logsumexp(expanded(x, m, s2), axis=1).sum() - 0.5 * (x**2).sum()
    return rows + constants(n, d, K) - kl(m, s2, sigma)


def written_out(x, m, s2, phi, sigma):
    """The ELBO term by term, for any assignments."""
    (n, d), K = x.shape, len(m)
    entropy = -np.sum(phi * np.log(np.where(phi > 0, phi, 1.0)))
    rows = np.sum(phi * centred(x, m, s2)) + constants(n, d, K)
    return rows + entropy - kl(m, s2, sigma)


def dirichlet(n, K, seed):
    return np.random.default_rng(seed).dirichlet(np.ones(K), n)


def result(m, s2, phi, trace):
    return {"m": m, "s2": s2, "phi": phi, "elbo": trace}


def exp_of_differences(data, K, sigma, seed):
    """exp(scores - logsumexp(scores)), whose rows add up to 1 as far as scores do."""
    phi, trace = dirichlet(len(data), K, seed), []
    while len(trace) < 3 or trace[-1] - trace[-2] > 1e-9 * abs(trace[-1]):
        m, s2 = means(data, phi, sigma)
        scores = expanded(data, m, s2)
        phi = np.exp(scores - logsumexp(scores, axis=1, keepdims=True))
        trace.append(compact(data, m, s2, sigma))
    return result(m, s2, phi, trace)


def as_scikit_learn(data, K, sigma, seed):
    """log_resp = weighted_log_prob - log_prob_norm, and an ELBO of sums of resp."""
    n, d = data.shape
    resp, last, trace = dirichlet(n, K, seed), -np.inf, []
    for _ in range(MOST):
        m, s2 = means(data, resp, sigma)
        log_gauss = -0.5 * (
            d * np.log(2 * np.pi)
            + (data**2).sum(axis=1)[:, None]
            - 2 * data @ m.T
            + (m**2).sum(axis=1)
        )
        weighted = log_gauss - 0.5 * d * s2 - np.log(K)
        log_resp = weighted - logsumexp(weighted, axis=1)[:, None]
        resp = np.exp(log_resp)
        trace.append((resp * (weighted - log_resp)).sum() - kl(m, s2, sigma))
        if abs(trace[-1] - last) < 1e-10:
            break
        last = trace[-1]
    return result(m, s2, resp, np.array(trace))


def normalised_expanded(data, K, sigma, seed):
    """exp of scores less their maximum, divided by the sum; the ELBO written out."""
    phi, trace = dirichlet(len(data), K, seed), []
    for _ in range(MOST):
        m, s2 = means(data, phi, sigma)
        scores = expanded(data, m, s2)
        phi = np.exp(scores - scores.max(axis=1, keepdims=True))
        phi /= phi.sum(axis=1, keepdims=True)
        trace.append(written_out(data, m, s2, phi, sigma))
        if len(trace) > 1 and trace[-1] - trace[-2] < 1e-10:
            break
    return result(m, s2, phi, np.array(trace))


def term_by_term(data, K, sigma, seed):
    """E log p of means, of assignments, of rows; less E log q of both; expanded."""
    d, phi, trace = data.shape[1], dirichlet(len(data), K, seed), []
    for _ in range(MOST):
        m, s2 = means(data, phi, sigma)
        phi = softmax(expanded(data, m, s2), axis=1)
        of_means = norm.logpdf(m, 0, sigma).sum() - 0.5 * d * s2.sum() / sigma**2
        of_labels = -np.log(K) * phi.sum()
        squares = (data**2).sum(axis=1)[:, None] - 2 * data @ m.T
        squares = squares + (m**2).sum(axis=1) + d * s2
        of_rows = -0.5 * np.sum(phi * (d * np.log(2 * np.pi) + squares))
        q_means = -0.5 * d * np.sum(np.log(2 * np.pi * s2) + 1)
        q_labels = np.sum(phi * np.log(phi + 1e-300))
        trace.append(of_means + of_labels + of_rows - q_means - q_labels)
        if len(trace) > 1 and trace[-1] - trace[-2] < 1e-9:
            break
    return result(m, s2, phi, trace)


def damped(data, K, sigma, seed):
    """Every sweep goes half of the way, in the responsibilities."""
    phi, trace = dirichlet(len(data), K, seed), []
    for _ in range(MOST):
        m, s2 = means(data, phi, sigma)
        phi = 0.5 * phi + 0.5 * softmax(centred(data, m, s2), axis=1)
        trace.append(written_out(data, m, s2, phi, sigma))
        if len(trace) > 1 and trace[-1] - trace[-2] < 1e-9:
            break
    return result(m, s2, phi, trace)


def damped_means(data, K, sigma, seed):
    """Natural parameters of the means move by three tenths, from the prior's."""
    random = np.random.default_rng(seed)
    d = data.shape[1]
    precision, shift = np.full(K, 1 / sigma**2), random.normal(size=(K, d)) / sigma
    trace = []
    for _ in range(MOST):
        phi = softmax(expanded(data, shift / precision[:, None], 1 / precision), axis=1)
        precision = 0.7 * precision + 0.3 * (1 / sigma**2 + phi.sum(axis=0))
        shift = 0.7 * shift + 0.3 * (phi.T @ data)
        m, s2 = shift / precision[:, None], 1 / precision
        trace.append(compact(data, m, s2, sigma))
        if len(trace) > 1 and trace[-1] - trace[-2] < 1e-9:
            break
    phi = softmax(expanded(data, m, s2), axis=1)
    return result(m, s2, phi, trace)


def from_k_means(data, K, sigma, seed):
    """Starts at the assignments of some rounds of k-means, hard ones."""
    random = np.random.default_rng(seed)
    places = data[random.choice(len(data), K, replace=False)]
    for _ in range(10):
        labels = ((data[:, None] - places) ** 2).sum(axis=2).argmin(axis=1)
        own = [data[labels == k] for k in range(K)]
        places = np.array(
            [o.mean(axis=0) if len(o) else p for o, p in zip(own, places, strict=True)]
        )
    phi, trace = np.eye(K)[labels], []
    while len(trace) < 2 or trace[-1] - trace[-2] > 1e-8:
        m, s2 = means(data, phi, sigma)
        phi = softmax(expanded(data, m, s2), axis=1)
        trace.append(compact(data, m, s2, sigma))
    return result(m, s2, phi, trace)


def assignments_first(data, K, sigma, seed):
    """Starts at random means; assignments come first, the means have the last word."""
    random = np.random.default_rng(seed)
    m, s2 = random.normal(size=(K, data.shape[1])), np.ones(K)
    trace = [-np.inf]
    for _ in range(MOST):
        phi = softmax(centred(data, m, s2), axis=1)
        m, s2 = means(data, phi, sigma)
        trace.append(written_out(data, m, s2, phi, sigma))
        if trace[-1] - trace[-2] < 1e-9:
            break
    return result(m, s2, phi, trace)


def single_inside(data, K, sigma, seed):
    """32 bits inside and out, in NumPy."""
    x, wide = data.astype("f4"), np.float32(sigma)
    phi, trace = dirichlet(len(x), K, seed).astype("f4"), []
    for _ in range(500):
        m, s2 = means(x, phi, wide)
        phi = softmax(expanded(x, m, s2), axis=1)
        trace.append(np.float32(written_out(x, m, s2, phi, wide)))
        if len(trace) > 1 and abs(trace[-1] - trace[-2]) < 1e-6 * (1 + abs(trace[-1])):
            break
    return result(m, s2, phi, trace)


@jax.jit
def jax_sweep(x, phi, sigma):
    n, d = x.shape
    s2 = 1 / (1 / sigma**2 + phi.sum(axis=0))
    m = s2[:, None] * (phi.T @ x)
    logits = x @ m.T - 0.5 * ((m**2).sum(axis=1) + d * s2)
    ratio = s2 / sigma**2
    gap = d * (ratio - 1 - jnp.log(ratio)) + (m**2).sum(axis=1) / sigma**2
    rows = jax.nn.logsumexp(logits, axis=1).sum() - 0.5 * (x**2).sum()
    base = n * (0.5 * d * jnp.log(2 * jnp.pi) + jnp.log(phi.shape[1] * 1.0))
    return m, s2, jax.nn.softmax(logits, axis=1), rows - base - 0.5 * gap.sum()


def jax_in_32_bits(data, K, sigma, seed):
    """JAX by its default, the trace a list of Python's numbers."""
    with jax.enable_x64(False):
        x = jnp.asarray(data)
        phi = jax.random.dirichlet(jax.random.key(seed), jnp.ones(K), (len(x),))
        trace = []
        for _ in range(300):
            m, s2, phi, bound = jax_sweep(x, phi, sigma)
            trace.append(float(bound))
        return result(m, s2, phi, trace)


def lists(data, K, sigma, seed):
    """Lists all the way, the assignments' sums in Python."""
    phi, trace = dirichlet(len(data), K, seed), []
    for _ in range(MOST):
        m, s2 = means(data, phi, sigma)
        rows = [np.exp(s - max(s)) for s in centred(data, m, s2)]
        phi = np.array([[float(v / sum(r)) for v in r] for r in rows]).reshape(-1, K)
        trace.append([float(written_out(data, m, s2, phi, sigma))])
        if len(trace) > 1 and trace[-1][0] - trace[-2][0] < 1e-7:
            break
    return result(m.tolist(), tuple(s2), phi.tolist() if len(data) else phi, trace)


def restarts(data, K, sigma, seed):
    """The best of five starts, and its trace."""
    found = [damped_or_not(data, K, sigma, seed + i) for i in range(5)]
    return max(found, key=lambda one: one["elbo"][-1])


def damped_or_not(data, K, sigma, seed):
    phi, trace = dirichlet(len(data), K, seed), []
    for _ in range(MOST):
        m, s2 = means(data, phi, sigma)
        phi = softmax(expanded(data, m, s2), axis=1)
        trace.append(compact(data, m, s2, sigma))
        if len(trace) > 1 and np.isclose(trace[-1], trace[-2], rtol=1e-9, atol=0):
            break
    return result(m, s2, phi, np.array(trace))


def until_means_rest(data, K, sigma, seed):
    """Ends when no mean moves by more than 1e-6; no trace, one value of the ELBO."""
    phi, m = dirichlet(len(data), K, seed), np.inf
    for _ in range(MOST):
        before = m
        m, s2 = means(data, phi, sigma)
        phi = softmax(expanded(data, m, s2), axis=1)
        if np.abs(m - before).max() < 1e-6:
            break
    return result(m, s2, phi, compact(data, m, s2, sigma))


def rows_one_by_one(data, K, sigma, seed):
    """Every row's assignment is followed by an update of the means, incrementally."""
    phi, trace = dirichlet(len(data), K, seed), []
    precision, shift = 1 / sigma**2 + phi.sum(axis=0), phi.T @ data
    for _ in range(MOST):
        for i, x in enumerate(data):
            m, s2 = shift / precision[:, None], 1 / precision
            new = softmax(centred(x[None], m, s2)[0])
            precision, shift = (
                precision + new - phi[i],
                shift + np.outer(new - phi[i], x),
            )
            phi[i] = new
        m, s2 = means(data, phi, sigma)
        precision, shift = 1 / s2, m / s2[:, None]
        trace.append(written_out(data, m, s2, phi, sigma))
        if len(trace) > 1 and trace[-1] - trace[-2] < 1e-8:
            break
    return result(m, s2, phi, trace)


def bound_before_the_sweep(data, K, sigma, seed):
    """The ELBO is computed when a sweep begins: the last is of the sweep before."""
    phi, trace = dirichlet(len(data), K, seed), []
    m, s2 = means(data, phi, sigma)
    for _ in range(MOST):
        trace.append(written_out(data, m, s2, phi, sigma))
        phi = softmax(expanded(data, m, s2), axis=1)
        m, s2 = means(data, phi, sigma)
        if len(trace) > 1 and trace[-1] - trace[-2] < 1e-6:
            break
    return result(m, s2, phi, trace)


def means_only(data, K, sigma, seed):
    """Neither responsibilities nor a trace are returned."""
    found = damped_or_not(data, K, sigma, seed)
    return {"m": found["m"], "s2": found["s2"]}


def centred_data(data, K, sigma, seed):
    """The data are centred for the fit, and the prior's mean is moved with them."""
    n, d = data.shape
    centre = data.mean(axis=0) if n else np.zeros(d)
    x, phi, trace = data - centre, dirichlet(n, K, seed), []
    for _ in range(MOST):
        s2 = 1 / (1 / sigma**2 + phi.sum(axis=0))
        m = s2[:, None] * (phi.T @ x - centre / sigma**2)
        phi = softmax(centred(x, m, s2), axis=1)
        rows = np.sum(phi * centred(x, m, s2)) + constants(n, d, K)
        entropy = -np.sum(phi * np.log(np.where(phi > 0, phi, 1.0)))
        trace.append(rows + entropy - kl(m + centre, s2, sigma))
        if len(trace) > 1 and trace[-1] - trace[-2] < 1e-9:
            break
    return result(m + centre, s2, phi, trace)


def stored_in_32_bits(data, K, sigma, seed):
    """phi and s2 are stored in 32 bits, the means and the trace in 64."""
    found = damped_or_not(data, K, sigma, seed)
    return found | {n: found[n].astype("f4") for n in ("phi", "s2")}


RIGHT = [
    exp_of_differences,
    as_scikit_learn,
    normalised_expanded,
    term_by_term,
    damped,
    damped_means,
    from_k_means,
    assignments_first,
    single_inside,
    jax_in_32_bits,
    lists,
    restarts,
    until_means_rest,
    rows_one_by_one,
    bound_before_the_sweep,
    means_only,
    centred_data,
    stored_in_32_bits,
]
