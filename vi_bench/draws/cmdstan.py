"""Draws in CmdStan's CSV files, one file for each chain.

Lines that begin with # are comments and hold the configuration; names that end in two
underscores are sample statistics; elements of arrays are "theta.1.2", counted from 1.
See the CmdStan User's Guide, "Stan CSV file format".
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from arviz_base import from_dict
from xarray import DataTree

from vi_bench.draws import posteriordb
from vi_bench.errors import InputError

STATISTICS = {
    "lp__": "lp",
    "divergent__": "diverging",
    "energy__": "energy",
    "accept_stat__": "acceptance_rate",
    "stepsize__": "step_size",
    "treedepth__": "tree_depth",
    "n_leapfrog__": "n_steps",
}
"""Names of sample statistics in CmdStan and in ArviZ."""

SETTING = re.compile(r"#\s*(method|save_warmup|num_warmup|thin)\s*=\s*(\w+)")

ELEMENT = re.compile(r"(?P<name>.+?)(?P<index>(?:\.[1-9]\d{0,8})+)")


def read(paths: Sequence[Path]) -> DataTree:
    """Read the chains of one fit, in the order of the files' names.

    Warm-up draws that were saved are left out, and of a variational fit the first line,
    which holds q's mean.

    Raises:
        InputError: a file cannot be read, or the files are not of one fit.
    """
    chains = [_chain(path) for path in paths]
    names, first = list(chains[0]), paths[0]
    for path, chain in zip(paths, chains, strict=True):
        if list(chain) != names:
            raise InputError(
                f"draws {str(path)!r}: has other columns than {first.name}; expected "
                "the chains of one fit"
            )
        here, there = (len(next(iter(c.values()))) for c in (chain, chains[0]))
        if here != there:
            raise InputError(
                f"draws {str(path)!r}: {here} draws, {first.name} has {there}; "
                "expected as many in every chain"
            )
    stacked = {name: np.stack([c[name] for c in chains]) for name in names}
    stats = {STATISTICS[k]: v for k, v in stacked.items() if k in STATISTICS}
    if "diverging" in stats:
        stats["diverging"] = stats["diverging"] > 0
    scalars = {_label(k): v for k, v in stacked.items() if not k.endswith("__")}
    if not scalars:
        raise _wrong(first, "holds no parameters")
    arrays, coords, dims = posteriordb.assembled(scalars, first)
    groups = {"posterior": arrays} | ({"sample_stats": stats} if stats else {})
    return from_dict(groups, coords=coords, dims=dims)


def _wrong(path: Path, what: str) -> InputError:
    return InputError(f"draws {str(path)!r}: {what}; expected a CSV file of CmdStan")


def _label(name: str) -> str:
    """`theta.1.2` as posteriordb writes it, theta[1,2]."""
    match = ELEMENT.fullmatch(name)
    if match is None:
        return name
    return f"{match['name']}[{match['index'][1:].replace('.', ',')}]"


def _chain(path: Path) -> dict[str, np.ndarray]:
    """Column -> its draws, warm-up left out."""
    import pandas as pd

    try:
        with path.open(encoding="utf-8") as lines:
            text = lines.readlines()
        settings = dict(SETTING.findall("".join(s for s in text if s[0] == "#")))
        columns = next((s for s in text if s[0] != "#"), "").strip().split(",")
        table = pd.read_csv(path, comment="#", low_memory=False)
    except OSError as error:
        raise _wrong(path, f"cannot be read ({error.strerror})") from None
    except (ValueError, pd.errors.ParserError) as error:
        raise _wrong(path, f"cannot be read ({str(error).splitlines()[0]})") from None
    if settings.get("method") in ("optimize", "laplace"):
        raise _wrong(path, f"is of method = {settings['method']}, not of a sampler")
    if twice := {name for name in columns if columns.count(name) > 1}:
        raise _wrong(path, f"column {min(twice)!r} is there twice")
    if table.isna().to_numpy().any():
        row, column = np.argwhere(table.isna().to_numpy())[0]
        name = table.columns[column]
        raise _wrong(path, f"no value in draw {row + 1}, column {str(name)!r}")
    if "lp__" not in table.columns:
        raise _wrong(path, "has no column lp__")
    if odd := [str(k) for k, t in table.dtypes.items() if t.kind not in "fiu"]:
        raise _wrong(path, f"{odd[0]!r} holds text")
    skip = 0
    if settings.get("save_warmup", "0") in ("1", "true"):
        skip = -(-int(settings["num_warmup"]) // int(settings.get("thin", "1")))
    if settings.get("method") == "variational":
        skip = 1
    if len(table) <= skip:
        raise _wrong(path, "holds no draws after warm-up")
    return {str(k): table[k].to_numpy(float)[skip:] for k in table.columns}
