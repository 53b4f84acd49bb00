"""Double precision, shapes checked at run time, small data."""

from jaxtyping import install_import_hook

CHECKED = ["mixture_pass", "iterate", "starts"]
hook = install_import_hook([f"vi_bench.{m}" for m in CHECKED], "beartype.beartype")

import jax  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402

jax.config.update("jax_enable_x64", True)


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(20170601)


@pytest.fixture
def overlapping(random: np.random.Generator) -> np.ndarray:
    """60 x 2 from three overlapping clusters."""
    means = np.array([[-1.0, 0.0], [1.0, 0.5], [0.0, 1.5]])
    return means[random.integers(3, size=60)] + random.normal(size=(60, 2))


@pytest.fixture
def separated(random: np.random.Generator) -> np.ndarray:
    """90 x 2 from three clusters ten standard deviations apart."""
    means = np.array([[-10.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    return means[np.arange(90) % 3] + random.normal(size=(90, 2))
