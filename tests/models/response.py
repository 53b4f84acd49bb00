"""Linear response of a model's CAVI, in the variables that a test compares."""

import jax
import numpy as np

from vi_bench.comparison.quantities import Quantity
from vi_bench.contract import Problem
from vi_bench.inference.model_response import model_response
from vi_bench.inference.stages import calling, compiled, drive, prepare
from vi_bench.methods.cavi import CAVI
from vi_bench.posterior.cavi_posterior import CAVIPosterior


def scalars(values):
    """Every scalar of some arrays by name, as a quantity name[i]."""
    return [
        ([Quantity(f"{name}[{i}]") for i in range(value.size)], value)
        for name, value in values.items()
    ]


def chosen(names):
    """What picks variables of these names."""
    return lambda theta: {name: theta[name] for name in names}


def sds_at(posterior, q, of):
    """Sds by linear response at a fixed point, and under q; of(theta) is compared."""
    found = model_response(posterior, q, lambda theta: scalars(of(theta)))
    assert not found.refused, found.refused
    labels = [label.name for label in found.labels]
    return (
        dict(zip(labels, np.sqrt(np.diag(covariance)), strict=True))
        for covariance in (found.covariance, found.mean_field)
    )


def responded(own, data, names, restarts=3):
    """CAVI's draws, and `sds_at` of every scalar of some variables."""
    posterior = CAVIPosterior.bound(own, data)
    key = jax.random.key(0)
    stages = prepare(CAVI(restarts=restarts), Problem(posterior, 4, 1000), key)
    draws = drive(stages, key, posterior, calling(compiled(stages)))
    return draws, *sds_at(posterior, draws.factors, chosen(names))
