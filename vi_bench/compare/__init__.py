"""Compare posteriors: arrays in, tables out; knows no method and no model."""

from vi_bench.compare.comparison import Comparison, Sample, compare

__all__ = ["Comparison", "Sample", "compare"]
