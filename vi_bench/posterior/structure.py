"""What is seen of a NumPyro model when it is run once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from numpyro import handlers
from numpyro.distributions import biject_to
from numpyro.infer import util
from numpyro.infer.initialization import init_to_uniform

from vi_bench.errors import InputError, one_line


@dataclass(frozen=True)
class Site:
    """A latent variable of a model.

    Attributes:
        name: its name.
        shape: shape of its value.
        dims: names of its dimensions: plates by their names, others by number.
        discrete: whether it is summed out.
        free: shape of its unconstrained value.
    """

    name: str
    shape: tuple[int, ...]
    dims: tuple[str, ...]
    discrete: bool
    free: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Structure:
    """What does not change between data sets of one shape.

    Attributes:
        model: the NumPyro model.
        call: makes its arguments from the arrays among them.
        sites: its latent variables, in the order of the model.
        observed: names of the observed sites.
        nesting: number of plates that are nested in each other at most.
        proper: whether every latent variable has a prior that can be drawn from.
        name: what the model is called in messages and records.
        places: observed site -> index, among the data's arrays, of its values.
    """

    model: Callable[..., Any]
    call: Callable[[tuple[Any, ...]], tuple[tuple[Any, ...], dict[str, Any]]]
    sites: tuple[Site, ...]
    observed: tuple[str, ...]
    nesting: int
    proper: bool
    name: str
    places: dict[str, int]


def outcomes(
    model: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> dict[str, Any]:
    """Observed site -> its values; factors are left out."""
    return {
        name: site["value"]
        for name, site in run_once(model, args, kwargs).items()
        if site["type"] == "sample"
        and site["is_observed"]
        and site["value"] is not None
    }


def where(value: Any, leaves: list[Any], moving: list[int]) -> int | None:
    """Which array among the arguments an observed value is; None if it is none."""
    same = [i for i in moving if leaves[i] is value] or [
        i
        for i in moving
        if np.shape(leaves[i]) == np.shape(value)
        and np.size(value)
        and np.array_equal(leaves[i], value)
    ]
    return same[0] if same else None


def read_model(
    model: Callable[..., Any],
    call: Callable[[tuple[Any, ...]], tuple[tuple[Any, ...], dict[str, Any]]],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    places: dict[str, int],
) -> Structure:
    """Run a model once, and see what sites it has."""
    name = called(model)
    trace = run_once(model, args, kwargs)
    if optimised := [k for k, s in trace.items() if s["type"] == "param"]:
        raise InputError(
            f"model {name!r}: {optimised[0]!r} is a param, which has no prior; "
            "expected sample sites alone"
        )
    sites, observed, proper = [], [], True
    for label, site in trace.items():
        if site["type"] != "sample":
            continue
        if site["is_observed"]:
            observed.append(label)
            continue
        discrete = bool(site["fn"].support.is_discrete)
        if discrete and not site["fn"].has_enumerate_support:
            raise InputError(
                f"model {name!r}: {label!r} is discrete and cannot be enumerated; "
                "expected it to be marginalised in the model"
            )
        shape = tuple(jnp.shape(site["value"]))
        free = shape
        if not discrete:
            inverse = biject_to(site["fn"].support).inv
            free = jax.eval_shape(inverse, site["value"]).shape
        proper = proper and not improper(site["fn"])
        sites.append(Site(label, shape, _dims(label, site, shape), discrete, free))
    if all(site.discrete for site in sites):
        raise InputError(f"model {name!r}: has no continuous latent variable")
    if not observed:
        raise InputError(
            f"model {name!r}: nothing is observed; expected obs=... at some site"
        )
    nesting = util._guess_max_plate_nesting(trace)
    return Structure(
        model, call, tuple(sites), tuple(observed), nesting, proper, name, places
    )


def _dims(
    label: str, site: Mapping[str, Any], shape: tuple[int, ...]
) -> tuple[str, ...]:
    """Names of a site's dimensions: plates by name, others label_dim_0, ..."""
    names = [f"{label}_dim_{i}" for i in range(len(shape))]
    batch = len(shape) - len(site["fn"].event_shape)
    for frame in site["cond_indep_stack"]:
        place = batch + frame.dim
        if 0 <= place < batch and shape[place] == frame.size:
            names[place] = str(frame.name)
    return tuple(names)


def improper(fn: Any) -> bool:
    """Whether a distribution cannot be drawn from, whatever wraps it."""
    while hasattr(fn, "base_dist"):
        fn = fn.base_dist
    return isinstance(fn, dist.ImproperUniform)


def is_array(value: Any) -> bool:
    """Whether a value is an array, and not a single number."""
    return hasattr(value, "__array__") and getattr(value, "ndim", 0) > 0


def called(model: Callable[..., Any]) -> str:
    """The name of a model in messages."""
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
        raise InputError(
            f"model {called(model)!r}: cannot be run: {one_line(error)}"
        ) from error
    return found
