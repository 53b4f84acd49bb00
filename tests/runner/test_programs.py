"""Stages are compiled before they run, for what they will be given."""

import jax
import jax.numpy as jnp
import pytest

import vi_bench as vb
from tests.marks import slow_but
from tests.small import FIELDS, METHODS, MIXTURES, ROWS
from vi_bench.runner import timing
from vi_bench.runtime.compiling import compiling


@pytest.mark.parametrize("label", slow_but(METHODS, MIXTURES))
def test_every_stage_is_given_what_its_program_was_compiled_for(label, monkeypatch):
    def late(stages, *_):
        raise AssertionError(f"{stages[0].name} is compiled when it is its turn")

    monkeypatch.setattr(timing, "compile_stages", late)
    own = {label: METHODS.get(label, {})}
    rows = ROWS[::4] if label == "exact" else ROWS
    found = vb.run("gaussian", rows, own, **FIELDS | {"reference": None}).runs[label]
    assert found.outcome.status != "failed", found.outcome.sentence
    assert found.stages


def test_a_program_is_known_to_be_new_or_that_of_before():
    program = jax.jit(lambda x: jnp.cumsum(x) * 3.25)
    with compiling() as submit:
        first = submit(program.lower(jnp.ones(7)))
        again = submit(program.lower(jnp.ones(7)))
        other = submit(program.lower(jnp.ones(8)))
    made = [one.result() for one in (first, again, other)]
    assert sorted(one.cached for one in made[:2]) == [False, True]
    assert not made[2].cached
    assert min(one.seconds for one in made[:2]) == 0
    assert made[1].program(jnp.ones(7))[-1] == 22.75


def test_what_one_program_raises_is_no_error_of_the_next():
    class Wrong:
        def compile(self):
            raise ValueError("cannot be compiled")

    with compiling() as submit:
        wrong = submit(Wrong())
        right = submit(jax.jit(jnp.negative).lower(1.0))
    with pytest.raises(ValueError, match="cannot be"):
        wrong.result()
    assert right.result().program(1.0) == -1.0
