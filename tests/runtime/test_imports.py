"""Orders of import that a user may choose."""

import subprocess
import sys

import pytest

CODE = """
import arviz
import numpy as np, vi_bench as vb
x = np.random.default_rng(0).normal(size=(20, 2))
run = dict(components=2, repeats=1, draws=10, chains=1)
vb.run("gaussian", x, {"cavi": {"restarts": 2}}, **run)
svi = {"method": "svi", "guide": "same-family", "steps": 100, "bound_draws": 10}
outcome = vb.run("gaussian", x, {"s": svi}, **run).runs["s"].outcome
assert outcome.status != "failed", outcome
import numpyro.distributions
from numpyro.distributions.distribution import Distribution
assert numpyro.distributions.Distribution is Distribution
"""


@pytest.mark.slow
def test_numpyro_is_loaded_once_though_arviz_left_a_proxy():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
