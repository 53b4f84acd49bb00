"""Types and axes of arrays are written out, never promoted by JAX's rules."""

import subprocess
import sys

import pytest


@pytest.mark.slow
@pytest.mark.parametrize(
    "names",
    [["cavi@gaussian"], []],
    ids=["one", "all"],
)
def test_methods_trace_under_strict_promotion_of_types_and_ranks(names):
    command = [sys.executable, "-m", "tests.contract.promotion", *names]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " traced, 0 broken" in done.stdout
