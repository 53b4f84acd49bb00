"""Tests of an implementation of inference for correctness, not for accuracy."""

from vi_bench.verification.finding import Quality
from vi_bench.verification.mixtures import MixtureProblem
from vi_bench.verification.outcome import Report
from vi_bench.verification.verifier import verify

__all__ = ["MixtureProblem", "Quality", "Report", "verify"]
