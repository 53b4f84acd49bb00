"""Factors of a mean-field q: exponential families with their moments and divergences.

A model's coordinate ascent holds q as a dict of these, by site. Each knows its natural
parameters, which the driver extrapolates and linear response differentiates.
"""

from vi_bench.factors.base import Factor, Joint, Single
from vi_bench.factors.dirichlet import Dirichlet
from vi_bench.factors.gamma import Gamma
from vi_bench.factors.gaussian import LOG_2PI, Gaussian, Normal
from vi_bench.factors.normal_gamma import NormalGamma
from vi_bench.factors.spike_slab import SpikeSlab

__all__ = [
    "LOG_2PI",
    "Dirichlet",
    "Factor",
    "Gamma",
    "Gaussian",
    "Joint",
    "Normal",
    "NormalGamma",
    "Single",
    "SpikeSlab",
]
