"""Published references as other programs read them, and as a page."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

import vi_bench as vb
from benchmarks.page import table
from vi_bench.reports.tables import Number


def write_posteriordb(path: Path, folder: Path) -> None:
    """Write a reference in posteriordb's layout: draws, information, moments."""
    tree = vb.read_draws(path)
    known = json.loads(tree.attrs["reference"])
    place = folder / "reference_posteriors"
    name = known["name"]
    size = dict(tree["posterior"].sizes)
    chains: list[dict[str, list[float]]] = [{} for _ in range(size["chain"])]
    for variable, values in tree["posterior"].data_vars.items():
        array = values.to_numpy()
        for index in np.ndindex(array.shape[2:]):
            at = ",".join(str(i + 1) for i in index)
            label = f"{variable}[{at}]" if at else str(variable)
            for chain, own in zip(chains, array[(..., *index)], strict=True):
                chain[label] = [float(v) for v in own]
    draws = place / "draws" / "draws"
    draws.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(
        draws / f"{name}.json.zip", "w", zipfile.ZIP_DEFLATED
    ) as archive:
        archive.writestr(f"{name}.json", json.dumps(chains))
    info = place / "draws" / "info"
    info.mkdir(parents=True, exist_ok=True)
    every = known["quantities"]
    text = {
        "name": name,
        "inference": {
            "method": "NUTS (BlackJAX)",
            "method_arguments": known["nuts"],
        },
        "diagnostics": {
            "diagnostic_information": {"names": list(every)},
            "ndraws": size["chain"] * size["draw"],
            "nchains": size["chain"],
            "effective_sample_size_bulk": [q["ess_bulk"] for q in every.values()],
            "effective_sample_size_tail": [q["ess_tail"] for q in every.values()],
            "r_hat": [q["r_hat"] for q in every.values()],
            "mean_lag1_ac": [q["lag_1"] for q in every.values()],
        },
        "checks_made": known["checks"],
        "versions": known["versions"],
        "comments": "agrees with PyMC's model, drawn by nutpie: "
        + known["pymc"]["reason"],
    }
    (info / f"{name}.info.json").write_text(json.dumps(text, indent=1) + "\n")
    for kind in ("mean", "sd", "skewness", "fourth moment"):
        own = place / "summary_statistics" / kind.replace(" ", "_")
        own.mkdir(parents=True, exist_ok=True)
        moments = {
            "names": list(every),
            "values": [q[kind][0] for q in every.values()],
            "mcse": [q[kind][1] for q in every.values()],
        }
        (own / f"{name}.json").write_text(json.dumps(moments, indent=1) + "\n")


def page(folder: Path) -> str:
    """A table of all references, in Markdown: a row each."""
    trees = map(vb.read_draws, paths(folder))
    rows = [_row(json.loads(tree.attrs["reference"])) for tree in trees]
    head = (
        "reference", "model", "quantities", "thinned by", "R-hat", "ESS", "lag 1",
        "PyMC", "log evidence", "by PyMC",
    )  # fmt: skip
    return table(head, rows)


def paths(folder: Path) -> Iterable[Path]:
    """The files of references."""
    return sorted(folder.glob("*.nc"))


def _row(known: dict[str, Any]) -> list[str]:
    every = known["quantities"].values()
    one, other = known["evidence"]["smc"], known["evidence"]["pymc smc"]
    return [
        f"`{known['name']}`",
        known["spec"]["model"]["name"],
        f"{len(known['quantities'])}",
        f"{known['nuts']['thin']}",
        f"{max(q['r_hat'] for q in every):.4f}",
        f"{min(min(q['ess_bulk'], q['ess_tail']) for q in every):.0f}",
        f"{max(abs(q['lag_1']) for q in every):.3f}",
        known["pymc"]["verdict"],
        str(Number(one["value"], one["se"])),
        str(Number(other["value"], other["se"])),
    ]
