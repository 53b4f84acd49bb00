"""Gaussian components of known variance, a Normal prior on each mean.

    mu_k ~ N(mean, sigma^2 I_d),   x_i | c_i, mu ~ N(mu_{c_i}, variance I_d)

The mixture of Blei, Kucukelbir and McAuliffe (2017), section 3, in d dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any, ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Gt
from jaxtyping import Array, Float

from vi_bench.contract import Key, Parameters
from vi_bench.errors import InputError

LOG_2PI = float(np.log(2 * np.pi))


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["sigma", "variance", "mean"],
    meta_fields=[],
)
@dataclass(frozen=True)
class Gaussian:
    """Known-variance Gaussian components; see the module for the densities.

    The statistics are (x, 1), the natural parameters of q(mu_k) = N(m_k, s2_k I) are
    (h, c) with m = h / c and s2 = variance / c; c counts rows, the prior's included.

    Attributes:
        sigma: prior standard deviation of a mean, in the data's unit.
        variance: variance of a row around its component's mean.
        mean: prior mean, one number for all features or one per feature.
    """

    sigma: Annotated[float, Gt(0)] = 1.0
    variance: Annotated[float, Gt(0)] = 1.0
    mean: float | tuple[float, ...] = 0.0

    summary: ClassVar[str] = "Gaussian components, known variance, Normal prior on mu"
    dims: ClassVar[dict[str, tuple[str, ...]]] = {"mu": ("feature",)}

    def check(self, features: int) -> None:
        """Raise InputError unless `mean` fits d features."""
        size = len(self.mean) if isinstance(self.mean, Sequence) else 1
        if size not in (1, features):
            raise InputError(
                f"model gaussian: mean has {size} numbers, the data have {features} "
                "features; give one number or one per feature"
            )

    def bind(self, centre: np.ndarray, dtype: Any) -> Self:
        """The same family for data from which `centre` (d,) was subtracted."""
        mean = np.broadcast_to(np.asarray(self.mean, float), centre.shape) - centre
        arrays: dict[str, Any] = {
            "sigma": jnp.asarray(self.sigma, dtype),
            "variance": jnp.asarray(self.variance, dtype),
            "mean": jnp.asarray(mean, dtype),
        }
        return replace(self, **arrays)

    @staticmethod
    def statistics(x: Float[Array, "d n"]) -> Float[Array, "P n"]:
        """(x, 1)."""
        return jnp.concatenate([x, jnp.ones_like(x[:1])])

    def log_base(self, x: Float[Array, "d n"]) -> Float[Array, " n"]:
        """-(d/2) log(2 pi variance) - ||x||^2 / (2 variance)."""
        size = x.shape[0] * (LOG_2PI + jnp.log(self.variance))
        return -0.5 * (size + jnp.sum(x**2, axis=0) / self.variance)

    def prior(self) -> Float[Array, " P"]:
        """(c_0 mean, c_0) with c_0 = variance / sigma^2, the prior's worth in rows."""
        rows = self.variance / self.sigma**2
        return jnp.append(rows * jnp.asarray(self.mean), rows)

    def log_normaliser(self, lam: Float[Array, "*b P"]) -> Float[Array, "*b"]:
        """(d/2) log(2 pi variance / c) + ||h||^2 / (2 c variance)."""
        h, c = lam[..., :-1], lam[..., -1]
        size = h.shape[-1] * (LOG_2PI + jnp.log(self.variance / c))
        return 0.5 * (size + jnp.sum(h**2, axis=-1) / (c * self.variance))

    def moments(self, lam: Float[Array, "*b P"]) -> Float[Array, "*b P"]:
        """(m, -(||m||^2 + d s2) / 2) / variance; d s2, as E||mu||^2 has d terms."""
        h, c = lam[..., :-1], lam[..., -1:]
        m = h / c
        square = jnp.sum(m**2, axis=-1, keepdims=True) + h.shape[-1] * self.variance / c
        return jnp.concatenate([m, -0.5 * square], axis=-1) / self.variance

    def natural(self, theta: Parameters) -> Float[Array, "*b P"]:
        """(mu, -||mu||^2 / 2) / variance."""
        mu = theta["mu"]
        square = jnp.sum(mu**2, axis=-1, keepdims=True)
        return jnp.concatenate([mu, -0.5 * square], axis=-1) / self.variance

    def draw(
        self, key: Key, lam: Float[Array, "K P"], shape: tuple[int, ...]
    ) -> Parameters:
        """Means from q, (*shape, K, d)."""
        q = self.describe(lam)
        noise = jax.random.normal(key, (*shape, *q["m"].shape), lam.dtype)
        return {"mu": q["m"] + jnp.sqrt(q["s2"])[:, None] * noise}

    def describe(self, lam: Float[Array, "K P"]) -> dict[str, Array]:
        """q(mu_k) = N(m_k, s2_k I): m (K, d) and s2 (K,)."""
        return {"m": lam[:, :-1] / lam[:, -1:], "s2": self.variance / lam[:, -1]}

    def uncentre(self, theta: Parameters, centre: Any) -> Parameters:
        """mu, or m, with the centre added again."""
        moved = {name: theta[name] + centre for name in ("mu", "m") if name in theta}
        return theta | moved

    def centre_start(self, points: Float[Array, "K d"]) -> Parameters:
        """A mean on each point."""
        return {"mu": points}

    def numpyro_prior(self) -> dict[str, Any]:
        """The prior mu ~ Normal(mean, sigma), features independent."""
        import numpyro.distributions as dist

        return {"mu": dist.Normal(jnp.asarray(self.mean), self.sigma).to_event(1)}

    def numpyro_start(self, theta: Parameters, scale: float) -> dict[str, Any]:
        """Means m (K, d) where theta has them, and s (K,), the root of s2."""
        from numpyro.distributions import constraints

        spread = jnp.full(theta["mu"].shape[:1], scale, theta["mu"].dtype)
        return {
            "m": (theta["mu"], constraints.real),
            "s": (spread, constraints.positive),
        }

    def numpyro_posterior(self, params: dict[str, Array]) -> dict[str, Any]:
        """q(mu_k) = N(m_k, s_k^2 I)."""
        import numpyro.distributions as dist

        return {"mu": dist.Normal(params["m"], params["s"][:, None]).to_event(1)}

    def numpyro_component(self, theta: Parameters) -> Any:
        """A row x ~ Normal(mu_k, sqrt(variance)), features independent."""
        import numpyro.distributions as dist

        return dist.Normal(theta["mu"], jnp.sqrt(self.variance)).to_event(1)


MODEL = Gaussian
