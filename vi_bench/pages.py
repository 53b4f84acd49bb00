"""Which page of the documentation explains what was refused."""

from __future__ import annotations

from types import TracebackType

USAGE = "docs/cli.md"
"""Of a command line that cannot be parsed."""

PAGES: dict[str, str | None] = {
    # every command, for where nothing nearer to the fault has a page
    "commands.calibrate": "docs/calibration.md",
    "commands.compare": USAGE,
    "commands.doctor": USAGE,
    "commands.listing": USAGE,
    "commands.options": "docs/extending.md",
    "commands.report": "docs/report.md",
    "commands.rerun": "docs/summary.md",
    "commands.run": "docs/spec.md",
    "commands.run._cluster": "docs/scaling.md",
    "commands.store": "docs/sweeps.md",
    "commands.sweep": "docs/sweeps.md",
    "commands.verify": "docs/verifying.md",
    "api.launch": "docs/scaling.md",
    "calibration": "docs/calibration.md",
    "catalogue": "docs/extending.md",
    "catalogue._module": None,
    "catalogue.function": None,
    "catalogue.known": None,
    "checkpoint": "docs/scaling.md",
    "cluster": "docs/scaling.md",
    "conjugate": "docs/spec.md",
    "data": "docs/spec.md",
    "environment": "docs/scaling.md",
    "external": USAGE,
    "folder": "docs/summary.md",
    "methods": "docs/spec.md",
    "models": "docs/spec.md",
    "overview": "docs/report.md",
    "posteriordb": USAGE,
    "publish": "docs/report.md",
    "record": "docs/summary.md",
    "repeat": "docs/summary.md",
    "rows": "docs/spec.md",
    "rows.NumpyFile": "docs/scaling.md",
    "runner": "docs/spec.md",
    "spec": "docs/spec.md",
    "spec._check_finite": None,
    "spec._check_kind": None,
    "spec.choose": None,
    "spec.read_toml": None,
    "spec.validated": None,
    "sweeps": "docs/sweeps.md",
    "table": "docs/spec.md",
    "verification": "docs/verifying.md",
}
"""Folder, module or function of the package -> its page; None: its caller's."""


def page(error: BaseException) -> str:
    """The page of the innermost place that an error went through and that has one."""
    found = USAGE
    trace: TracebackType | None = error.__traceback__
    while trace is not None:
        code, names = trace.tb_frame.f_code, trace.tb_frame.f_globals
        package, _, name = f"{names.get('__name__')}.{code.co_qualname}".partition(".")
        if package == "vi_bench":
            found = _nearest(name) or found
        trace = trace.tb_next
    return found


def _nearest(name: str) -> str | None:
    """The page of a function: its own, its module's, or its folder's."""
    while name:
        if name in PAGES:
            return PAGES[name]
        name = name.rpartition(".")[0]
    return None
