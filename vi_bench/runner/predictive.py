"""Prior and posterior predictive rows, and the log predictive density of new rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from vi_bench.data.table import Table, feature_names, from_array
from vi_bench.errors import InputError
from vi_bench.mixture.mixture import Mixture, bind
from vi_bench.mixture.types import Family, Parameters, Weights
from vi_bench.runtime.environment import computing, find_device

if TYPE_CHECKING:
    from vi_bench.runner.result import RunResult


def prior_predictive(
    family: Family,
    weights: Weights,
    components: int,
    features: int,
    rows: int,
    seed: int,
    name: str,
) -> Table:
    """Simulate a table (rows, features): theta from the prior, and rows given theta.

    Its `truth` has the labels, the weights and the parameters.
    """
    with computing(find_device("auto"), 64):
        nothing = np.zeros((0, features))
        mixture = bind(family, nothing, components, jnp.float64, weights)
        of_theta, of_rows = jax.random.split(jax.random.key(seed))
        theta = mixture.draw(of_theta, mixture.prior(), ())
        x, labels = mixture.simulate(of_rows, rows, theta)
        log_weights = mixture.weights.log_weights(theta, components)
        truth = {k: np.asarray(v) for k, v in theta.items() if k in family.dims}
        truth |= {"weight": np.exp(log_weights), "labels": np.asarray(labels)}
        values = np.asarray(x, float)
    return from_array(values, name, feature_names(features), truth=truth)


def posterior_predictive(result: RunResult, label: str, rows: int, seed: int) -> Table:
    """Rows (n, d), each given a random draw from a method's posterior.

    Raises:
        InputError: the method has no draws.
    """
    with computing(find_device("auto"), 64):
        mixture, theta = _posterior(result, label)
        choose, use = jax.random.split(jax.random.key(seed))
        size = len(next(iter(theta.values())))
        chosen = jax.random.randint(choose, (rows,), 0, size)
        some = jax.tree.map(lambda v: v[chosen], theta)

        @jax.jit
        def simulate(mixture: Mixture, some: Parameters, keys: Any) -> Any:
            def one(packed: Any) -> Any:
                key, theta = packed
                return mixture.simulate(key, 1, theta)[0][0]

            return jax.lax.map(one, (keys, some))

        found = simulate(mixture, some, jax.random.split(use, rows))
        values = np.asarray(found, float) + mixture.data_centre
    name = f"posterior predictive of {label}"
    return from_array(values, name, result.table_data.features)


def log_predictive_density(result: RunResult, label: str, points: Any) -> np.ndarray:
    """Log of the mean of p(x | theta) over a method's draws, nats, at points (n, d).

    Raises:
        InputError: the method has no draws, or the points do not fit the family.
    """
    family = result.family  # of mixtures alone
    x = np.asarray(points, float)
    features = len(result.table_data.features)
    if x.ndim != 2 or x.shape[1] != features:
        raise InputError(f"points: shape {x.shape}, expected (n, {features})")
    family.check(Table("points", x, result.table_data.features))
    with computing(find_device("auto"), 64):
        mixture, theta = _posterior(result, label)

        @jax.jit
        def average(mixture: Mixture, theta: Parameters, x: Any) -> Any:
            def add(total: Any, theta: Parameters) -> tuple[Any, None]:
                return jnp.logaddexp(total, mixture.log_density(theta, x)), None

            nothing = jnp.full(len(x), -jnp.inf)
            return jax.lax.scan(add, nothing, theta)[0]

        total = average(mixture, theta, jnp.asarray(x - mixture.data_centre))
        draws = len(next(iter(theta.values())))
        return np.asarray(np.asarray(total) - np.log(draws))


def _posterior(result: RunResult, label: str) -> tuple[Mixture, Parameters]:
    """The mixture, and a method's draws in one axis, centred like the data."""
    run = result.runs.get(label)
    if run is None or run.draws is None:
        raise InputError(f"method {label!r} has no draws; of {list(result.runs)}")
    table = result.table_data
    mixture = bind(
        result.family,
        table.values,
        result.spec.components,
        jnp.float64,
        result.weights,
        centre=result.data_centre,
    )
    theta = {
        name: jnp.asarray(v.reshape(-1, *v.shape[2:]), jnp.float64)
        for name, v in mixture.recentred(run.draws.parameters).items()
    }
    return mixture, theta
