"""Geweke's test passes right kernels and finds planted faults."""

from dataclasses import dataclass, replace
from functools import partial

import blackjax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import ks_2samp

from tests.calibration.test_parts import template
from tests.marks import slow
from vi_bench.calibration.geweke import one_chain
from vi_bench.calibration.simulators import MixtureSimulator
from vi_bench.calibration.uniformity import kept
from vi_bench.methods.gibbs import Gibbs
from vi_bench.methods.nuts import NUTS
from vi_bench.methods.smc import SMC
from vi_bench.mixture.numpyro_model import constrain, unconstrain

CHAINS, TURNS, LEVEL = 500, 6, 1e-3


def lost(kernel, name, weights="uniform", seed=0):
    """Quantities whose law has moved, at a family-wise rate of LEVEL."""
    empty, coordinates = template(name, weights)
    simulator = MixtureSimulator(empty, 8, coordinates)
    chain = partial(one_chain, kernel, simulator, TURNS)
    keys = jax.random.split(jax.random.key(seed), CHAINS)
    found = jax.jit(lambda keys: jax.lax.map(chain, keys))(keys)
    end, fresh = np.asarray(found["end"]), np.asarray(found["fresh"])
    p = {i: ks_2samp(end[:, i], fresh[:, i]).pvalue for i in range(end.shape[1])}
    return [i for i, fine in kept(p, LEVEL).items() if not fine]


@pytest.mark.parametrize(
    ("kernel", "name", "weights"),
    [
        slow(Gibbs(), "gaussian", "dirichlet"),
        slow(NUTS(max_tree_depth=5), "poisson", "uniform"),
        (SMC(), "gaussian", "uniform"),
    ],
)
def test_right_kernels_pass(kernel, name, weights):
    """A false alarm in one of 1000 seeds, for each of three kernels."""
    assert not lost(kernel, name, weights)


@dataclass(frozen=True)
class NoJacobian:
    """Hamiltonian moves in the unconstrained space, the volume forgotten."""

    def transition(self, key, mixture, theta):
        def density(free):
            return mixture.log_joint(constrain(mixture, free)[0])

        free = unconstrain(mixture, theta)
        size = sum(leaf.size for leaf in jax.tree.leaves(free))
        state = blackjax.hmc.init(free, density)
        kernel = blackjax.hmc.build_kernel()
        moved, _ = kernel(key, state, density, 0.2, jnp.ones(size), 5)
        return constrain(mixture, moved.position)[0]


@dataclass(frozen=True)
class WiderPrior:
    """Gibbs under another prior than the one that theta is drawn from."""

    def transition(self, key, mixture, theta):
        family = replace(mixture.family, sigma=1.5 * mixture.family.sigma)
        return Gibbs().transition(key, replace(mixture, family=family), theta)


@dataclass(frozen=True)
class StaleRows:
    """Gibbs that sees every other row only."""

    def transition(self, key, mixture, theta):
        fewer = mixture.with_rows(mixture.data()[::2])
        return Gibbs().transition(key, fewer, theta)


@pytest.mark.parametrize(
    ("kernel", "name"),
    [
        slow(NoJacobian(), "poisson"),
        slow(WiderPrior(), "gaussian"),
        (StaleRows(), "gaussian"),
    ],
)
def test_planted_faults_are_found(kernel, name):
    assert lost(kernel, name)
