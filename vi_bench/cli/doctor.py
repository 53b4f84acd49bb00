"""`vi-bench doctor`: does everything that a run needs work?"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import typer

from vi_bench.cli.options import AsJson
from vi_bench.cli.terminal import kept_for

if TYPE_CHECKING:
    from vi_bench.runtime.doctor import Problem

WIDTH = 88


def doctor(as_json: AsJson = False) -> None:
    """Check what a run needs on this machine. Each problem comes with a remedy."""
    from vi_bench.runtime.doctor import examine
    from vi_bench.runtime.strict_json import document

    with kept_for(as_json):
        found = examine()
    if as_json:
        print(document(found.record()), end="")
    else:
        for problem in found.problems:
            _show(problem)
        if found.well:
            print("everything works")
        print()
        for name, line in _lines(found.facts):
            _print(name, line)
    raise typer.Exit(int(not found.well))


def _show(problem: Problem) -> None:
    _print("problem", problem.what)
    _print("to do", problem.remedy)


def _print(name: str, line: str) -> None:
    """A name, and a line that may be long beside it."""
    wrapped = textwrap.wrap(
        "".join(c if c.isprintable() else " " for c in line),
        WIDTH - 12,
        break_long_words=False,
        break_on_hyphens=False,
    )
    print(f"{name:<10}  " + f"\n{'':<12}".join(wrapped))


def _lines(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "python", facts["python"]
    yield "packages", ", ".join(f"{k} {v}" for k, v in facts["packages"].items())
    yield (
        "extras",
        ", ".join(f"{e['package']} {e['version'] or 'no'}" for e in facts["extras"]),
    )
    for device in facts["devices"]:
        yield "device", f"{device['name']}, {_bits(device)}"
    yield "processor", _processor(facts["processor"])
    yield "system", facts["system"]
    if facts["cache"]:
        yield "cache", _cache(facts["cache"])
    yield "results", facts["results"]["folder"]


def _bits(device: Mapping[str, Any]) -> str:
    return "computes in 64 bits" if device["float64"] else "does not work"


def _processor(known: Mapping[str, Any]) -> str:
    limits = [f"{name}={value}" for name, value in known["thread_limits"].items()]
    there = f"{known['cores']} of {known['machine_cores']} cores for this process"
    return "; ".join([known["model"], there, *limits])


def _cache(known: Mapping[str, Any]) -> str:
    if not known["enabled"]:
        return "off: JAX_ENABLE_COMPILATION_CACHE"
    if "bytes" not in known:
        return f"{known['folder']}, which is not looked at"
    size = f"{known['bytes'] / 1e6:.0f} MB"
    return f"{known['folder']}: {known['programs']} programs, {size}"
