"""Probabilistic principal components: factor analysis with one noise for all features.

x_ij ~ Normal(mu_j + W_j z_i, 1 / tau); otherwise as `factor_analysis`. Bishop (1999),
variational principal components; Tipping and Bishop (1999).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from vi_bench.models.factor_analysis import FactorAnalysis

DATA = {"x": ("row", "feature")}


@dataclass(frozen=True)
class PPCA(FactorAnalysis):
    """The number of factors, and the priors: see `FactorAnalysis`."""

    summary: ClassVar[str] = "probabilistic principal components, with ARD"
    references: ClassVar[tuple[str, ...]] = ("bishop1999", "tipping1999")
    compared: ClassVar[tuple[str, ...]] = ("covariance", "mu", "log_tau")
    common: ClassVar[bool] = True


MODEL = PPCA
