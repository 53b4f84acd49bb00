"""Linear response of models against the normal that their posteriors tend to.

With N rows, words or counts the posterior of what these identify tends to a normal,
whose covariance is the inverse curvature of log p(x, theta) at its mode. So does linear
response. With its local variables at their optimum, the bound of a q(theta) as narrow
as N^(-1/2) is log p(x | theta at the centre of q) but for terms that do not grow with
N: the local variables see expected natural parameters, which are those of the centre
but for a share 1/N. Its curvature in the centre is then that of the log density,
whatever factors q has. Sds under q itself do not get there: it takes local variables,
and the other factors, as known.

What both neglect are shares c/N: here sds differ by at most 0.1 to 0.7 %, by four times
as much at a quarter of the rows, and 1 % is asked. Both sides see the same data, and
there are no draws: no alarm can be false.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from scipy.optimize import minimize

from tests.models.ascents import climbed
from tests.models.response import chosen, scalars, sds_at
from vi_bench.factors import base
from vi_bench.models.factor_analysis import FactorAnalysis
from vi_bench.models.hmm import HMM
from vi_bench.models.lda import LDA
from vi_bench.models.mixture_of_regressions import MixtureOfRegressions
from vi_bench.models.poisson_factorisation import PoissonFactorisation
from vi_bench.models.ppca import PPCA
from vi_bench.posterior.cavi_posterior import CAVIPosterior

pytestmark = [pytest.mark.slow]


class Case(NamedTuple):
    """A model, its data by a generator, what is compared, sweeps to the optimum."""

    own: Any
    data: Callable[[np.random.Generator], dict[str, np.ndarray]]
    of: Callable[[dict[str, Any]], dict[str, Any]]
    sweeps: int = 1000


def emitted(random):
    """Means two sds apart, along states that are left with the probability 0.15."""
    z = np.cumsum(random.random(2000) < 0.15) % 2
    return {"y": random.normal(2.0 * z)[:, None]}


def two_lines(random):
    x = np.c_[np.ones(2000), random.normal(size=2000)]
    z = (random.random(2000) < 0.4).astype(int)
    w, sd = np.array([[0.0, 1.5], [1.5, -1.0]])[z], np.array([0.7, 1.0])[z]
    return {"x": x, "y": random.normal((x * w).sum(axis=1), sd)}


def loaded(loadings, rows):
    """Rows of factors with these loadings, and noise."""
    loadings = np.array(loadings)

    def data(random):
        centres = random.normal(size=(rows, loadings.shape[1])) @ loadings.T
        return {"x": random.normal(centres, 0.8)}

    return data


def documents(random):
    """Four mixtures of two topics, none of them pure, 4000 words in each."""
    beta = np.array([[0.3, 0.1, 0.2, 0.2, 0.2], [0.1, 0.3, 0.1, 0.2, 0.3]])
    share = np.array([0.2, 0.4, 0.5, 0.7])
    return {"counts": random.multinomial(4000, np.c_[share, 1 - share] @ beta)}


def events(random):
    """Of two factors, some thousand in each cell."""
    theta, beta = random.gamma(3.0, 1 / 3, (4, 2)), random.gamma(3.0, 1 / 3, (2, 4))
    return {"counts": random.poisson(1000 * theta @ beta)}


CASES = {
    "hmm": Case(HMM(stay=3.0), emitted, chosen(["mu", "log_tau", "remain"])),
    "mixture-of-regressions": Case(
        MixtureOfRegressions(2), two_lines, chosen(["weights", "w", "log_tau"])
    ),
    "factor-analysis": Case(
        FactorAnalysis(factors=1),
        loaded([[1.0], [0.8], [0.6], [1.2]], 2000),
        chosen(["covariance", "mu"]),
        3000,
    ),
    # loadings may be rotated, against which only the prior is: an ascent is slow there
    "ppca": Case(
        PPCA(factors=2),
        loaded([[1.5, 0.0], [1.2, 0.3], [0.9, 0.6], [-0.5, 1.0], [0.2, 1.2]], 1000),
        chosen(["covariance", "mu", "log_tau"]),
        250_000,
    ),
    # topics may be mixed with each other where none has words of its own, and factors
    # too: the data identify the documents' probabilities, and the rates
    "lda": Case(
        LDA(topics=2, alpha=3.0, eta=3.0),
        documents,
        lambda theta: {"probability": theta["theta"] @ theta["beta"]},
        20_000,
    ),
    "poisson-factorisation": Case(
        PoissonFactorisation(2, a=3.0, b=3.0, c=3.0, d=3e-3),
        events,
        chosen(["rate"]),
        20_000,
    ),
}


def normal_sds(posterior, q, of):
    """Sds of the normal that the posterior tends to around q: at the nearest mode."""
    theta = base.centres_of(q)
    free = posterior.unconstrain({s.name: theta[s.name] for s in posterior.latent})
    start, back = ravel_pytree(free)

    def height(x):
        return -posterior.density(back(x))

    def compared(x):
        theta = posterior.constrain(back(x))[0]
        found = scalars(of(theta | posterior.deterministic(theta)))
        return {label.name: value for label, value in found.items()}

    slope, curved = jax.jit(jax.value_and_grad(height)), jax.jit(jax.hessian(height))
    found = minimize(
        lambda x: tuple(np.asarray(v, float) for v in slope(x)),
        start,
        jac=True,
        hess=lambda x: np.asarray(curved(x)),
        method="trust-exact",
        options={"gtol": 1e-5},
    )
    left, precision = np.asarray(slope(found.x)[1]), np.asarray(curved(found.x))
    assert np.linalg.eigvalsh(precision).min() > 0
    assert left @ np.linalg.solve(precision, left) < 1e-6  # sds^2 away from the mode
    gradients = jax.jit(jax.jacfwd(compared))(jnp.asarray(found.x))
    return {
        name: np.sqrt(g @ np.linalg.solve(precision, g))
        for name, g in ((k, np.asarray(v)) for k, v in gradients.items())
    }


@pytest.mark.parametrize("name", CASES)
def test_linear_response_has_the_sds_of_the_limit(name):
    case = CASES[name]
    data = case.data(np.random.default_rng(1))
    posterior = CAVIPosterior.bound(case.own, data)
    q, _ = climbed(case.own, data, jax.random.key(0), case.sweeps)
    sds, own = sds_at(posterior, q, case.of)
    true = normal_sds(posterior, q, case.of)
    off = {label: sd / true[label] - 1 for label, sd in sds.items()}
    assert max(map(abs, off.values())) < 0.01, off
    assert min(sd / true[label] for label, sd in own.items()) < 0.8
