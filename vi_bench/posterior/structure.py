"""What is seen of a NumPyro model when it is run once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpyro import distributions as dist
from numpyro import handlers
from numpyro.distributions import biject_to, constraints
from numpyro.infer import util
from numpyro.infer.initialization import init_to_uniform
from numpyro.infer.inspect import get_dependencies

from vi_bench.errors import InputError, ModelError, placed


@dataclass(frozen=True)
class Site:
    """A latent variable of a model.

    Attributes:
        name: its name.
        shape: shape of its value.
        dims: names of its dimensions: plates by their names, others by number.
        discrete: whether it is summed out.
        free: shape of its unconstrained value.
        kind: class of its prior.
    """

    name: str
    shape: tuple[int, ...]
    dims: tuple[str, ...]
    discrete: bool
    free: tuple[int, ...]
    kind: type = dist.Distribution


@dataclass(frozen=True, eq=False)
class Structure:
    """What does not change between data sets of one shape.

    Attributes:
        model: the NumPyro model.
        call: makes its arguments from the arrays among them.
        sites: its latent variables, in the order of the model.
        observed: names of the observed sites.
        nesting: number of plates that are nested in each other at most.
        proper: whether every latent variable has a prior that can be drawn from, so
            none that is improper, scaled or masked.
        name: what the model is called in messages and records.
        places: observed site -> index, among the data's arrays, of its values.
        tied: whether a continuous variable's prior depends on a discrete one.
        made: deterministic variable -> names of its dimensions.
    """

    model: Callable[..., Any]
    call: Callable[[tuple[Any, ...]], tuple[tuple[Any, ...], dict[str, Any]]]
    sites: tuple[Site, ...]
    observed: tuple[str, ...]
    nesting: int
    proper: bool
    name: str
    places: dict[str, int]
    tied: bool
    made: dict[str, tuple[str, ...]]


def outcomes(trace: Mapping[str, Any]) -> dict[str, Any]:
    """Observed site -> its values; factors are left out."""
    return {
        name: site["value"]
        for name, site in trace.items()
        if site["type"] == "sample"
        and site["is_observed"]
        and site["value"] is not None
    }


def places_of(values: Mapping[str, Any], arguments: Any) -> dict[str, int]:
    """Observed site -> which leaf of the arguments its values are.

    A site whose values are none of the arguments', or equal to several, is left out.
    """
    named = [
        (str(getattr(path[-1], "key", "")), leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(arguments)
    ]
    found = {name: _place(name, value, named) for name, value in values.items()}
    taken = list(found.values())
    return {k: i for k, i in found.items() if i is not None and taken.count(i) == 1}


def _place(name: str, value: Any, named: list[tuple[str, Any]]) -> int | None:
    same = [i for i, (_, leaf) in enumerate(named) if leaf is value] or [
        i
        for i, (_, leaf) in enumerate(named)
        if is_array(leaf)
        and np.shape(leaf) == np.shape(value)
        and np.size(value)
        and np.array_equal(leaf, value)
    ]
    if len(same) > 1:
        same = [i for i in same if named[i][0] == name]
    return same[0] if len(same) == 1 and is_array(named[same[0]][1]) else None


def read_model(
    model: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    trace: Mapping[str, Any],
    enumerated: bool = True,
) -> Structure:
    """What a run of a model shows, all of its arguments being constants.

    Args:
        model: the NumPyro model.
        args: its arguments in order.
        kwargs: its arguments by name.
        trace: of a run on these arguments.
        enumerated: whether discrete latent variables have to be summed out.

    Raises:
        InputError: it cannot be inferred as it is.
    """
    name = called(model)
    if optimised := [k for k, s in trace.items() if s["type"] == "param"]:
        raise ModelError(
            f"model {name!r}: {optimised[0]!r} is a param, which has no prior; "
            "expected sample sites alone"
        )
    for label, site in trace.items():
        if site["type"] == "plate" and site["args"][1] not in (None, site["args"][0]):
            raise ModelError(
                f"model {name!r}: the plate {label!r} takes {site['args'][1]} of its "
                f"{site['args'][0]} rows; expected a plate without subsampling"
            )
    sites, observed, proper = [], [], True
    for label, site in trace.items():
        if site["type"] != "sample":
            continue
        if site["is_observed"]:
            observed.append(label)
            _check_support(name, label, site)
            continue
        discrete = bool(site["fn"].support.is_discrete)
        if enumerated and discrete and not site["fn"].has_enumerate_support:
            raise ModelError(
                f"model {name!r}: {label!r} is discrete and cannot be enumerated; "
                "expected it to be marginalised in the model"
            )
        shape = tuple(jnp.shape(site["value"]))
        free = shape
        if not discrete:
            inverse = biject_to(site["fn"].support).inv
            free = jax.eval_shape(inverse, site["value"]).shape
        proper = proper and is_plain(site) and not improper(site["fn"])
        kind = type(bare(site["fn"]))
        dims = _dims(label, site, shape)
        sites.append(Site(label, shape, dims, discrete, free, kind))
    if enumerated and all(site.discrete for site in sites):
        raise ModelError(f"model {name!r}: has no continuous latent variable")
    if not observed:
        raise ModelError(
            f"model {name!r}: nothing is observed; expected obs=... at some site"
        )
    nesting = util._guess_max_plate_nesting(trace)
    return Structure(
        model,
        lambda _: (args, kwargs),
        tuple(sites),
        tuple(observed),
        nesting,
        proper,
        name,
        {},
        _tied(model, args, kwargs, sites),
        {
            label: _dims(label, site, tuple(jnp.shape(site["value"])))
            for label, site in trace.items()
            if site["type"] == "deterministic"
        },
    )


FIXED = (
    (constraints.positive, "more than 0"),
    (constraints.nonnegative, "0 or more"),
    (constraints.unit_interval, "0 to 1"),
    (constraints.nonnegative_integer, "counts 0, 1, 2, ..."),
    (constraints.positive_integer, "counts 1, 2, ..."),
    (constraints.boolean, "0 or 1"),
    (constraints.simplex, "shares that sum to 1"),
)
"""Supports that depend on no parameter, each with what messages call it."""

INTERVAL = type(constraints.integer_interval(0, 1))
"""The class of supports from one integer to another."""


def _check_support(name: str, label: str, site: Mapping[str, Any]) -> None:
    """Check that observed values are possible, where the support is fixed.

    That of codes and of counts out of so many trials is, unless the bounds are inferred
    as those of a discrete uniform may be.

    Raises:
        InputError: some are not.
    """
    support, axes = site["fn"].support, 0
    while hasattr(support, "base_constraint"):  # of events: each entry is checked
        axes += support.reinterpreted_batch_ndims
        support = support.base_constraint
    fixed = any(support is one for one, _ in FIXED)
    of_codes = isinstance(support, INTERVAL) and not isinstance(
        bare(site["fn"]), dist.DiscreteUniform
    )
    if not fixed and not of_codes:
        return
    possible = np.asarray(support(site["value"]))
    counts = np.asarray(_mask(site["fn"]), bool)
    if counts.ndim and counts.ndim + axes <= possible.ndim:
        counts = counts.reshape(*counts.shape, *(1,) * axes)
    possible = possible | ~counts
    if not possible.all():
        at = [int(i) for i in np.argwhere(~possible)[0]]
        value = np.asarray(site["value"])[tuple(at)]
        words = next((words for one, words in FIXED if support is one), "")
        if of_codes:
            most = np.max(np.asarray(support.upper_bound))
            words = f"whole numbers from {np.min(support.lower_bound)} to {most}"
        raise ModelError(
            f"model {name!r}: the observed {label!r} is {value} at {at}, of "
            f"{type(site['fn']).__name__}: expected {words}"
        )


def _mask(fn: Any) -> Any:
    """Which values of a site count; True for all."""
    masks = [m._mask for m in _layers(fn) if isinstance(m, dist.MaskedDistribution)]
    return jnp.all(jnp.stack(jnp.broadcast_arrays(*masks)), axis=0) if masks else True


def _dims(
    label: str, site: Mapping[str, Any], shape: tuple[int, ...]
) -> tuple[str, ...]:
    """Names of a site's dimensions: plates by name, others label_dim_0, ..."""
    names = [f"{label}_dim_{i}" for i in range(len(shape))]
    fn = site.get("fn")  # what is deterministic has none
    batch = len(shape) - (0 if fn is None else len(fn.event_shape))
    for frame in site.get("cond_indep_stack", ()):
        place = batch + frame.dim
        if 0 <= place < batch and shape[place] == frame.size:
            names[place] = str(frame.name)
    return tuple(names)


def is_plain(site: Mapping[str, Any]) -> bool:
    """Whether a site's log density is neither scaled nor masked."""
    masked = any(isinstance(fn, dist.MaskedDistribution) for fn in _layers(site["fn"]))
    return not masked and site.get("scale") is None


def _tied(
    model: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    sites: Sequence[Site],
) -> bool:
    """Whether the prior of a continuous variable depends on a discrete one, or may."""
    discrete = {site.name for site in sites if site.discrete}
    if not discrete:
        return False
    try:
        known = get_dependencies(model, args, kwargs)["prior_dependencies"]
    except Exception:  # of models that do not run on abstract values
        return True
    return any(
        discrete & set(known.get(site.name, ())) for site in sites if not site.discrete
    )


def improper(fn: Any) -> bool:
    """Whether a distribution cannot be drawn from, whatever wraps it."""
    return any(isinstance(layer, dist.ImproperUniform) for layer in _layers(fn))


def _layers(fn: Any) -> Iterator[Any]:
    """A distribution, the one that it wraps, and so on."""
    yield fn
    while hasattr(fn, "base_dist"):
        fn = fn.base_dist
        yield fn


def bare(fn: Any) -> Any:
    """A distribution without what makes its dimensions events, or repeats it."""
    while isinstance(fn, (dist.Independent, dist.ExpandedDistribution)):
        fn = fn.base_dist
    return fn


def cannot_run(model: Callable[..., Any], error: Exception) -> ModelError:
    """The error for a model that raises one."""
    code = getattr(model, "__code__", None)
    told = placed(error, None if code is None else code.co_filename)
    return ModelError(f"model {called(model)!r}: cannot be run: {told}")


def is_array(value: Any) -> bool:
    """Whether a value is an array, and not a single number."""
    return hasattr(value, "__array__") and getattr(value, "ndim", 0) > 0


def called(model: Callable[..., Any]) -> str:
    """The name of a model in messages."""
    owner = getattr(model, "__self__", None)  # of a method, its object's class
    if owner is not None:
        package, _, module = type(owner).__module__.rpartition(".")
        shipped = package == "vi_bench.models"  # registered by its module's name
        return module.replace("_", "-") if shipped else type(owner).__name__
    return str(getattr(model, "__name__", type(model).__name__))


def run_once(
    model: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> dict[str, Any]:
    """The trace of a model that is run once.

    Raises:
        InputError: it cannot be run.
    """
    seeded = handlers.seed(model, jax.random.key(0))
    # improper priors cannot be drawn from: any point will do
    somewhere = handlers.substitute(seeded, substitute_fn=init_to_uniform)
    try:
        found: dict[str, Any] = handlers.trace(somewhere).get_trace(*args, **kwargs)
    except InputError:
        raise
    except Exception as error:  # a user's code may raise anything
        raise cannot_run(model, error) from error
    return found
