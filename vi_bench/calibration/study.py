"""Run a calibration: compile each method once, compute its chunks on every core."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from functools import partial
from threading import Lock
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from vi_bench.calibration.calibration import Calibration
from vi_bench.calibration.examine import Examiner
from vi_bench.calibration.geweke import one_chain
from vi_bench.calibration.programs import keys_of
from vi_bench.calibration.settings import Settings
from vi_bench.calibration.simulators import (
    MixtureSimulator,
    ModelSimulator,
    Simulator,
    Truth,
)
from vi_bench.calibration.store import Store
from vi_bench.contract import Method, Transition
from vi_bench.data.arrays import Arrays
from vi_bench.data.table import feature_names
from vi_bench.errors import CalibrationError, NotApplicable
from vi_bench.mixture.mixture import bind
from vi_bench.posterior.arguments import named_data
from vi_bench.posterior.bound import bind_model
from vi_bench.posterior.numpyro_posterior import NumPyroPosterior
from vi_bench.posterior.variables import Variables
from vi_bench.runtime.environment import computing, describe, find_device
from vi_bench.runtime.progress import Watcher
from vi_bench.runtime.provenance import cores

Results = dict[str, np.ndarray]
Program = Callable[..., Any]

NO_GEWEKE = (
    "Geweke's test is left out: the parameters depend on a discrete variable, so data "
    "given the parameters cannot be drawn by running the model"
)

VAGUE = 1e6
"""Values of simulated data over the largest given, beyond which a prior is too vague to
calibrate over."""

INDEPENDENT = ("variational", "exact")
"""Kinds of methods whose draws are independent, so that none are thinned."""


def study(
    settings: Settings,
    store: Store,
    watcher: Watcher,
    threads: int | None = None,
    data: Arrays | None = None,
) -> Calibration:
    """Run every method on every data set, and test the ranks of the truth.

    The numbers depend neither on the threads nor on interruptions: each simulation has
    its own random key.

    Args:
        settings: the settings.
        store: storage of finished chunks, which are not computed again.
        watcher: told of the progress.
        threads: chunks computed in parallel; by default one per core.
        data: those of a NumPyro model, whose observed values are not used; by default
            those that the settings name.

    Raises:
        InputError: the model and the data do not fit each other.
        KeyboardInterrupt: interrupted; finished chunks are in the store.
    """
    # data sets have few rows: a CPU is fastest, one data set after the other
    device = find_device("cpu")
    found = Calibration(settings)
    with computing(device, 64):
        found.environment = describe(device, 64)
        simulator = _simulator(settings, data)
        truth = _truths(settings, simulator)
        if isinstance(simulator, ModelSimulator):
            _check_size(simulator.template, truth)
        runner = _Runner(settings, store, watcher, threads or cores() or 1, device)
        for label, method in settings.spec.inference().items():
            draws, thin = _draws(settings, method)
            examiner = Examiner(method, simulator, draws, thin)
            word = "done"
            try:
                one = jax.tree.map(lambda v: v[0], truth)
                names, compared = examiner.labels(one)
                arrays = runner.simulations(label, examiner, truth)
                found.add(label, arrays, names, compared, draws)
                moves = isinstance(method, Transition)
                if settings.geweke and moves and not simulator.redraws:
                    found.notes.setdefault(label, []).append(NO_GEWEKE)
                elif settings.geweke and isinstance(method, Transition):
                    chain = partial(one_chain, method, simulator, settings.turns)
                    arrays = runner.chains(label, chain)
                    found.add_joint(label, arrays, names)
            except NotApplicable as reason:
                found.skipped[label] = str(reason)
                word = "skipped"
            except Exception as error:
                first = str(error).strip().partition("\n")[0]
                found.failed[label] = f"{type(error).__name__}: {first}"
                word = "failed"
            watcher.end(label, word)
    return found


def _draws(settings: Settings, method: Method) -> tuple[int, int]:
    """Number of draws that are ranked, and of draws made for each of them."""
    if method.kind in INDEPENDENT:
        return settings.independent, 1
    return settings.draws, settings.thin


def _simulator(settings: Settings, data: Arrays | None) -> Simulator:
    """The joint distribution of the settings' model.

    Raises:
        InputError: a NumPyro model's prior is improper, or its data do not fit it.
    """
    spec = settings.spec
    if spec.numpyro is None:
        family = settings.family()
        nothing = np.zeros((0, settings.features))
        template = bind(
            family, nothing, settings.components, jnp.float64, spec.mixing()
        )
        names = feature_names(settings.features)
        return MixtureSimulator(template, settings.rows, family.coordinates(names))
    if data is None:
        data = named_data(spec.numpyro, settings.data)
    fixed = {k: v for k, v in settings.model.items() if k != "name"}
    posterior, _ = bind_model(spec.numpyro, fixed, data)
    if not posterior.proper:
        raise CalibrationError(
            f"model {spec.numpyro!r}: its prior is improper, scaled or masked; "
            "expected one that parameters can be drawn from"
        )
    posterior.check_observations()
    return ModelSimulator(posterior, Variables.of(posterior, None, posterior.compared))


def _truths(settings: Settings, simulator: Simulator) -> Truth:
    """Parameters and rows of every simulation, in whole chunks."""
    size = settings.chunk * -(-settings.sims // settings.chunk)
    keys = keys_of(settings.seed, "data", jnp.arange(size))
    found: Truth = jax.jit(lambda keys: lax.map(simulator.joint, keys))(keys)
    return found


def _check_size(posterior: NumPyroPosterior, truth: Truth) -> None:
    """Refuse a prior whose data are not of the order of those given.

    Samplers do not end in time on them, and what they say is of no use.

    Raises:
        InputError: in half of the data sets the largest value is over VAGUE times the
            largest given, or not finite.
    """
    given = posterior.observations()
    for name, values in truth.rows.items():
        usual = max(1.0, float(np.abs(np.asarray(given[name], float)).max(initial=0)))
        whole = np.abs(np.asarray(values, float)).reshape(len(values), -1)
        largest = whole.max(axis=1, initial=0)
        wild = ~(largest <= VAGUE * usual)
        if 2 * wild.sum() > len(wild):
            raise CalibrationError(
                f"model {posterior.structure.name!r}: in {wild.sum()} of {len(wild)} "
                f"data sets drawn from the prior, {name!r} has values over {VAGUE:g} "
                f"times the largest given ({usual:g}); expected narrower "
                "hyperparameters, as no method can be calibrated over such data"
            )


class _Runner:
    """Computes the chunks of each program that are not stored yet."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        watcher: Watcher,
        threads: int,
        device: Any,
    ) -> None:
        self.settings, self.store, self.watcher = settings, store, watcher
        self.threads, self.device = threads, device

    def simulations(self, label: str, examiner: Examiner, truth: Truth) -> Results:
        """The results of a method on all data sets (sims, ...)."""

        def arguments(place: slice) -> tuple[Any, Any]:
            indices = jnp.arange(place.start, place.stop)
            keys = keys_of(self.settings.seed, label, indices)
            return keys, jax.tree.map(lambda v: v[place], truth)

        # a method that needs the data on the host handles data sets one by one
        return self._all(
            label, label, self.settings.sims, arguments, examiner, "simulations"
        )

    def chains(self, label: str, chain: Callable[..., Any]) -> Results:
        """The quantities of Geweke's test of a method (chains, Q)."""
        name = f"{label}.geweke"

        def arguments(place: slice) -> tuple[Any]:
            indices = jnp.arange(place.start, place.stop)
            return (keys_of(self.settings.seed, name, indices),)

        return self._all(
            label, name, self.settings.geweke, arguments, chain, "Geweke's test"
        )

    def _all(
        self,
        label: str,
        name: str,
        units: int,
        arguments: Callable[[slice], tuple[Any, ...]],
        one: Program,
        words: str,
    ) -> Results:
        """Compute the chunks that are not stored yet; the results of all units."""
        size = self.settings.chunk
        number = -(-units // size)
        places = [slice(i * size, (i + 1) * size) for i in range(number)]
        missing = [i for i in range(number) if self.store.get(name, i) is None]
        if missing:
            self.watcher.stage(label, f"{words}: compiling", 0, 1)
            program = self._program(one, arguments(places[missing[0]]))
            self.watcher.stage(label, words, 0, 1)
            work = [(i, partial(program, *arguments(places[i]))) for i in missing]
            self._work(name, work, number)
        parts = [self.store.get(name, i) for i in range(number)]
        assert all(part is not None for part in parts)
        held: list[Results] = [part for part in parts if part is not None]
        return {k: np.concatenate([p[k] for p in held])[:units] for k in held[0]}

    def _program(self, one: Program, example: tuple[Any, ...]) -> Program:
        """A function of a chunk: compiled or, if it cannot be traced, step by step."""

        def chunk(*packed: Any) -> Any:
            return lax.map(lambda unit: one(*unit), packed)

        try:
            return jax.jit(chunk).lower(*example).compile()
        except jax.errors.JAXTypeError:
            return partial(self._one_by_one, one)

    def _one_by_one(self, one: Program, *packed: Any) -> Any:
        with _ALONE, computing(self.device, 64):
            size = len(jax.tree.leaves(packed)[-1])
            units = [
                one(*jax.tree.map(lambda v: v[i], packed))  # noqa: B023
                for i in range(size)
            ]
            return jax.tree.map(lambda *leaves: np.stack(leaves), *units)

    def _work(
        self, name: str, work: Sequence[tuple[int, Callable[[], Any]]], number: int
    ) -> None:
        """Compute chunks in parallel; finished ones are stored even after an error."""
        pool = ThreadPoolExecutor(self.threads)
        places: dict[Future[Results], int] = {
            pool.submit(_host, piece): index for index, piece in work
        }
        try:
            done = number - len(work)
            for future in as_completed(places):
                self.store.put(name, places.pop(future), future.result())
                done += 1
                self.watcher.tick(done, number + 1)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            for future, index in places.items():
                if not future.cancelled() and future.exception() is None:
                    self.store.put(name, index, future.result())


_ALONE = Lock()
"""NumPyro's stack of handlers is one for all threads: only one may run a model."""


def _host(piece: Callable[[], Any]) -> Results:
    found: Results = jax.tree.map(np.asarray, piece())
    return found
