"""Many small programs, each run a few times: compiling them is what takes long."""

import pytest


@pytest.fixture(autouse=True, scope="module")
def quick(quick_compilation):
    """For every test of this folder."""
