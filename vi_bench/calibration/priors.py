"""Prior hyperparameters for problems that have no data yet.

Most families take defaults from the data's scale. Here the data are drawn from the
prior, so there is nothing to take them from: each family brings fixed ones, under which
two components of few rows overlap, and mean field has something to hide.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from vi_bench import catalogue
from vi_bench.data.table import Table, feature_names
from vi_bench.errors import CalibrationError
from vi_bench.spec import DEFAULTS, Spec


def usual_prior(name: str) -> dict[str, Any]:
    """What a family's class says of itself as `calibration`; nothing where it does not.

    The class is loaded.
    """
    return dict(getattr(catalogue.model(name), "calibration", {}))


def model_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """A spec's model section with this module's hyperparameters where it has none."""
    values = dict(given)
    usual = usual_prior(values.get("name", DEFAULTS["model"]))
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
