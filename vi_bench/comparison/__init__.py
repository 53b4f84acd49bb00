"""Compare posteriors: arrays in, tables out; knows no method and no model."""

from vi_bench.comparison.comparison import Comparison, compare
from vi_bench.comparison.sample import Sample
from vi_bench.comparison.verdict import Margin

__all__ = ["Comparison", "Margin", "Sample", "compare"]
