"""Optima that a sampler visits or misses, by hand-made ends of ascents."""

from dataclasses import replace

import numpy as np
import pytest

from tests.comparison.test_comparison import sample
from tests.comparison.test_evidence import two_modes
from vi_bench.comparison import Sample, compare
from vi_bench.comparison.coverage import NEAR, Coverage, End, cover
from vi_bench.comparison.measures import Estimate
from vi_bench.comparison.modes import Optimum


def ends(random, place, bound, source, visited, number=1):
    return [
        End(bound - 1e-4 * i, place + random.normal(size=(2, 200)), source, visited)
        for i in range(number)
    ]


HERE, THERE = np.zeros((2, 1)), np.array([[0.0], [9.0]])


def chains(random, *places):
    return np.stack([p + random.normal(size=(2, 300)) for p in places])


def found(random, below, visits=("nuts",), weighing=(), there=THERE):
    """CAVI knows two optima, `below` nats apart; NUTS sits at the first one."""
    known = ends(random, HERE, -100.0, "cavi", False, 12)
    known += ends(random, there, -100.0 - below, "cavi", False, 8)
    for label in visits:
        known += ends(random, HERE, -100.0, label, True, 30)
    return cover(known, {k: chains(random, HERE, HERE) for k in visits}, weighing)


def test_an_optimum_that_no_chain_visits_is_missed(random):
    seen = found(random, 0.72)
    assert [o.bound for o in seen.optima] == pytest.approx([-100.0, -100.72])
    assert seen.optima[0].sources == ("cavi", "nuts")
    assert seen.visits["nuts"] == (1.0, 0.0)
    assert seen.missed["nuts"].bound == pytest.approx(-100.72)
    assert "0.72 nats below the best one" in seen.missed["nuts"].say()


def test_an_optimum_of_little_mass_need_not_be_visited(random):
    assert not found(random, NEAR + 1).missed
    assert len(found(random, NEAR + 1).optima) == 1


def test_a_better_optimum_is_missed_however_far(random):
    """Chains that sit 48 nats below an optimum that CAVI has found."""
    known = ends(random, HERE, -52.0, "cavi", False)
    known += ends(random, THERE, -100.0, "nuts", True, 30)
    seen = cover(known, {"nuts": chains(random, THERE)})
    assert seen.missed["nuts"].bound == -52.0


def test_exact_draws_miss_nothing(random):
    """64 of them may leave a mode of a few per cent unvisited."""
    known = ends(random, HERE, -100.0, "cavi", False, 12)
    known += ends(random, THERE, -98.0, "cavi", False, 8)
    known += ends(random, HERE, -100.0, "exact", True, 30)
    draws = {"exact": chains(random, HERE)}
    assert cover(known, draws, {"exact"}).missed
    assert not cover(known, draws, {"exact"}, {"exact"}).missed


def test_relabellings_count_towards_the_mass(random):
    """Six components in use have 3.2 nats more of copies than two of six."""
    full = [End(-104.0, HERE + random.normal(size=(2, 200)), "cavi", False, 6.58)]
    two = [End(-100.0, THERE + random.normal(size=(2, 200)), "nuts", True, 3.40)]
    seen = cover(full + two, {"nuts": chains(random, THERE)})
    assert seen.optima[0].below == 0
    assert seen.optima[1].below == pytest.approx(104 - 6.58 - 100 + 3.40)
    assert seen.missed["nuts"].bound == -104.0


def test_what_lies_amid_the_draws_is_not_missed(random):
    """An optimum of mean field only: the chains' draws are all around its q."""
    assert not found(random, 0.72, there=HERE + 0.5).missed


def test_optima_of_equal_bounds_are_told_apart_by_where_they_lie(random):
    seen = found(random, 0.0)
    assert len(seen.optima) == 2
    assert seen.missed["nuts"].bound == pytest.approx(-100.0)


def test_a_method_that_weighs_modes_has_the_say(random):
    """It may leave an optimum 3 nats below; not one a third of a nat below."""
    assert not found(random, 3.0, ("smc",), {"smc"}).missed
    assert found(random, 0.3, ("smc",), {"smc"}).missed


def test_a_check_in_one_mode_is_unfit_where_another_sampler_shows_two(random):
    known = ends(random, HERE, -100.0, "gibbs", True, 30)
    known += ends(random, HERE, -100.0, "nuts", True, 15)
    known += ends(random, THERE, -100.4, "nuts", True, 15)
    both = {"gibbs": chains(random, HERE), "nuts": chains(random, HERE, THERE)}
    seen = cover(known, both)
    assert set(seen.missed) == {"gibbs"}
    assert seen.missed["gibbs"].sources == ("nuts",)


def test_a_reference_that_misses_an_optimum_is_unreliable(random):
    optimum = Optimum(-100.7, 0.7, ("cavi",))
    seen = Coverage((Optimum(-100.0, 0.0, ("cavi",)), optimum), {}, {"b": optimum})
    samples = {"a": sample(random), "b": sample(random)}
    verdict = compare(samples, "b", coverage=seen).verdicts["a"]
    assert verdict.word == "reference unreliable"
    assert verdict.reason.startswith("it never visits the optimum of ELBO -100.70")
    assert compare(samples, "b").verdicts["a"].word == "agrees"


def test_one_q_of_several_optima_gives_no_evidence(random):
    """Importance sampling from it is blind to the rest, however good its k-hat."""
    terms = two_modes(random)
    mu = random.normal(size=(4, 1000, 2))
    q = Sample({"mu": mu}, {}, terms.log_joint, 0.0, terms.log_q, terms.log_q_symmetric)
    chains = sample(random, shape=(4, 1000), means=np.zeros((2, 1)))
    known = {"mu": chains.columns["mu[x0]"]}
    both = {"q": q, "nuts": replace(chains, columns=known)}
    alone = compare(both, "nuts").evidence
    assert alone.trusted == "importance sampling from q"
    two = Coverage((Optimum(-9.0, 0.0, ("q",)), Optimum(-9.5, 0.5, ("q",))))
    blind = compare(both, "nuts", coverage=two).evidence
    assert blind.trusted is None
    assert "2 optima lie within" in blind.no_gaps


def test_chains_that_have_not_mixed_give_no_evidence(random):
    drifting = sample(random, shape=(4, 1000))
    for values in drifting.columns.values():
        values[0] += 1.5
    told = Sample(
        drifting.columns, {}, drifting.log_joint, evidence=Estimate(-140.0, 0.06)
    )
    found = compare({"a": sample(random), "gibbs": told}, "a").evidence
    assert found.trusted is None
    assert "have not mixed" in found.withheld["gibbs"]
