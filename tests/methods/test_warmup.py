"""The warm-up of a Hamiltonian chain, a transition at a time."""

import blackjax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.marks import slow
from vi_bench.methods._chains import in_parts
from vi_bench.methods._warmup import WarmUp
from vi_bench.methods.nuts import NUTS

PRECISION = np.diag([1.0, 4.0, 9.0]) + 0.5
STEPS = 130
"""So many that there are two windows."""


def density(at):
    return -0.5 * at["a"] @ jnp.asarray(PRECISION) @ at["a"] - 0.5 * at["b"] ** 2


@pytest.mark.parametrize("dense", [False, slow(True)])
def test_it_is_blackjaxs_window_adaptation(dense):
    """To rounding, which grows along 130 trajectories by some orders of magnitude."""
    start = {"a": jnp.array([1.0, 2.0, -1.0]), "b": jnp.array(0.3)}
    key = jax.random.key(5)
    adaptation = blackjax.window_adaptation(
        blackjax.nuts, density, is_mass_matrix_diagonal=not dense
    )
    (expected, tuned), course = adaptation.run(key, start, STEPS)

    own = WarmUp(STEPS, 0.8, dense)
    step = blackjax.nuts.build_kernel()

    @jax.jit
    def transition(now, state):
        metric = now.inverse_mass_matrix
        key = own.keys(now.tuning)[now.tuning.done]
        state, info = step(key, state, density, now.step_size, metric)
        now = own.further(now.tuning, state, info.acceptance_rate)
        return now, state, info.num_integration_steps

    now, state = own.begin(start), blackjax.nuts.init(start, density)
    now = now._replace(tuning=now.tuning._replace(key=jax.random.key_data(key)))
    steps = []
    for _ in range(STEPS):
        now, state, number = transition(now, state)
        steps.append(int(number))
    assert steps == course.info.num_integration_steps.tolist()
    assert now.step_size == pytest.approx(float(tuned["step_size"]), rel=1e-6)
    np.testing.assert_allclose(
        now.inverse_mass_matrix, tuned["inverse_mass_matrix"], rtol=1e-6
    )
    np.testing.assert_allclose(state.position["a"], expected.position["a"], rtol=1e-6)


def test_warm_up_and_sampling_are_calls_of_one_program():
    stages = {s.name: s for s in NUTS(warmup=500)._stages(4, in_parts(1000))}
    assert stages["warmup"].lane is stages["sample"].lane
    assert stages["warmup"].calls == stages["sample"].calls == 20


@pytest.mark.parametrize(
    ("steps", "draws"), [(20, 7), (30, 1000), (505, 1000), (50, 3)]
)
def test_all_transitions_of_a_warm_up_are_in_its_calls(steps, draws):
    """No call of it has none left, which would sample; none is left for another."""
    warmup = next(
        s for s in NUTS(warmup=steps)._stages(2, in_parts(draws)) if s.name == "warmup"
    )
    together = -(-steps // -(-draws // -(-draws // min(20, draws))))
    assert (warmup.calls - 1) * together < steps <= warmup.calls * together
