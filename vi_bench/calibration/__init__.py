"""Simulation-based calibration: posteriors checked on average over the prior."""

from vi_bench.calibration.calibration import Calibration
from vi_bench.calibration.settings import Settings

__all__ = ["Calibration", "Settings"]
