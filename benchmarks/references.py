"""Published references: draws, moments and evidence of posteriors, checked twice.

    uv run --group bench python -m benchmarks.references [--only NAME,NAME]
        [--out vi_bench/references] [--posteriordb FOLDER] [--page FILE]

NUTS of BlackJAX draws from each posterior by vi_bench's density, nutpie by PyMC's
(`benchmarks.independent`), which share no code; its evidence is estimated by SMC of
both. A reference is written where draws agree, their diagnostics are those that
posteriordb asks for; its evidence counts as known where both estimates agree.
`--posteriordb` writes what is known in posteriordb's layout, `--page` a page about it;
both draw nothing.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from arviz_stats.base import array_stats
from rich import print as show
from xarray import Dataset, DataTree

import vi_bench as vb
from benchmarks.reference_files import page, write_posteriordb
from benchmarks.reference_targets import TARGETS, Target
from vi_bench import catalogue
from vi_bench.comparison.quantities import by_component
from vi_bench.runner.samples import e_bfmi
from vi_bench.runtime.provenance import version_of

CHAINS, DRAWS = 10, 1000
"""Chains of a reference, and draws kept of each: 10,000 in all."""

THIN, MOST = 5, 80
"""Draws made for each that is kept: at first, and at most."""

R_HAT, LAG, MISSING, LEAST = 1.01, 0.05, 0.3, 8500
"""Largest R-hat; largest autocorrelation of neighbouring draws; least E-BFMI; least
effective sample size of 10,000 draws."""

PATIENT = {"draws": 2000, "threshold": 0.9, "correlation_threshold": 1e-3}
"""How PyMC's SMC moves its particles. As it comes it stops moving them early and tells
log p(X) of a regression on ten features 3.1 nats too low, with an error of 0.2."""

WITHIN, KNOWN = 4.0, 0.1
"""Standard errors within which two estimates of the evidence must agree, and the
largest of these errors, nats: what is hardly known agrees with anything."""

PROBABILITIES = (0.05, 0.25, 0.5, 0.75, 0.95)


def main() -> None:
    """Make what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", help="names, comma-separated")
    parser.add_argument("--out", type=Path, default=Path("vi_bench/references"))
    parser.add_argument("--posteriordb", type=Path)
    parser.add_argument("--page", type=Path)
    given = parser.parse_args()
    if given.page:
        given.page.write_text(page(), encoding="utf-8")
        return
    chosen = given.only.split(",") if given.only else [t.name for t in TARGETS]
    if given.posteriordb:
        for name in chosen:
            write_posteriordb(given.out / f"{name}.nc", given.posteriordb)
        return
    refused = []
    for target in TARGETS:
        path = given.out / f"{target.name}.nc"
        if target.name not in chosen or path.exists():
            continue
        tree, why = make(target)
        if why:
            show(f"{target.name}: no reference: {'; '.join(why)}")
            refused.append(target.name)
            continue
        given.out.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        tree.to_netcdf(part, engine="netcdf4", encoding=_encoding(tree))
        part.replace(path)
    raise SystemExit(len(refused) > 0)


def make(target: Target) -> tuple[DataTree, list[str]]:
    """A reference, and what speaks against it."""
    begun = time.perf_counter()
    spec, data = target.bound()
    run, thin, found, checks = drawn(target, spec, data)
    model = model_of(run)
    other, statistics = independent(model, found)
    compared = vb.compare({"nuts": found, "pymc": other}, reference="nuts")
    quantities = dict(described(compared))
    checks |= checks_of(quantities)
    evidence = evidences(spec, data, model)
    word = compared.verdicts["pymc"]
    checks["agrees with PyMC"] = word.word == "agrees"
    kept = json.dumps(
        {
            "name": target.name,
            "spec": run.summary["spec"],
            "data": {
                k: run.summary["data"][k] for k in ("name", "note", "source", "sha256")
            },
            "nuts": {"chains": CHAINS, "thin": thin, "draws": DRAWS},
            "pymc": statistics | {"verdict": word.word, "reason": word.reason},
            "evidence": evidence,
            "quantities": quantities,
            "checks": checks,
            "versions": {
                n: version_of(n) for n in ("jax", "numpyro", "blackjax", "pymc")
            },
            "seconds": round(time.perf_counter() - begun),
        }
    )
    found.attrs["reference"] = kept
    took = time.perf_counter() - begun
    said = f"{word.word}, log p(X) {evidence['smc']} and {evidence['pymc smc']}"
    show(f"{target.name}: {took:.0f} s, thinned by {thin}, {said}")
    return found, [name for name, passed in checks.items() if not passed]


def drawn(
    target: Target, spec: Any, data: Any
) -> tuple[Any, int, DataTree, dict[str, bool]]:
    """A run of NUTS, how it was thinned, the draws kept, and checks of the run."""
    thin = THIN
    while True:
        settled = spec.model_copy(
            update={
                "methods": {"nuts": spec.methods.get("nuts", {})},
                "reference": "nuts",
                "chains": CHAINS,
                "draws": DRAWS * thin,
                "repeats": 1,
                "seed": 20170415,
            }
        )
        run = vb.launch(settled, data)
        tree = kept(run, thin)
        worst = max(_lags(tree))
        if worst < LAG or thin >= MOST:
            break
        show(f"{target.name}: thinned by {thin}, lag-1 autocorrelation {worst:.2f}")
        thin = min(MOST, 4 * thin)
    known = run.summary["methods"]["nuts"]["sampler"]
    energy = run.posterior["nuts"]["sample_stats"]["energy"].to_numpy()
    return (
        run,
        thin,
        tree,
        {
            "lag-1 autocorrelation": bool(worst < LAG),
            "no divergences": known["divergences"] == 0,
            "E-BFMI": e_bfmi(energy) >= MISSING,
        },
    )


def kept(run: Any, thin: int) -> DataTree:
    """The draws that a reference keeps, and the data."""
    whole = run.posterior["nuts"]
    # of a model of the library those that are compared; a mixture's are few
    of_model = getattr(run.subject, "variables", None)
    every = of_model.chosen if of_model else whole["posterior"].data_vars
    names = [str(name) for name in every]
    some = whole["posterior"].to_dataset()[names].isel(draw=slice(thin - 1, None, thin))
    some = some.assign_coords(draw=np.arange(DRAWS)).astype(np.float32)
    groups = {"posterior": some}
    if "observed_data" in whole.children:
        groups["observed_data"] = whole["observed_data"].to_dataset()
    return DataTree.from_dict(groups)


def _lags(tree: DataTree) -> Iterator[float]:
    """Autocorrelations of neighbouring draws, of all scalars as they are."""
    for values in tree["posterior"].data_vars.values():
        for x in np.moveaxis(values.to_numpy().reshape(CHAINS, DRAWS, -1), 2, 0):
            yield abs(lag_one(x.astype(float)))


def lag_one(x: np.ndarray) -> float:
    """Autocorrelation of neighbouring draws (chain, draw); 0 of a constant."""
    away, spread = x - x.mean(), x.var()
    return float((away[:, 1:] * away[:, :-1]).mean() / spread) if spread > 0 else 0.0


def independent(model: Any, ours: DataTree) -> tuple[DataTree, dict[str, Any]]:
    """Draws of the same variables from PyMC's model by nutpie, and how many."""
    import nutpie

    compiled = nutpie.compile_pymc_model(model)
    found = nutpie.sample(
        compiled,
        draws=4 * DRAWS,
        tune=2 * DRAWS,
        chains=CHAINS,
        cores=2,
        seed=20170415,
        target_accept=0.95,
        progress_bar=False,
    )
    theirs = found.posterior
    posterior = ours["posterior"].to_dataset()
    shared = {}
    for name, values in posterior.data_vars.items():
        if name in theirs:
            array = np.asarray(theirs[name])
            shared[name] = (
                values.dims,
                array.reshape(*array.shape[:2], *values.shape[2:]),
            )
    coords = {k: v for k, v in posterior.coords.items() if k not in ("chain", "draw")}
    diverging = int(np.asarray(found.sample_stats["diverging"]).sum())
    tree = DataTree.from_dict({"posterior": Dataset(shared, coords)})
    return tree, {"draws": CHAINS * 4 * DRAWS, "divergences": diverging}


def model_of(run: Any) -> Any:
    """PyMC's model of a run."""
    from benchmarks import independent as own

    subject = run.subject
    if hasattr(subject, "family"):
        K = run.spec.components
        return own.mixture(subject.family, subject.weights, K, subject.data.values)
    data = {name: np.asarray(v) for name, v in subject.data.values.items()}
    settings = catalogue.model(subject.name)(**subject.settings)
    return own.of_library(subject.name, settings, data)


def described(compared: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Quantity -> moments, quantiles and diagnostics of the draws; errors with them."""
    for name, values in scalars_of(compared, "nuts").items():
        known, x = compared.summaries["nuts"][name], np.asarray(values, float)
        z = (x - known.mean.value) / known.sd.value

        def of(y: np.ndarray) -> list[float]:
            return [float(y.mean()), float(array_stats.mcse(y, method="mean"))]

        yield (
            str(name),
            {
                "mean": [known.mean.value, known.mean.se],
                "sd": [known.sd.value, known.sd.se],
                "skewness": of(z**3),
                "fourth moment": of(z**4),
                "quantiles": {
                    f"{p:g}": [
                        float(np.quantile(x, p)),
                        float(array_stats.mcse(x, method="quantile", prob=p)),
                    ]
                    for p in PROBABILITIES
                },
                "ess_bulk": known.ess_bulk,
                "ess_tail": known.ess_tail,
                "r_hat": known.r_hat,
                "lag_1": lag_one(x),
            },
        )


def scalars_of(compared: Any, label: str) -> dict[Any, np.ndarray]:
    """The scalars that comparisons rest on (chain, draw)."""
    every = {
        **compared.invariants[label],
        **compared.samples[label].shared,
        **by_component(compared.relabelled[label]),
    }
    return {name: every[name] for name in compared.judged if name in every}


def checks_of(quantities: Mapping[str, Mapping[str, Any]]) -> dict[str, bool]:
    """What posteriordb asks of 10,000 draws that are nearly independent."""
    every = list(quantities.values())
    sizes = [q[kind] for q in every for kind in ("ess_bulk", "ess_tail")]
    return {
        "R-hat": max(q["r_hat"] for q in every) < R_HAT,
        "effective sample sizes": min(sizes) >= LEAST,
        "lag-1 autocorrelation of quantities": max(abs(q["lag_1"]) for q in every)
        < LAG,
    }


def evidences(spec: Any, data: Any, model: Any) -> dict[str, Any]:
    """Log p(X) by SMC of BlackJAX and of PyMC, nats, with errors between chains."""
    import pymc as pm

    settled = spec.model_copy(
        update={"methods": {"smc": {"method": "smc"}}, "reference": "smc", "repeats": 1}
    )
    known = vb.launch(settled, data).summary["methods"]["smc"]
    ours = {"value": known["log_evidence"], "se": known["log_evidence_se"]}
    with model:
        found = pm.sample_smc(
            kernel=pm.smc.kernels.MH,
            chains=4,
            cores=1,
            random_seed=1,
            progressbar=False,
            **PATIENT,
        )
    last = list(_chains(found))
    theirs = {
        "value": float(np.mean(last)),
        "se": float(np.std(last, ddof=1) / np.sqrt(len(last))),
    }
    # errors between four chains have three degrees of freedom: twice of them
    apart = abs(ours["value"] - theirs["value"])
    allowed = WITHIN * float(np.hypot(ours["se"], 2 * theirs["se"]))
    known = max(ours["se"], theirs["se"]) <= KNOWN
    return {"smc": ours, "pymc smc": theirs, "agrees": known and apart <= allowed}


def _chains(found: Any) -> Iterator[float]:
    """PyMC's log evidence by chain, the last of those up to each stage."""
    values = found.sample_stats["log_marginal_likelihood"].to_numpy()
    for chain in values:
        finite = [v for v in np.ravel(np.asarray(chain[-1], float)) if np.isfinite(v)]
        yield finite[-1]


def _encoding(tree: DataTree) -> dict[str, dict[str, dict[str, Any]]]:
    """Compression of all draws."""
    packed = {"zlib": True, "complevel": 9, "shuffle": True}
    names = tree["posterior"].data_vars
    return {"/posterior": {str(name): packed for name in names}}


if __name__ == "__main__":
    main()
