"""This package's kernel as a third party would hand it in, in either form."""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np

from vi_bench.methods.cavi import CAVI
from vi_bench.mixture.weights import STICK, log_volume
from vi_bench.runner.kernel import cavi
from vi_bench.verification.mixtures import accurately


class Kernel:
    """CAVI of the known-variance Gaussian mixture, `vb.cavi`, in the plain form."""

    def __call__(self, data, K, sigma, seed):
        fit = cavi(data, K, sigma, seed=seed)
        return {"m": fit.m, "s2": fit.s2, "phi": fit.phi, "elbo": fit.elbo}


@cache
def programs():
    """Stages compiled once per shape, not once per problem."""
    return [(stage, jax.jit(stage.run)) for stage in CAVI().stages((1, 4000))]


class KernelOfFamilies:
    """CAVI of every family in the full form."""

    families = None

    def __call__(self, problem):
        mixture = problem.mixture
        with accurately():
            key, carry = jax.random.key(problem.seed), None
            for index, (stage, program) in enumerate(programs()):
                for call in range(stage.calls):
                    use = jax.random.fold_in(jax.random.fold_in(key, index), call)
                    carry = program(use, mixture, carry)
                    if stage.done and stage.done(carry):
                        break
            theta = {name: v[0] for name, v in carry.parameters.items()}
            log_q = carry.log_q[0] - log_volume(theta)
            moved = {name: v for name, v in theta.items() if name != STICK}
            draws = mixture.uncentred(moved)
            if STICK in theta:
                log_w = mixture.weights.log_weights(theta, problem.K)
                draws["weight"] = jnp.exp(log_w)
            draws = {name: np.asarray(v) for name, v in draws.items()}
            density = np.asarray(log_q)
            iterations = int(carry.report.iterations)
            trace = np.asarray(carry.report.trace)[:iterations]
        return SimpleNamespace(
            sample=lambda key, n: draws,
            log_prob=lambda theta: density,
            bound=trace,
            keeps_labels=True,
        )
