"""Runs of models that are not mixtures of the package."""

import json
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.distributions import constraints
from scipy import stats

import vi_bench as vb
from vi_bench.errors import InputError
from vi_bench.methods.svi import SVI

Y = np.array([1.2, 0.4, 2.0, 1.1, 0.3])
PRECISION = 1 / 9 + len(Y)  # of the posterior of mu, sd of the rows 1
MEAN, SD = Y.sum() / PRECISION, PRECISION**-0.5
EVIDENCE = stats.multivariate_normal(np.zeros(5), np.eye(5) + 9).logpdf(Y)


def normal(y):
    """A conjugate model: the posterior of mu is normal."""
    mu = numpyro.sample("mu", dist.Normal(0, 3))
    numpyro.deterministic("twice", 2 * mu)
    numpyro.deterministic("rows", jnp.asarray(5.0))
    with numpyro.plate("row", len(y)):
        numpyro.sample("y", dist.Normal(mu, 1), obs=y)


def exact(y):
    """The posterior itself, and a trace that ends at log p(y)."""
    return {
        "q": {"mu": dist.Normal(MEAN, SD)},
        "elbo": [EVIDENCE - 1.0, EVIDENCE - 1e-5, EVIDENCE],
    }


def narrow(y, seed):
    """Half as wide as it should be, and told as SciPy's."""
    assert isinstance(seed, int)
    return {"q": {"mu": stats.norm(MEAN, SD / 2)}}


FAST = {"draws": 1000, "repeats": 1}


@pytest.fixture(scope="module")
def conjugate():
    """One run for several tests."""
    methods = {
        "exact": exact,
        "narrow": narrow,
        "svi": SVI(steps=1000),
        "nuts": "nuts",
        "gibbs": "gibbs",
    }
    return vb.run(normal, {"y": Y}, methods, **FAST)


def test_a_right_fit_is_not_called_wrong_and_a_narrow_one_is(conjugate):
    record = conjugate.record
    assert record.word("nuts") == "reference"
    assert record.word("exact") not in ("differs", "reference unreliable")
    assert record.word("narrow") == "differs"
    assert record.methods["gibbs"].outcome_sentence == (
        "is written for mixtures; the model is another"
    )
    # 5 standard errors: false alarms 6e-7
    for label in ("exact", "nuts"):
        found = record.methods[label].quantities["mu"]
        assert abs(found.mean - MEAN) < 5 * found.mean_mcse
        assert abs(found.sd - SD) < 5 * found.sd_mcse


def test_what_does_not_vary_is_not_compared_and_what_is_made_is(conjugate):
    assert {str(q) for q in conjugate.comparison.judged} == {
        "log joint",
        "mu",
        "twice",
    }
    posterior = conjugate.posterior["nuts"]["posterior"]
    assert set(posterior.data_vars) == {"mu", "twice", "rows"}
    np.testing.assert_allclose(posterior["twice"], 2 * posterior["mu"])
    observed = conjugate.posterior["nuts"]["observed_data"]
    np.testing.assert_array_equal(observed["y"], Y)


def test_bounds_and_densities_are_those_of_the_model(conjugate):
    """An exact q has a constant log weight, which is log p(y)."""
    record = conjugate.record
    assert record.methods["exact"].bound == pytest.approx(EVIDENCE, abs=1e-12)
    assert record.methods["exact"].marginal_elbo == pytest.approx(EVIDENCE, abs=1e-9)
    assert record.methods["exact"].outcome == "converged"
    assert record.methods["exact"].iterations == 3
    stats_ = conjugate.posterior["exact"]["sample_stats"]
    np.testing.assert_allclose(stats_["log_joint"] - stats_["log_q"], EVIDENCE)
    svi = record.methods["svi"]
    assert svi.marginal_elbo < EVIDENCE + 5 * svi.marginal_elbo_se
    loo = record.methods["nuts"].elpd["loo"]
    assert loo.rows == 5


def test_a_python_function_is_timed_and_no_compilation_is_claimed(conjugate):
    time = conjugate.record.methods["exact"].time
    assert not time.compiled
    assert time.stages["fit"].compile_s == 0
    assert time.run_s.median > 0
    assert conjugate.record.methods["nuts"].time.compiled
    from rich.console import Console

    console = Console(width=120)
    with console.capture() as shown:
        console.print(conjugate.table())
    row = next(line for line in shown.get().splitlines() if " exact " in line)
    assert row.split()[-3] == "-"


def test_the_record_and_the_title_tell_the_model(conjugate):
    record = conjugate.record
    assert not record.is_mixture
    assert record.model["name"].endswith(":normal")
    assert record.model["variables"] == {"mu": []}
    assert record.parameters == 1
    assert "normal: 1 parameter, 64 bits" in conjugate.table().title
    assert "modes that no method visits" in record.note
    with pytest.raises(InputError, match="is not a mixture"):
        _ = conjugate.family


def test_a_stored_run_has_figures_tables_and_a_page(conjugate, tmp_path):
    conjugate.save(tmp_path)
    from vi_bench.reports.html import run_page
    from vi_bench.reports.latex import paragraph
    from vi_bench.results.stored import open_run

    stored = open_run(tmp_path)
    page = run_page(stored)
    assert "tests.runner.test_own_models:normal, 1 parameter, on data" in page
    assert "the NumPyro model" in paragraph(stored.record)
    there = {path.name for path in tmp_path.iterdir()}
    assert {"marginals.png", "timing.png", "evidence.png", "nuts.nc"} <= there


def shifted(theta, y):
    """Log joint of a normal mean, without its constants."""
    return -(theta["mu"] ** 2) / 18 - jnp.sum((y - theta["mu"]) ** 2) / 2


@pytest.mark.slow
def test_a_log_joint_with_supports_is_a_model():
    model = vb.from_log_joint(shifted, {"mu": constraints.real})
    found = vb.run(model, {"y": Y}, ["nuts", "smc"], draws=400, repeats=1)
    skipped = found.record.methods["smc"]
    assert skipped.outcome == "skipped"
    assert "the prior is improper, scaled or masked" in skipped.outcome_sentence
    nuts = found.runs["nuts"].posterior["mu"]
    assert abs(nuts.mean() - MEAN) < 0.1
    assert abs(nuts.std() - SD) < 0.1


def unlabelled(y):
    """A mixture whose components are exchangeable."""
    weight = numpyro.sample("share", dist.Dirichlet(jnp.ones(2)))
    with numpyro.plate("component", 2):
        mu = numpyro.sample("mu", dist.Normal(0, 5))
    with numpyro.plate("row", len(y)):
        z = numpyro.sample("z", dist.Categorical(weight))
        numpyro.sample("y", dist.Normal(mu[z], 1), obs=y)


@pytest.mark.slow
def test_components_are_relabelled_and_weights_recognised():
    y = np.r_[np.full(6, -4.0), np.full(4, 4.0)] + np.linspace(-1, 1, 10)
    found = vb.run(unlabelled, {"y": y}, ["nuts"], draws=300, repeats=1)
    sample = found.comparison.samples["nuts"]
    assert set(sample.columns) == {"mu", "weight"}
    assert sample.components == 2
    assert found.record.methods["nuts"].relabelling.identifiable
    tree = found.posterior["nuts"]
    assert tree["posterior"]["mu"].dims == ("chain", "draw", "component")
    assert tree["posterior"]["share"].dims == ("chain", "draw", "component")
    order = np.argsort(np.asarray(tree["posterior"]["mu"].mean(("chain", "draw"))))
    share = np.asarray(tree["posterior"]["share"].mean(("chain", "draw")))[order]
    assert abs(share[0] - 7 / 12) < 0.1


def far_apart(y):
    """Two modes of one parameter, which no chain moves between."""
    mu = numpyro.sample("mu", dist.Normal(0, 10))
    numpyro.sample("y", dist.Normal(jnp.abs(mu - 6), 0.3), obs=y)


@pytest.mark.slow
def test_a_sampler_that_weighs_modes_and_a_chain_in_one_are_told_apart():
    """NUTS may sit in one mode or in both; SMC has both, and is never blamed alone."""
    for seed in range(3):
        found = vb.run(
            far_apart, {"y": np.full(3, 6.0)}, ["nuts", "smc"], draws=1000, seed=seed
        )
        word, note = found.record.word("smc"), found.record.note
        assert word in ("differs", "reference unreliable")
        if word == "differs":
            assert "smc and the reference nuts cannot both be right" in note


def two_axes(y):
    with numpyro.plate("component", 2, dim=-1), numpyro.plate("other", 2, dim=-2):
        mu = numpyro.sample("mu", dist.Normal(0, 5))
    numpyro.sample("y", dist.Normal(mu.sum(), 1), obs=y)


def no_latent(y):
    numpyro.sample("y", dist.Normal(0, 1), obs=y)


def subsample(y):
    mu = numpyro.sample("mu", dist.Normal(0, 3))
    with numpyro.plate("row", len(y), subsample_size=2) as i:
        numpyro.sample("y", dist.Normal(mu, 1), obs=y[i])


def branches(y):
    mu = numpyro.sample("mu", dist.Normal(0, 3))
    mu = 2 * mu if mu > 0 else mu
    numpyro.sample("y", dist.Normal(mu, 1), obs=y)


def raising(y):
    raise KeyError("oops")


def positive(y):
    rate = numpyro.sample("rate", dist.Gamma(1, 1))
    numpyro.sample("y", dist.Gamma(1, rate), obs=y)


def two_arguments(x, y):
    mu = numpyro.sample("mu", dist.Normal(0, 3))
    numpyro.sample("y", dist.Normal(mu * x, 1), obs=y)


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (
            lambda: vb.run(two_arguments, {"x": Y, "yy": Y}),
            "needs 'y', which the data 'data' lack: did you mean 'yy'? there are x, yy",
        ),
        (lambda: vb.run(two_arguments), "needs 'x', and there are no data; expected"),
        (lambda: vb.run(normal), "needs 'y', and there are no data"),
        (lambda: vb.run(subsample, {"y": Y}), "the plate 'row' takes 2 of its 5 rows"),
        (
            lambda: vb.run(branches, {"y": Y}),
            "cannot be run: TracerBoolConversionError: Attempted boolean conversion",
        ),
        (lambda: vb.run(branches, {"y": Y}), "(test_own_models.py, line "),
        (lambda: vb.run(raising, {"y": Y}), "KeyError: 'oops' (test_own_models.py, li"),
        (
            lambda: vb.run(positive, {"y": Y - 1}),
            "the observed 'y' is -0.6 at [1], of Gamma: expected more than 0",
        ),
        (lambda: vb.run(normal, {"y": Y}, variables=["nu"]), "unknown variable 'nu'"),
        (lambda: vb.run(normal, {"y": Y}, variables=["rows"]), "none of them depends"),
        (lambda: vb.run(normal, {"y": Y}, component_dim=["k"]), "component_dim 'k'"),
        (
            lambda: vb.run(two_axes, {"y": Y}, component_dim=["component", "other"]),
            "'mu' has 2 dimensions of components, other, component",
        ),
        (lambda: vb.run(no_latent, {"y": Y}), "no continuous latent variable"),
        (lambda: vb.run(normal, {"y": Y}, components=3), "is a setting of mixtures"),
        (lambda: vb.run(normal, {"y": Y}, held_out=1), "is a setting of mixtures"),
        (lambda: vb.run(normal, {"y": [1.0, np.nan]}), "y: is not finite at [1]"),
        (lambda: vb.run(normal, {"y": [[1.0], [1.0, 2.0]]}), "all rows alike"),
        (lambda: vb.run("gone.py:model"), "gone.py: cannot be read"),
        (
            lambda: vb.run(type("M", (), {})),
            "expected a name, a mapping, settings or a",
        ),
        (lambda: vb.run(data="faithful", variables=["mu"]), "of NumPyro models"),
    ],
)
def test_what_cannot_be_run_is_refused_in_one_line(call, told):
    with pytest.raises(InputError) as refused:
        call()
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)


MODEL = """
import numpyro
import numpyro.distributions as dist


def model(y, scale=1.0):
    mu = numpyro.sample("mu", dist.Normal(0, 3))
    with numpyro.plate("row", len(y)):
        numpyro.sample("y", dist.Normal(mu, scale), obs=y)


def fit(y):
    return {"q": {"mu": {"loc": y.mean(), "scale": 0.4}}, "elbo": [-9.0, -8.0]}
"""


@pytest.mark.slow
def test_a_file_from_the_command_line_and_again(tmp_path):
    """A model, data and a fit in files: run, rerun; the data's leftovers are told."""
    (tmp_path / "mine.py").write_text(MODEL)
    (tmp_path / "mine.json").write_text(json.dumps({"N": 5, "y": Y.tolist()}))
    command = [sys.executable, "-m", "vi_bench"]
    run = [*command, "run", "mine.py:model", "--data", "mine.json", "--out", "out"]
    run += ["--fit", "mine.py:fit", "--methods", "laplace", "--repeats", "1"]

    def done(arguments):
        return subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True)

    first = done(run)
    assert first.returncode == 0, first.stderr
    assert "mine: 1 parameter" in first.stdout
    assert "data: N: left out, no arguments of the model" in first.stdout
    assert "the last one raised the bound by 1 nats" in first.stdout
    again = done([*command, "rerun", "out"])
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("bitwise the same") == 2
    gone = done([*command, "run", "mine.py:modle"])
    assert gone.returncode == 2
    assert gone.stderr.startswith("vi-bench: mine.py: has no function 'modle'")
