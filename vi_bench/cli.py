"""The command line; imports what is heavy only when it is needed."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vi_bench.publish.commands import report
from vi_bench.sweeps import commands
from vi_bench.terminal import Commands, console, refuse

if TYPE_CHECKING:
    from vi_bench.cluster import Cluster

app = typer.Typer(
    cls=Commands,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help needs no import of rich
    help="Is this variational posterior right, how far off, and what did it cost?",
)


@app.callback(invoke_without_command=True)
def about(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print it.")] = False,
) -> None:
    """CAVI, SVI and NUTS on the same Bayesian mixture, compared and timed."""
    if version:
        from importlib.metadata import version as installed

        print(installed("vi-bench"))
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help(), file=sys.stderr)
        raise typer.Exit(2)


@app.command()
def run(
    spec: Annotated[
        str,
        typer.Argument(
            help="A built-in experiment (vi-bench list experiments), or a .toml file."
        ),
    ],
    model: Annotated[
        str | None,
        typer.Option(
            help="Component family: a name, or a .py file that defines MODEL."
        ),
    ] = None,
    models: Annotated[
        Path | None, typer.Option(help="Folder whose .py files are models too.")
    ] = None,
    method: Annotated[
        list[Path] | None,
        typer.Option(help="A .py file that defines METHOD; its name joins --methods."),
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="uniform, dirichlet or stick-breaking.")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="Built-in data, simulate:K=5,d=2,N=1000,separation=4,seed=0, or a "
            ".csv, .npy, .parquet or .zarr file."
        ),
    ] = None,
    stream: Annotated[
        bool | None,
        typer.Option(
            "--stream", help="Leave the rows in their file; for many of them."
        ),
    ] = None,
    components: Annotated[int | None, typer.Option(help="K.")] = None,
    methods: Annotated[
        str | None, typer.Option(help="Comma-separated labels: cavi,svi,nuts.")
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(help="The method that others are held against; auto chooses."),
    ] = None,
    held_out: Annotated[
        int | None, typer.Option(help="Rows set aside to score predictions on.")
    ] = None,
    seed: Annotated[int | None, typer.Option()] = None,
    precision: Annotated[int | None, typer.Option(help="64 or 32 bits.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, gpu, tpu.")] = None,
    devices: Annotated[
        int | None,
        typer.Option(help="That share the rows; a CPU's cores count as devices."),
    ] = None,
    hosts: Annotated[
        int | None, typer.Option(help="Processes that share the rows; needs --out.")
    ] = None,
    coordinator: Annotated[
        str | None, typer.Option(help="HOST:PORT where rank 0 is reached.")
    ] = None,
    rank: Annotated[
        int | None, typer.Option(help="Of this process among --hosts, from 0.")
    ] = None,
    start_from: Annotated[
        Path | None, typer.Option(help="A checkpoint of q that cavi goes on from.")
    ] = None,
    repeats: Annotated[
        int | None, typer.Option(help="Timed runs after the first.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder; by default results/NAME-TIME.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier run's folder.")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="No progress, no notes; only the table.")
    ] = False,
) -> None:
    """Infer one mixture by several methods, compare the posteriors, time all alike."""
    from vi_bench.errors import InputError

    overrides: dict[str, Any] = {
        "data": data,
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
    }
    try:
        chosen = _split(methods) or []
        named = _load_plugins(model, models, method or [])
        overrides["model"] = named[0]
        overrides["methods"] = _with_files(spec, chosen, named[1])
        cluster = _cluster(hosts, coordinator, rank, out)
        code = _run(spec, overrides, out, overwrite, quiet, cluster, start_from)
    except InputError as error:
        refuse(str(error))
    except KeyboardInterrupt:
        print("interrupted before any method finished", file=sys.stderr)
        raise typer.Exit(130) from None
    if code:
        raise typer.Exit(code)


@app.command()
def compare(
    draws: Annotated[
        list[str],
        typer.Argument(
            help="Draws: .nc (ArviZ); posteriordb's .json, .json.zip or folder."
        ),
    ],
    reference: Annotated[
        str, typer.Option(help="The one of them that the others are held against.")
    ],
    margin: Annotated[float, typer.Option(help="Of means, in reference sds.")] = 0.1,
    sd_margin: Annotated[float, typer.Option(help="Of sds, relative.")] = 0.1,
    component_dim: Annotated[
        str, typer.Option(help="The dimension whose labels may be permuted.")
    ] = "component",
    weight: Annotated[
        str, typer.Option(help="The variable that holds the weights.")
    ] = "weight",
    variables: Annotated[
        str | None, typer.Option(help="Comma-separated; by default all in common.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="A .json file for all that was found.")
    ] = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="No notes; only the table.")
    ] = False,
) -> None:
    """Compare posteriors that are there already, wherever they were made."""
    from vi_bench.api import compare as held
    from vi_bench.errors import InputError
    from vi_bench.report.comparison import print_comparison, write_comparison

    try:
        named = _named_draws(draws)
        label = next((k for k, v in named.items() if v == reference), reference)
        chosen = _split(variables)
        found = held(
            named,
            label,
            margin=margin,
            sd_margin=sd_margin,
            component_dim=component_dim,
            weight=weight,
            variables=chosen,
        )
        if out is not None:
            write_comparison(found, out)
    except InputError as error:
        refuse(str(error))
    print_comparison(found, console(), quiet)


@app.command()
def verify(
    method: Annotated[
        str,
        typer.Argument(help="path/to/file.py:function, or a method's name."),
    ],
    families: Annotated[
        str | None,
        typer.Option(help="Comma-separated, of f(problem); by default all."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the battery's data.")] = 0,
    limit: Annotated[float, typer.Option(help="Seconds that one fit may take.")] = 60.0,
) -> None:
    """Look for faults in a method: exit 0 if there are none, 1 if a check fails."""
    from vi_bench.errors import InputError
    from vi_bench.report.verification import verification_lines, verification_table
    from vi_bench.verification import verify as verified

    chosen = _split(families)
    try:
        report = verified(method, seed=seed, limit=limit, families=chosen)
    except InputError as error:
        refuse(str(error))
    shown = console()
    shown.print(verification_table(report))
    for line in verification_lines(report):
        shown.print(line, markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(int(not report.passed))


@app.command()
def calibrate(
    model: Annotated[
        str, typer.Argument(help="Component family: a name, a .py or a .toml file.")
    ],
    methods: Annotated[
        str | None,
        typer.Option(help="Comma-separated; by default cavi,nuts,exact."),
    ] = None,
    given: Annotated[
        list[str] | None,
        typer.Option("--set", help="A hyperparameter of the prior: sigma=3.0."),
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="uniform, dirichlet or stick-breaking.")
    ] = None,
    sims: Annotated[int | None, typer.Option(help="Data sets.")] = None,
    components: Annotated[int | None, typer.Option(help="K.")] = None,
    rows: Annotated[int | None, typer.Option(help="Of each data set.")] = None,
    features: Annotated[int | None, typer.Option(help="Of each row.")] = None,
    draws: Annotated[
        int | None, typer.Option(help="Ranked draws of a chain or of particles.")
    ] = None,
    thin: Annotated[
        int | None, typer.Option(help="Transitions per ranked draw.")
    ] = None,
    geweke: Annotated[
        int | None, typer.Option(help="Chains of Geweke's test; 0 leaves it out.")
    ] = None,
    turns: Annotated[
        int | None, typer.Option(help="Transitions of each of these chains.")
    ] = None,
    level: Annotated[
        float | None, typer.Option(help="Error rate of all tests of a method.")
    ] = None,
    seed: Annotated[int | None, typer.Option()] = None,
    chunk: Annotated[
        int | None, typer.Option(help="Data sets per call of a program.")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="By default one per core.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder; by default results/calibrate-MODEL. An interrupted "
            "calibration goes on."
        ),
    ] = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="No progress, no notes; only the table.")
    ] = False,
) -> None:
    """Are posteriors right on average? Ranks of true parameters, many data sets."""
    from vi_bench.api import calibrate as calibrated
    from vi_bench.errors import InputError

    fields = {
        "weights": weights,
        "sims": sims,
        "components": components,
        "rows": rows,
        "features": features,
        "draws": draws,
        "thin": thin,
        "geweke": geweke,
        "turns": turns,
        "level": level,
        "seed": seed,
        "chunk": chunk,
    }
    try:
        from vi_bench.calibration.settings import parsed

        if model.endswith(".py"):
            model = _load_plugins(model, None, [])[0] or model
        chosen = _split(methods)
        target = out or Path("results") / f"calibrate-{Path(model).stem}"
        found = calibrated(
            model,
            chosen,
            out=target,
            progress=not quiet,
            threads=threads,
            given=parsed(given or []),
            **fields,
        )
    except InputError as error:
        refuse(str(error))
    except KeyboardInterrupt:
        print("interrupted; the same command goes on", file=sys.stderr)
        raise typer.Exit(130) from None
    from vi_bench.report.calibration import calibration_lines, calibration_table

    shown = console()
    shown.print(calibration_table(found))
    if not quiet:
        for line in calibration_lines(found):
            shown.print(line, markup=False, highlight=False, soft_wrap=True)
    print(f"written to {target}", file=sys.stderr)
    if found.failed:
        raise typer.Exit(1)


@app.command()
def rerun(
    folder: Annotated[
        Path, typer.Argument(help="Of a run; or of a sweep's cell, cells/ab/KEY.")
    ],
    model: Annotated[
        Path | None, typer.Option(help="The .py file of the run's own model.")
    ] = None,
    method: Annotated[
        list[Path] | None, typer.Option(help="The .py file of a method of its own.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder to keep the second run in.")
    ] = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="No progress; only what was found.")
    ] = False,
) -> None:
    """Repeat a run from its folder: exit 0 if the numbers are the same, 1 if not."""
    from vi_bench.errors import InputError
    from vi_bench.repeat import rerun as repeated

    try:
        _load_plugins(str(model) if model else None, None, method or [])
        found = repeated(folder, out=out, progress=not quiet)
    except InputError as error:
        refuse(str(error))
    except KeyboardInterrupt:
        print("interrupted; nothing was kept", file=sys.stderr)
        raise typer.Exit(130) from None
    for line in found.lines():
        print(line)
    raise typer.Exit(int(not found.same))


def _split(listed: str | None) -> list[str] | None:
    """Names between commas; an empty one stays, to be refused where it is used."""
    return None if listed is None else [name.strip() for name in listed.split(",")]


def _named_draws(paths: list[str]) -> dict[str, str]:
    """Label -> path: the file's name without its ending where that is unambiguous."""
    from vi_bench.errors import InputError

    seen = set[Path]()
    for path in paths:
        if Path(path).resolve() in seen:
            raise InputError(f"the same draws are named twice: {path!r}")
        seen.add(Path(path).resolve())
    stems = [Path(path).name.partition(".")[0] for path in paths]
    if len(set(stems)) < len(stems):
        stems = paths
    return dict(zip(stems, paths, strict=True))


app.command()(report)
app.command()(commands.sweep)
app.command()(commands.status)
app.command()(commands.query)
app.command()(commands.reindex)


@app.command(name="list")
def list_(
    what: Annotated[
        str, typer.Argument(help="models, methods, weights, data or experiments.")
    ],
    models: Annotated[
        Path | None, typer.Option(help="Folder whose .py files are models too.")
    ] = None,
) -> None:
    """What there is, one line each; nothing of it is loaded."""
    from vi_bench.errors import InputError, unknown

    try:
        _load_plugins(None, models, [])
        listed = _listed()
        if what not in listed:
            raise unknown("list", what, listed)
        rows = listed[what]()
    except InputError as error:
        refuse(str(error))
    width = max(len(name) for name, _ in rows)
    for name, line in rows:
        print(f"{name:<{width}}  {line}")


def _listed() -> dict[str, Callable[[], list[tuple[str, str]]]]:
    from vi_bench import catalogue

    def found(kind: catalogue.Plugin) -> list[tuple[str, str]]:
        return [
            (name, e.summary + ("" if e.origin == "shipped" else f" [{e.origin}]"))
            for name, e in catalogue.entries(kind).items()
        ]

    def data() -> list[tuple[str, str]]:
        from vi_bench.data import described

        return described()

    return {
        "models": lambda: found("model"),
        "methods": lambda: found("method"),
        "weights": lambda: list(catalogue.WEIGHTS.items()),
        "data": data,
        "experiments": catalogue.described_experiments,
    }


def _load_plugins(
    model: str | None, models: Path | None, methods: list[Path]
) -> tuple[str | None, list[str]]:
    """Register what the command line names; the model's name and the methods'."""
    from vi_bench import catalogue

    if models is not None:
        catalogue.add_folder(models)
    if model is not None and model.endswith(".py"):
        model = catalogue.add_file("model", Path(model))
    return model, [catalogue.add_file("method", path) for path in methods]


def _with_files(what: str, chosen: list[str], added: list[str]) -> list[str] | None:
    """The labels to run: those chosen, else the spec's; and what came by file."""
    if not chosen and not added:
        return None
    from vi_bench.spec import read

    labels = chosen or list(read(what, {}).methods)
    return labels + [name for name in added if name not in labels]


def _run(
    what: str,
    overrides: dict[str, Any],
    out: Path | None,
    overwrite: bool,
    quiet: bool,
    cluster: Cluster | None,
    start_from: Path | None,
) -> int:
    """Run, print, and return the exit code: 0, 1 if a method failed, 130 on Ctrl-C."""
    from vi_bench.api import launch
    from vi_bench.cluster import PeerLost, farewell, is_child, supervise
    from vi_bench.folder import default_folder
    from vi_bench.spec import read

    spec = read(what, overrides)
    if start_from is not None:
        spec = spec.starting_from(start_from)
    target = out or default_folder(spec.name)
    checkpoint = None
    if cluster is not None:
        checkpoint = target.with_name(f"{target.name}.checkpoint.npz")
        if not is_child():
            return supervise(cluster, checkpoint)
    writes = cluster is None or cluster.rank == 0
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
        assert cluster is not None
        assert checkpoint is not None
        print(farewell(cluster.rank, checkpoint), file=sys.stderr, flush=True)
        os._exit(1)  # a clean exit would wait for the peer
    if checkpoint is not None and writes:
        checkpoint.unlink(missing_ok=True)
    if not writes:
        return 0

    from vi_bench.report.table import further_tables, lines

    shown = console()
    shown.print(result.table())
    if not quiet:
        for beside in further_tables(result):
            shown.print(beside)
        for line in lines(result):
            shown.print(line, markup=False, highlight=False, soft_wrap=True)
    print(f"written to {target}", file=sys.stderr)
    if result.interrupted:
        return 130
    return int(any(r.outcome.status == "failed" for r in result.runs.values()))


def _cluster(
    hosts: int | None, coordinator: str | None, rank: int | None, out: Path | None
) -> Cluster | None:
    """Where this process stands among several, if there are several.

    Raises:
        InputError: part of what that takes is missing, or wrong.
    """
    from vi_bench.errors import InputError

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
        raise InputError(
            f"{', '.join(missing)} missing: several processes that share one run are "
            "each given --hosts, --coordinator, --rank and --out"
        )
    from vi_bench.cluster import Cluster, is_child

    assert hosts is not None
    assert coordinator is not None
    assert rank is not None
    cluster = Cluster(hosts, coordinator, rank)
    if not is_child():
        cluster.check()
    return cluster


def main() -> None:
    """The entry point."""
    app()
