import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp

import vi_bench as vb
from tests.compiled import call
from tests.oracles import enumerate_assignments
from tests.small import FIELDS, METHODS, ROWS
from vi_bench.comparison.measures import summarise
from vi_bench.contract import Draws, Problem, Report
from vi_bench.inference.stages import calling, drive
from vi_bench.methods._chains import in_parts, longest_part
from vi_bench.methods.nuts import NUTS
from vi_bench.mixture.mixture import bind
from vi_bench.models.gaussian import Gaussian


def exact_moments(x, K, sigma):
    """E of the mean and the mean square over components, by enumeration (d = 1)."""
    assignments, log_joint = enumerate_assignments(x, K, sigma)
    weights = np.exp(log_joint - logsumexp(log_joint))
    mean = square = 0.0
    for k in range(K):
        mine = assignments == k
        s2 = 1 / (1 / sigma**2 + mine.sum(axis=1))
        m = s2 * (mine @ x[:, 0])
        mean += weights @ m / K
        square += weights @ (m**2 + s2) / K
    return {"mean mu[x0]": mean, "mean square mu[x0]": square}


def drawn_moments(result, label):
    """Draws of what `exact_moments` has the expectations of, (chain, draw)."""
    mu = np.asarray(result.runs[label].posterior["mu"])[..., 0]
    return {
        "mean mu[x0]": mu.mean(axis=-1),
        "mean square mu[x0]": (mu**2).mean(axis=-1),
    }


def test_nuts_equals_exact_enumeration():
    """Two z-tests at 4.5 standard errors: false alarm 1.4e-5; ESS is checked first."""
    x = np.array([-2.1, -1.4, -1.9, 0.3, 1.2, 1.8, 2.4, 2.0])[:, None]
    result = vb.run(
        Gaussian(sigma=2.0, mean=0.0), x, ["nuts"], components=2, draws=4000, repeats=1
    )
    found = drawn_moments(result, "nuts")
    for name, exact in exact_moments(x, 2, 2.0).items():
        summary = summarise(found[name])
        assert summary.ess_bulk > 2000, name
        assert summary.r_hat < 1.01, name
        z = (summary.mean.value - exact) / summary.mean.se
        assert abs(z) < 4.5, f"{name}: {summary.mean} against {exact}"


@pytest.mark.slow
def test_on_separated_data_cavis_means_are_nuts_means(separated):
    """12 z-tests of means and sds at 5 errors: false alarm 7e-6; ESS first."""
    result = vb.run(
        Gaussian(sigma=5.0, mean=0.0),
        separated,
        ["cavi", "nuts"],
        components=3,
        repeats=1,
    )
    found = result.comparison
    assert found.relabellings["nuts"].identifiable
    names = [n for n in found.judged if "of component" in n]
    assert len(names) == 6
    for name in names:
        assert found.summaries["nuts"][name].ess_bulk > 1000
        d = found.distances["cavi"][name]
        assert d.mean_difference.se < 0.05
        assert abs(d.mean_difference.value) < 5 * d.mean_difference.se
        assert abs(d.sd_ratio.value - 1) < 5 * d.sd_ratio.se
    assert found.verdicts["cavi"].word in ("agrees", "inconclusive")


@pytest.mark.slow
def test_the_statistics_carry_arvizs_names():
    result = vb.run("gaussian", ROWS, {"nuts": METHODS["nuts"]}, **FIELDS)
    stats = result.posterior["nuts"]["sample_stats"]
    expected = {"lp", "diverging", "energy", "n_steps", "tree_depth", "step_size"}
    assert expected | {"acceptance_rate"} <= set(stats.data_vars)
    assert stats["lp"].shape == (2, 100)
    assert stats["diverging"].dtype == bool
    # lp is the log joint: mu needs no Jacobian
    np.testing.assert_allclose(stats["lp"], stats["log_joint"], rtol=1e-12)
    assert len(np.unique(stats["lp"][0])) > 80


@pytest.mark.slow
def test_further_draws_go_on_from_where_the_chain_is(overlapping):
    """23 draws in parts of 2; the last of each batch is where the next one starts."""
    mixture = bind(Gaussian(sigma=1.0, mean=0.0), overlapping, 2, jnp.float64)
    *before, sample, collect = NUTS(warmup=20).prepare(
        Problem(mixture, 2, 23), jax.random.key(0)
    )
    assert sample.again == "onward"
    mapped = {stage.name: jax.jit(stage.run) for stage in before}
    warm = drive(before, jax.random.key(1), mixture, calling(mapped))
    program = jax.jit(sample.run)

    def batch(chain, seed):
        for part in range(sample.calls):
            chain = program(
                jax.random.fold_in(jax.random.key(seed), part), mixture, chain
            )
        return chain

    once = batch(warm, 2)
    ends = [once, batch(once, 3)]
    assert program._cache_size() == 1
    for chain in ends:
        assert np.all(chain.done == 23)
        at_end, last = chain.state.position["mu"], chain.position["mu"][:, -1]
        np.testing.assert_array_equal(at_end, last)
        assert np.all(chain.stats["lp"] != 0)
        assert np.all(np.isfinite(chain.stats["lp"]))
        assert np.all(chain.stats["n_steps"] > 0)
    again = batch(once._replace(done=jnp.zeros_like(once.done)), 3)
    np.testing.assert_array_equal(again.position["mu"], ends[1].position["mu"])
    draws = collect.run(jax.random.key(4), mixture, ends[1])
    assert draws.parameters["mu"].shape == (2, 23, 2, overlapping.shape[1])
    # tuned once: a longer chain is of the same kernel
    np.testing.assert_array_equal(ends[1].step_size, warm.step_size)


def test_stuck_chains_and_divergences_are_suspect():
    stats = {
        "lp": np.zeros((2, 9)),
        "diverging": np.zeros((2, 9), bool),
        "tree_depth": np.ones((2, 9)),
    }
    draws = Draws({}, stats, None, {}, Report())
    assert "never moved" in NUTS().outcome(draws).sentence
    stats["lp"] = np.arange(18.0).reshape(2, 9)
    assert NUTS().outcome(draws).status == "sampled"
    stats["diverging"][0, 3] = True
    assert "1 of 18 transitions diverged" in NUTS().outcome(draws).sentence
    stats["diverging"][0, 3] = False
    stats["tree_depth"][1, 1] = 10
    assert "max_tree_depth" in NUTS().outcome(draws).sentence


def test_the_density_is_the_log_joint_of_the_unconstrained(overlapping):
    mixture = bind(Gaussian(sigma=1.0, mean=0.0), overlapping, 2, jnp.float64)
    mu = {"mu": jnp.ones((2, 2))}
    value = jax.jit(mixture.density)(mu)
    np.testing.assert_allclose(value, call(mixture, "log_joint", mu))


@pytest.mark.slow
def test_on_the_notebooks_data_chains_mix_well():
    """R-hat and ESS of label-invariant quantities; the log joint is the slowest."""
    spec = vb.read("notebook", {"methods": ["nuts"], "repeats": 1})
    result = vb.launch(spec)
    found = result.comparison
    for name in ("log joint", "mean mu[x0]", "mean mu[x1]", "log rms mu[x0]"):
        summary = summarise(found.invariants["nuts"][name])
        assert summary.r_hat < 1.01, name
        assert summary.ess_bulk > 1500, name
    assert not found.relabellings["nuts"].identifiable
    assert result.runs["nuts"].outcome.status == "sampled"


def test_a_call_of_long_trajectories_over_many_rows_is_short(overlapping):
    mixture = bind(Gaussian(sigma=1.0, mean=0.0), overlapping, 2, jnp.float64)
    assert mixture.terms == 60 * 2 * 3  # statistics: two features, the sum of squares
    assert longest_part(mixture, 1024) > 10_000
    assert in_parts(1000, longest_part(mixture, 1024)) == in_parts(1000) == (1000, 50)
    assert in_parts(1000, 7).calls == 143
    assert in_parts(1000, 0) == (1000, 1)
    assert in_parts(7) == (7, 1)
    assert in_parts(1000).steps(500) == 25
