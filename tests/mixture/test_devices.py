"""Rows shared by devices: the same numbers as one device gives."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

PASS = """
import sys
import jax, jax.numpy as jnp, numpy as np
from vi_bench.runtime.environment import find_mesh, split_processor
split_processor(2)
jax.config.update("jax_enable_x64", True)
from vi_bench.mixture.mixture import bind
from vi_bench.models.gaussian import Gaussian
from vi_bench.mixture.mixture_pass import log_marginal

x = np.random.default_rng(0).normal(size=(9000, 2)) * 3
mesh = find_mesh("cpu", 2)
family = Gaussian(sigma=3.0, mean=0.0)
one, two = (bind(family, x, 3, jnp.float64, mesh=m) for m in (None, mesh))
assert len(two.blocks.body.sharding.device_set) == 2
np.testing.assert_array_equal(one.data(), two.data())
phi = jax.random.dirichlet(jax.random.key(0), jnp.ones(3), (9000,))
q, r = (jax.jit(lambda m: m.from_responsibilities(phi))(m) for m in (one, two))
climb = jax.jit(lambda m, q: jax.lax.fori_loop(0, 50, lambda _, q: m.step(q)[1], q))
a, b = climb(one, q), climb(two, r)
np.testing.assert_allclose(a.components, b.components, rtol=1e-10)
np.testing.assert_allclose(one.step(a)[0], two.step(b)[0], rtol=1e-12)
theta = one.centre(a)
slopes = [jax.grad(lambda t: m.log_joint(t))(theta)["mu"] for m in (one, two)]
np.testing.assert_allclose(*slopes, rtol=1e-8, atol=1e-8)
text = climb.lower(two, r).compile().as_text()
assert text.count("all-reduce(") or "all-reduce-start" in text
print("same")
"""


def run(*arguments):
    quick = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | quick,
    )


@pytest.mark.slow
def test_two_devices_give_what_one_gives():
    done = run("-c", PASS)
    assert done.stdout.strip() == "same", done.stderr


def test_more_devices_than_there_are_is_refused(tmp_path):
    code = (
        "import jax; jax.numpy.zeros(1); from vi_bench.cli.app import main; "
        "import sys; sys.argv = ['vi-bench', 'run', 'faithful', '--devices', '3', "
        f"'--out', {str(tmp_path / 'out')!r}]; main()"
    )
    done = run("-c", code)
    assert done.returncode == 2
    assert "devices = 3: JAX sees 1 of kind cpu" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_run_on_two_devices_is_that_on_one():
    code = """
import vi_bench as vb
from vi_bench.runtime.environment import split_processor
split_processor(2)
data = "simulate:K=3,d=2,N=6000,separation=4,seed=0"
methods, fields = ["cavi", "nuts", "svi"], {"components": 3, "draws": 500}
one, two = (vb.run("gaussian", data, methods, devices=n, **fields) for n in (1, 2))
for label in ("cavi", "nuts", "svi"):
    assert two.runs[label].usable, two.runs[label].outcome
bounds = [float(r.runs["cavi"].draws.report.bound) for r in (one, two)]
assert abs(bounds[0] - bounds[1]) < 1e-10 * abs(bounds[0]), bounds
# mean field is off on these rows, by as much on one device as on two
for label in ("cavi", "svi"):
    verdicts = [r.comparison.verdicts[label] for r in (one, two)]
    assert verdicts[0].word == verdicts[1].word, verdicts
both = {name: r.posterior["nuts"] for name, r in (("one", one), ("two", two))}
verdict = vb.compare(both, "one").verdicts["two"]
assert verdict.word in ("agrees", "inconclusive"), verdict
print("same")
"""
    done = run("-c", code)
    assert done.stdout.strip() == "same", done.stderr
