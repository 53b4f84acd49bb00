"""A run as one HTML page that needs nothing else: no network, no other file."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from vi_bench.publish.grids import Grid, Number, grids, sentence, word
from vi_bench.publish.pictures import Picture, pictures
from vi_bench.publish.stored import StoredRun

TONES = {
    "agrees": "good",
    "reference": "good",
    "differs": "bad",
    "failed": "bad",
    "not finite": "bad",
}
"""Of words; others are in doubt."""


@dataclass(frozen=True)
class Line:
    """A sentence, with a word before it."""

    text: str
    label: str = ""
    word: str = ""

    @property
    def tone(self) -> str:
        """How the word is shown."""
        return TONES.get(self.word, "doubt")


@dataclass(frozen=True)
class Item:
    """What a section shows: a picture, a grid, or code."""

    kind: str
    of: Any
    title: str = ""


@dataclass(frozen=True)
class Section:
    """A question, and what answers it."""

    name: str
    title: str
    lines: list[Line]
    items: list[Item]


def run_page(run: StoredRun) -> str:
    """The page of a run, as HTML."""
    summary = run.summary
    drawn = pictures(run)
    tables = {grid.name: grid for grid in grids(summary)}
    rows, features = summary["data"]["shape"]
    environment = summary["environment"]
    lead = (
        f"{summary['model']['name']} mixture, K = {summary['spec']['components']}, on "
        f"{summary['data']['name']} ({rows:,} x {features}); {environment['device']}, "
        f"{environment['precision']} bits, {summary['created']}"
    )

    def items(*names: str) -> list[Item]:
        found: list[Item] = []
        for name in names:
            found += [Item("picture", drawn[name])] if name in drawn else []
            found += [Item("grid", tables[name])] if name in tables else []
        return found

    sections = [
        Section("right", "Is it right?", list(_verdicts(summary)), items("verdicts")),
        Section(
            "far",
            "How far off?",
            list(_gaps(summary)),
            items(
                "components",
                "deviations",
                "parameters",
                "marginals",
                "ladder",
                "evidence",
                "joint",
                "predictions",
                "differences",
            ),
        ),
        Section(
            "cost", "What did it cost?", [], items("pareto", "bounds", "times", "costs")
        ),
        Section(
            "trust",
            "Can the reference be trusted?",
            list(_trust(summary)),
            items("ranks", "samplers", "convergence", "optima", "importance"),
        ),
        Section("made", "How was it made?", [], _made(summary)),
    ]
    return render(run.name, lead, sections, drawn, foot(summary))


def _verdicts(summary: Mapping[str, Any]) -> Iterator[Line]:
    for label in summary["methods"]:
        yield Line(sentence(summary, label), label, word(summary, label))
    for violation in (summary["evidence"] or {}).get("violations", ()):
        yield Line(violation, "evidence", "differs")
    if why := (summary["evidence"] or {}).get("no_gaps"):
        given = summary["evidence"]["gaps"]
        yield Line(why if given else f"gaps are not given: {why}", "evidence")
    if summary["interrupted"]:
        yield Line("The run was interrupted; methods that had finished are here.")
    if summary["reference"] is None:
        yield Line("No reference among the methods: nothing was compared.")
    if summary["note"]:
        yield Line(summary["note"])


def _gaps(summary: Mapping[str, Any]) -> Iterator[Line]:
    for label, method in summary["methods"].items():
        found = method.get("linear_response")
        if found is None:
            continue
        if found["refused"]:
            yield Line(f"{label}: no linear response: {found['refused']}")
        elif found["overlapping"]:
            numbers = ", ".join(map(str, found["overlapping"]))
            yield Line(
                f"{label}: components {numbers} overlap: their own linear-response sds "
                "are unreliable, those of averages need not be."
            )


def _trust(summary: Mapping[str, Any]) -> Iterator[Line]:
    reference = summary["reference"]
    method = summary["methods"].get(reference, {})
    known = method.get("quantities", {}).values()
    if not known:
        return
    largest = max((k["r_hat"] for k in known if k["r_hat"] is not None), default=None)
    least = min((k["ess_bulk"] for k in known if k["ess_bulk"] is not None), default=0)
    said = f"{reference}: smallest bulk ESS {least:,.0f}"
    if largest is not None:
        said += f", largest R-hat {largest:.3f}"
    modes = method.get("modes", [])
    count = len(modes)
    yield Line(f"{said}, {count} mode{'s' * (count != 1)} seen by its chains.")
    for mode in modes if count > 1 else ():
        chains = ", ".join(map(str, mode["chains"]))
        density = Number(mode["log_joint"], decimals=2)
        yield Line(f"Chains {chains}: mean log joint {density}.")
    how = method.get("relabelling", {})
    if how and not how["identifiable"]:
        yield Line(
            "Components cannot be told apart in its draws: only quantities that no "
            "relabelling changes are judged."
        )


def _made(summary: Mapping[str, Any]) -> list[Item]:
    methods = {label: m["settings"] for label, m in summary["methods"].items()}
    environment = dict(summary["environment"])
    packages = environment.pop("packages")
    origin = summary["provenance"]["git"] or {}
    plugins = {p["name"]: f"{p['origin']} {p['sha256']}" for p in summary["plugins"]}
    command = " ".join(summary["provenance"]["command"])
    return [
        Item("code", "vi-bench rerun FOLDER", "Repeat it from its folder"),
        Item("code", command, "The command that made it"),
        Item("code", toml(summary["spec"]), "Spec"),
        Item("code", toml(methods), "Every setting of the methods"),
        Item("grid", pairs("model", "model and prior", summary["model"])),
        Item("grid", pairs("data", "data", summary["data"])),
        Item(
            "grid",
            pairs(
                "environment", "environment", environment | packages | origin | plugins
            ),
        ),
    ]


def toml(values: Mapping[str, Any]) -> str:
    """As a file that `vi-bench run` reads; what is null is left to its default."""
    import tomli_w

    def known(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {k: known(v) for k, v in value.items() if v is not None}
        return value

    return tomli_w.dumps(known(values)).strip()


def pairs(name: str, title: str, values: Mapping[str, Any]) -> Grid:
    """Names and values, those that are known."""
    rows = tuple((k, _plain(v)) for k, v in values.items() if v not in (None, ""))
    return Grid(name, title, ("name", "value"), rows)


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(_plain, value))
    return str(value)


def foot(summary: Mapping[str, Any]) -> str:
    """What made the page."""
    version = summary["environment"]["packages"].get("vi-bench") or "?"
    return f"vi_bench {version}; made from stored results, nothing was computed anew."


def render(
    title: str,
    lead: str,
    sections: list[Section],
    drawn: Mapping[str, Picture],
    foot: str,
) -> str:
    """HTML; every string from outside is escaped, only these scripts may run."""
    from jinja2 import Environment, FunctionLoader, StrictUndefined
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    def source(name: str) -> str:
        return (files(__package__) / name).read_text(encoding="utf-8")

    environment = Environment(
        autoescape=True,
        loader=FunctionLoader(source),
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    plots = {name: picture.plots for name, picture in drawn.items()}
    scripts = {"plotly": get_plotlyjs(), "js": source("page.js")}
    shown = [s for s in sections if s.lines or s.items]
    return environment.get_template("page.html").render(
        title=title,
        lead=lead,
        sections=shown,
        foot=foot,
        css=Markup(source("page.css")),
        plots=Markup(_harmless(plots)),
        hashes=Markup(" ".join(map(_hash, scripts.values()))),
        **{name: Markup(text) for name, text in scripts.items()},
    )


def _harmless(values: Any) -> str:
    """JSON that cannot end its script element."""
    text = json.dumps(values, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _hash(script: str) -> str:
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
