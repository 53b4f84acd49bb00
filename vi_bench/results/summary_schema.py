"""The record of a run: what summary.json holds, written and read by one schema.

docs/summary.md describes every key. Times are seconds, bounds nats, memory bytes. A
number that is not finite is None.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
)

from vi_bench.errors import ResultsError
from vi_bench.runtime.strict_json import plain

SCHEMA = 3
"""Version of summary.json, raised when a key is renamed or changes its meaning."""

OLDEST = 2
"""The oldest version that is still read."""


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


Real = Annotated[float | None, BeforeValidator(_finite)]
"""A number, or None where it is not finite or not known."""


class Part(BaseModel):
    """Base class of all parts of a record: frozen, and unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Value(Part):
    """A number and its standard error; an error of 0 means exact."""

    value: Real
    se: Real


class Data(Part):
    """The data: name, SHA-256, shape (N, d), features and source.

    Those of a NumPyro model are several arrays: `shape` is empty, `features` has the
    names of the arrays.
    """

    name: str
    sha256: str
    shape: tuple[int, ...]
    features: tuple[str, ...]
    note: str
    source: str


class Plugin(Part):
    """A model or a method that does not ship, and the SHA-256 of its file."""

    kind: str
    name: str
    origin: str
    sha256: str


class Git(Part):
    """The commit of the repository that the working folder belongs to."""

    commit: str | None = None
    dirty: bool | None = None


class Provenance(Part):
    """The command line, the repository, limits on threads and the machine's load."""

    command: tuple[str, ...]
    git: Git | None
    threads: dict[str, str]
    load: tuple[Real, ...] | None = None


class Spread(Part):
    """Seconds of the steady runs, and how many there were."""

    median: float
    min: float
    max: float
    repeats: int


class StageTime(Part):
    """Seconds, flops and bytes of one stage, see `vi_bench.runner.timing.StageTime`."""

    trace_s: float
    compile_s: float
    compile_cached: bool
    first_s: float
    calls: int
    flops: Real
    temporary_bytes: int | None
    output_bytes: int | None
    part_of_inference: bool
    batches: int = 1
    compiled: bool = True
    cores: int = 1
    lane_s: float | None = None
    cut: bool = False
    run_s: Spread | None


class Time(Part):
    """Seconds of a method by kind, summed over its inference stages, and by stage."""

    setup_s: float
    trace_s: float
    compile_s: float
    compile_cached: bool
    first_s: float
    run_s: Spread | None
    further_s: float = 0.0
    stages: dict[str, StageTime]

    @property
    def cut(self) -> bool:
        """Whether a budget of time ended the method."""
        return any(stage.cut for stage in self.stages.values())

    @property
    def cores(self) -> int:
        """The most cores that the lanes of a stage, such as chains, ran on."""
        of = [s.cores for s in self.stages.values() if s.part_of_inference]
        return max(of, default=1)

    @property
    def core_each_s(self) -> float | None:
        """Seconds of the first run if each lane, such as a chain, had its own core.

        None where no stage has lanes.
        """
        own = [s for s in self.stages.values() if s.part_of_inference]
        if all(s.lane_s is None for s in own):
            return None
        return sum(s.first_s if s.lane_s is None else s.lane_s for s in own)

    @property
    def compiled(self) -> bool:
        """Whether all of it is compiled programs, none a Python function."""
        return all(stage.compiled for stage in self.stages.values())


class Sampler(Part):
    """Sampler diagnostics of a Hamiltonian sampler, over the draws that were kept."""

    divergences: int
    mean_tree_depth: Real
    mean_acceptance_rate: Real
    step_size: tuple[Real, ...]
    gradients: int


class RestartOptimum(Part):
    """A local optimum: its bound, restarts that ended there, occupied components."""

    bound: Real
    restarts: int
    occupied: int


class Restarts(Part):
    """Every restart, and the distinct local optima they ended in, best first."""

    bound: tuple[Real, ...]
    iterations: tuple[int, ...]
    converged: tuple[bool, ...]
    counts: tuple[tuple[Real, ...], ...]
    optima: tuple[RestartOptimum, ...]
    largest_relative_fall: Any


class ResponseSd(Part):
    """Posterior sds of one quantity, by linear response and by mean field."""

    sd: Real
    mean_field_sd: Real
    unreliable: bool


class Response(Part):
    """Linear response at a fixed point of CAVI, or why there is none."""

    refused: str
    rate: Real
    overlapping: tuple[int, ...]
    quantities: dict[str, ResponseSd]


class Relabelling(Part):
    """How draws were relabelled: shares of draws moved, switching and ambiguous."""

    moved: Real
    switching: Real
    ambiguous: Real
    identifiable: bool


class Mode(Part):
    """Chains that sample one mode, their mean log joint, and the mode's mass."""

    chains: tuple[int, ...]
    log_joint: Real
    share: Real = None


class Elpd(Part):
    """An expected log predictive density, nats; `se` is its error over rows."""

    elpd: Real
    se: Real
    mc_error: Real
    rows: int
    worst_khat: Real
    p_loo: Real
    minus_reference: Value | None = None
    minus_reference_mc_error: Real = None


class QuantitySummary(Part):
    """Mean and sd of a quantity with Monte-Carlo errors, and chain diagnostics."""

    mean: Real
    mean_mcse: Real
    sd: Real
    sd_mcse: Real
    ess_bulk: Real
    ess_tail: Real
    r_hat: Real


class Correction(Part):
    """Mean and sd of a quantity, raw and corrected by importance weights."""

    raw_mean: Value
    raw_sd: Value
    mean: Value
    sd: Value


class Importance(Part):
    """Importance weights from q to the posterior: diagnostics and corrections."""

    word: str
    khat: Real
    sd_log_weights: Real
    relative_ess: Real
    proposal: str
    log_evidence: Value
    corrected: dict[str, Correction]
    sentence: str


class Posterior(Part):
    """Summaries of one method's draws, without any comparison.

    `draws` is the number of chains, or of runs, and of draws in each. All is None or
    empty for a method without draws.
    """

    draws: tuple[int, int] | None = None
    relabelling: Relabelling | None = None
    modes: tuple[Mode, ...] = ()
    elpd: dict[str, Elpd] = Field(default_factory=dict)
    quantities: dict[str, QuantitySummary] = Field(default_factory=dict)


class Method(Posterior):
    """One method: its settings, how it ended, its bounds, times and draws."""

    method: str
    kind: str
    references: tuple[str, ...] = ()
    settings: dict[str, Any]
    outcome: str
    converged: bool | None
    outcome_sentence: str
    error: str
    iterations: int | None
    accepted_extrapolations: int | None
    counts: tuple[Real, ...] | None
    bound: Real
    bound_se: Real
    assignments_in_q: bool
    marginal_elbo: Real
    marginal_elbo_se: Real
    log_evidence: Real
    log_evidence_se: Real
    log_evidence_df: Real
    time: Time
    memory_bytes: int | None
    short: bool = False
    ess_per_s: Real
    sampler: Sampler | None = None
    restarts: Restarts | None = None
    linear_response: Response | None = None
    importance: Importance | None = None

    @property
    def compared(self) -> bool:
        """Whether its draws were compared with others'."""
        return bool(self.quantities)

    @property
    def usable(self) -> bool:
        """Whether it neither failed nor gave draws that are not finite."""
        return self.outcome not in ("failed", "not finite")

    @property
    def seconds(self) -> float | None:
        """Median seconds of a steady run; None where it was not timed."""
        return self.time.run_s.median if self.time.run_s else None


class Difference(Part):
    """One quantity of a method against the reference, in the reference's sds."""

    method: str
    quantity: str
    judged: bool
    mean_difference: Real
    mean_difference_se: Real
    sd_ratio: Real
    sd_ratio_se: Real
    w1: Real
    w1_se: Real
    w1_floor: Real
    q05_difference: Real = None
    q05_difference_se: Real = None
    q95_difference: Real = None
    q95_difference_se: Real = None


class Discrepancy(Part):
    """A distance between two samples; `floor` is the reference's from itself."""

    value: Real
    floor: Real
    p_value: Real = None
    se: Real = None


class Joint(Part):
    """Distances of a method from the reference in all quantities jointly."""

    sliced: Discrepancy
    transport: Discrepancy
    energy: Discrepancy
    mmd: Discrepancy
    classifier: Discrepancy
    used: int
    matched: int
    dropped: tuple[int, ...]
    tolerated: Real = None
    columns: tuple[str, ...] = ()
    similarity: Discrepancy | None = None


class Bounds(Part):
    """Bounds on log p(X) by one variational method, nats."""

    elbo: Value | None
    marginal_elbo: Value | None
    symmetrised: Value | None
    importance_weighted: Value | None
    symmetry: Value | None


class Gap(Part):
    """log p(X) minus a method's lowest bound, and the parts of that gap, nats."""

    total: Value
    optimisation: Real
    symmetry: Value | None
    mean_field: Value | None


class Evidence(Part):
    """Bounds on log p(X), estimates of it, and the gaps between them."""

    bounds: dict[str, Bounds]
    evidence: dict[str, Value]
    trusted: str | None
    gaps: dict[str, Gap]
    withheld: dict[str, str] = Field(default_factory=dict)
    no_gaps: str = ""
    violations: tuple[str, ...] = ()


class Optimum(Part):
    """A local optimum of the ELBO, nats, and the methods that found it.

    `below` is how far it lies below the best one. It counts the relabellings of both,
    so it is not a difference of `bound`s.
    """

    bound: Real
    below: Real
    sources: tuple[str, ...]


class Coverage(Part):
    """The known optima, shares of draws that lead to them, and optima missed."""

    optima: tuple[Optimum, ...] = ()
    visits: dict[str, tuple[Real, ...]] = Field(default_factory=dict)
    missed: dict[str, Optimum] = Field(default_factory=dict)


class Verdict(Part):
    """The verdict on a method, its reason, and further draws that may decide it."""

    word: str
    reason: str
    more_draws: int | None = None


class Compared(Part):
    """The results of a comparison, within a run or on its own."""

    schema_version: int = Field(SCHEMA, alias="schema")
    reference: str | None
    note: str
    comparisons: tuple[Difference, ...]
    joint: dict[str, Joint]
    verdicts: dict[str, Verdict]

    def of_method(self, label: str) -> list[Difference]:
        """Rows on a method's differences from the reference, one per quantity."""
        return [row for row in self.comparisons if row.method == label]


class ComparisonRecord(Compared):
    """A comparison of existing draws, without a run."""

    posteriors: dict[str, Posterior]

    def word(self, label: str) -> str:
        """The verdict on a posterior; "reference" for the reference itself."""
        return "reference" if label == self.reference else self.verdicts[label].word

    def values(self) -> dict[str, Any]:
        """The record as plain values, which `document` turns into JSON."""
        return self.model_dump(mode="json", by_alias=True)


class MeanSd(Part):
    """A mean and a standard deviation."""

    mean: Real
    sd: Real


class Agreement(Part):
    """Agreement of components with known labels: adjusted Rand index over draws."""

    column: str
    rows: int
    draws: int
    adjusted_rand: dict[str, MeanSd]


class CurvePoint(Part):
    """The largest errors of a method at one budget, each with its own."""

    seconds: Real
    passes: Real
    mean: Value
    sd: Value
    w1: Value
    bound: Value | None = None


class Curve(Part):
    """Errors by growing budget, and the seconds after which the margin is kept."""

    points: tuple[CurvePoint, ...]
    within: Real

    def errors(
        self, name: str, amount: str = "seconds"
    ) -> list[tuple[float, float, float]]:
        """Budget, error and its own error, of points that a logarithm can show.

        Args:
            name: "mean", "sd" or "w1".
            amount: "seconds" or "passes".
        """
        return [
            (x, e.value, e.se or 0.0)
            for point in self.points
            if (x := getattr(point, amount)) and (e := getattr(point, name)).value
        ]


class Floor(Part):
    """The reference's own Monte-Carlo errors, the largest, in its sds."""

    mean: Real
    sd: Real
    w1: Real


class Curves(Part):
    """Error against time of all methods."""

    reference: str
    margin: Real
    floor: Floor
    methods: dict[str, Curve]


class Record(Compared):
    """The record of a run, as in summary.json."""

    created: str
    interrupted: bool
    spec: dict[str, Any]
    model: dict[str, Any]
    weights: dict[str, Any]
    plugins: tuple[Plugin, ...]
    data: Data
    environment: dict[str, Any]
    provenance: Provenance
    methods: dict[str, Method]
    evidence: Evidence | None
    optima: Coverage | None = None
    labels: Agreement | None = None
    curves: Curves | None = None

    @property
    def name(self) -> str:
        """The name of the run."""
        return str(self.spec["name"])

    @property
    def is_mixture(self) -> bool:
        """Whether the model is a mixture, not a NumPyro model."""
        return bool(self.weights)

    @property
    def parameters(self) -> int:
        """The number of scalars that a NumPyro model's latent variables have."""
        return sum(math.prod(shape) for shape in self.model["variables"].values())

    def within(self, label: str) -> float | None:
        """Seconds after which a method's means stay within the margin, if known."""
        curve = self.curves.methods.get(label) if self.curves else None
        return curve.within if curve else None

    def word(self, label: str) -> str:
        """A method's verdict, or how it ended."""
        if label in self.verdicts:
            return self.verdicts[label].word
        if label == self.reference and self.methods[label].compared:
            return "reference"
        return self.methods[label].outcome

    def values(self) -> dict[str, Any]:
        """The record as plain values; keys that do not apply are left out."""
        found = self.model_dump(mode="json", by_alias=True)
        for method in found["methods"].values():
            for key, default in OPTIONAL.items():
                if method[key] == default:
                    del method[key]
        for part in ("labels", "curves"):
            if found[part] is None:
                del found[part]
        return found


OPTIONAL: dict[str, Any] = {
    "sampler": None,
    "restarts": None,
    "linear_response": None,
    "importance": None,
    "relabelling": None,
    "modes": [],
    "elpd": {},
    "quantities": {},
}
"""Keys that a method has only where they apply, with their values where not."""


def has_place_for(key: str, value: Any) -> bool:
    """Whether a method's part may have this under a key that not all methods have."""
    if key not in OPTIONAL:
        return False
    form: Any = Method.model_fields[key].annotation
    try:
        TypeAdapter(form).validate_python(plain(value))
    except ValidationError:
        return False
    return True


def record_of(values: Mapping[str, Any]) -> Record:
    """Make a record from values of this schema, which may hold arrays and NaN."""
    return Record.model_validate(plain(values))


def read_record(folder: Path) -> Record:
    """Read the record of a run's folder; an older schema is converted to this one.

    Raises:
        ResultsError: summary.json is not there, cannot be read, or is of another
            schema.
    """
    where = f"run {str(folder)!r}"
    try:
        text = (folder / "summary.json").read_text(encoding="utf-8")
    except OSError as error:
        raise ResultsError(f"{where}: summary.json: {error.strerror}") from None
    return parse(text, where)


def parse(text: str | bytes, where: str) -> Record:
    """The record that the text of a summary.json holds.

    Args:
        text: content of the file.
        where: the run that it belongs to, for messages.

    Raises:
        ResultsError: it is not JSON, or does not follow a schema that is read.
    """
    try:
        known = json.loads(text)
    except ValueError:
        raise ResultsError(f"{where}: summary.json is not JSON") from None
    schema = known.get("schema") if isinstance(known, dict) else None
    if schema not in range(OLDEST, SCHEMA + 1):
        raise ResultsError(
            f"{where}: has schema {schema!r}, expected {OLDEST} to {SCHEMA}"
        )
    try:
        return Record.model_validate(known if schema == SCHEMA else upgraded(known))
    except (ValidationError, KeyError, TypeError, AttributeError) as error:
        raise ResultsError(f"{where}: summary.json{_wrong(error)}") from None


def _wrong(error: Exception) -> str:
    """The end of a message: missing keys, or else the first wrong value."""
    if not isinstance(error, ValidationError):
        return f": is not as schema {OLDEST} has it ({type(error).__name__}: {error})"
    known = error.errors(include_url=False)
    missing = [e["loc"] for e in known if e["type"] == "missing"]
    if missing:
        return f" lacks {', '.join('.'.join(map(str, loc)) for loc in missing)}"
    place = ".".join(map(str, known[0]["loc"]))
    message = known[0]["msg"]
    return f": {place}: {message[:1].lower()}{message[1:]}"


def upgraded(old: Mapping[str, Any]) -> dict[str, Any]:
    """Convert values of schema 2 to schema 3, which renamed some keys."""
    methods = {
        label: {_KEYS.get(key, key): value for key, value in method.items()}
        | {"outcome": _WORDS.get(method["outcome"], method["outcome"])}
        | {"references": _REFERENCES.get(method["method"], ())}
        for label, method in old["methods"].items()
    }
    evidence = old["evidence"]
    if evidence is not None:
        bounds = {
            label: {_RUNGS.get(key, key): value for key, value in known.items()}
            for label, known in evidence["bounds"].items()
        }
        evidence = {**evidence, "bounds": bounds}
    return {**old, "schema": SCHEMA, "methods": methods, "evidence": evidence}


_KEYS = {
    "leaps": "accepted_extrapolations",
    "bound_keeps_labels": "assignments_in_q",
    "marginal_bound": "marginal_elbo",
    "marginal_bound_se": "marginal_elbo_se",
}
_RUNGS = {"labels_in_q": "elbo", "summed_out": "marginal_elbo"}
_WORDS = {"budget spent": "iteration limit"}
"""Schema 2 -> schema 3: names of a method's keys, of bounds, and of outcomes."""

_REFERENCES = {
    "CAVI": ("blei2017",),
    "StochasticCAVI": ("hoffman2013",),
    "SVI": ("kingma2014", "phan2019"),
    "NUTS": ("hoffman2014", "cabezas2024"),
    "SMC": ("delmoral2006", "cabezas2024"),
    "Nested": ("skilling2006", "cabezas2024"),
    "Pathfinder": ("zhang2022", "cabezas2024"),
    "Gibbs": ("diebolt1994",),
    "Tempered": ("diebolt1994", "syed2022"),
}
"""Class of a method -> its citation keys, which schema 2 did not store."""
