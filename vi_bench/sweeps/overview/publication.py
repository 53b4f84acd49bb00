"""What is made of a folder of results, whatever it holds."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from vi_bench.reports.latex import Paper, cited, escaped, paragraph
from vi_bench.reports.write import Publication, of_run
from vi_bench.sweeps.overview.figures import draw_sweep
from vi_bench.sweeps.overview.html import sweep_page
from vi_bench.sweeps.overview.stored import StoredSweep, open_sweep
from vi_bench.sweeps.overview.tables import sweep_tables
from vi_bench.sweeps.store import STORE

SHOWN = ("outcomes", "settings", "ranks", "growth")
"""Tables that a paper is likeliest to show."""


def publication(folder: Path) -> Publication:
    """Of a run or of a sweep.

    Raises:
        InputError: the folder holds neither.
    """
    return of_sweep(folder) if (folder / STORE).is_file() else of_run(folder)


def of_sweep(folder: Path) -> Publication:
    """A sweep's.

    Raises:
        InputError: the folder holds none, or no cell is finished.
    """
    sweep = open_sweep(folder)
    return Publication(
        folder,
        f"sweep {str(folder)!r}",
        partial(sweep_page, sweep),
        partial(sweep_tables, sweep),
        partial(draw_sweep, sweep),
        partial(sweep_paper, sweep),
    )


def sweep_paper(sweep: StoredSweep) -> Paper:
    """What stands beside a sweep's tables and figures."""
    varied = "; ".join(
        f"{name}: {', '.join(map(str, levels))}"
        for name, levels in sweep.factors.items()
    )
    cells = sweep.table["key"].nunique()
    told = rf"We ran \num{{{cells}}} cells" + (
        f", over {escaped(varied)}." if varied else "."
    )
    one = paragraph(sweep.example)
    told += f"\nThe first of them: {one[0].lower()}{one[1:]}"
    keys = [*cited(sweep.example), "demsar2006"]
    return Paper(sweep.name, told, sorted(keys), SHOWN)
