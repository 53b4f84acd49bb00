"""Sweeps of a model from a random start, and its density, as programs."""

from functools import partial

import jax
from numpyro.infer.util import log_density

from vi_bench.contract import Local


@partial(jax.jit, static_argnums=(0, 3))
def climbed(own, data, key, number=1000):
    """Q after so many sweeps, what is local at its optimum, and the bound."""
    s = own.statistics(**data)
    q = jax.lax.fori_loop(0, number, lambda _, q: own.sweep(s, q), own.init(key, s))
    q = own.local(s, q) if isinstance(own, Local) else q
    return q, own.bound(s, q)


@partial(jax.jit, static_argnums=0)
def density(own, theta, data):
    """Log p(data, theta)."""
    return log_density(own.model, (), data, theta)[0]
