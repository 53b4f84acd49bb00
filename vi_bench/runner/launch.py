"""Run a spec and write its folder, whole or not at all; heavy imports are deferred."""

from __future__ import annotations

import shutil
import traceback
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from vi_bench.data.arrays import Arrays
from vi_bench.data.load import load
from vi_bench.data.rows import SOURCES
from vi_bench.data.table import Table
from vi_bench.errors import ResultsError, ScalingError, one_line
from vi_bench.posterior.arguments import named_data
from vi_bench.runtime.folder import RunFolder, free
from vi_bench.runtime.progress import Silent, bars
from vi_bench.spec import Spec

if TYPE_CHECKING:
    from vi_bench.runner.views import Result
    from vi_bench.runtime.cluster import Cluster


def launch(
    spec: Spec,
    table: Table | Arrays | None = None,
    out: Path | str | None = None,
    *,
    overwrite: bool = False,
    progress: bool = False,
    cluster: Cluster | None = None,
    checkpoint: Path | None = None,
) -> Result:
    """Execute a spec and write its folder, whole or not at all.

    After an interrupt the methods that had finished are kept; if there are none,
    KeyboardInterrupt is raised and nothing is written.

    What can be refused without computing is refused before JAX is loaded. Compiled
    programs are kept in the user's cache folder, and LAPACK has one thread
    (`environment.session`).

    Args:
        spec: what to run.
        table: the data, of a NumPyro model named arrays; None loads those that the
            spec names.
        out: folder to write to; of a cluster's processes only that of rank 0 has one.
        overwrite: replace an earlier run's folder.
        progress: show bars on stderr.
        cluster: this process's place among several that share the rows.
        checkpoint: file for the best q so far, while a method runs.

    Raises:
        InputError: an argument cannot be used; the message is one line.
        KeyboardInterrupt: interrupted before any method had finished.
    """
    spec.check_names()
    if spec.stream and (cluster is not None or spec.devices > 1):
        raise ScalingError("stream: streamed rows cannot be shared by devices or hosts")
    if spec.budget is not None and cluster is not None:
        raise ScalingError(
            "budget: processes that share the rows each have a clock of their own: "
            "limit steps, iterations or draws instead"
        )
    if table is None:
        table = data_of(spec, split=cluster is not None)
    labels = list(spec.methods)
    place = nullcontext(None) if out is None else RunFolder(Path(out), overwrite)
    with place as staged:
        from vi_bench.runtime.environment import session, split_processor

        split_processor(spec.devices)  # before an import that computes something
        if cluster is not None:
            cluster.join()
        from vi_bench.runner.execute import execute

        shown = bars(labels) if progress else nullcontext(Silent())
        with session(), shown as watcher:
            result = execute(spec, table, watcher, checkpoint)
        if result.interrupted and not any(r.usable for r in result.runs.values()):
            raise KeyboardInterrupt
        if staged is not None:
            try:
                result.save(staged)
            except Exception as error:
                _keep(result, Path(out or staged), error)
                raise
    result.folder = None if out is None else Path(out)
    return result


def data_of(spec: Spec, split: bool = False) -> Table | Arrays:
    """The data that a spec names: rows, or named arrays for a NumPyro model.

    Where a NumPyro model's spec names none, they are what the function data() in its
    file returns, or nothing if there is none.

    Args:
        spec: the specification.
        split: whether several hosts share the rows: each reads only its own, where the
            kind of file allows it.

    Raises:
        InputError: they cannot be read, or are no arrays by name.
    """
    if spec.numpyro is None:
        part = split and Path(spec.data).suffix.lower() in SOURCES
        return load(spec.data, stream=spec.stream or part, layout=spec.layout)
    return named_data(spec.numpyro, spec.data, spec.layout)


def _keep(result: Result, target: Path, error: Exception) -> None:
    """Keep the draws beside the folder that could not be written.

    Raises:
        ResultsError: they are kept; says where. Nothing is raised if they cannot be.
    """
    aside = free(target.with_name(f"{target.name}.kept"))
    try:
        aside.mkdir(parents=True)
        result.save_arrays(aside)
        told = "".join(traceback.format_exception(error))
        (aside / "error.txt").write_text(told, encoding="utf-8")
    except OSError:  # a full disk, say: nothing can be written at all
        shutil.rmtree(aside, ignore_errors=True)
        return
    raise ResultsError(
        f"the results could not be written ({one_line(error)}); the draws are kept in "
        f"{str(aside)!r}, and the error in error.txt there"
    ) from error
