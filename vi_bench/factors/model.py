"""What a model with a coordinate ascent written by hand offers."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Array, Float, Int

from vi_bench.runtime.keys import Key


@runtime_checkable
class CAVIModel(Protocol):
    """A model, other than a mixture, with a coordinate ascent written by hand.

    A frozen dataclass of plain settings: parameters of the priors, numbers of factors.
    Its q is a dict: a latent variable of `model` -> its factor, one of
    `vi_bench.factors`; further entries, which are no factors, stand for local latent
    variables, and a sweep makes them first. All functions can be traced.
    """

    summary: ClassVar[str]
    compared: ClassVar[tuple[str, ...]]
    """Variables of `model` that are compared by default; they have moments, and do not
    change when labels or signs are exchanged."""

    def model(self, **data: Any) -> None:
        """The NumPyro model, local latent variables summed out."""

    def statistics(self, **data: Any) -> Any:
        """What the ascent needs of the data: a pytree, made once for all sweeps."""

    def init(self, key: Key, statistics: Any) -> dict[str, Any]:
        """A random point to start from, a q."""

    def sweep(self, statistics: Any, q: dict[str, Any]) -> dict[str, Any]:
        """Every factor in turn at its optimum given the others."""

    def bound(self, statistics: Any, q: dict[str, Any]) -> Float[Array, ""]:
        """The ELBO at q in nats, with every constant."""

    def example(self, random: np.random.Generator, rows: int) -> dict[str, Any]:
        """Data of about so many rows, drawn from the model by NumPy; for checks."""


@runtime_checkable
class Local(Protocol):
    """A `CAVIModel` whose sweep first makes what is no factor of q.

    That is the factor of local latent variables, or local variational parameters.
    """

    def local(self, statistics: Any, q: dict[str, Any]) -> dict[str, Any]:
        """Q with the optimal local entries given the factors."""


@runtime_checkable
class Latent(Local, Protocol):
    """A `CAVIModel` with local latent variables, as a verification sees it."""

    def full(self, **data: Any) -> None:
        """The NumPyro model with the local latent variables as sites."""

    def local_factors(self, statistics: Any, q: dict[str, Any]) -> dict[str, Any]:
        """Site of `full` that is none of `model` -> its NumPyro distribution in q.

        Or a function of other sites, by the names of its arguments, that gives one.
        """


@runtime_checkable
class Uncentred(Protocol):
    """A `CAVIModel` some of whose variables samplers should see on another scale.

    Effects around an unknown mean with an unknown spread make a funnel, which no step
    size suits; (effect - mean) / spread does not (Betancourt and Girolami 2015).
    """

    def centring(self, theta: dict[str, Array]) -> dict[str, tuple[Array, Array]]:
        """Variable -> its location and scale, functions of the others."""


@runtime_checkable
class Completes(Protocol):
    """A `CAVIModel` that learns from the values of its data what shapes do not tell."""

    def complete(self, **data: Any) -> CAVIModel:
        """The model for these data alone, all values being known."""


@runtime_checkable
class InBatches(Protocol):
    """A `CAVIModel` that can learn from some rows of its data at a time.

    Rows are along the first axis of the first of its data.
    """

    def rows(self, **data: Any) -> Any:
        """What minibatches are taken of: a pytree, made once for all steps."""

    def batch(self, rows: Any, chosen: Int[Array, " n"]) -> Any:
        """The chosen rows, of which some may be the same."""

    def settle(self, batch: Any, q: dict[str, Any]) -> dict[str, Any]:
        """Q with the factors of these rows' own variables at their optimum."""

    def shared(self, batch: Any, q: dict[str, Any], times: float) -> dict[str, Any]:
        """The optimum of each other factor given q, all rows being these over and over.

        Args:
            batch: of `batch`.
            q: factors, those of the rows' own variables after `settle`.
            times: number of all rows over that of these.
        """
