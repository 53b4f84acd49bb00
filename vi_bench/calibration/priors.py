"""Prior hyperparameters for problems that have no data yet.

Most families take defaults from the data's scale. Here the data are drawn from the
prior, so there is nothing to take them from: each family has fixed ones, under which
two components of few rows overlap, and mean field has something to hide.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from vi_bench.data.table import Table, feature_names
from vi_bench.errors import CalibrationError
from vi_bench.spec import Spec

PRIORS: dict[str, dict[str, Any]] = {
    "gaussian": {"mean": 0.0, "sigma": 2.0, "variance": 1.0},
    "gaussian-spherical": {"mean": 0.0, "kappa": 0.3, "shape": 4.0, "rate": 4.0},
    "gaussian-diagonal": {"mean": 0.0, "kappa": 0.3, "shape": 4.0, "rate": 4.0},
    "gaussian-full": {
        "mean": 0.0,
        "kappa": 0.3,
        "degrees_of_freedom": 8.0,
        "scale": 6.0,
    },
    "gaussian-semiconjugate": {"mean": 0.0, "sd": 2.0, "shape": 4.0, "scale": 3.0},
    "poisson": {"shape": 2.0, "rate": 0.5},
    "exponential": {"shape": 2.0, "rate": 2.0},
    "bernoulli": {"a": 1.0, "b": 1.0},
    "categorical": {"concentration": 1.0, "levels": 3},
}
"""By model; what the user gives goes before."""


def model_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """A spec's model section with this module's hyperparameters where it has none."""
    values = dict(given)
    usual = dict(PRIORS.get(values.get("name", "gaussian"), {}))
    if values.get("counts"):  # of multinomial counts the levels are the columns
        usual.pop("levels", None)
        usual["total"] = 5
    return usual | values


def fixed_family(spec: Spec, features: int) -> Any:
    """The family of a spec with every hyperparameter set, and none from any data.

    Raises:
        InputError: a hyperparameter would come from the data, or does not fit.
    """
    family = spec.family()
    one = np.ones((3, features))
    other = one * np.array([[1.0], [2.0], [6.0]])
    at_one, at_other = (family.complete(x, spec.components) for x in (one, other))
    for field in dataclasses.fields(family):
        if _differs(getattr(at_one, field.name), getattr(at_other, field.name)):
            raise CalibrationError(
                f"model {spec.model['name']}: {field.name} is not set, and there are "
                f"no data to take it from: give it, as in --set {field.name}=1"
            )
    at_one.check(Table("simulated", one, feature_names(features)))
    return at_one


def _differs(one: Any, other: Any) -> bool:
    return bool(np.any(np.asarray(one) != np.asarray(other)))
