"""A run for a paper: booktabs tables, a paragraph on the methods, and references."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from vi_bench.reports.tables import Cell, Number, ReportTable, rounded
from vi_bench.results.stored import StoredRun
from vi_bench.results.summary_schema import Record

SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#",
    "_": r"\_", "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", "±": r"\ensuremath{\pm}",
}  # fmt: skip

BEST = {
    ("predictions", "elpd"): max,
    ("costs", "run"): min,
}
"""(table, column) -> max or min: the best number is bold if it is clearly so."""

TABLES = ("verdicts", "parameters", "evidence", "predictions", "costs")
"""Names of the tables in main.tex; all others are written as files too."""


def escaped(text: str) -> str:
    """Text with LaTeX's special characters escaped."""
    printed = (c if c.isprintable() else " " for c in text)
    return "".join(SPECIAL.get(c, c) for c in printed)


def number(cell: Number) -> str:
    """A number in siunitx's notation: -451.4781(10), 1.07e6; empty if not finite."""
    if cell.value is None or not math.isfinite(cell.value):
        return ""
    text, _, error = rounded(cell.value, cell.se, cell.decimals).partition("±")
    if "e" in text:
        return text.replace("e+", "e")
    if not error or "e" in error:
        return text
    decimals = len(text.partition(".")[2])
    return f"{text}({round(float(error) * 10**decimals)})"


def tabular(table: ReportTable) -> str:
    """A booktabs tabular; numbers aligned by siunitx at their decimal marker."""
    lines = [" & ".join(f"{{{escaped(name)}}}" for name in table.head)]
    bold = {
        (row, at)
        for at, name in enumerate(table.head)
        for row in _best(table, at, name)
    }
    for i, row in enumerate(table.rows):
        cells = []
        for at, cell in enumerate(row):
            text = _cell(cell, table.numeric(at))
            cells.append(rf"\bfseries {text}" if (i, at) in bold else text)
        lines.append(" & ".join(cells))
    columns = "".join(_column(table, at) for at in range(len(table.head)))
    head, *body = (rf"{line} \\" for line in lines)
    return "\n".join(
        [
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            head,
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )


def _cell(cell: Cell, numeric: bool) -> str:
    if isinstance(cell, Number):
        text = number(cell)
        mark = f" {{{escaped(cell.mark)}}}" if cell.mark and text else ""
        return text + mark
    return f"{{{escaped(cell)}}}" if numeric else escaped(cell)


def _column(table: ReportTable, at: int) -> str:
    """A column's type: `l`, or siunitx's `S` with the digits that its numbers need."""
    if not table.numeric(at):
        return "l"
    whole = places = error = power = 0
    sign = ""
    marks = [row[at].mark for row in table.rows if isinstance(row[at], Number)]  # type: ignore[union-attr]
    for row in table.rows:
        cell = row[at]
        text = number(cell) if isinstance(cell, Number) else ""
        if not text:
            continue
        digits, _, exponent = text.partition("e")
        digits, _, uncertain = digits.partition("(")
        left, _, right = digits.partition(".")
        sign = "-" if left.startswith("-") else sign
        whole = max(whole, len(left.lstrip("-")))
        places = max(places, len(right))
        error = max(error, len(uncertain.rstrip(")")))
        power = max(power, len(exponent))
    form = f"{sign}{whole}.{places}" if places else f"{sign}{max(whole, 1)}"
    form += f"({error})" if error else ""
    form += f"e{power}" if power else ""
    after = ", table-space-text-post = {~(!)}" if any(marks) else ""
    return f"S[table-format={form}{after}]"


def _best(table: ReportTable, at: int, name: str) -> list[int]:
    """The row of the best number in a list; empty if another is within two errors."""
    choose = BEST.get((table.name, name))
    cells = {i: row[at] for i, row in enumerate(table.rows)}
    known = {
        i: (c.value, _error(table, i, c))
        for i, c in cells.items()
        if isinstance(c, Number) and c.value is not None
    }
    if choose is None or len(known) < 2:
        return []
    best = choose(known, key=lambda i: known[i][0])
    value, error = known[best]
    rivals = (v for i, v in known.items() if i != best)
    clear = all(abs(value - v) > 2 * math.hypot(error, e) for v, e in rivals)
    return [best] if clear else []


def _error(table: ReportTable, row: int, cell: Number) -> float:
    if table.name != "costs":
        return cell.se or 0.0
    low, high = (table.rows[row][table.head.index(name)] for name in ("min", "max"))
    ends = [c.value for c in (low, high) if isinstance(c, Number)]
    apart = [abs(e - (cell.value or 0.0)) for e in ends if e is not None]
    return max(apart, default=0.0)


ALWAYS = ("bradbury2018", "kumar2019", "vehtari2021", "vehtari2017", "vehtari2024")


def known_here(keys: Sequence[str]) -> list[str]:
    """Keys that are in references.bib; a user's method may name others."""
    known = entries()
    return [key for key in keys if key in known]


def cited(record: Record) -> list[str]:
    """Sorted citation keys of the software and papers that a run rests on."""
    found = dict.fromkeys(ALWAYS)
    for method in record.methods.values():
        found |= dict.fromkeys(known_here(method.references))
        if method.linear_response is not None:
            found["giordano2018"] = None
        if method.settings.get("accelerate"):
            found["varadhan2008"] = None
    return sorted(found)


def entries() -> dict[str, str]:
    """Key -> BibTeX entry, of references.bib."""
    text = (files(__package__) / "references.bib").read_text(encoding="utf-8")
    return {
        entry.partition("{")[2].partition(",")[0]: entry.strip()
        for entry in text.split("\n\n")
    }


def bibliography(keys: Sequence[str]) -> str:
    """The BibTeX entries of these keys, each once."""
    known = entries()
    return "\n\n".join(known[key] for key in dict.fromkeys(keys)) + "\n"


def paragraph(record: Record) -> str:
    """A LaTeX paragraph: model, data, methods, comparison, versions and settings."""
    spec = record.spec
    environment = record.environment
    packages = environment["packages"]
    told = [
        f"We fitted {_model(record)}, in {environment['precision']}-bit "
        f"arithmetic on {escaped(environment['device'])}."
    ]
    for label, method in record.methods.items():
        keys = known_here(method.references)
        cites = rf"~\citep{{{','.join(keys)}}}" if keys else ""
        told.append(
            rf"{_typed(label)} is {escaped(method.method)}{cites} "
            f"with {_settings(method.settings) or 'no settings'}."
        )
    if record.verdicts and record.reference:
        known = record.methods[record.reference].draws
        chains, draws = known or (spec["chains"], spec["draws"])
        told.append(
            f"All methods were compared with {_typed(record.reference)} "
            f"({chains} chains of \\num{{{draws}}} draws); a method "
            f"agrees where means differ by less than {spec['margin']} posterior "
            f"standard deviations and standard deviations by less than "
            rf"{100 * spec['sd_margin']:g}\,\% of them, beyond Monte-Carlo error, "
            r"at 5\,\% over all quantities."
        )
    named = ("vi-bench", "jax", "numpyro", "blackjax", "arviz")
    versions = [f"{n} {packages[n]}" for n in named if packages.get(n)]
    told.append(
        f"Versions: {escaped(', '.join(versions))}; seed {spec['seed']}. Compiled "
        r"programs ran on JAX~\citep{bradbury2018}; diagnostics are ArviZ's"
        r"~\citep{kumar2019}: $\hat R$ and effective sample sizes after "
        r"\citet{vehtari2021}, leave-one-out predictive densities after "
        r"\citet{vehtari2017,vehtari2024}."
    )
    return "\n".join(told) + "\n"


def _model(record: Record) -> str:
    """The model and its data."""
    data = record.data
    if not record.is_mixture:
        variables = ", ".join(map(_typed, record.model["variables"]))
        return (
            rf"the NumPyro model~\citep{{phan2019}} {_typed(record.model['name'])} "
            rf"(latent variables {variables}) to {_typed(data.name)}"
        )
    rows, features = data.shape
    return (
        f"a Bayesian mixture of {record.spec['components']} components "
        rf"({_typed(record.model['name'])}: {_settings(record.model)}; "
        rf"weights {_typed(record.weights['name'])}) to "
        rf"{_typed(data.name)} (\num{{{rows}}} rows, {features} "
        f"feature{'s' * (features != 1)})"
    )


def _typed(name: str) -> str:
    return rf"\texttt{{{escaped(name)}}}"


def _settings(values: Mapping[str, Any]) -> str:
    shown = {k: v for k, v in values.items() if k != "name" and v is not None}
    return escaped(", ".join(f"{k} {_short(v)}" for k, v in shown.items()))


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return f"({', '.join(map(_short, value))})"
    return str(value)


@dataclass(frozen=True)
class Paper:
    """The parts of a paper besides its tables and figures.

    Attributes:
        title: title of the document.
        paragraph: description of model, data and methods, as LaTeX.
        cited: keys of references.bib.
        shown: names of the tables that the document shows.
    """

    title: str
    paragraph: str
    cited: Sequence[str]
    shown: Sequence[str]


def run_paper(run: StoredRun) -> Paper:
    """The title, paragraph and references for a run."""
    return Paper(run.name, paragraph(run.record), cited(run.record), TABLES)


def document(tables: Sequence[ReportTable], figures: Sequence[str], title: str) -> str:
    """A LaTeX document with the paragraph, these tables and these figures."""
    shown = "\n".join(
        rf"\begin{{table}}\caption{{{escaped(table.title)}}}\centering\small"
        "\n"
        r"\resizebox{\ifdim\width>\linewidth \linewidth\else\width\fi}{!}"
        rf"{{\input{{tables/{table.name}.tex}}}}"
        "\n"
        r"\end{table}"
        for table in tables
    )
    drawn = "\n".join(
        rf"\begin{{figure}}\centering\includegraphics[width=\linewidth]"
        rf"{{figures/{name}.pdf}}\caption{{{escaped(name)}}}\end{{figure}}"
        for name in figures
    )
    return rf"""\documentclass[11pt]{{article}}
\usepackage[T1]{{fontenc}}
\usepackage[utf8]{{inputenc}}
\usepackage[margin=25mm]{{geometry}}
\usepackage{{lmodern,booktabs,siunitx,graphicx,natbib}}
\sisetup{{detect-weight, mode=match, reset-text-series=false, text-series-to-math=true}}
\title{{{escaped(title)}}}
\author{{}}
\date{{}}
\begin{{document}}
\maketitle
\input{{methods.tex}}
{shown}
\clearpage
{drawn}
\bibliographystyle{{plainnat}}
\bibliography{{references}}
\end{{document}}
"""


def write_paper(
    paper: Paper, tables: Sequence[ReportTable], figures: Sequence[str], folder: Path
) -> list[Path]:
    """Write tables/*.tex, methods.tex, references.bib and main.tex; their paths."""
    texts = {f"tables/{table.name}.tex": tabular(table) for table in tables}
    shown = [table for table in tables if table.name in paper.shown]
    texts["methods.tex"] = paper.paragraph
    texts["references.bib"] = bibliography(paper.cited)
    texts["main.tex"] = document(shown, figures, paper.title)
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in texts]
