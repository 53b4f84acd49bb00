"""Models that bring their CAVI, and that CAVI, as a verification sees them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vi_bench import catalogue
from vi_bench.contract import (
    CAVIModel,
    Draws,
    Latent,
    Local,
    Method,
    Problem,
)
from vi_bench.errors import NotApplicable, unknown
from vi_bench.factors import base
from vi_bench.inference.stages import calling, compiled, drive, prepare
from vi_bench.posterior.bound import library_model
from vi_bench.posterior.cavi_posterior import CAVIPosterior, completed


def whole_model(
    model: Any, data: Mapping[str, Any] = MappingProxyType({})
) -> Callable[..., Any]:
    """The NumPyro model with all latent variables as sites.

    Args:
        model: a model that brings its CAVI, or its name.
        data: data by name from which it learns what shapes do not tell.

    Raises:
        InputError: there is no such model.
    """
    own = library_model(model)
    if own is None:
        raise unknown("model", str(model), catalogue.names("model"))
    if data:
        own = completed(own, data)
    return own.full if isinstance(own, Latent) else own.model


def library_of(function: Callable[..., Any]) -> CAVIModel | None:
    """The model that brings its CAVI whose NumPyro model this is; None if none."""
    own = getattr(function, "__self__", None)
    return own if isinstance(own, CAVIModel) else None


def fit_by(method: Method, own: CAVIModel) -> Callable[..., Any]:
    """A method's coordinate ascent as a fit of the model, for a verification."""

    def fit(seed: int, **data: Any) -> dict[str, Any]:
        posterior = CAVIPosterior.bound(own, data)
        key = jax.random.key(seed)
        stages = prepare(method, Problem(posterior, 1, 4), key)
        draws: Draws = drive(stages, key, posterior, calling(compiled(stages)))
        if draws.factors is None:
            raise NotApplicable("the method ends at no point of a coordinate ascent")
        entries, bound = _ended(posterior, draws.factors)
        trace = np.asarray(draws.report.trace)[: int(draws.report.iterations)]
        return {"q": entries, "elbo": [*trace, float(bound)]}

    return fit


def _ended(posterior: CAVIPosterior, q: dict[str, Any]) -> tuple[dict[str, Any], Any]:
    """Every variable's distribution, local ones at their optimum, and the bound."""
    own, statistics = posterior.own, posterior.statistics()
    if isinstance(own, Local):
        q = own.local(statistics, q)
    entries = base.entries_of(q)
    if isinstance(own, Latent):
        entries |= own.local_factors(statistics, q)
    return entries, jnp.asarray(own.bound(statistics, q))
