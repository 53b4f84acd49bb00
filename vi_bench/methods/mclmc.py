"""MCLMC: BlackJAX's microcanonical Langevin Monte Carlo, with accept and reject.

The velocity keeps its length and only turns, by the gradient and by noise; proposals of
a random number of steps are accepted or rejected as in Hamiltonian Monte Carlo, so the
posterior is left invariant whatever the step size (Robnik, De Luca, Silverstein and
Seljak 2023; Robnik, Cohn-Gordon and Seljak 2025).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import blackjax
import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Ge, Gt, Lt
from blackjax.mcmc import adjusted_mclmc_dynamic
from jax import lax
from jaxtyping import Array

from vi_bench.contract import (
    Draws,
    Kind,
    Outcome,
    Posterior,
    Problem,
    Stage,
    remembered,
)
from vi_bench.errors import NotApplicable
from vi_bench.inference import starts
from vi_bench.methods._hamiltonian import (
    Chain,
    Kernel,
    empty_chain,
    ended,
    passes,
    stages_of,
    told_of,
)
from vi_bench.mixture.types import Parameters
from vi_bench.runtime.keys import Key

SHARES = (0.25, 0.5)
"""Of the warm-up: for the step size, before and after; for the scales in between."""


@dataclass(frozen=True)
class MCLMC:
    """Settings of MCLMC.

    Attributes:
        warmup: adaptation proposals of a chain, which are discarded.
        target_acceptance: acceptance rate that the step size is tuned to.
        mean_steps: mean number of steps of a proposal.
        thinning: proposals from one draw that is kept to the next.
    """

    warmup: Annotated[int, Ge(100)] = 2000
    target_acceptance: Annotated[float, Gt(0), Lt(1)] = 0.8
    mean_steps: Annotated[float, Ge(1.1)] = 4.0
    thinning: Annotated[int, Gt(0)] = 4

    kind: ClassVar[Kind] = "mcmc"
    summary: ClassVar[str] = "BlackJAX microcanonical Langevin Monte Carlo, adjusted"
    references: ClassVar[tuple[str, ...]] = ("robnik2023", "cabezas2024")
    bound_keeps_labels: ClassVar[bool] = False

    def prepare(self, problem: Problem, key: Key) -> tuple[Stage, ...]:
        """The stages start, warmup, sample (in parts) and collect.

        Raises:
            NotApplicable: there is one parameter, in which no velocity can turn.
        """
        if starts.size_of(problem.posterior) < 2:
            raise NotApplicable("turns a velocity; the model has one parameter")
        return self._stages(problem.chains, problem.draws)

    def passes(self, draws: Draws) -> float:
        """Gradients of all chains, those of the warm-up too."""
        return passes(draws)

    @remembered
    def _stages(self, chains: int, draws: int) -> tuple[Stage, ...]:
        def warmed_up(key: Key, posterior: Posterior, theta: Parameters) -> Chain:
            numbers, tuning = jax.random.split(key)
            state = adjusted_mclmc_dynamic.init(
                posterior.unconstrain(theta), posterior.density, numbers
            )
            state, tuned, steps = blackjax.adjusted_mclmc_find_L_and_step_size(
                proposal(),
                posterior.density,
                self.warmup,
                state,
                tuning,
                self.target_acceptance,
                frac_tune1=SHARES[0],
                frac_tune2=SHARES[1],
                target_num_integration_steps=self.mean_steps,
            )
            metric = tuned.inverse_mass_matrix
            chain = empty_chain(state, tuned.step_size, metric, draws)
            return chain._replace(tuning_steps=jnp.asarray(steps, jnp.int32))

        return stages_of(chains, draws, warmed_up, self._kernel)

    def _kernel(self, posterior: Posterior) -> Kernel:
        density, propose = posterior.density, proposal()

        def kernel(key: Key, chain: Chain) -> tuple[Any, dict[str, Any]]:
            def one(state: Any, key: Key) -> tuple[Any, dict[str, Any]]:
                state, info = propose(
                    rng_key=key,
                    state=state,
                    logdensity_fn=density,
                    step_size=chain.step_size,
                    inverse_mass_matrix=chain.inverse_mass_matrix,
                    integration_steps_params=(self.mean_steps,),
                )
                return state, told_of(state, info)

            keys = jax.random.split(key, self.thinning)
            state, course = lax.scan(one, chain.state, keys)
            return state, {
                "lp": course["lp"][-1],
                "energy": course["energy"][-1],
                "acceptance_rate": jnp.mean(course["acceptance_rate"]),
                "diverging": jnp.any(course["diverging"]),
                "n_steps": jnp.sum(course["n_steps"]),
            }

        return kernel

    def outcome(self, draws: Draws) -> Outcome:
        """Sampled, or suspect: divergences, stuck chains."""
        stats = {name: np.asarray(v) for name, v in draws.sample_stats.items()}
        if (wrong := ended(stats)) is not None:
            return wrong
        rate = stats["acceptance_rate"].mean()
        return Outcome("sampled", f"no divergence, acceptance rate {rate:.2f}")


def proposal() -> Any:
    """BlackJAX's kernel, with numbers of steps that are uniform about their mean."""

    def steps(key: Key, mean: Any) -> Array:
        most = 2 * mean - 1
        return jnp.ceil(jax.random.uniform(key) * most).astype(jnp.int32)

    return adjusted_mclmc_dynamic.build_kernel(integration_steps_fn=steps)


METHOD = MCLMC
