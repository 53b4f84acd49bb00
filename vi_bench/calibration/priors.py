"""Prior hyperparameters for calibration, where the data are drawn from the prior.

Most families take default hyperparameters from the scale of the data. Here there are no
data yet, so each family has fixed ones, under which two components with few rows
overlap, so that the mean-field approximation is visibly wrong.
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
    """The attribute `calibration` of a family's class, its fixed hyperparameters.

    The class is loaded; the result is empty if it has no such attribute.
    """
    return dict(getattr(catalogue.model(name), "calibration", {}))


def model_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """A spec's model section, with fixed hyperparameters where it sets none."""
    values = dict(given)
    usual = usual_prior(values.get("name", DEFAULTS["model"]))
    if values.get("counts"):  # the columns of multinomial counts are the levels
        usual.pop("levels", None)
        usual["total"] = 5
    return usual | values


def fixed_family(spec: Spec, features: int) -> Any:
    """The family of a spec, with every hyperparameter set and none taken from data.

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
