"""The two ways in, from Python and from the command line; imports late."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vi_bench.data import load
from vi_bench.errors import InputError, unknown
from vi_bench.folder import RunFolder
from vi_bench.progress import Silent, bars
from vi_bench.pythonic import specify
from vi_bench.rows import SOURCES
from vi_bench.spec import Spec
from vi_bench.table import Table

if TYPE_CHECKING:
    from vi_bench.calibration import Calibration
    from vi_bench.cluster import Cluster
    from vi_bench.comparison import Comparison
    from vi_bench.result import Result


def run(
    model: Any = "gaussian",
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
            ``Gaussian(sigma=3.0)``.
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


def compare(
    draws: Mapping[str, Any],
    reference: str,
    *,
    margin: float = 0.1,
    sd_margin: float = 0.1,
    component_dim: str = "component",
    weight: str = "weight",
    variables: Iterable[str] | None = None,
) -> Comparison:
    """Hold posteriors against one of them; they may come from anywhere.

    Args:
        draws: label -> an ArviZ DataTree with draws, or what `vi_bench.read_draws`
            takes: a .nc file, or posteriordb's reference draws.
        reference: the label that the others are held against.
        margin: of means, in reference sds, that still counts as agreement.
        sd_margin: of sds, relative, likewise.
        component_dim: the dimension that a permutation of labels acts on.
        weight: the variable that holds the components' weights, if there is one.
        variables: those to compare; by default all that every tree has.

    Raises:
        InputError: something cannot be read or compared; one line says what.
    """
    from vi_bench.comparison import Margin
    from vi_bench.comparison import compare as held
    from vi_bench.external import comparable, read_draws, sample_of

    if reference not in draws:
        raise unknown("reference", reference, draws, "the draws")
    if len(draws) < 2:
        raise InputError(f"draws: only {reference!r} is given; expected at least two")
    for name, value in (("margin", margin), ("sd_margin", sd_margin)):
        if not 0 < value < 1:
            raise InputError(f"{name} = {value}: expected a number between 0 and 1")
    chosen = None if variables is None else list(variables)
    samples = {}
    for label, given in draws.items():
        tree = read_draws(given) if isinstance(given, str | Path) else given
        samples[label] = sample_of(
            tree, component_dim=component_dim, weight=weight, variables=chosen
        )
    common, left_out = comparable(samples)
    found = held(common, reference, Margin(margin, sd_margin))
    if not left_out:
        return found
    note = f"not in every posterior, so not compared: {', '.join(left_out)}"
    return found.noted(note)


def calibrate(
    model: Any = "gaussian",
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
            such as ``Gaussian(sigma=3.0)``; what is not set has fixed defaults.
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
    from vi_bench.pythonic import named

    if not isinstance(model, str):
        model = {k: v for k, v in named("model", model).items() if v is not None}
    settings = settle(model, fields, methods, given)
    folder = None if out is None else Path(out)
    store = Store(folder, settings.model_dump(mode="json"))
    from vi_bench.calibration.study import study
    from vi_bench.environment import kept_programs

    labels = list(settings.methods)
    shown = bars(labels) if progress else nullcontext(Silent())
    with kept_programs(), shown as watcher:
        found = study(settings, store, watcher, threads)
    if folder is not None:
        from vi_bench.report.calibration import write_calibration

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
    from vi_bench.predictive import prior_predictive

    family, mixing = fixed_family(spec, features), spec.mixing()
    name = f"simulated {spec.model['name']}"
    return prior_predictive(family, mixing, components, features, rows, seed, name)


def launch(
    spec: Spec,
    table: Table | None = None,
    out: Path | str | None = None,
    *,
    overwrite: bool = False,
    progress: bool = False,
    cluster: Cluster | None = None,
    checkpoint: Path | None = None,
) -> Result:
    """Execute a spec and write its folder, whole or not at all.

    An interrupt keeps the methods that had finished; with none it goes on, as
    KeyboardInterrupt, and nothing is written.

    What can be refused without computing is refused before JAX is loaded. Compiled
    programs are kept in the user's cache folder (`environment.kept_programs`).

    Args:
        spec: what to run.
        table: the data, if they are not to be loaded.
        out: folder to write to; of the processes of a cluster, that of rank 0 writes.
        overwrite: replace an earlier run's folder.
        progress: show bars on stderr.
        cluster: where this process stands among several that share the rows.
        checkpoint: file for the best q so far, while a method runs.

    Raises:
        InputError: something asked for cannot be used; one line says what.
        KeyboardInterrupt: no method had finished.
    """
    if spec.stream and (cluster is not None or spec.devices > 1):
        raise InputError("stream: streamed rows cannot be shared by devices or hosts")
    if table is None:
        # of a file that can be read piece by piece a host holds its own rows only
        split = cluster is not None and Path(spec.data).suffix.lower() in SOURCES
        table = load(spec.data, stream=spec.stream or split)
    spec.check_names()
    labels = list(spec.methods)
    place = nullcontext(None) if out is None else RunFolder(Path(out), overwrite)
    with place as staged:
        from vi_bench.environment import kept_programs, split_processor

        split_processor(spec.devices)  # before an import that computes something
        if cluster is not None:
            cluster.join()
        from vi_bench.runner import execute

        shown = bars(labels) if progress else nullcontext(Silent())
        with kept_programs(), shown as watcher:
            result = execute(spec, table, watcher, checkpoint)
        if result.interrupted and not any(r.usable for r in result.runs.values()):
            raise KeyboardInterrupt
        if staged is not None:
            result.save(staged)
    result.folder = None if out is None else Path(out)
    return result
