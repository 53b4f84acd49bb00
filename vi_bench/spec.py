"""The specification of a run, from TOML, command-line options or Python."""

from __future__ import annotations

import dataclasses
import math
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Lt
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from vi_bench import catalogue
from vi_bench.errors import InputError, ModelError, SpecError, unknown

DEFAULTS = catalogue.defaults()
"""The default model, weights, methods and reference, by name."""

AUTO: Literal["auto"] = "auto"
"""The word by which the run chooses the reference, or the number of draws."""

BATCH = 1000
"""Draws per chain in one batch, where Monte-Carlo errors decide how many are made."""


Separator = Literal["comma", "semicolon", "tab", "space"]
"""What stands between the cells of a text file."""


OF_MIXTURES = (
    "stream",
    "labels",
    "standardise",
    "held_out",
    "components",
    "weights",
    "devices",
)
"""Fields that a NumPyro model does not have."""


class Spec(BaseModel):
    """The specification of one run; nothing is loaded yet.

    Attributes:
        name: name of the run, for its folder and titles.
        data: name of a built-in data set, "simulate:...", or a path.
        stream: leave the rows in their file (.npy, .parquet or .zarr) and read them in
            every sweep, for more rows than memory holds.
        separator: of a text file: comma, semicolon, tab or space; by default what fits.
        header: whether its first line holds names; by default what fits.
        index: whether its first column numbers or names the rows, and is left out; by
            default if it has no name.
        labels: name of a column of known labels in it, which is left out of the data;
            the run shows how well each method's components agree with them.
        standardise: give each feature mean 0 and standard deviation 1.
        held_out: number of rows set aside at random, to score predictions on.
        components: number of components K.
        model: {"name": ..., settings of the family, or of another model that ships};
            or {"name": "mine.py:model", arguments}, a NumPyro model in a file. The data
            of models that are no mixtures are named arrays.
        variables: of a NumPyro model, the variables that are compared; by default all.
        component_dim: of a NumPyro model, the plates of exchangeable components, by
            default "component".
        weights: {"name": "uniform", "dirichlet" or "stick-breaking", settings}.
        methods: label -> {"method": registered name, by default the label; settings}.
        reference: label of the method that the others are compared with; by default
            "nuts" where it is among them, else nothing is compared. "auto" takes
            `exact` where it is feasible, else `nuts` checked against `gibbs` or `smc`,
            and `tempered` where these do not move between modes; a reference that is
            missing is added to the methods.
        seed: random seed; a method's random numbers depend on it and on the method's
            label, not on the other methods.
        precision: bits of floating-point numbers, 64 or 32.
        device: kind of device; "auto" is JAX's default device.
        devices: number of devices that share the rows; a CPU is split into as many.
        repeats: timed runs after the first; by default 3, fewer for a stage whose
            repeats have taken ``vi_bench.runner.timing.PATIENCE`` seconds.
        budget: seconds that each method may take, compilation apart. One that takes
            longer is stopped, and its row says what it had reached; what it tells then
            depends on the machine's speed.
        chains: chains of every method; variational methods make independent draws.
        draws: draws per chain; "auto" makes BATCH and then more, method by method, to
            bring the Monte-Carlo error of every judged mean, sd and 5 and 95 % quantile
            under a tenth of its margin, within a limit on time.
        margin: equivalence margin of means, in the reference's posterior sds.
        sd_margin: equivalence margin of sds, relative to the reference's.
        curves: whether errors are measured against time: what every method would have
            told, had it been stopped earlier.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = "run"
    data: str = "notebook"
    stream: bool = False
    separator: Separator | None = None
    header: bool | None = None
    index: bool | None = None
    labels: str | None = None
    standardise: bool = False
    held_out: Annotated[int, Ge(0)] = 0
    components: Annotated[int, Ge(1)] = 2
    model: dict[str, Any] = Field(default_factory=lambda: {"name": DEFAULTS["model"]})
    variables: tuple[str, ...] | None = None
    component_dim: tuple[str, ...] | None = None
    weights: dict[str, Any] = Field(
        default_factory=lambda: {"name": DEFAULTS["weights"]}
    )
    methods: dict[str, dict[str, Any]] = Field(
        default_factory=lambda: dict[str, dict[str, Any]](
            (label, {}) for label in DEFAULTS["methods"]
        )
    )
    reference: str | None = None
    seed: Annotated[int, Ge(0), Lt(2**63)] = 0
    precision: Literal[32, 64] = 64
    device: Literal["auto", "cpu", "gpu", "tpu"] = "auto"
    devices: Annotated[int, Ge(1)] = 1
    repeats: Annotated[int, Ge(1)] | None = None
    budget: Annotated[float, Gt(0)] | None = None
    chains: Annotated[int, Ge(1)] = 4
    draws: Annotated[int, Ge(4)] | Literal["auto"] = AUTO
    margin: Annotated[float, Gt(0), Lt(1)] = DEFAULTS["margin"]
    sd_margin: Annotated[float, Gt(0), Lt(1)] = DEFAULTS["margin"]
    curves: bool = False

    def check_names(self) -> None:
        """Refuse unknown names and bad labels; imports nothing heavy.

        Raises:
            InputError: a model, method or reference is unknown, or a label is unfit.
        """
        name = self.model.get("name", DEFAULTS["model"])
        if catalogue.is_function(name):
            catalogue.known_function(name)
        else:
            catalogue.known("model", name)
        if self.numpyro is not None:
            self._check_no_mixture()
        else:
            self._check_mixture()
        catalogue.known("weights", self.weights.get("name", DEFAULTS["weights"]))
        for label, settings in self.methods.items():
            catalogue.known("method", settings.get("method", label))
            _check_label(label)
        if not self.methods:
            raise SpecError("methods: none given")
        wanted = self.reference
        if wanted is not None and wanted not in (AUTO, *self.methods):
            raise unknown("reference", wanted, self.methods, "methods", error=SpecError)

    @property
    def numpyro(self) -> str | None:
        """Name of the NumPyro model, "mine.py:model" or one of the library's.

        None for a mixture.
        """
        name = self.model.get("name", DEFAULTS["model"])
        return str(name) if catalogue.is_numpyro(name) else None

    def _check_no_mixture(self) -> None:
        """Refuse, of a NumPyro model, settings that only mixtures have."""
        for field in OF_MIXTURES:
            if getattr(self, field) != Spec.model_fields[field].get_default(
                call_default_factory=True
            ):
                raise SpecError(
                    f"{field} = {getattr(self, field)!r}: is a setting of mixtures; "
                    f"the model {self.numpyro!r} is another"
                )

    def _check_mixture(self) -> None:
        """Refuse, of a mixture, settings that only NumPyro models have."""
        for field in ("variables", "component_dim"):
            if getattr(self, field) is not None:
                raise SpecError(
                    f"{field} = {getattr(self, field)!r}: is a setting of NumPyro "
                    "models; of a mixture all parameters are compared"
                )

    def family(self) -> Any:
        """The component family with its settings, validated."""
        settings = dict(self.model)
        name = settings.pop("name", DEFAULTS["model"])
        return build(catalogue.model(name), settings, f"model {name}")

    def mixing(self) -> Any:
        """The prior on the weights with its settings, validated."""
        settings = dict(self.weights)
        name = settings.pop("name", DEFAULTS["weights"])
        return build(catalogue.weights(name), settings, f"weights {name}")

    def inference(self) -> dict[str, Any]:
        """Label -> method with its settings, validated, in the order given."""
        self.check_names()
        found = {}
        for label, settings in self.methods.items():
            given = dict(settings)
            kind = catalogue.method(given.pop("method", label))
            found[label] = build(kind, given, f"method {label}")
        return found

    def starting_from(self, checkpoint: Path) -> Spec:
        """A copy in which every method with a `start` starts from a checkpoint of q.

        Raises:
            InputError: no method has a `start`.
        """
        able = {
            label
            for label, settings in self.methods.items()
            if hasattr(catalogue.method(settings.get("method", label)), "start")
        }
        if not able:
            raise SpecError(
                f"start from {str(checkpoint)!r}: none of the methods "
                f"{', '.join(self.methods)} starts from a checkpoint"
            )
        methods = {
            label: settings | {"start": str(checkpoint)} if label in able else settings
            for label, settings in self.methods.items()
        }
        return self.model_copy(update={"methods": methods})

    def plugins(self) -> list[dict[str, str]]:
        """Kind, name, origin and SHA-256 of a model and methods that do not ship."""
        methods = {s.get("method", label) for label, s in self.methods.items()}
        model = self.model.get("name", DEFAULTS["model"])
        own = [s["function"] for s in self.methods.values() if "function" in s]
        used = [*sorted(methods), *filter(catalogue.is_function, own)]
        return catalogue.provenance(
            [("model", model), *(("method", name) for name in used)]
        )

    @property
    def layout(self) -> Any:
        """What is said of a text file of data, a `vi_bench.data.text.Layout`."""
        from vi_bench.data.text import Layout  # imported late: it loads NumPy

        return Layout(self.separator, self.header, self.index, self.labels)

    @property
    def batch(self) -> int:
        """Draws per chain in one batch."""
        return self.draws if isinstance(self.draws, int) else BATCH

    @property
    def held_against(self) -> str | None:
        """Label of the reference; None if there is none, or the run chooses it."""
        if self.reference == AUTO:
            return None
        first = DEFAULTS["reference"]
        return self.reference or (first if first in self.methods else None)


def _check_label(label: str) -> None:
    plain = label.replace("-", "").replace("_", "")
    if not (plain.isascii() and plain.isalnum()) or len(label) > 64:
        raise SpecError(
            f"method label {label!r}: use letters, digits, '-' and '_', 64 at most"
        )


def build(settings_class: type, values: Mapping[str, Any], where: str) -> Any:
    """Make a frozen settings dataclass from plain values, each of them validated.

    Raises:
        InputError: a key is unknown (with the nearest right name) or a value is not
            what its field expects.
    """
    known = [f.name for f in dataclasses.fields(settings_class)]
    for key in values:
        if key not in known:
            raise unknown("key", key, known, where, error=SpecError)
    return validated(settings_class, values, where)


def values_of(settings: Any) -> dict[str, Any]:
    """The inverse of `build`: a settings dataclass as plain values."""
    return {f.name: getattr(settings, f.name) for f in dataclasses.fields(settings)}


def validated(kind: Any, values: Mapping[str, Any], where: str) -> Any:
    """Validate plain values as a type that pydantic knows.

    Raises:
        InputError: the first value that is not what its field expects.
    """
    for key, value in values.items():
        _check_finite(value, f"{where}: {key}")
    try:
        found = TypeAdapter(kind).validate_python(dict(values))
    except ValidationError as error:
        errors = error.errors(include_url=False)
        field = errors[0]["loc"][:1]
        # of a union the alternative that fits best fails at the deepest place
        first = max((e for e in errors if e["loc"][:1] == field), key=_depth)
        place, given = _place(first["loc"], values)
        raise InputError(
            f"{where}: {place or 'value'} = {given!r}: {_expected(first)}"
        ) from None
    for key, value in values.items():
        _check_kind(value, getattr(found, key, value), f"{where}: {key}")
    return found


def _depth(error: Any) -> int:
    return len(error["loc"])


def _place(loc: Iterable[Any], values: Any) -> tuple[str, Any]:
    """The keys that lead to a value, pydantic's type names left out, and the value."""
    keys = []
    for part in loc:
        if not isinstance(values, Mapping) or part not in values:
            break
        keys.append(str(part))
        values = values[part]
    return ".".join(keys), values


def _check_finite(value: Any, where: str) -> None:
    """Refuse NaN and infinite values, at any depth of nesting."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            _check_finite(inner, f"{where}.{key}")
    elif any(not math.isfinite(number) for number in _numbers(value)):
        many = (
            "finite numbers" if isinstance(value, list | tuple) else "a finite number"
        )
        raise InputError(f"{where} = {value}: expected {many}")


def _numbers(value: Any) -> Iterable[float]:
    if isinstance(value, float):
        yield value
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _numbers(inner)


def _check_kind(given: Any, made: Any, where: str) -> None:
    """Refuse pydantic's conversions: text or a boolean to a number, and the like."""
    if isinstance(given, list | tuple) and isinstance(made, list | tuple):
        for one, other in zip(given, made, strict=False):
            _check_kind(one, other, where)
    elif isinstance(made, bool) and isinstance(given, int | float | str):
        if not isinstance(given, bool):
            raise InputError(f"{where} = {given!r}: expected true or false")
    elif isinstance(made, int | float) and isinstance(given, bool | str):
        raise InputError(f"{where} = {given!r}: expected a number")


def _expected(error: Any) -> str:
    message = str(error["msg"])
    return message.replace("Input should be", "expected").replace("Value error, ", "")


def make(values: Mapping[str, Any], where: str) -> Spec:
    """Make a Spec from plain values.

    Raises:
        InputError: a key is unknown, with the nearest one, or a value does not fit.
    """
    for key in values:
        if key not in Spec.model_fields:
            raise unknown("key", key, Spec.model_fields, where, error=SpecError)
    values = dict(values)
    named = values.get("model")
    if isinstance(named, Mapping) and catalogue.is_numpyro(named.get("name")):
        values.setdefault("data", "")
        values["methods"] = of_numpyro(values.get("methods"), named["name"])
    spec: Spec = validated(Spec, values, where)
    if spec.precision == 32 and spec.seed >= 2**32:
        raise SpecError(
            f"{where}: seed = {spec.seed}: expected less than 2^32 with precision 32"
        )
    return spec


def read(what: str, overrides: Mapping[str, Any]) -> Spec:
    """The spec of a built-in experiment or a file, with overrides on top.

    Args:
        what: an experiment's name, the path of a .toml file, that of a file of data,
            whose default settings `assumed` lists, or "mine.py:model".
        overrides: Spec fields; as in the file, "methods" may be an iterable of labels,
            "model" and "weights" a name. Settings that the file has are kept.

    Raises:
        InputError: there is no such experiment or file, or something in it cannot be
            used.
    """
    where = f"spec {what!r}"
    if what in catalogue.experiments():
        values = read_toml(catalogue.experiment(what), where)
    elif catalogue.is_numpyro(what):
        if overrides.get("model") is not None:
            raise SpecError(f"{where} is a model; --model names others")
        values = {"name": called(what), "model": {"name": what}}
    elif what.endswith(".toml"):
        values = read_toml(Path(what), where)
    elif is_data(what) or is_arrays(what):
        values = _for_data(what, where, overrides)
    else:
        if what.endswith(".py"):
            raise ModelError(
                f"{where}: which function of it? expected {what}:model, say"
            )
        known = [
            *catalogue.experiments(),
            *catalogue.library(),
            "a .toml file",
            "a file of data",
            "mine.py:model",
        ]
        raise unknown("experiment", what, known, error=SpecError)
    return make(merged(values, overrides), where)


def _for_data(what: str, where: str, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a run on a file of data.

    Raises:
        InputError: other data are named, too, or no model for named arrays.
    """
    model = overrides.get("model")
    if overrides.get("data") is not None:
        raise SpecError(f"{where} is a file of data; --data names others")
    if catalogue.is_numpyro(model):
        return {"name": _stem(what), "model": {"name": model}, "data": what}
    if not is_data(what):
        raise SpecError(
            f"{where} has named arrays; expected --model with one of the library's "
            "models, or mine.py:model"
        )
    values = _usual(what) | {"data": what}
    if model is not None:
        values["standardise"] = False  # counts, say, stay as they are
    return values


def is_data(what: str) -> bool:
    """Whether a spec's name is that of a file of rows."""
    from vi_bench.data.load import READERS  # imported late: it loads NumPy

    return Path(what).suffix.lower() in READERS


def is_arrays(what: str) -> bool:
    """Whether a spec's name is that of a file of named arrays."""
    from vi_bench.data.arrays import ending  # imported late: it loads NumPy

    return ending(Path(what)) is not None


def _usual(what: str) -> dict[str, Any]:
    """The default settings of a run on a file of data."""
    values = read_toml(catalogue.experiment("_file"), "the usual settings")
    return values | {"name": _stem(what)}


def _stem(what: str) -> str:
    """The name of a run on a file of data."""
    stem = Path(what).stem
    return stem if _is_plain(stem) else "run"


def assumed(what: str, overrides: Mapping[str, Any]) -> str:
    """The settings of a file of data that were left to defaults, in a sentence."""
    if catalogue.is_numpyro(overrides.get("model")):
        return ""
    usual, told = _usual(what), []
    if overrides.get("components") is None:
        told.append(f"components = {Spec.model_fields['components'].default}")
    for part in ("model", "weights"):
        if overrides.get(part) is None:
            told.append(f"{part} {usual[part]['name']}")
    if overrides.get("model") is None:
        told.append("each feature standardised")
    if overrides.get("methods") is None:
        told.append(f"methods {', '.join(DEFAULTS['methods'])}")
    return f"assumed for {what}: {'; '.join(told)}" if told else ""


def read_toml(path: Path, where: str) -> dict[str, Any]:
    """The content of a TOML file; "name" is by default the file's stem.

    Raises:
        InputError: it is missing, cannot be read, is not TOML, or has an unfit name.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise InputError(f"{where}: there is no such file") from None
    except OSError as error:
        raise InputError(f"{where}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{where}: is not valid TOML: {error}") from None
    if isinstance(name := values.get("name"), str) and not _is_plain(name):
        raise InputError(
            f"{where}: name = {name!r}: expected 1 to 100 printable characters without "
            "slashes: folders are named by it"
        )
    return {"name": path.stem} | values


def _is_plain(name: str) -> bool:
    """Whether a name can be that of a folder: printable, short, without slashes."""
    return (
        bool(name.strip(". "))
        and name.isprintable()
        and not {"/", "\\"} & set(name)
        and len(name) <= 100
    )


def merged(values: dict[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a spec with others on top; settings of what stays the same are kept."""
    found = values | {k: v for k, v in overrides.items() if v is not None}
    for key, usual in (("model", DEFAULTS["model"]), ("weights", DEFAULTS["weights"])):
        if isinstance(name := found.get(key), str):
            kept = values.get(key, {})
            same = isinstance(kept, Mapping) and kept.get("name", usual) == name
            found[key] = dict(kept) if same else {"name": name}
    chosen, kept = found.get("methods"), values.get("methods")
    if isinstance(chosen, Iterable) and not isinstance(chosen, Mapping | str):
        known = kept if isinstance(kept, Mapping) else {}
        found["methods"] = choose(chosen, known)
    return found


def usual_methods(model: str) -> dict[str, Any]:
    """Label -> settings of the usual methods for a NumPyro model."""
    own = DEFAULTS["own_methods"] if catalogue.brings_cavi(model) else {}
    return {**own, **DEFAULTS["numpyro_methods"]}


def of_numpyro(methods: Any, model: str) -> Any:
    """Methods with the defaults that they have for NumPyro models, by whatever label.

    None gives the usual ones. What is not a mapping from labels to settings is left for
    the validation.
    """
    usual = usual_methods(model)
    if methods is None:
        return dict(usual)
    if not isinstance(methods, Mapping):
        return methods
    return {
        label: usual.get(own.get("method", label), {}) | own
        if isinstance(own, Mapping)
        else own
        for label, own in methods.items()
    }


def called(model: str) -> str:
    """The name of a run of a NumPyro model: its function's, or "model" its file's."""
    file, _, function = model.rpartition(":")
    name = Path(file).stem if function == "model" and file.endswith(".py") else function
    return name if _is_plain(name) else "run"


def own_fit(function: str) -> tuple[str, dict[str, Any]]:
    """Label and settings of the method that calls a user's own fit, "mine.py:cavi"."""
    # of a function within another its own name alone
    return function.rpartition(":")[2].rpartition(".")[2], {
        "method": DEFAULTS["fit"],
        "function": function,
    }


def with_fits(
    labels: Iterable[str], settings: Mapping[str, Any], fits: Iterable[str]
) -> dict[str, Any]:
    """`choose`, after the methods that call a user's own fits of these names."""
    own = dict(map(own_fit, fits))
    return own | choose([label for label in labels if label not in own], settings)


def choose(labels: Iterable[Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Map each label, in order, to the settings known for it.

    Raises:
        InputError: a label is no text, is empty, or is there twice.
    """
    chosen: dict[str, Any] = {}
    for label in labels:
        if not isinstance(label, str) or not label:
            raise InputError(f"methods: {label!r} is not a method's name")
        if label in chosen:
            raise InputError(f"methods: {label!r} is named twice")
        chosen[label] = settings.get(label, {})
    return chosen
