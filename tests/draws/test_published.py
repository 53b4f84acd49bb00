"""References that ship."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from typer.testing import CliRunner
from xarray import DataTree

import vi_bench as vb
from vi_bench import catalogue
from vi_bench.cli.app import app
from vi_bench.draws import published

OF_WHICH = r"^sorted |( of component)? \d+$"
"""What tells a component's parameter, or a ranked one, from the parameter."""


@pytest.mark.parametrize("name", catalogue.references())
def test_a_reference_has_its_draws_and_has_passed_its_checks(name):
    tree = vb.read_draws(f"reference:{name}")
    known = json.loads(tree.attrs["reference"])
    assert known["name"] == name
    assert dict(tree["posterior"].sizes)["chain"] == 10
    assert dict(tree["posterior"].sizes)["draw"] == 1000
    assert known["checks"]
    assert all(known["checks"].values())
    every = known["quantities"].values()
    assert max(q["r_hat"] for q in every) < 1.01
    assert max(abs(q["lag_1"]) for q in every) < 0.05
    alike = {}
    for quantity, q in known["quantities"].items():
        alike.setdefault(str(q["mean"]), set()).add(in_order(quantity))
    for names in alike.values():
        # of components that are far apart, a sorted one is one of them
        ranked = {name for name in names if name.startswith("sorted ")}
        assert max(len(ranked), len(names - ranked)) == 1, names
        assert len({re.sub(OF_WHICH, "", name) for name in names}) == 1, names


def in_order(name):
    """The same name for both halves of a symmetric matrix."""
    return re.sub(r"\[(.*)\]", lambda at: str(sorted(at[1].split(","))), name)


def test_moments_of_a_reference_are_those_of_its_draws():
    tree = vb.read_draws("reference:velocities")
    known = json.loads(tree.attrs["reference"])["quantities"]
    for name, of in known.items():
        x = tree["posterior"][name].to_numpy().astype(float)
        np.testing.assert_allclose(of["mean"][0], x.mean(), rtol=1e-6)
        np.testing.assert_allclose(of["sd"][0], x.std(ddof=1), rtol=1e-3)
        z = (x - x.mean()) / x.std()
        assert of["skewness"][0] == pytest.approx((z**3).mean(), abs=1e-3)
        assert of["fourth moment"][0] == pytest.approx((z**4).mean(), rel=1e-3)
        assert of["quantiles"]["0.5"][0] == pytest.approx(np.quantile(x, 0.5), rel=1e-6)


@pytest.fixture
def mine(tmp_path):
    """Draws of the reference in another order, their chains mixed."""
    own = vb.read_draws("reference:velocities")["posterior"].to_dataset()
    order = np.random.default_rng(1).permutation(10_000)
    for name, values in own.data_vars.items():
        mixed = values.to_numpy().ravel()[order].reshape(10, 1000)
        own[name] = values.copy(data=mixed)
    path = tmp_path / "mine.nc"
    DataTree.from_dict({"posterior": own}).to_netcdf(path, engine="netcdf4")
    return path


def test_a_reference_is_what_others_are_compared_with(mine):
    done = CliRunner().invoke(
        app, ["compare", str(mine), "reference:velocities", "--json"]
    )
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["reference"] == "reference:velocities"
    assert told["verdicts"]["mine"]["word"] == "agrees"


def test_each_reference_is_listed():
    names = [name for name, _ in published.described()]
    assert names == catalogue.references()
