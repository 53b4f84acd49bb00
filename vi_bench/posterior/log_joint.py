"""A model of a log joint density and supports."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpyro
from numpyro import distributions as dist


def from_log_joint(
    log_joint: Callable[..., Any],
    supports: Mapping[str, Any],
) -> Callable[..., None]:
    """A NumPyro model of a log joint density that is known up to a constant.

    Its latent variables have improper priors, so methods that draw from the prior do
    not apply, and log p(X) is that of the density as it is.

    Args:
        log_joint: (theta, data by name) -> log p(x, theta); theta is a dict of arrays.
        supports: name -> a constraint of NumPyro, or a pair of it and a shape.
    """

    def model(**data: Any) -> None:
        theta = {}
        for name, given in supports.items():
            support, shape = given if isinstance(given, tuple) else (given, ())
            events = shape[len(shape) - support.event_dim :]
            batch = shape[: len(shape) - support.event_dim]
            prior = dist.ImproperUniform(support, (), (*batch, *events))
            theta[name] = numpyro.sample(name, prior)
        numpyro.factor("log joint", log_joint(theta, **data))

    model.__name__ = getattr(log_joint, "__name__", "log_joint")
    model.__module__ = log_joint.__module__
    return model
