"""`vi-bench run`: one model, inferred by several methods."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vi_bench.cli import completion
from vi_bench.cli.options import AsJson, Models, Weights, load_plugins, split
from vi_bench.cli.terminal import console, end_interrupted, interruptible, kept_for

if TYPE_CHECKING:
    from vi_bench.runner.views import Result
    from vi_bench.runtime.cluster import Cluster
    from vi_bench.spec import Spec


def run(
    spec: Annotated[
        str,
        typer.Argument(
            help="A built-in experiment (see vi-bench list experiments), a .toml "
            "spec, a .csv, .tsv, .txt, .npy, .parquet or .zarr file of data, or a "
            "NumPyro model, mine.py:model.",
            autocompletion=completion.experiment,
        ),
    ],
    model: Annotated[
        str | None,
        typer.Option(
            help="Component family: a registered name, or a .py file that defines "
            "MODEL (default: the spec's, else gaussian).",
            autocompletion=completion.model,
        ),
    ] = None,
    models: Models = None,
    method: Annotated[
        list[Path] | None,
        typer.Option(
            help=".py file that defines METHOD; the method, named by the file, is "
            "added to --methods. May be repeated (default: none)."
        ),
    ] = None,
    weights: Weights = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="Built-in data (see vi-bench list data), "
            "simulate:K=5,d=2,N=1000,separation=4,seed=0, or a .csv, .tsv, .txt, "
            ".npy, .parquet or .zarr file (default: the spec's, else notebook); of a "
            "NumPyro model a .npz, .npy, .csv, .json or .json.zip file, or a function "
            "mine.py:data (default: data() in the model's file).",
            autocompletion=completion.data,
        ),
    ] = None,
    separator: Annotated[
        str | None,
        typer.Option(
            help="What stands between the cells of a text file: comma, semicolon, tab "
            "or space (default: what fits)."
        ),
    ] = None,
    header: Annotated[
        bool | None,
        typer.Option(
            "--header/--no-header",
            help="Whether the first line of a text file holds names (default: what "
            "fits).",
        ),
    ] = None,
    index: Annotated[
        bool | None,
        typer.Option(
            "--index/--no-index",
            help="Whether the first column of a text file numbers or names the rows "
            "and is left out (default: if it has no name).",
        ),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            help="Column of known labels in a text file: left out of the data, and "
            "held against each method's components (default: the spec's)."
        ),
    ] = None,
    fit: Annotated[
        list[str] | None,
        typer.Option(
            help="Your own fit of a NumPyro model, mine.py:cavi: a function of the "
            "same data that returns {'q': {site: distribution}, 'elbo': trace}. It is "
            "added to --methods. May be repeated (default: none)."
        ),
    ] = None,
    variables: Annotated[
        str | None,
        typer.Option(
            help="Comma-separated variables of a NumPyro model that are compared; "
            "without it, all."
        ),
    ] = None,
    component_dim: Annotated[
        list[str] | None,
        typer.Option(
            help="Plate or dimension of exchangeable components of a NumPyro model; "
            "may be repeated; none if there are none; without it, a plate called "
            "component."
        ),
    ] = None,
    stream: Annotated[
        bool | None,
        typer.Option(
            "--stream",
            help="Read the rows from their file in every sweep, for data larger than "
            "memory (default: the spec's, else off).",
        ),
    ] = None,
    components: Annotated[
        int | None,
        typer.Option(
            help="Number of mixture components K (default: the spec's, else 2)."
        ),
    ] = None,
    methods: Annotated[
        str | None,
        typer.Option(
            help="Comma-separated labels of the methods to run (default: the spec's, "
            "else cavi,svi,nuts).",
            autocompletion=completion.methods,
        ),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(
            help="Label of the method that the others are compared with; auto "
            "chooses one (default: the spec's, else nuts if it is run).",
            autocompletion=completion.reference,
        ),
    ] = None,
    held_out: Annotated[
        int | None,
        typer.Option(
            help="Number of rows set aside at random to score predictions (default: "
            "the spec's, else 0)."
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Random seed (default: the spec's, else 0).")
    ] = None,
    precision: Annotated[
        int | None,
        typer.Option(
            help="Floating-point precision in bits: 64 or 32 (default: the spec's, "
            "else 64).",
            autocompletion=completion.precision,
        ),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            help="Device to compute on: auto (the best available), cpu, gpu or tpu "
            "(default: the spec's, else auto).",
            autocompletion=completion.device,
        ),
    ] = None,
    devices: Annotated[
        int | None,
        typer.Option(
            help="Number of devices that share the rows; each core of a CPU counts "
            "as one (default: the spec's, else 1)."
        ),
    ] = None,
    hosts: Annotated[
        int | None,
        typer.Option(
            help="Number of processes that share the rows; needs --coordinator, "
            "--rank and --out (default: a single process)."
        ),
    ] = None,
    coordinator: Annotated[
        str | None,
        typer.Option(
            help="HOST:PORT at which the process of rank 0 listens; only with "
            "--hosts (default: none)."
        ),
    ] = None,
    rank: Annotated[
        int | None,
        typer.Option(
            help="Rank of this process among --hosts, from 0; only with --hosts "
            "(default: none)."
        ),
    ] = None,
    start_from: Annotated[
        Path | None,
        typer.Option(
            help=".npz checkpoint of q that cavi starts from (default: the spec's "
            "start)."
        ),
    ] = None,
    repeats: Annotated[
        int | None,
        typer.Option(
            help="Number of timed runs after the first (default: the spec's, else 3, "
            "fewer for slow stages)."
        ),
    ] = None,
    budget: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            help="Seconds that each method may take, compilation apart; one that takes "
            "longer is stopped, and its row says what it had reached (default: the "
            "spec's, else no limit).",
        ),
    ] = None,
    curves: Annotated[
        bool | None,
        typer.Option(
            "--curves/--no-curves",
            help="Measure error against time: what every method would have told, had "
            "it been stopped earlier (default: the spec's, else off).",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the results (default: results/NAME-TIME)."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the folder of an earlier run.")
    ] = False,
    details: Annotated[
        bool,
        typer.Option(
            "--details", help="Print all tables and notes, not only the verdicts."
        ),
    ] = False,
    quiet: Annotated[
        bool,
        typer.Option("--quiet", help="Print only the table: no progress, no notes."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Infer a model by several methods, compare them and time them.

    The model is a mixture, or any NumPyro model in a file.

    Options override the settings of the spec. For a file of data, the model and other
    settings that are assumed are printed.
    """
    overrides: dict[str, Any] = {
        "data": data,
        "separator": separator,
        "header": header,
        "index": index,
        "labels": labels,
        "variables": split(variables),
        "component_dim": component_dim or None,
        "stream": stream,
        "weights": weights,
        "components": components,
        "reference": reference,
        "held_out": held_out,
        "seed": seed,
        "precision": precision,
        "device": device,
        "devices": devices,
        "repeats": repeats,
        "budget": budget,
        "curves": curves,
    }
    with interruptible("interrupted before any method finished"):
        with kept_for(as_json):
            overrides["model"], added = load_plugins(model, models, method or [])
            overrides["methods"] = _with_files(
                spec, overrides, split(methods) or [], added, fit or []
            )
            cluster = _cluster(hosts, coordinator, rank, out)
            asked = _asked(spec, overrides, start_from)
            if not quiet:
                _tell_what_is_assumed(spec, overrides)
        target = out or _default_folder(asked)
        if cluster is not None:
            _supervise(cluster, target)
        with kept_for(as_json):
            result = _launched(asked, target, overwrite, quiet, cluster)
    if result is None:
        return
    if as_json:
        print((target / "summary.json").read_text(encoding="utf-8"), end="")
    else:
        from vi_bench.reports.render_terminal import print_run

        print_run(result.record, console(), details, quiet)
    print(f"written to {target}", file=sys.stderr)
    if result.interrupted:
        end_interrupted()
    failed = any(r.outcome.status == "failed" for r in result.runs.values())
    if failed or not any(r.usable for r in result.runs.values()):
        raise typer.Exit(1)


def _with_files(
    what: str,
    overrides: Mapping[str, Any],
    chosen: list[str],
    added: list[str],
    fits: list[str],
) -> dict[str, Any] | None:
    """The methods to run: those chosen, else the spec's; and what came by file."""
    if not chosen and not added and not fits:
        return None
    from vi_bench.spec import read, with_fits

    model = {} if overrides["model"] is None else {"model": overrides["model"]}
    known = read(what, model).methods
    labels = chosen or list(known)
    labels += [name for name in added if name not in labels]
    return with_fits(labels, known, fits)


def _asked(what: str, overrides: dict[str, Any], start_from: Path | None) -> Spec:
    from vi_bench.spec import read

    spec = read(what, overrides)
    return spec if start_from is None else spec.starting_from(start_from)


def _tell_what_is_assumed(what: str, overrides: dict[str, Any]) -> None:
    """One line on stderr about settings that a file of data does not have."""
    from vi_bench.spec import assumed, is_data

    told = assumed(what, overrides) if is_data(what) else ""
    if told:
        print(told, file=sys.stderr)


def _default_folder(spec: Spec) -> Path:
    from vi_bench.runtime.folder import default_folder

    return default_folder(spec.name)


def _supervise(cluster: Cluster, target: Path) -> None:
    """Have a child compute, and end as it does; the child itself goes on."""
    from vi_bench.runtime.cluster import is_child, supervise

    if not is_child():
        raise typer.Exit(supervise(cluster, _checkpoint(target)))


def _checkpoint(target: Path) -> Path:
    """Where several processes keep what they have so far."""
    return target.with_name(f"{target.name}.checkpoint.npz")


def _launched(
    spec: Spec, target: Path, overwrite: bool, quiet: bool, cluster: Cluster | None
) -> Result | None:
    """The result; None where another process of several writes it."""
    from vi_bench.runner.launch import launch
    from vi_bench.runtime.cluster import PeerLost, farewell

    if cluster is None:
        return launch(spec, None, target, overwrite=overwrite, progress=not quiet)
    checkpoint, writes = _checkpoint(target), cluster.rank == 0
    try:
        result = launch(
            spec,
            None,
            target if writes else None,
            overwrite=overwrite,
            progress=writes and not quiet,
            cluster=cluster,
            checkpoint=checkpoint,
        )
    except PeerLost:
        print(farewell(cluster.rank, checkpoint), file=sys.stderr, flush=True)
        os._exit(1)  # a clean exit would wait for the peer
    if not writes:
        return None
    checkpoint.unlink(missing_ok=True)
    return result


def _cluster(
    hosts: int | None, coordinator: str | None, rank: int | None, out: Path | None
) -> Cluster | None:
    """Where this process stands among several, if there are several.

    Raises:
        ScalingError: part of what that takes is missing, or wrong.
    """
    from vi_bench.errors import ScalingError

    given = {
        "--hosts": hosts,
        "--coordinator": coordinator,
        "--rank": rank,
        "--out": out,
    }
    if hosts is None and coordinator is None and rank is None:
        return None
    missing = [name for name, value in given.items() if value is None]
    if missing:
        raise ScalingError(
            f"{', '.join(missing)} missing: several processes that share one run are "
            "each given --hosts, --coordinator, --rank and --out"
        )
    from vi_bench.runtime.cluster import Cluster, is_child

    assert hosts is not None
    assert coordinator is not None
    assert rank is not None
    cluster = Cluster(hosts, coordinator, rank)
    if not is_child():
        cluster.check()
    return cluster
