"""Published references as other programs read them, and as a page."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

import vi_bench as vb
from benchmarks.page import table
from vi_bench import catalogue
from vi_bench.draws import published
from vi_bench.reports.tables import Number

TEXT = """# References

`vi_bench` ships references of posteriors, {number} up to now: 10 chains of 1000 draws
each, thinned until neighbouring draws are nearly independent. Compare draws of the same
posterior with one of them:

    vi-bench compare mine.nc reference:velocities

`vi-bench list references` lists them; in Python,
`vb.read_draws("reference:velocities")` returns the draws (32 bits), and `vb.compare`
takes that name for a path. The attribute `reference` holds, as JSON, the experiment's
spec and the hash of its data, every quantity's mean, sd, skewness, fourth
standardised moment and quantiles, each with its standard error, the evidence, and the
versions that made it. The spec ([spec.md](spec.md)) names the model, its prior and the
data. Components of a mixture carry no order; comparisons undo it.

A reference is published only if all of this holds:

- NUTS (BlackJAX) draws from this package's density, nutpie from PyMC's model of the
  same posterior, which shares no code with it, and the comparison of the two is
  "agrees" within the usual margin.
- R-hat of every quantity is below 1.01, the lag-1 autocorrelation below 0.05, bulk
  and tail effective sample sizes are at least 8500 of 10,000, no transition diverged,
  and E-BFMI is at least 0.3. This includes what posteriordb asks of its reference
  draws.

Log evidence, log p(X) in nats, is by this package's sequential Monte Carlo and by
PyMC's. It counts as known, and is printed without "?", where the two agree within four
standard errors of their difference and each of these errors is at most 0.1 nats.

"Thinned by" is the number of draws made for each that is kept. R-hat is the largest
of all quantities, ESS the smallest of 10,000 draws, "lag 1" the largest
autocorrelation.

{table}

The table is written by `python -m benchmarks.references --page docs/references.md`;
`python -m benchmarks.references` makes the references that are missing, and
`python -m benchmarks.references --posteriordb FOLDER` writes draws, information and
moments in posteriordb's layout.
"""


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


def page() -> str:
    """The text of docs/references.md, with a row for each reference that ships."""
    rows = [_row(published.known_of(name)) for name in catalogue.references()]
    head = (
        "reference", "model", "quantities", "thinned by", "R-hat", "ESS", "lag 1",
        "log evidence", "by PyMC",
    )  # fmt: skip
    return TEXT.format(number=len(rows), table=table(head, rows))


def _row(known: dict[str, Any]) -> list[str]:
    every = known["quantities"].values()
    one, other = known["evidence"]["smc"], known["evidence"]["pymc smc"]
    doubt = "" if known["evidence"]["agrees"] else " ?"
    return [
        f"`{known['name']}`",
        known["spec"]["model"]["name"],
        f"{len(known['quantities'])}",
        f"{known['nuts']['thin']}",
        f"{max(q['r_hat'] for q in every):.4f}",
        f"{min(min(q['ess_bulk'], q['ess_tail']) for q in every):.0f}",
        f"{max(abs(q['lag_1']) for q in every):.3f}",
        str(Number(one["value"], one["se"])) + doubt,
        str(Number(other["value"], other["se"])) + doubt,
    ]
