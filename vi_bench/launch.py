"""The two ways in, from Python and from the command line; imports late."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vi_bench.data import Table, load
from vi_bench.folder import RunFolder
from vi_bench.progress import Silent, bars
from vi_bench.pythonic import specify
from vi_bench.spec import Spec

if TYPE_CHECKING:
    from vi_bench.result import Result


def run(
    model: Any = "gaussian",
    data: Any = "notebook",
    methods: Iterable[Any] | Mapping[str, Any] | None = None,
    *,
    out: Path | str | None = None,
    overwrite: bool = False,
    progress: bool = False,
    **fields: Any,
) -> Result:
    """Infer one mixture by several methods, compare the posteriors, time all alike.

    Args:
        model: a model's name, {"name": ..., settings}, or a family such as
            ``Gaussian(sigma=3.0)``.
        data: (N, d) array, or anything that `vi_bench.load` takes.
        methods: names, settings such as ``SVI(guide="full-rank")``, or a mapping from
            labels to settings; by default cavi, svi and nuts.
        out: folder to write to; nothing is written by default.
        overwrite: replace an earlier run's folder.
        progress: show bars on stderr.
        **fields: of `Spec`: components, seed, reference, precision, ...

    Raises:
        InputError: something given cannot be used; one line says what.
    """
    spec, table = specify(model, data, methods, fields)
    return launch(spec, table, out, overwrite=overwrite, progress=progress)


def launch(
    spec: Spec,
    table: Table | None = None,
    out: Path | str | None = None,
    *,
    overwrite: bool = False,
    progress: bool = False,
    cache: bool = False,
) -> Result:
    """Execute a spec and write its folder, whole or not at all.

    An interrupt keeps the methods that had finished; with none it goes on, as
    KeyboardInterrupt, and nothing is written.

    What can be refused without computing is refused before JAX is loaded. With
    `cache`, compiled programs are kept in the user's cache folder: a setting of the
    whole process, so it is the caller's to make.
    """
    if table is None:
        table = load(spec.data)
    spec.check_names()
    labels = list(spec.methods)
    place = nullcontext(None) if out is None else RunFolder(Path(out), overwrite)
    with place as staged:
        from vi_bench.environment import use_compilation_cache
        from vi_bench.runner import execute

        if cache:
            use_compilation_cache()
        with bars(labels) if progress else nullcontext(Silent()) as watcher:
            result = execute(spec, table, watcher)
        if result.interrupted and not any(r.usable for r in result.runs.values()):
            raise KeyboardInterrupt
        if staged is not None:
            result.save(staged)
    result.folder = None if out is None else Path(out)
    return result
