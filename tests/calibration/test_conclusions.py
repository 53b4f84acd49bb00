"""What a calibration may conclude from what it found, and what it must not."""

import numpy as np
import pytest

from vi_bench.calibration.calibration import RESPONSE, Calibration
from vi_bench.calibration.report import (
    calibration_lines,
    calibration_record,
    calibration_table,
)
from vi_bench.calibration.settings import Settings

DRAWS = 99
NAMES = ["log joint", "mean mu[x0]", "constant"]


def simulated(random, sims=100):
    """Of a right posterior: the ranks of two quantities, and one that is constant."""
    below = random.integers(DRAWS + 1, size=(sims, 3))
    below[:, 2] = 0
    equal = np.zeros((sims, 3), int)
    equal[:, 2] = DRAWS
    return {
        "below": below,
        "equal": equal,
        "exact": np.full((sims, 3), np.nan),
        "finite": np.ones(sims, bool),
        "diverging": np.zeros(sims),
    }


def calibrated(found, **fields):
    """After a method's simulations were taken in."""
    calibration = Calibration(Settings(sims=len(found["finite"]), **fields))
    calibration.add("mine", found, NAMES, ["mu[x0]"], DRAWS)
    return calibration


def said(calibration):
    return "\n".join(calibration_lines(calibration))


def test_a_right_one_is_uniform_and_told_what_that_rules_out(random):
    found = calibrated(simulated(random))
    assert found.uniform("mine")
    assert set(found.rows["mine"]) == set(NAMES[:2])
    least = f"{found.finds('mine'):.2f}"
    assert said(found) == (
        f"mine: uniform in 2 of 2 quantities; a dispersion of {least} would be found "
        "in 9 of 10 calibrations"
    )
    assert calibration_record(found)["finds"] == {"mine": found.finds("mine")}


def test_a_posterior_that_is_elsewhere_is_not_called_too_wide(random):
    one = simulated(random)
    one["exact"][:, 1] = 0.0
    found = calibrated(one)
    assert found.rows["mine"]["mean mu[x0]"].band_p < 1e-50
    assert said(found) == (
        "mine: uniform in 1 of 2 quantities; the truth lies far below the posterior of "
        "mean mu[x0]"
    )


def test_data_sets_without_finite_draws_are_not_passed_over(random):
    one = simulated(random)
    one["finite"][:3] = False
    found = calibrated(one)
    assert all(row.uniform for row in found.rows["mine"].values())
    assert not found.uniform("mine")
    assert "the draws of 3 others are not finite, so it is not calibrated" in said(
        found
    )
    assert "would be found" not in said(found)
    words = list(calibration_table(found).columns[3].cells)
    assert all("uniform, 3 lost" in word for word in words)


def test_without_a_quantity_that_varies_nothing_is_tested(random):
    one = simulated(random)
    one["equal"][:], one["below"][:] = DRAWS, 0
    found = calibrated(one)
    assert "mine" not in found.rows
    assert found.failed == {"mine": "no quantity varies, so nothing is tested"}


def test_too_few_simulations_for_the_level_decide_nothing(random):
    found = calibrated(simulated(random, 20), level=1e-40)
    assert "mine" not in found.rows
    assert found.failed["mine"] == (
        "20 simulations decide nothing at level 1e-40 of 2 quantities"
    )


def test_a_distribution_function_outside_0_and_1_is_refused(random):
    one = simulated(random)
    one["exact"][4, 0] = 1.5
    with pytest.raises(ValueError, match="log joint: a PIT is not a number"):
        calibrated(one)


def test_quantities_that_linear_response_sometimes_lacks_are_named(random):
    one = simulated(random)
    below = one["below"].copy()
    below[:, 0] = -1  # it never knows the log joint
    one |= {"lr below": below, "lr exact": one["exact"]}
    one["lr strict"] = np.ones(len(below), bool)
    assert set(calibrated(one).rows["mine" + RESPONSE]) == {"mean mu[x0]"}
    below[3, 1] = -1
    found = calibrated(one)
    assert "mine" + RESPONSE not in found.rows
    assert "mine: mean mu[x0] is left out of linear response, which" in said(found)
    assert "no sd of it in 1 of 100" in said(found)


def sides(random, sims):
    p = random.random((sims, 1, 2, 2))
    centre = np.tile([0.0, 1.0], (sims, 1, 1))
    return simulated(random, sims) | {
        "p": p,
        "centre": centre,
        "cost": random.random((sims, 2, 2)),
    }


def test_vsbc_decides_nothing_of_too_few_and_keeps_nothing_that_is_no_number(random):
    """Signed ranks of 20 numbers have a p-value of at least 2^-19."""
    few = calibrated(sides(random, 20), level=1e-7)
    assert not few.asymmetry
    assert "VSBC: 20 simulations decide nothing at level 1e-07 of 2" in said(few)
    one = sides(random, 100)
    one["p"][5] = np.nan
    found = calibrated(one)
    assert not any(side.symmetric for side in found.asymmetry["mine"].values())
    assert "Q(theta*) of mu[x0] 1 is not a number in some data sets" in said(found)


def chains(end, fresh, **fields):
    """After Geweke's test of one quantity that is right, and another."""
    calibration = Calibration(Settings(**fields))
    right = np.random.default_rng(1).normal(size=(2, len(end)))
    found = {
        "end": np.column_stack([right[0], end]),
        "fresh": np.column_stack([right[1], fresh]),
    }
    calibration.add_joint("mine", found, ["right", "other"])
    return calibration


def test_a_quantity_that_only_the_kernel_moves_is_not_passed_over(random):
    same = np.full(100, 0.5)
    assert set(chains(same, same).joint["mine"]) == {"right"}
    assert set(chains(same, same + 1e-16).joint["mine"]) == {"right"}
    found = chains(random.random(100), same)
    assert not found.joint["mine"]["other"].kept


@pytest.mark.parametrize("whose", ["end", "fresh"])
def test_chains_and_draws_that_are_not_finite_keep_nothing(random, whose):
    both = {"end": random.random(100), "fresh": random.random(100)}
    both[whose][3] = np.nan
    found = chains(**both)
    assert not any(test.kept for test in found.joint["mine"].values())
    assert "is not finite" in said(found)


def test_few_chains_decide_nothing(random):
    """Of 4 and 4 numbers the least p-value is 2 / 70."""
    found = chains(random.random(4), random.random(4))
    assert "mine" not in found.joint
    assert "Geweke: 4 chains decide nothing at level 0.01 of 2" in said(found)
