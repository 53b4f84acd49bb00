"""A mixture as a NumPyro model, to write your own methods: docs/extending.md.

Re-exports names of `vi_bench.mixture.numpyro_model` and `supports`.
"""

from vi_bench.mixture.numpyro_model import (
    assigned_model,
    constrain,
    log_joint_by_component,
    marginal_model,
    prior_factors,
    sample_parameters,
    unconstrain,
)
from vi_bench.mixture.supports import StickBeta, with_sticks

__all__ = [
    "StickBeta",
    "assigned_model",
    "constrain",
    "log_joint_by_component",
    "marginal_model",
    "prior_factors",
    "sample_parameters",
    "unconstrain",
    "with_sticks",
]
