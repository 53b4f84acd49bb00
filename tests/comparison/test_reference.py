"""A reference that another sampler vouches for, by hand-made samples."""

import numpy as np
import pytest

from tests.comparison.test_comparison import sample
from tests.comparison.test_modes import ELSEWHERE, stuck
from vi_bench.comparison.reference import compare_checked


def test_a_check_that_agrees_is_said(random):
    samples = {k: sample(random) for k in ("cavi", "nuts", "gibbs")}
    found = compare_checked(samples, "nuts", "gibbs")
    assert found.reference == "nuts"
    assert found.verdicts["cavi"].word == "agrees"
    assert "gibbs agrees with the reference nuts" in found.note


def test_a_check_that_differs_takes_the_reference_down(random):
    samples = {k: sample(random) for k in ("cavi", "nuts")}
    samples["gibbs"] = sample(random, shift=0.5)
    found = compare_checked(samples, "nuts", "gibbs")
    verdict = found.verdicts["cavi"]
    assert verdict.word == "reference unreliable"
    assert "gibbs differs from nuts" in verdict.reason


def test_a_check_stands_in_for_an_unreliable_reference(random):
    samples = {k: sample(random) for k in ("cavi", "gibbs")}
    samples["nuts"] = stuck(random, [2], ELSEWHERE)
    found = compare_checked(samples, "nuts", "gibbs")
    assert found.reference == "gibbs"
    assert found.verdicts["cavi"].word == "agrees"
    assert "nuts failed the reference diagnostics" in found.note


@pytest.mark.slow
def test_both_unreliable_is_unreliable(random):
    samples = {"cavi": sample(random)}
    samples |= {k: stuck(random, [2], ELSEWHERE) for k in ("nuts", "gibbs")}
    found = compare_checked(samples, "nuts", "gibbs")
    assert found.reference == "nuts"
    assert found.verdicts["cavi"].word == "reference unreliable"


@pytest.mark.slow
def test_a_check_that_is_unfit_checks_nothing(random):
    """Its own chains do not mix; the reference's verdict stands, with a note."""
    samples = {k: sample(random) for k in ("cavi", "nuts")}
    drifting = sample(random, shift=0.5)
    for values in drifting.columns.values():
        values[0] += 0.25
    samples["gibbs"] = drifting
    found = compare_checked(samples, "nuts", "gibbs")
    assert found.verdicts["cavi"].word == "agrees"
    assert "gibbs could not check nuts" in found.note


def test_an_open_check_is_said(random):
    samples = {k: sample(random) for k in ("cavi", "nuts")}
    samples["gibbs"] = sample(random, shape=(4, 150))
    found = compare_checked(samples, "nuts", "gibbs")
    assert found.verdicts["cavi"].word == "agrees"
    assert "is open" in found.note
    assert np.isfinite(found.min_ess("gibbs"))


def test_without_a_check_it_is_said(random):
    samples = {k: sample(random) for k in ("cavi", "nuts")}
    found = compare_checked(samples, "nuts", "gibbs")
    assert found.verdicts["cavi"].word == "agrees"
    assert "no gibbs to check" in found.note
