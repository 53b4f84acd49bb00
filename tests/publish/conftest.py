"""One run that everything is made of, and a browser to look at pages."""

import shutil

import numpy as np
import pytest
from playwright.sync_api import sync_playwright

import vi_bench as vb


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """By an optimiser and a sampler, held against each other."""
    random = np.random.default_rng(20170601)
    rows = np.concatenate([random.normal(m, 1.0, (20, 3)) for m in (-4.0, 4.0)])
    place = tmp_path_factory.mktemp("run") / "first"
    methods = {"cavi": {"restarts": 2}, "my_gibbs": {"method": "gibbs", "warmup": 50}}
    given = {"reference": "my_gibbs", "repeats": 1, "draws": 500}
    vb.run("gaussian", rows, methods, out=place, **given)
    return place


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as player:
        found = player.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        yield found
        found.close()
