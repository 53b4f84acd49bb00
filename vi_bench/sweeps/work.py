"""The worker process that computes cells, and keeps compiled programs between them.

It is started by `vi_bench.sweeps.pool`, reads one job per line from standard input and
answers each with one line on standard output; whatever libraries print goes to standard
error. It writes a finished cell into the store itself, so that the cell survives if it
or its parent dies later. It ends with its parent.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vi_bench import catalogue
from vi_bench.errors import InputError, SweepError, one_line
from vi_bench.spec import Spec
from vi_bench.sweeps.grid import versions
from vi_bench.sweeps.store import Full, Store

LOOK = 0.5
"""Seconds between two checks that the parent is alive."""

CELL = "cell.json"
"""The file that a cell has in addition to those of a run."""


def cell(job: Mapping[str, Any]) -> dict[str, Any]:
    """Compute and store one cell, unless it is finished or another process has it.

    Args:
        job: "folder" of the store, "key", "spec", "sha256" of the data, "choice" of the
            grid, "planned" the device's kind and the versions of packages that the key
            was made with, "shared" whether other cells run at the same time, "command"
            the command line that asked for it, "plugins" of `catalogue.files`.

    Returns:
        "status": done, there, elsewhere, failed or full, and a "reason" for the last
        two.
    """
    store, key = Store(job["folder"], create=False), job["key"]
    begun = time.perf_counter()
    with store.claim(key) as mine:
        if not mine:
            return {"status": "elsewhere"}
        if store.has(key):
            return {"status": "there"}
        try:
            _make(store, key, job, begun)
        except Full as full:
            return {"status": "full", "reason": str(full)}
        except Exception as error:
            reason = str(error) if isinstance(error, InputError) else one_line(error)
            store.fail(key, "failed", reason, seconds=time.perf_counter() - begun)
            return {"status": "failed", "reason": reason}
    return {"status": "done"}


def _make(store: Store, key: str, job: Mapping[str, Any], begun: float) -> None:
    from vi_bench.runner.launch import data_of, launch
    from vi_bench.runtime.environment import split_processor

    catalogue.add_files(job["plugins"])
    spec = Spec(**job["spec"])
    table = data_of(spec)
    if table.sha256 != job["sha256"]:
        raise SweepError(f"data {spec.data!r} changed since the sweep was begun")
    split_processor(spec.devices)
    for what, here in {**device_kind(spec.device), **versions()}.items():
        planned = job["planned"].get(what)
        if here != planned:
            raise SweepError(f"{what}: {here} here, {planned} where the sweep began")
    result = launch(spec, table)
    with store.write(key) as folder:
        result.save(folder, figures=False)
        known = {
            "schema": 1,
            "key": key,
            "choice": job["choice"],
            "spec": job["spec"],
            "shared": job["shared"],
            "command": job["command"],
            "seconds": time.perf_counter() - begun,
        }
        text = json.dumps(known, indent=1, allow_nan=False)
        (folder / CELL).write_text(text + "\n", encoding="utf-8")


def answer(job: Mapping[str, Any]) -> dict[str, Any]:
    """Answer a question about a device or about specs, or compute a cell."""
    if "device" in job:
        return device_kind(job["device"])
    if "specs" in job:
        return refusal(job["specs"], job["plugins"])
    return cell(job)


def refusal(specs: Sequence[Mapping[str, Any]], plugins: Any) -> dict[str, Any]:
    """The first spec that cannot be run: its "index" and why it is "refused"; or {}."""
    from vi_bench.data.load import load
    from vi_bench.runner.launch import data_of
    from vi_bench.runner.mixture_target import check
    from vi_bench.runner.model_target import model_target

    catalogue.add_files(plugins)
    known, table = None, None
    for index, given in enumerate(specs):
        spec = Spec(**given)
        try:
            spec.inference()
            if spec.numpyro is not None:
                named: Any = data_of(spec)
                model_target(spec, named)
                continue
            spec.mixing()
            family = spec.family()
            at = (spec.data, spec.standardise, spec.stream, spec.layout)
            if at != known:
                table, known = load(*at), at
            assert table is not None
            check(spec, family, table)
        except InputError as error:
            return {"index": index, "refused": str(error)}
    return {}


def device_kind(name: str) -> dict[str, Any]:
    """The "kind" of a spec's `device` on this machine, or why it is "refused"."""
    from vi_bench.runtime.environment import find_device

    try:
        return {"kind": find_device(name).device_kind}
    except InputError as error:
        return {"refused": str(error)}


def end_with(parent: int) -> None:
    """End this process, whatever it is doing, once its parent has ended."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(LOOK)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main() -> None:
    """Answer jobs until standard input or the parent process ends."""
    end_with(os.getppid())
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    for line in sys.stdin:
        answers.write(json.dumps(answer(json.loads(line))) + "\n")


def source() -> Path:
    """The folder that holds this package, so that a worker imports the same one."""
    return Path(__file__).parents[2]


if __name__ == "__main__":
    main()
