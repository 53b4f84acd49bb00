"""A mixture of two Gaussians with known variance, with a CAVI by hand.

The data are 272 eruptions of the geyser Old Faithful (Haerdle 1991): how long each
lasted and the time to the next, both standardised. The model is that of Blei,
Kucukelbir and McAuliffe (2017) in two dimensions, with rows scaled to variance 1 within
a component.
"""

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from scipy.special import logsumexp, softmax

import vi_bench as vb

K, SIGMA = 2, 3.0
SD = 0.4  # within a component, of standardised rows


def data():
    """Rows x (272, 2) in units of the sd within a component."""
    return {"x": vb.load("faithful", standardise=True).values / SD}


def model(x):
    """Means mu (K, 2) and the component c of each row."""
    with numpyro.plate("component", K):
        mu = numpyro.sample("mu", dist.Normal(0, SIGMA).expand([2]).to_event(1))
    with numpyro.plate("row", len(x)):
        c = numpyro.sample("c", dist.Categorical(probs=jnp.full(K, 1 / K)))
        numpyro.sample("x", dist.Normal(mu[c], 1).to_event(1), obs=x)


def fit(data, K, sigma, seed):
    """CAVI in the plain form: q(mu_k) = N(m_k, s2_k I), q(c_i) = phi_i."""
    n, d = data.shape
    phi = np.random.default_rng(seed).dirichlet(np.ones(K), n)
    elbo = [-np.inf]
    while True:
        s2 = 1 / (1 / sigma**2 + phi.sum(axis=0))
        m = s2[:, None] * (phi.T @ data)
        scores = data @ m.T - 0.5 * ((m**2).sum(axis=1) + d * s2)
        phi = softmax(scores, axis=1)
        rows = -0.5 * (data**2).sum() - n * (0.5 * d * np.log(2 * np.pi) + np.log(K))
        kl = (d * s2 + (m**2).sum(axis=1)) / sigma**2 - d - d * np.log(s2 / sigma**2)
        elbo.append(rows + logsumexp(scores, axis=1).sum() - 0.5 * kl.sum())
        if elbo[-1] - elbo[-2] < 1e-10 * (1 + abs(elbo[-1])):
            return {"m": m, "s2": s2, "phi": phi, "elbo": elbo[1:]}


def cavi(x, seed):
    """The same as a fit of `model`."""
    found = fit(x, K, SIGMA, seed)
    sd = np.sqrt(found["s2"])[:, None] * np.ones(x.shape[1])
    mu = dist.Normal(found["m"], sd).to_event(1)
    return {
        "q": {"mu": mu, "c": dist.Categorical(probs=found["phi"])},
        "elbo": found["elbo"],
    }
