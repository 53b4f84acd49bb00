"""Linear response of a model's CAVI, in the variables that a test compares."""

import jax
import numpy as np

from vi_bench.comparison.quantities import Quantity
from vi_bench.contract import Problem
from vi_bench.inference.model_response import model_response
from vi_bench.inference.stages import calling, compiled, drive, prepare
from vi_bench.methods.cavi import CAVI
from vi_bench.posterior.cavi_posterior import CAVIPosterior


def responded(own, data, names, restarts=3):
    """Posterior, CAVI's draws, and linear response of every scalar of some variables.

    The quantities are named name[i], i counting a variable's elements.
    """
    posterior = CAVIPosterior.bound(own, data)
    key = jax.random.key(0)
    stages = prepare(CAVI(restarts=restarts), Problem(posterior, 4, 1000), key)
    draws = drive(stages, key, posterior, calling(compiled(stages)))

    def quantities(theta):
        return {
            Quantity(f"{name}[{i}]"): value
            for name in names
            for i, value in enumerate(theta[name].ravel())
        }

    found = model_response(posterior, draws.factors, quantities)
    assert not found.refused, found.refused
    sds = np.sqrt(np.diag(found.covariance))
    own_sds = np.sqrt(np.diag(found.mean_field))
    labels = [q.name for q in found.labels]
    return (
        draws,
        dict(zip(labels, sds, strict=True)),
        dict(zip(labels, own_sds, strict=True)),
    )
