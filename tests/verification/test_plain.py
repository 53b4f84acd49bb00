"""Verification finds planted faults, and finds none in what is right."""

import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from typer.testing import CliRunner

import vi_bench as vb
from tests.oracles import log_evidence, textbook_elbo
from tests.zoo.gaussian import (
    APPROXIMATIONS,
    MUTANTS,
    EqualVariances,
    HardAssignments,
    NoDimension,
    Right,
    TiedStart,
)
from tests.zoo.kernel import Kernel
from tests.zoo.styles import jax_sweep
from vi_bench.cli.app import app
from vi_bench.verification import textbook
from vi_bench.verification.problems import Problem, battery

PROBLEMS = battery()
FEW = [p for p in PROBLEMS if p.data.size <= 16]


@pytest.mark.parametrize("seed", range(5))
def test_what_is_right_passes(seed):
    report = vb.verify(Right(), seed=seed)
    assert report.passed, report.verdict
    assert len(report.checks) == 10


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5, 200))
def test_what_is_right_passes_on_every_battery(seed):
    report = vb.verify(Right(), seed=seed)
    assert report.passed, report.verdict


@pytest.mark.slow
def test_the_kernel_passes():
    report = vb.verify(Kernel())
    assert report.passed, report.verdict
    assert max(q.below_best for q in report.quality) < 1e-6


@pytest.mark.parametrize("mutant", MUTANTS)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # its own, or the textbook's
def test_every_fault_is_found(mutant):
    assert mutant.__doc__
    report = vb.verify(mutant())
    assert not report.passed
    assert "fail" in report.verdict


def test_there_are_faults_enough():
    assert len(MUTANTS) >= 25


@pytest.mark.parametrize("kind", APPROXIMATIONS)
def test_a_coarser_q_is_no_fault_and_its_loss_is_told(kind):
    report = vb.verify(kind())
    assert report.passed, report.verdict
    assert max(q.below_best for q in report.quality) > 0.1
    assert "nats below" in report.verdict


@pytest.mark.slow
def test_the_form_of_a_coarser_q_is_named():
    assert "one variance" in vb.verify(EqualVariances()).verdict
    assert "without doubt" in vb.verify(HardAssignments()).verdict
    assert "coarser" not in vb.verify(TiedStart()).verdict


def jax_cavi(data, K, sigma, seed):
    """As a user of JAX writes it, in 32 bits by JAX's default."""
    with jax.enable_x64(False):
        x = jnp.asarray(data)
        phi = jax.random.dirichlet(jax.random.key(seed), jnp.ones(K), (len(x),))
        trace = []
        for _ in range(300):
            m, s2, phi, bound = jax_sweep(x, phi, sigma)
            trace.append(bound)
        return {"m": m, "s2": s2, "phi": phi, "elbo": jnp.stack(trace)}


def test_single_precision_is_no_fault():
    problems = [PROBLEMS[i] for i in (2, 5, 9, 12)]
    report = vb.verify(jax_cavi, problems=problems)
    assert report.passed, report.verdict


@pytest.mark.parametrize("wide", [True, False])
def test_the_precision_of_the_caller_is_the_callees(wide):
    seen = []

    def function(data, K, sigma, seed):
        seen.append(jnp.zeros(1).dtype)
        return Right()(data, K, sigma, seed)

    with jax.enable_x64(wide):
        vb.verify(function, problems=FEW[:1])
    assert set(seen) == {jnp.dtype("float64" if wide else "float32")}


def test_means_and_variances_are_enough():
    def right(data, K, sigma, seed):
        found = Right()(data, K, sigma, seed)
        return {"m": found["m"], "s2": found["s2"]}

    def wrong(data, K, sigma, seed):
        found = NoDimension()(data, K, sigma, seed)
        return {"m": found["m"], "s2": found["s2"]}

    assert vb.verify(right).passed
    assert "a fixed point" in vb.verify(wrong).failures


def endless(data, K, sigma, seed):
    while len(data) == 8:
        pass
    return Right()(data, K, sigma, seed)


def sleepy(data, K, sigma, seed):
    time.sleep(0.5 * (len(data) == 8))
    return Right()(data, K, sigma, seed)


def raising(data, K, sigma, seed):
    if K == 3:
        raise ZeroDivisionError("three is too many\nby far")
    return Right()(data, K, sigma, seed)


def given(**changed):
    def function(data, K, sigma, seed):
        found = Right()(data, K, sigma, seed)
        return found | {name: f(found[name]) for name, f in changed.items()}

    return function


def greedy(data, K, sigma, seed):
    found = Right()(data, K, sigma, seed)
    data += 1
    return found


def meddling(data, K, sigma, seed):
    jax.config.update("jax_default_matmul_precision", "bfloat16")
    return Right()(data, K, sigma, seed)


def unseeded(data, K, sigma, seed):
    found = Right()(data, K, sigma, seed)
    return found | {"m": found["m"] + 1e-5 * np.random.default_rng().random()}


KEPT, LEFT = "keeps its promise", "changes nothing"


@pytest.mark.parametrize(
    ("function", "check", "words"),
    [
        (endless, KEPT, "has not ended after 0.2 s"),
        (sleepy, KEPT, "has not ended"),
        (raising, KEPT, "raised ZeroDivisionError: three is too many"),
        (lambda *_: 3, KEPT, "returned a int, expected a dict"),
        (lambda *_: {"m": 1}, KEPT, "returned no 's2', only ['m']"),
        (given(m=lambda v: v * np.nan), KEPT, "not finite"),
        (given(m=lambda v: v.T), KEPT, "has the shape"),
        (given(s2=lambda v: -v), KEPT, "must be positive"),
        (given(s2=lambda v: ["a"] * len(v)), KEPT, "not an array"),
        (given(phi=lambda v: v + 0.1), KEPT, "expected probabilities"),
        (given(elbo=lambda v: np.full(v.shape, np.inf)), KEPT, "not finite"),
        (greedy, LEFT, "the data that it was given"),
        (meddling, LEFT, "jax_default_matmul_precision: None to"),
        (unseeded, "repeatable", "between two calls"),
    ],
)
def test_what_breaks_its_promise_is_told_and_the_battery_goes_on(
    function, check, words
):
    report = vb.verify(function, limit=0.2, problems=FEW)
    assert words in report.failures[check].said
    seen = {id(f.problem) for f in report.findings}
    assert len(seen) + report.left_out == len(FEW)
    assert jax.config.jax_default_matmul_precision is None


def test_the_textbook_is_the_textbook(random):
    for p in PROBLEMS:
        found = Right()(p.data, p.K, p.sigma, p.seed)
        m = found["m"] + 0.1 * random.normal(size=found["m"].shape)
        s2, phi = 1.3 * found["s2"], found["phi"]
        ours = textbook.elbo(p.data, m, s2, phi, p.sigma)
        np.testing.assert_allclose(
            ours, textbook_elbo(p.data, m, s2, phi, p.sigma), rtol=1e-9
        )
    x = random.normal(size=(6, 2))
    np.testing.assert_allclose(
        textbook.log_evidence(x, 3, 1.7), log_evidence(x, 3, 1.7), rtol=1e-12
    )


def test_a_failure_can_be_pasted_as_a_test():
    finding = vb.verify(NoDimension()).failures["a fixed point"]
    names = {"np": np, "Problem": Problem, "check_cavi": vb.testing.check_cavi}
    wrong = names | {"f": NoDimension()}
    with pytest.raises(AssertionError, match="a fixed point"):
        exec(finding.problem.script(), wrong)
    np.testing.assert_array_equal(wrong["data"], finding.problem.data)
    exec(finding.problem.script(), names | {"f": Right()})


def test_the_battery_is_as_wide_as_it_says():
    sizes = {(len(p.data), p.data.shape[1], p.K) for p in PROBLEMS}
    assert {n for n, _, _ in sizes} >= {0, 1, 40, 150}
    assert {d for _, d, _ in sizes} == {1, 2, 3, 5, 8}
    assert {K for _, _, K in sizes} == {1, 2, 3, 4, 5}
    assert sorted(PROBLEMS, key=lambda p: p.size) == PROBLEMS


def test_the_command_line(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "from tests.zoo.gaussian import NoConstant, Right\n"
        "good, bad, number = Right(), NoConstant(), 3\n"
        "def two(data, K):\n    return {}\n"
    )
    right = CliRunner().invoke(app, ["verify", f"{file}:good"])
    assert right.exit_code == 0, right.output
    assert "no fault found by 10 checks" in right.output
    wrong = CliRunner().invoke(app, ["verify", f"{file}:bad"])
    assert wrong.exit_code == 1
    assert "below the evidence" in wrong.output
    assert "check_cavi(f, problems=[problem])" in wrong.output
    for what, words in (
        (f"{file}:nope", "has no function 'nope'"),
        (f"{file}:number", "'number' is no function"),
        (f"{tmp_path / 'none.py'}:f", "cannot be read"),
        ("svii", "did you mean 'svi'?"),
        (f"{file}:two", "(data, K, sigma, seed), or (problem)"),
        (f"{file}:good --families poisson", "has only one"),
    ):
        refused = CliRunner().invoke(app, ["verify", *what.split()])
        assert refused.exit_code == 2, what
        assert words in refused.output
