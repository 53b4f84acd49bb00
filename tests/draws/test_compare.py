"""`vb.compare` and `vi-bench compare` on draws that were not made here."""

import json

import numpy as np
import pytest
from arviz_base import from_dict
from typer.testing import CliRunner

import vi_bench as vb
from vi_bench.cli.app import app
from vi_bench.reports.comparison import comparison_lines
from vi_bench.reports.tables import compared
from vi_bench.results.stored_comparison import comparison_record

MEANS = np.array([[-6.0, 0.0], [6.0, 1.0], [0.0, 8.0]])


def tree(random, scale=1.0, shift=0.0, shape=(4, 1000), permute=False, **more):
    """A posterior as another program might store it: names and dims of its own."""
    mu = MEANS + shift + scale * random.normal(size=(*shape, 3, 2))
    if permute:
        order = np.array([random.permutation(3) for _ in range(mu.shape[0])])
        mu = np.stack([chain[:, o] for chain, o in zip(mu, order, strict=True)])
    return from_dict(
        {"posterior": {"centers": mu} | more},
        coords={"axis": ["east", "north"]},
        dims={"centers": ["cluster", "axis"]},
    )


def test_trees_of_others_are_compared(random):
    long = {"shape": (4, 3000)}
    draws = {"theirs": tree(random, permute=True, **long), "ours": tree(random, **long)}
    found = vb.compare(draws, "ours", component_dim="cluster")
    assert found.verdicts["theirs"].word == "agrees"
    assert "centers[east] of component 1" in found.judged
    record = comparison_record(found)
    told = "\n".join(comparison_lines(record))
    assert "theirs: agrees" in told
    assert "judged: " in told
    assert len(compared(record).rows) == 2


def test_a_shift_is_seen_whatever_the_labels(random):
    draws = {"a": tree(random, shift=0.4, permute=True), "b": tree(random)}
    found = vb.compare(draws, "b", component_dim="cluster")
    assert found.verdicts["a"].word == "differs"
    assert found.examination.joint["a"].energy.p_value <= 0.01


def test_the_margins_are_the_users(random):
    draws = {"a": tree(random, shift=0.2), "b": tree(random)}
    wide = vb.compare(draws, "b", component_dim="cluster", margin=0.6, sd_margin=0.5)
    assert wide.verdicts["a"].word == "agrees"


def test_what_is_not_in_every_tree_is_named(random):
    extra = tree(random, tau=random.normal(size=(4, 1000)))
    found = vb.compare({"a": extra, "b": tree(random)}, "b", component_dim="cluster")
    assert "not compared: tau" in found.note


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"reference": "c"}, "unknown reference 'c'"),
        ({"margin": 0.0}, "margin = 0.0"),
        ({"component_dim": "k"}, "no variable has the dimension 'k'"),
        ({"variables": ["nu"]}, "unknown variable 'nu'"),
    ],
)
def test_what_cannot_be_compared_is_refused(change, message, random):
    draws = {"a": tree(random, shape=(2, 50)), "b": tree(random, shape=(2, 50))}
    options = {"reference": "b", "component_dim": "cluster"} | change
    with pytest.raises(vb.InputError, match=message):
        vb.compare(draws, **options)


def test_draws_that_do_not_match_are_refused(random):
    odd = from_dict(
        {"posterior": {"centers": random.normal(size=(2, 50, 4, 2))}},
        coords={"axis": ["east", "north"]},
        dims={"centers": ["cluster", "axis"]},
    )
    draws = {"a": odd, "b": tree(random, shape=(2, 50))}
    with pytest.raises(vb.InputError, match=r"4 components in a and .*3 components"):
        vb.compare(draws, "b", component_dim="cluster")


def test_nan_in_the_draws_is_named(random):
    broken = tree(random, shape=(2, 50))
    broken["posterior"]["centers"][1, 7, 0, 1] = np.nan
    with pytest.raises(vb.InputError, match="'centers' is not finite in chain 1"):
        vb.compare({"a": broken, "b": tree(random)}, "b", component_dim="cluster")


def test_a_constant_posterior_differs(random):
    flat = from_dict(
        {"posterior": {"centers": np.broadcast_to(MEANS, (4, 100, 3, 2))}},
        coords={"axis": ["east", "north"]},
        dims={"centers": ["cluster", "axis"]},
    )
    found = vb.compare({"a": flat, "b": tree(random)}, "b", component_dim="cluster")
    assert found.verdicts["a"].word == "differs"


@pytest.fixture
def files(random, tmp_path):
    paths = []
    for name, options in (("a", {"scale": 0.6}), ("b", {})):
        path = tmp_path / f"{name}.nc"
        tree(random, **options).to_netcdf(path, engine="h5netcdf")
        paths.append(str(path))
    return paths


def test_the_command_line_compares_files(files, tmp_path):
    out = tmp_path / "found.json"
    options = ["--reference", "b", "--component-dim", "cluster", "--out", str(out)]
    done = CliRunner().invoke(app, ["compare", *files, *options])
    assert done.exit_code == 0, done.output
    assert "differs" in done.output
    assert "reference" in done.output
    assert "sliced W1" in done.output
    written = json.loads(out.read_text())
    assert written["verdicts"]["a"]["word"] == "differs"
    assert written["reference"] == "b"
    assert written["joint"]["a"]["sliced"]["value"] > 0
    assert written["posteriors"]["a"]["quantities"]["mean centers[east]"]["sd"] > 0
    again = CliRunner().invoke(app, ["compare", *files, *options])
    assert again.exit_code == 2
    assert "exists" in again.output


def test_the_reference_may_be_named_by_its_path(files):
    options = ["--reference", files[1], "--component-dim", "cluster", "--quiet"]
    done = CliRunner().invoke(app, ["compare", *files, *options])
    assert done.exit_code == 0, done.output
    assert "sliced" not in done.output


def test_reference_draws_of_posteriordb(random, tmp_path):
    """Two fixed components: mu[1], mu[2], theta, as the database stores them."""
    chains = [
        {f"mu[{k}]": random.normal(2.75 * (-1) ** k, 0.1, 500).tolist() for k in (1, 2)}
        | {"theta": random.beta(50, 50, 500).tolist()}
        for _ in range(4)
    ]
    path = tmp_path / "low_dim_gauss_mix.json"
    path.write_text(json.dumps(chains))
    own = from_dict(
        {
            "posterior": {
                "mu": np.stack(
                    [random.normal(2.75 * s, 0.1, (4, 500)) for s in (1, -1)], axis=-1
                ),
                "theta": random.beta(50, 50, (4, 500)),
            }
        },
        dims={"mu": ["mu_dim_0"]},
    )
    found = vb.compare({"own": own, "db": path}, "db", component_dim="mu_dim_0")
    assert found.verdicts["own"].word in ("agrees", "inconclusive")
    assert "theta" in found.judged


def test_the_same_file_twice_is_refused(files):
    done = CliRunner().invoke(app, ["compare", files[0], files[0], "--reference", "a"])
    assert done.exit_code == 2
    assert "named twice" in done.output
