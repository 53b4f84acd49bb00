"""`vi-bench compare`: posterior draws that already exist."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vi_bench import catalogue
from vi_bench.cli.options import AsJson, split
from vi_bench.cli.terminal import console, kept_for

MARGIN: float = catalogue.defaults()["margin"]


def compare(
    draws: Annotated[
        list[str],
        typer.Argument(
            help="Posterior draws, two or more, of any model: ArviZ .nc files, Zarr "
            "folders or .zarr.zip, CSV files of CmdStan ('fit_*.csv' in quotes for all "
            "chains), posteriordb's reference draws (.json, .json.zip or a folder), or "
            "reference:NAME, one of `vi-bench list references`."
        ),
    ],
    reference: Annotated[
        str | None,
        typer.Option(
            help="Name of the posterior that the others are compared with: its file "
            "name without the ending (default: the one given as reference:NAME)."
        ),
    ] = None,
    margin: Annotated[
        float, typer.Option(help="Equivalence margin for means, in reference sds.")
    ] = MARGIN,
    sd_margin: Annotated[
        float,
        typer.Option(help="Equivalence margin for sds, as a relative difference."),
    ] = MARGIN,
    component_dim: Annotated[
        list[str] | None,
        typer.Option(
            help="Dimension of exchangeable components, whose labels may be permuted; "
            "once for each variable that has its own; none: there are none (default: "
            "component, or what fits the weights)."
        ),
    ] = None,
    weight: Annotated[
        str | None,
        typer.Option(
            help="Variable that holds the mixture weights (default: weight, or the one "
            "over components that sums to 1)."
        ),
    ] = None,
    rename: Annotated[
        list[str] | None,
        typer.Option(
            help="THEIRS=OURS: compare a variable that some of the files call THEIRS "
            "with OURS of the others; may be given several times."
        ),
    ] = None,
    variables: Annotated[
        str | None,
        typer.Option(
            help="Comma-separated variables to compare (default: all that every "
            "posterior has)."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help=".json file for the full comparison (default: none is written)."
        ),
    ] = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="Print only the table: no notes.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Compare posterior draws that already exist."""
    from vi_bench.draws.compare import compare as held
    from vi_bench.reports.comparison import print_comparison, write_comparison
    from vi_bench.results.stored_comparison import comparison_record
    from vi_bench.runtime.progress import counted
    from vi_bench.runtime.strict_json import document

    with kept_for(as_json), counted("comparing") as tick:
        named = _named_draws(draws)
        reference = reference or _published(named)
        label = next((k for k, v in named.items() if v == reference), reference)
        found = held(
            named,
            label,
            margin=margin,
            sd_margin=sd_margin,
            component_dim=component_dim or None,
            weight=weight,
            variables=split(variables),
            rename=_renamed(rename or []),
            tick=tick,
        )
        record = comparison_record(found)
        if out is not None:
            write_comparison(record, out)
    if as_json:
        print(document(record.values()), end="")
    else:
        print_comparison(record, console(), quiet)


def _published(named: dict[str, str]) -> str:
    """The label of the only published reference among the draws."""
    from vi_bench.draws.published import PREFIX
    from vi_bench.errors import InputError

    found = [label for label, path in named.items() if path.startswith(PREFIX)]
    if len(found) == 1:
        return found[0]
    raise InputError(
        "--reference: is not given; expected the name of one of the draws: "
        + ", ".join(named)
    )


def _renamed(given: list[str]) -> dict[str, str]:
    """{"theirs": "ours"} from "theirs=ours"."""
    from vi_bench.errors import InputError

    found = {}
    for text in given:
        theirs, equals, ours = text.partition("=")
        if not (theirs and equals and ours):
            raise InputError(f"--rename {text!r}: expected THEIRS=OURS")
        found[theirs] = ours
    return found


def _named_draws(paths: list[str]) -> dict[str, str]:
    """Label -> path: the file's name without its ending where that is unambiguous."""
    from vi_bench.errors import InputError

    seen = set[Path]()
    for path in paths:
        if Path(path).resolve() in seen:
            raise InputError(f"the same draws are named twice: {path!r}")
        seen.add(Path(path).resolve())
    stems = [Path(path).name.partition(".")[0].rstrip("_*?") for path in paths]
    if len(set(stems)) < len(stems) or not all(stems):
        stems = paths
    return dict(zip(stems, paths, strict=True))
