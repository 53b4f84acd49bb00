"""Small problems on which the plain form is tested, the smallest first."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vi_bench.verification.finding import literal


@dataclass(frozen=True)
class Problem:
    """A test problem: a data set, the known-variance Gaussian mixture, and a seed.

    Attributes:
        about: short description of the problem.
        data: the rows (N, d).
        K: number of components.
        sigma: prior standard deviation of a component's mean.
        seed: seed that is handed to the implementation.
    """

    about: str
    data: np.ndarray
    K: int
    sigma: float
    seed: int

    @property
    def enumerable(self) -> bool:
        """Whether all assignments can be enumerated quickly."""
        return self.K == 1 or len(self.data) <= 8

    @property
    def few(self) -> bool:
        """Whether there are no rows, or fewer than components."""
        return len(self.data) < max(self.K, 1)

    @property
    def size(self) -> tuple[int, int]:
        """Sort key by which problems go from small to large."""
        return self.data.size, self.K

    def __str__(self) -> str:
        n, d = self.data.shape
        return f"N = {n}, d = {d}, K = {self.K}, sigma = {self.sigma:g}: {self.about}"

    def script(self, name: str = "f") -> str:
        """Python code that tests the function `name` on exactly this problem."""
        return (
            f"{literal(self.data)}"
            f"problem = Problem({self.about!r}, data, K={self.K}, "
            f"sigma={self.sigma!r}, seed={self.seed})\n"
            f"check_cavi({name}, problems=[problem])"
        )


def battery(seed: int = 0) -> list[Problem]:
    """Problems with data from the model: K from 1 to 5, d from 1 to 8, N to 150."""
    random = np.random.default_rng([seed, 20170415])

    def problem(
        about: str,
        n: int,
        d: int,
        K: int,
        sigma: float,
        centres: np.ndarray | None = None,
        shares: tuple[float, ...] | None = None,
    ) -> Problem:
        mu = sigma * random.normal(size=(K, d)) if centres is None else centres
        chosen = (
            random.integers(len(mu), size=n)
            if shares is None
            else random.choice(len(mu), n, p=shares)
        )
        x = mu[chosen] + random.normal(size=(n, d))
        x = x.round(2)  # so that a problem can be read, and pasted
        return Problem(about, x, K, sigma, int(random.integers(2**31)))

    far = np.array([[0.0], [25.0], [-25.0], [50.0]])
    corner = np.array([[-1.5, 0.0], [1.5, 0.0], [0.0, 4.0]])
    two = 6.0 * np.array([[1.0], [-1.0]]) * np.ones(8)
    found = [
        problem("no rows", 0, 1, 1, 2.0),
        problem("no rows", 0, 2, 3, 0.7),
        problem("one component, one row", 1, 1, 1, 3.0),
        problem("one component", 6, 2, 1, 0.5),
        problem("one component, away from 0", 12, 3, 1, 2.0, np.full((1, 3), 4.0)),
        problem("few rows", 4, 1, 2, 1.5),
        problem("overlapping", 8, 1, 2, 1.0),
        problem("overlapping", 7, 2, 3, 1.0),
        problem("as few rows as components", 4, 3, 4, 1.0),
        problem("overlapping, narrow prior", 8, 1, 3, 0.3),
        problem("separated", 10, 1, 2, 20.0, far[:2]),
        problem("separated", 24, 2, 3, 20.0, far[:3] * [1.0, 0.5]),
        problem("separated", 40, 3, 4, 20.0, far * [1.0, -0.7, 0.3]),
        problem("overlapping", 40, 1, 2, 3.0, np.array([[-1.0], [1.0]])),
        problem("overlapping", 30, 2, 2, 0.5),
        problem("overlapping", 40, 2, 3, 1.0),
        problem("overlapping", 40, 3, 4, 1.0),
        problem("far from 0", 36, 2, 2, 1000.0, np.array([[1e3, 1e3], [1003.0, 1e3]])),
        problem("many features", 12, 8, 2, 1.0),
        problem("many features, one component", 3, 8, 1, 1.5),
        problem("fewer groups than components", 14, 8, 5, 20.0, two),
        problem("fewer groups than components", 20, 5, 4, 30.0, two[:, :5] / 2),
        problem("unbalanced, more rows", 150, 2, 3, 3.0, corner, (0.85, 0.1, 0.05)),
        problem("five components", 30, 1, 5, 4.0),
        problem("one group, five components", 10, 8, 5, 6.0, np.full((1, 8), 2.0)),
    ]
    return sorted(found, key=lambda p: p.size)
