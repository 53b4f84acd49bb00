"""Entry points shared by Python and the command line; heavy imports are deferred."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vi_bench.data.arrays import Arrays, arrays
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
    """Fit one model by several methods, time each, and compare their posteriors.

    Args:
        model: of a mixture, a model's name, {"name": ..., settings}, or a family such
            as ``Gaussian(sigma=3.0)``, by default "gaussian"; or a NumPyro model, as a
            function or by its name, "mine.py:model".
        data: of a mixture an (N, d) array, or anything that `vi_bench.load` takes, by
            default "notebook"; of a NumPyro model a mapping from the names of its
            arguments to arrays, or a .npz, .csv or .json file, by default what data()
            in the model's file returns.
        methods: names, settings such as ``SVI(guide="full-rank")``, or a mapping from
            labels to settings; by default cavi, svi and nuts, of a NumPyro model svi
            and nuts.
        out: folder to write to; nothing is written by default.
        overwrite: replace an earlier run's folder.
        progress: show bars on stderr.
        **fields: other fields of `Spec`: components, seed, reference, precision, ...

    Raises:
        InputError: an argument cannot be used; the message is one line.
        KeyboardInterrupt: interrupted before any method had finished.
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
    data: Any = None,
    **fields: Any,
) -> Calibration:
    """Simulation-based calibration: are posteriors right on average over the prior?

    Parameters are drawn from the prior, and rows given them, many times. Each method
    fits every data set; if it is right, the ranks of the true parameters among its
    draws are uniform (Talts et al. 2018).

    Args:
        model: a model's name, a .toml spec, {"name": ..., hyperparameters}, or a family
            such as ``Gaussian(sigma=3.0)``, by default "gaussian"; hyperparameters that
            are not set have fixed defaults. Or a NumPyro model, as a function or by its
            name, "mine.py:model".
        methods: names, or a mapping from labels to settings; by default cavi, nuts and
            exact, of a NumPyro model svi and nuts.
        out: folder to write to, chunk by chunk; the same call resumes an interrupted
            one. Nothing is written by default.
        progress: show bars on stderr.
        threads: chunks computed in parallel; by default one per core.
        given: hyperparameters that override those of `model`.
        data: of a NumPyro model, as of `run`: its covariates, and observed values,
            whose shapes alone are used. One of the library's models has an example.
        **fields: other fields of `vi_bench.calibration.settings.Settings`: sims, rows,
            ...

    Raises:
        InputError: an argument cannot be used; the message is one line.
        KeyboardInterrupt: interrupted; finished chunks are in the folder.
    """
    from vi_bench.calibration.settings import settle
    from vi_bench.calibration.store import Store
    from vi_bench.posterior.arguments import named_data
    from vi_bench.posterior.bound import example_of, library_model
    from vi_bench.runner.specify import (
        is_plain_function,
        methods_of,
        model_function,
        named,
    )

    if model is None:
        model = DEFAULTS["model"]
    function = model_function(model)
    if is_plain_function(model):
        model = function
    if not isinstance(model, str):
        model = {k: v for k, v in named("model", model).items() if v is not None}
    named_already = data is None or isinstance(data, str | Path)
    own: Arrays | None = None if named_already else arrays(data)
    if data is not None:
        fields |= {"data": str(data) if own is None else own.name}
    if function is not None and methods is not None:
        methods = methods_of(methods)
    settings = settle(model, fields, methods, given)
    folder, plain = None if out is None else Path(out), settings.plain()
    if function is not None:
        hyper = {k: v for k, v in settings.model.items() if k != "name"}
        bringing = library_model(function, hyper)
        if own is None and not settings.data and bringing is not None:
            own = arrays(example_of(bringing, settings.seed), "an example")
        own = own or named_data(function, settings.data)
        plain |= {"plugins": settings.spec.plugins(), "data_sha256": own.sha256}
    store = Store(folder, plain)
    from vi_bench.calibration.study import study
    from vi_bench.runtime.environment import session

    labels = list(settings.methods)
    shown = bars(labels) if progress else nullcontext(Silent())
    try:
        with session(), shown as watcher:
            found = study(settings, store, watcher, threads, own)
    except InputError:
        store.undo()
        raise
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
    """Simulate rows of a mixture whose parameters are drawn from their prior.

    Args:
        model: a family with every hyperparameter set, such as ``Poisson(2.0, 0.5)``, or
            a mapping {"name": ..., settings}.
        rows: number of rows N.
        components: number of components K.
        features: number of features d.
        weights: the prior on the weights: a name, a mapping or settings.
        seed: random seed.

    Returns:
        A table (N, d); its `truth` has "labels" (N,), "weight" (K,) and the parameters.

    Raises:
        InputError: a hyperparameter is wrong, or would have to be taken from data; or a
            size is under 1.
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
