"""A NumPyro model with its data, as the runner sees it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from vi_bench.comparison.coverage import Coverage
from vi_bench.comparison.modes import Mode
from vi_bench.comparison.quantities import Quantity
from vi_bench.contract import Draws
from vi_bench.data.arrays import Arrays
from vi_bench.data.table import spaced
from vi_bench.inference.linear_response import LinearResponse
from vi_bench.inference.model_response import model_response
from vi_bench.posterior.bound import bind_model
from vi_bench.posterior.cavi_posterior import CAVIPosterior
from vi_bench.posterior.numpyro_posterior import NumPyroPosterior, Values
from vi_bench.posterior.variables import (
    MOST,
    Variables,
    dims_of,
)
from vi_bench.runner.evaluate import ROWS, TOGETHER, WORK, Evaluation
from vi_bench.runner.result import Agreement, MethodRun
from vi_bench.runner.subject import Compared, Named, Stored
from vi_bench.runtime.keys import Key
from vi_bench.spec import Spec

NOWHERE = (
    "modes that no method visits were not looked for, as they are for mixtures: a "
    "reference whose chains all start in one mode is not found out"
)


@dataclass(frozen=True)
class ModelSubject:
    """A NumPyro model and its data.

    Attributes:
        name: the model, "mine.py:model".
        settings: arguments that are no data.
        data: its data.
        sites: name of a latent variable -> its shape.
        variables: how they are reported, and which are compared.
    """

    name: str
    settings: dict[str, Any]
    data: Arrays
    sites: dict[str, tuple[int, ...]]
    variables: Variables

    def reported(self, parameters: Named, made: Named) -> dict[str, np.ndarray]:
        """Latent variables and what the model makes of them, components first."""
        host = {name: np.asarray(v) for name, v in {**parameters, **made}.items()}
        return dict(self.variables.components_first(host))

    def compared(self, reported: Named) -> Compared:
        """Every scalar that varies, of the variables that are compared."""
        host = {name: np.asarray(v, float) for name, v in reported.items()}
        return self.variables.scalars(host)

    def stored(self, posterior: Named) -> Stored:
        """The layout of the draws, and the data."""
        dims = {name: v.dims for name, v in self.variables.each.items()}
        return Stored(
            dims, {}, {n: (dims_of(n, v), v) for n, v in self.data.observed.items()}
        )

    def described(self) -> dict[str, Any]:
        """The model with its latent variables, and the data."""
        return {
            "model": {"name": self.name, **self.settings, "variables": self.sites},
            "weights": {},
            "data": {
                "name": self.data.name,
                "sha256": self.data.sha256,
                "shape": (),
                "features": tuple(self.data.values),
                "note": self.data.note,
                "source": self.data.source,
            },
        }


@dataclass(frozen=True)
class ModelTarget:
    """A NumPyro model bound to its data; see `vi_bench.runner.target.Target`.

    Attributes:
        subject: the model and its data, on the host.
        posterior: what inference sees.
        notes: what a reader of the verdicts must know.
    """

    subject: ModelSubject
    posterior: NumPyroPosterior
    notes: tuple[str, ...] = ()

    def evaluate(self, draws: Draws, method: Any) -> Evaluation:
        """Log densities at draws, and the model's deterministic variables."""
        shape = next(iter(draws.parameters.values())).shape[:2]
        size = sum(np.size(v) for v in self.subject.data.values.values())
        jointly = shape[0] * shape[1] * size <= WORK
        joint, densities, made = _evaluated(self.posterior, draws.parameters, jointly)
        if densities is None:
            densities = np.empty((*shape, 0))
        return Evaluation(
            np.asarray(joint, float) if jointly else None,
            np.asarray(densities, float),
            None,
            np.arange(densities.shape[-1]),
            np.empty((*shape, 0)),
            None,
            np.arange(shape[1]),
            {name: np.asarray(value) for name, value in made.items()},
        )

    def uncentred(self, values: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Arrays on the host; a NumPyro model is never centred."""
        return {name: np.asarray(value) for name, value in values.items()}

    def response(self, draws: Draws) -> LinearResponse | None:
        """Linear response of a model that brings its CAVI, at the factors of a fit."""
        if draws.factors is None or not isinstance(self.posterior, CAVIPosterior):
            return None

        def quantities(
            theta: Mapping[str, Array],
        ) -> list[tuple[list[Quantity], Array]]:
            lifted = {name: value[None, None] for name, value in theta.items()}
            variables = self.subject.variables
            return variables.batches(variables.components_first(lifted))

        return model_response(self.posterior, draws.factors, quantities)

    def coverage(
        self, runs: Mapping[str, MethodRun], weighing: frozenset[str], key: Key
    ) -> Coverage:
        """Nothing: optima are looked for in mixtures alone, which a note says."""
        return Coverage()

    def mode_bounds(self, run: MethodRun, modes: Sequence[Mode]) -> dict[int, float]:
        """Nothing: the masses of modes are not known."""
        return {}

    def agreement(self, runs: dict[str, MethodRun]) -> Agreement | None:
        """None: there are no known labels."""
        return None


@partial(jax.jit, static_argnames="jointly")
def _evaluated(
    posterior: NumPyroPosterior, theta: Values, jointly: bool
) -> tuple[Array, Array | None, Values]:
    """Log joints, log densities of some observations, and deterministic variables."""
    shape = next(iter(theta.values())).shape[:2]

    def one(theta: Values) -> tuple[Array, Array | None, Values]:
        joint = posterior.log_joint(theta) if jointly else jnp.zeros(())
        each = posterior.log_likelihoods(theta)
        some = each[spaced(each.shape[0], ROWS)] if each.shape[0] else None
        return joint, some, posterior.deterministic(theta)

    flat = jax.tree.map(lambda v: v.reshape(-1, *v.shape[2:]), theta)
    found = jax.lax.map(one, flat, batch_size=TOGETHER)
    back: tuple[Array, Array | None, Values] = jax.tree.map(
        lambda v: v.reshape(*shape, *v.shape[1:]), found
    )
    return back


def model_target(spec: Spec, data: Arrays) -> ModelTarget:
    """Bind the NumPyro model of a spec to its data.

    Raises:
        InputError: the model and the data do not fit each other.
    """
    assert spec.numpyro is not None
    settings = {k: v for k, v in spec.model.items() if k != "name"}
    posterior, note = bind_model(spec.numpyro, settings, data)
    wanted = posterior.compared if spec.variables is None else spec.variables
    variables = Variables.of(posterior, spec.component_dim, wanted)
    notes = [NOWHERE]
    notes += [
        f"of the {variables.each[name].varying} scalars of {name}, {MOST} evenly "
        "spaced ones are compared"
        for name in variables.chosen
        if variables.each[name].varying > MOST
    ]
    subject = ModelSubject(
        spec.numpyro,
        settings,
        replace(data, note="; ".join(filter(None, [data.note, note]))),
        {site.name: site.shape for site in posterior.latent},
        variables,
    )
    return ModelTarget(subject, posterior, tuple(notes))
