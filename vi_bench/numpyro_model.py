"""NumPyro's view of a mixture, for a method of your own: docs/extending.md.

Names only: the code is in `vi_bench.mixture.numpyro_model`.
"""

from vi_bench.mixture.numpyro_model import (
    StickBeta,
    assigned_model,
    constrain,
    log_joint_by_component,
    marginal_model,
    prior_factors,
    sample_parameters,
    unconstrain,
    with_sticks,
)

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
