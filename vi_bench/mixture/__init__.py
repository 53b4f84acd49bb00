"""The mixture: families, weights, the pass over the data, its NumPyro model."""

from vi_bench.mixture.mixture import Factors, Mixture, bind

__all__ = ["Factors", "Mixture", "bind"]
