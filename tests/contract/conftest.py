"""Many small programs, each run a few times: compiling them is what takes long."""

import jax
import pytest


@pytest.fixture(autouse=True, scope="package")
def quick_compilation():
    name = "jax_disable_most_optimizations"
    before = jax.config._read(name)
    jax.config.update(name, True)
    yield
    jax.config.update(name, before)
