"""One small run, whose programs the tests of many files share, and what fits it."""

import numpy as np

from vi_bench import catalogue

ROWS = np.r_[
    np.random.default_rng(3).normal(size=(20, 2)),
    6 + np.random.default_rng(4).normal(size=(25, 2)),
]
"""Two clusters, of 20 and 25 rows."""

METHODS = {
    "cavi": {"restarts": 3},
    "svi": {"steps": 200, "bound_draws": 200},
    "nuts": {"warmup": 100},
}

FIELDS = {"components": 2, "draws": 100, "chains": 2, "repeats": 2}

MIXTURES = [name for name in catalogue.names("method") if name != "own-fit"]
"""Methods that fit a mixture."""
