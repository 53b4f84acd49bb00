"""The two ways in, from Python and from the command line; imports late."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vi_bench.data.table import Table
from vi_bench.errors import InputError
from vi_bench.runner.launch import launch
from vi_bench.runner.specify import specify
from vi_bench.runtime.progress import Silent, bars
from vi_bench.spec import DEFAULTS

if TYPE_CHECKING:
    from vi_bench.calibration import Calibration
    from vi_bench.runner.views import Result


def run(
    model: Any = None,
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
            ``Gaussian(sigma=3.0)``; by default "gaussian".
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


def calibrate(
    model: Any = None,
    methods: Iterable[str] | Mapping[str, Any] | None = None,
    *,
    out: Path | str | None = None,
    progress: bool = False,
    threads: int | None = None,
    given: Mapping[str, Any] | None = None,
    **fields: Any,
) -> Calibration:
    """Simulation-based calibration: are posteriors right on average over the prior?

    Parameters are drawn from the prior and rows given them, again and again; every
    method infers, and the ranks of the truth among its draws have to be uniform (Talts
    et al. 2018).

    Args:
        model: a model's name, a .toml spec, {"name": ..., hyperparameters}, or a family
            such as ``Gaussian(sigma=3.0)``, by default "gaussian"; what is not set has
            fixed defaults.
        methods: names, or a mapping from labels to settings; by default cavi, nuts and
            exact.
        out: folder to write to, chunk by chunk; the same call goes on where an
            interrupted one ended. Nothing is written by default.
        progress: show bars on stderr.
        threads: chunks worked on at once; by default one per core.
        given: hyperparameters that go before those of `model`.
        **fields: of `vi_bench.calibration.settings.Settings`: sims, rows, ...

    Raises:
        InputError: something given cannot be used; one line says what.
        KeyboardInterrupt: what was finished is in the folder.
    """
    from vi_bench.calibration.settings import settle
    from vi_bench.calibration.store import Store
    from vi_bench.runner.specify import named

    if model is None:
        model = DEFAULTS["model"]
    if not isinstance(model, str):
        model = {k: v for k, v in named("model", model).items() if v is not None}
    settings = settle(model, fields, methods, given)
    folder = None if out is None else Path(out)
    store = Store(folder, settings.model_dump(mode="json"))
    from vi_bench.calibration.study import study
    from vi_bench.runtime.environment import kept_programs

    labels = list(settings.methods)
    shown = bars(labels) if progress else nullcontext(Silent())
    with kept_programs(), shown as watcher:
        found = study(settings, store, watcher, threads)
    if folder is not None:
        from vi_bench.calibration.report import write_calibration

        write_calibration(found, folder)
    found.folder = folder
    return found


def simulate(
    model: Any,
    rows: int,
    components: int,
    *,
    features: int = 1,
    weights: Any = "uniform",
    seed: int = 0,
) -> Table:
    """Rows of a mixture whose parameters are drawn from their prior.

    Args:
        model: a family with every hyperparameter set, such as ``Poisson(2.0, 0.5)``, or
            a mapping {"name": ..., settings}.
        rows: how many.
        components: K.
        features: d.
        weights: the prior on the weights, likewise.
        seed: of everything.

    Returns:
        A table; its `truth` has "labels", "weight" and the parameters.

    Raises:
        InputError: a setting is missing, which only data could give, or wrong.
    """
    spec, _ = specify(model, "notebook", None, {"weights": weights})
    for name, size in (("rows", rows), ("components", components)):
        if size < 1:
            raise InputError(f"{name} = {size}: expected at least 1")
    from vi_bench.calibration.priors import fixed_family
    from vi_bench.runner.predictive import prior_predictive

    family, mixing = fixed_family(spec, features), spec.mixing()
    name = f"simulated {spec.model['name']}"
    return prior_predictive(family, mixing, components, features, rows, seed, name)
