"""A run as one self-contained HTML page: it needs no network and no other file."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from vi_bench.reports import sentences
from vi_bench.reports.interactive import Picture, pictures
from vi_bench.reports.sentences import Sentence
from vi_bench.reports.tables import ReportTable, tables
from vi_bench.results.stored import StoredRun
from vi_bench.results.summary_schema import Record

TONES = {
    "agrees": "good",
    "reference": "good",
    "differs": "bad",
    "failed": "bad",
    "not finite": "bad",
}
"""Colour class of each word; other words are shown as doubtful."""


@dataclass(frozen=True)
class Item:
    """One element of a section: a picture, a table, or code."""

    kind: str
    of: Any
    title: str = ""


@dataclass(frozen=True)
class Section:
    """A section of the page: a question, sentences and elements that answer it."""

    name: str
    title: str
    lines: Sequence[Sentence]
    items: Sequence[Item]


def run_page(run: StoredRun) -> str:
    """The page of a run, as HTML."""
    record = run.record
    drawn = pictures(run)
    made = {table.name: table for table in tables(record)}
    environment = record.environment
    lead = (
        f"{sentences.subject(record)}; {environment['device']}, "
        f"{environment['precision']} bits, {record.created}"
    )

    def items(*names: str) -> list[Item]:
        found: list[Item] = []
        for name in names:
            found += [Item("picture", drawn[name])] if name in drawn else []
            found += [Item("table", made[name])] if name in made else []
        return found

    sections = [
        Section(
            "right",
            "Is it right?",
            [*sentences.first(record), *sentences.gaps(record)],
            items("verdicts"),
        ),
        Section(
            "far",
            "How far off?",
            list(sentences.responses(record)),
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
            "cost",
            "What did it cost?",
            list(sentences.draws(record)),
            items("pareto", "bounds", "times", "costs"),
        ),
        Section(
            "trust",
            "Can the reference be trusted?",
            [*sentences.trust(record), *sentences.optima(record)],
            items("ranks", "samplers", "convergence", "optima", "importance"),
        ),
        Section("made", "How was it made?", [], _made(record)),
    ]
    return render(run.name, lead, sections, drawn, foot(record.environment))


def _made(record: Record) -> list[Item]:
    methods = {label: m.settings for label, m in record.methods.items()}
    environment = dict(record.environment)
    packages = environment.pop("packages")
    git = record.provenance.git
    origin = git.model_dump() if git else {}
    plugins = {p.name: f"{p.origin} {p.sha256}" for p in record.plugins}
    data = record.data.model_dump(mode="json")
    return [
        Item("code", "vi-bench rerun FOLDER", "Repeat it from its folder"),
        Item("code", " ".join(record.provenance.command), "The command that made it"),
        Item("code", toml(record.spec), "Spec"),
        Item("code", toml(methods), "Every setting of the methods"),
        Item("table", pairs("model", "model and prior", record.model)),
        Item("table", pairs("data", "data", data)),
        Item(
            "table",
            pairs(
                "environment", "environment", environment | packages | origin | plugins
            ),
        ),
    ]


def toml(values: Mapping[str, Any]) -> str:
    """Values as TOML that `vi-bench run` reads; None is left out, for the default."""
    import tomli_w

    def known(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {k: known(v) for k, v in value.items() if v is not None}
        return value

    return tomli_w.dumps(known(values)).strip()


def pairs(name: str, title: str, values: Mapping[str, Any]) -> ReportTable:
    """A table of names and values, without empty ones."""
    rows = tuple((k, _plain(v)) for k, v in values.items() if v not in (None, ""))
    return ReportTable(name, title, ("name", "value"), rows)


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(_plain, value))
    return str(value)


def foot(environment: Mapping[str, Any]) -> str:
    """The footer: the version that made the page."""
    version = environment["packages"].get("vi-bench") or "?"
    return f"vi_bench {version}; made from stored results, nothing was computed anew."


def render(
    title: str,
    lead: str,
    sections: list[Section],
    drawn: Mapping[str, Picture],
    foot: str,
) -> str:
    """The page as HTML; all text is escaped, and only its own scripts may run."""
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
        tones=TONES,
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
    """JSON with its special characters escaped, so it cannot end a script element."""
    text = json.dumps(values, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _hash(script: str) -> str:
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
