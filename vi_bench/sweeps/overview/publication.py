"""The report of a folder of results, which holds a run or a sweep."""

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
"""Names of the tables in the paper's main document."""


def publication(folder: Path) -> Publication:
    """The report of a stored run or sweep.

    Raises:
        InputError: the folder holds neither.
    """
    return of_sweep(folder) if (folder / STORE).is_file() else of_run(folder)


def of_sweep(folder: Path) -> Publication:
    """The report of a stored sweep.

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
    """The title, paragraph and references of a paper on a sweep."""
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
