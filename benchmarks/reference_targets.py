"""The posteriors of which references are published."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import vi_bench as vb
from vi_bench import catalogue
from vi_bench.data.arrays import arrays
from vi_bench.spec import make


@dataclass(frozen=True)
class Target:
    """A posterior.

    Attributes:
        name: name of the reference.
        spec: fields of a spec.
        rows: of data that are drawn from the model, their number; 0 for other data.
        features: of such data of a mixture.
    """

    name: str
    spec: Mapping[str, Any] = field(default_factory=dict)
    rows: int = 0
    features: int = 2

    def bound(self) -> tuple[vb.Spec, Any]:
        """The spec, and its data: a table, or arrays by name."""
        if self.name in catalogue.experiments() and not self.spec:
            spec = vb.read(self.name, {})
        else:
            spec = make({"name": self.name, **self.spec}, self.name)
        if not self.rows:
            return spec, None
        random = np.random.default_rng(20170415)
        if spec.numpyro is None:
            size = self.rows, spec.components
            made = vb.simulate(spec.model, *size, features=self.features, seed=1)
            return spec, made
        settings = {k: v for k, v in spec.model.items() if k != "name"}
        own = catalogue.model(spec.model["name"])(**settings)
        return spec, arrays(own.example(random, self.rows), f"drawn for {self.name}")


def _mixture(
    model: Mapping[str, Any], K: int, data: str = "", **more: Any
) -> dict[str, Any]:
    """Fields of a spec of a mixture."""
    found = {"model": dict(model), "components": K, **more}
    return found | ({"data": data} if data else {})


KNOWN = {"name": "gaussian", "mean": 0.0, "sigma": 5.0, "variance": 1.0}
SPHERICAL = {
    "name": "gaussian-spherical",
    "mean": 0.0,
    "kappa": 0.2,
    "shape": 3.0,
    "rate": 0.6,
}
DIAGONAL = SPHERICAL | {"name": "gaussian-diagonal"}
FULL = {
    "name": "gaussian-full", "mean": 0.0, "kappa": 0.2, "degrees_of_freedom": 6.0,
    "scale": 0.6,
}  # fmt: skip
APART = {
    "name": "gaussian-semiconjugate",
    "mean": 0.0,
    "sd": 1.0,
    "shape": 3.0,
    "scale": 0.6,
}
APART_FULL = {
    "name": "gaussian-semiconjugate-full", "mean": 0.0, "sd": 1.0,
    "degrees_of_freedom": 6.0, "scale": 0.6,
}  # fmt: skip
EVEN = {"name": "dirichlet", "concentration": 2.0}
OLD = {"standardise": True, "weights": EVEN}

TARGETS = [
    Target("faithful"),
    Target("notebook"),
    Target("iris"),
    Target("galaxies"),
    Target("faithful-spherical", _mixture(SPHERICAL, 2, "faithful", **OLD)),
    Target("faithful-diagonal", _mixture(DIAGONAL, 2, "faithful", **OLD)),
    Target("faithful-full", _mixture(FULL, 2, "faithful", **OLD)),
    Target("faithful-semiconjugate", _mixture(APART, 2, "faithful", **OLD)),
    Target("faithful-semiconjugate-full", _mixture(APART_FULL, 2, "faithful", **OLD)),
    Target("iris-diagonal", _mixture(DIAGONAL, 3, "iris", **OLD)),
    Target("iris-full", _mixture(FULL, 3, "iris", **OLD)),
    *(
        Target(
            f"gaussian-{K}-{overlap:g}",
            _mixture(KNOWN, K, f"simulate:K={K},d=2,N=300,overlap={overlap},seed=1"),
        )
        for K, overlap in ((2, 0.5), (2, 0.05), (3, 0.2), (3, 0.01), (5, 0.05))
    ),
    Target(
        "poisson-mixture",
        _mixture({"name": "poisson", "shape": 2.0, "rate": 0.2}, 2, weights=EVEN),
        rows=200,
    ),
    Target(
        "exponential-mixture",
        _mixture({"name": "exponential", "shape": 2.0, "rate": 2.0}, 2, weights=EVEN),
        rows=200,
        features=4,
    ),
    Target(
        "bernoulli-mixture",
        _mixture({"name": "bernoulli", "a": 1.0, "b": 1.0}, 2, weights=EVEN),
        rows=200,
        features=8,
    ),
    *(
        Target(name)
        for name in (
            "velocities", "diabetes", "diabetes-sparse", "breast-cancer",
            "breast-cancer-probit", "eight-schools", "waiting", "nile", "whiteside",
        )
    ),
    Target("nile-trend", {"data": "nile", "model": {
        "name": "linear-gaussian-state-space", "form": "trend", "phi": 0.5,
        "first_mean": 10.0, "first_sd": 5.0, "a": 2.0, "b": 0.2,
    }}),
    Target("hmm-poisson", {"model": {
        "name": "hmm", "emission": "poisson", "states": 2, "a": 2.0, "b": 0.3,
        "stay": 4.0,
    }}, rows=150),
    *(
        Target(name, {"model": {"name": name, "factors": 1}}, rows=60)
        for name in ("factor-analysis", "ppca")
    ),
    Target("poisson-factorisation", {
        "model": {"name": "poisson-factorisation", "factors": 1, "a": 2.0, "c": 2.0},
    }, rows=12),
    Target("lda", {"model": {"name": "lda", "topics": 2, "alpha": 0.5}}, rows=40),
]  # fmt: skip
