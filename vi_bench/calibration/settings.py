"""The settings of a calibration, validated before anything is computed."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from annotated_types import Ge, Gt, Lt
from pydantic import BaseModel, ConfigDict, Field

from vi_bench import catalogue
from vi_bench.calibration.priors import fixed_family, model_of
from vi_bench.errors import CalibrationError, unknown
from vi_bench.spec import DEFAULTS, Spec, choose, of_numpyro, read, validated

METHODS = tuple(DEFAULTS["calibrate"]["methods"])
"""The default methods: an approximation, a sampler, and the exact posterior."""


OF_MIXTURES = ("weights", "components", "rows", "features")
"""Settings that a NumPyro model does not have."""


class Settings(BaseModel):
    """The settings of one calibration; equal settings give equal numbers.

    Attributes:
        model: {"name": ..., hyperparameters}, all of them set.
        data: of a NumPyro model, the file or function of its data: its covariates, and
            observed values, whose shapes alone are used.
        weights: {"name": ..., settings}.
        methods: label -> {"method": registered name, by default the label; settings}.
        sims: number of data sets, each with its own parameters from the prior.
        components: number of components K.
        rows: number of rows N of each data set.
        features: number of features d.
        draws: ranked draws of a Markov chain or of particles.
        thin: transitions per ranked draw, so that they are nearly independent.
        independent: ranked draws of methods whose draws are independent.
        geweke: number of chains of Geweke's test; 0 leaves it out.
        turns: transitions of each of these chains, each after a redraw of the rows.
        level: family-wise error rate of the tests of one method.
        chunk: data sets per call of a compiled program.
        seed: random seed.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: dict[str, Any] = Field(default_factory=lambda: {"name": DEFAULTS["model"]})
    data: str = ""
    weights: dict[str, Any] = Field(
        default_factory=lambda: {"name": DEFAULTS["weights"]}
    )
    methods: dict[str, dict[str, Any]] = Field(
        default_factory=lambda: dict[str, dict[str, Any]]((m, {}) for m in METHODS)
    )
    sims: Annotated[int, Ge(20)] = 500
    components: Annotated[int, Ge(1)] = 2
    rows: Annotated[int, Ge(1)] = 10
    features: Annotated[int, Ge(1)] = 1
    draws: Annotated[int, Ge(20)] = 100
    thin: Annotated[int, Ge(1)] = 10
    independent: Annotated[int, Ge(20)] = 2000
    geweke: Annotated[int, Ge(0)] = 2000
    turns: Annotated[int, Ge(1)] = 10
    level: Annotated[float, Gt(0), Lt(0.5)] = 0.01
    chunk: Annotated[int, Ge(1)] = 50
    seed: Annotated[int, Ge(0), Lt(2**63)] = 0

    def plain(self) -> dict[str, Any]:
        """All settings that the model has, as plain values."""
        own = catalogue.is_numpyro(self.model["name"])
        return self.model_dump(mode="json", exclude=set(OF_MIXTURES) if own else None)

    @property
    def spec(self) -> Spec:
        """A spec with this model, weights and methods, to build them from."""
        shared = ("model", "weights", "methods", "components", "seed")
        return Spec(**{name: getattr(self, name) for name in shared})

    def family(self) -> Any:
        """The component family, with all hyperparameters set."""
        return fixed_family(self.spec, self.features)


def settle(
    model: Any,
    fields: Mapping[str, Any],
    methods: Any = None,
    given: Mapping[str, Any] | None = None,
) -> Settings:
    """Make validated settings from a user's arguments.

    Args:
        model: a registered name, a .toml spec (its model, weights, components, seed
            and methods are taken, its data are not), or {"name": ..., settings}.
        fields: fields of `Settings`; None leaves the default.
        methods: labels, or label -> settings.
        given: hyperparameters that override those of `model`.

    Raises:
        InputError: an argument cannot be used; the message is one line.
    """
    values: dict[str, Any] = {}
    known: dict[str, Any] = {}
    if isinstance(model, str) and model.endswith(".toml"):
        spec = read(model, {})
        for name in ("model", "weights", "components", "seed", "methods"):
            if name in spec.model_fields_set:
                values[name] = getattr(spec, name)
        known = dict(values.get("methods", {}))
        model = values.get("model", {"name": DEFAULTS["model"]})
    model = {"name": model} if isinstance(model, str) else dict(model)
    values |= {name: value for name, value in fields.items() if value is not None}
    own = catalogue.is_numpyro(model.get("name"))
    named = model | dict(given or {})
    values["model"] = named if own else model_of(named)
    if own:
        for name in OF_MIXTURES:
            if name in fields and fields[name] is not None:
                raise CalibrationError(
                    f"{name} = {fields[name]!r}: is a setting of mixtures; the model "
                    f"{model['name']!r} is another"
                )
    elif values.get("data"):
        raise CalibrationError(
            f"data = {values['data']!r}: those of a mixture are simulated whole; "
            "expected rows and features"
        )
    if isinstance(values.get("weights"), str):
        values["weights"] = {"name": values["weights"]}
    if isinstance(methods, Mapping):
        values["methods"] = {label: dict(own or {}) for label, own in methods.items()}
    elif isinstance(methods, str):
        raise CalibrationError(f"methods = {methods!r}: expected a list of methods")
    elif isinstance(methods, Iterable):
        values["methods"] = choose(methods, known)
    if own:
        values["methods"] = of_numpyro(values.get("methods"), model["name"])
    for name in values:
        if name not in Settings.model_fields:
            raise unknown(
                "key", name, Settings.model_fields, "calibrate", error=CalibrationError
            )
    settings: Settings = validated(Settings, values, "calibrate")
    settings.spec.inference()
    if not own:
        settings.spec.mixing()
        settings.family()
    return settings


def parsed(given: Iterable[str]) -> dict[str, Any]:
    """Parse hyperparameters from "name=value", with values as in TOML.

    Raises:
        InputError: there is no "=", no TOML value after it, or a name is there twice.
    """
    found: dict[str, Any] = {}
    seen = set[str]()
    for item in given:
        name, equals, value = item.partition("=")
        try:
            found[name.strip()] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            equals = ""
        if not equals or not name.strip():
            raise CalibrationError(
                f"--set {item}: expected name=value, as in sigma=3.0"
            )
        if name.strip() in seen:
            raise CalibrationError(f"--set {item}: {name.strip()} is given twice")
        if name.strip() == "name":
            raise CalibrationError(
                f"--set {item}: expected a hyperparameter of the model"
            )
        seen.add(name.strip())
    return found
