"""The mixture as the runner sees it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from vi_bench.comparison.coverage import Coverage
from vi_bench.comparison.modes import Mode
from vi_bench.comparison.quantities import WEIGHT
from vi_bench.contract import Draws
from vi_bench.data.load import load
from vi_bench.data.table import Table
from vi_bench.errors import SpecError
from vi_bench.inference.linear_response import LinearResponse, linear_response
from vi_bench.mixture.compared_quantities import compared, reported
from vi_bench.mixture.mixture import Mixture, bind, centre_at
from vi_bench.runner.evaluate import Evaluation, best_draw, evaluate
from vi_bench.runner.known_labels import agreement
from vi_bench.runner.result import Agreement, MethodRun
from vi_bench.runner.subject import Compared, Named, Stored
from vi_bench.runner.visited_optima import climbs, coverage, log_copies
from vi_bench.runtime.keys import Key
from vi_bench.spec import DEFAULTS, Spec, values_of


@dataclass(frozen=True)
class MixtureSubject:
    """A mixture and its rows.

    Attributes:
        spec: the specification.
        family: the component family, every hyperparameter set.
        weights: the prior on the weights.
        data: the rows that are fitted.
        centre: what is subtracted from them before inference (d,).
    """

    spec: Spec
    family: Any
    weights: Any
    data: Table
    centre: np.ndarray

    @property
    def components(self) -> int:
        """K."""
        return self.spec.components

    @property
    def coordinates(self) -> dict[str, Any]:
        """Dimension of the family -> labels along it."""
        return dict(self.family.coordinates(self.data.features))

    def reported(self, parameters: Named, made: Named) -> dict[str, np.ndarray]:
        """Parameters, quantities derived from them, and weights that are drawn."""
        return reported(self, parameters)

    def compared(self, reported: Named) -> Compared:
        """`Family.compared` of each component, and the weights that are drawn."""
        known = {k: np.asarray(v, float) for k, v in reported.items()}
        return compared(self.family, known, self.coordinates, known.get(WEIGHT))

    def stored(self, posterior: Named) -> Stored:
        """The layout of the draws, with the component means and the rows."""
        location = self.family.location(posterior)
        place = next((n for n, v in posterior.items() if v is location), None)
        return Stored(
            dict(self.family.dims) | {WEIGHT: ("component",)},
            {"feature": list(self.data.features), "row": self.data.numbers}
            | self.coordinates,
            {"x": (("row", "feature"), self.data.values)},
            None if place or location is None else np.asarray(location),
            {"centre": self.centre, "location": place},
        )

    def described(self) -> dict[str, Any]:
        """Model and prior, weights, and data."""
        table = self.data
        return {
            "model": {"name": self.spec.model.get("name", DEFAULTS["model"])}
            | values_of(self.family),
            "weights": {"name": self.spec.weights.get("name", DEFAULTS["weights"])}
            | values_of(self.weights),
            "data": {
                "name": table.name,
                "sha256": table.sha256,
                "shape": (len(table), len(table.features)),
                "features": table.features,
                "note": table.note,
                "source": table.source,
            },
        }


@dataclass(frozen=True)
class MixtureTarget:
    """A mixture bound to its rows; see `vi_bench.runner.target.Target`.

    Attributes:
        subject: the mixture and its rows, on the host.
        posterior: the mixture on its devices.
        held_out: held-out rows, centred (m, d).
    """

    subject: MixtureSubject
    posterior: Mixture
    held_out: np.ndarray

    notes: tuple[str, ...] = ()

    def evaluate(self, draws: Draws, method: Any) -> Evaluation:
        """Log densities at draws, and co-clustering."""
        return evaluate(self.posterior, draws, self.held_out, method)

    def uncentred(self, values: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Arrays on the host, in the coordinates of the user's data."""
        moved = self.posterior.uncentred(dict(values))
        return {name: np.asarray(value) for name, value in moved.items()}

    def response(self, draws: Draws) -> LinearResponse | None:
        """Linear response at the factors of a fit."""
        return linear_response(self.posterior, draws.factors, self.subject.coordinates)

    def coverage(
        self, runs: Mapping[str, MethodRun], weighing: frozenset[str], key: Key
    ) -> Coverage:
        """Known optima, and those that a sampler should have visited and has not."""
        return coverage(self.posterior, runs, self.subject.coordinates, weighing, key)

    def mode_bounds(self, run: MethodRun, modes: Sequence[Mode]) -> dict[int, float]:
        """Index of a mode -> about its log mass: the ELBO CAVI reaches from there.

        CAVI starts from the mode's best draw, and the log number of relabellings is
        added. The rest of the gap to the log mass is taken to be alike in all modes.
        Empty where the log joints are not known.
        """
        assert run.draws is not None
        if run.log_joint is None:
            return {}
        mixture = self.posterior
        known = {k: v[:, run.evaluated] for k, v in run.draws.parameters.items()}
        theta = mixture.recentred(known)
        best = [best_draw(theta, run.log_joint, mode.chains) for mode in modes]
        stacked = {
            name: jnp.asarray(np.stack([b[name] for b in best]), mixture.dtype)
            for name in best[0]
        }
        bounds, _, _, counts = climbs(mixture, jax.vmap(mixture.natural)(stacked))
        return dict(enumerate((bounds + log_copies(mixture, counts)).tolist()))

    def agreement(self, runs: dict[str, MethodRun]) -> Agreement | None:
        """Agreement of components with known labels, if there are any."""
        column = self.subject.spec.labels
        if column is None:
            return None
        labels = self.subject.data.truth["labels"]
        return agreement(self.posterior, labels, column, runs)


def mixture_target(spec: Spec, table: Table, mesh: Mesh | None) -> MixtureTarget:
    """Bind the mixture of a spec to a table, before `spec.standardise`.

    Raises:
        InputError: the spec and the data do not fit each other.
    """
    family = spec.family()
    data = load(table, spec.standardise)
    held_out = np.empty((0, data.values.shape[1]))
    check(spec, family, data)
    if spec.held_out:
        data, set_aside = data.split(spec.held_out, spec.seed)
        held_out = set_aside.values
    family = family.complete(data.values, spec.components)
    weights = spec.mixing()
    dtype = jnp.float64 if spec.precision == 64 else jnp.float32
    mixture = bind(
        family,
        data.values if data.whole is None else data.whole.rows,
        spec.components,
        dtype,
        weights,
        mesh,
        centre=centre_at(family, data.mean),
        stream=spec.stream,
    )
    centre = np.asarray(mixture.data_centre)
    subject = MixtureSubject(spec, family, weights, data, centre)
    return MixtureTarget(subject, mixture, held_out - mixture.data_centre)


def check(spec: Spec, family: Any, table: Table) -> None:
    """Check that the family and the number of components fit the data.

    Raises:
        InputError: they do not.
    """
    rows = len(table) - spec.held_out
    if spec.components > rows:
        left = f" when {spec.held_out} are held out" if spec.held_out else ""
        raise SpecError(
            f"components = {spec.components}, the data {table.name!r} have "
            f"{max(rows, 0)} rows{left}; expected at most as many components as rows"
        )
    if spec.labels is not None and "labels" not in table.truth:
        raise SpecError(
            f"labels = {spec.labels!r}: the data {table.name!r} have no such column; "
            "expected a text file with it"
        )
    centre = centre_at(family, table.mean)
    for part in table.parts():
        family.check(part)
        if spec.precision == 32 and np.abs(part.values - centre).max() > 1e15:
            raise SpecError("precision 32: values over 1e15 overflow when squared")
