"""Comparison of posteriors from arrays of draws, whatever the method and the model."""

from vi_bench.comparison.comparison import Comparison, compare
from vi_bench.comparison.sample import Sample
from vi_bench.comparison.verdict import Margin

__all__ = ["Comparison", "Margin", "Sample", "compare"]
