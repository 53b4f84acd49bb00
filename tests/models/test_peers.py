"""After the same sweeps the library and other packages have the same parameters."""

import pytest

from benchmarks import peers


@pytest.mark.slow
@pytest.mark.parametrize("case", peers.CASES, ids=lambda case: case["name"])
@pytest.mark.filterwarnings("ignore")  # of the packages, about newer Python and NumPy
def test_parameters_are_equal_to_1e_6(case):
    assert max(peers.apart(case).values()) < 1e-6


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_pair_is_timed_and_has_a_row_of_the_page():
    case = peers.CASES[1]
    found = peers.child(case | {"size": case["small"]}, rounds=2)
    for low, middle, high in (*found["ms"].values(), found["ratio"]):
        assert 0 < low <= middle <= high
    shown = peers.page({"machine": {"processor": "some"}, "cases": [found]})
    assert "| `linear-regression` | BayesPy, GaussianARD, Gamma |" in shown
