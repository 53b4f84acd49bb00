"""What draws of all factors say of a bound, local latent variables included."""

import jax
import jax.numpy as jnp
import numpy as np
from numpyro import handlers
from numpyro.infer.util import log_density

from vi_bench.factors import base

DRAWS = 4_000


def expected_ratio(own, data, q, draws=DRAWS):
    """The bound, the mean of log p(full) - log q(full), and its standard error.

    All with the local entry at its optimum: it is what `local_factors` tells.
    """
    data = {name: jnp.asarray(value) for name, value in data.items()}
    s = own.statistics(**data)
    q = own.local(s, q)
    factors = {name: f.distribution() for name, f in base.factors_of(q).items()}
    factors |= own.local_factors(s, q)
    with handlers.seed(rng_seed=0):
        trace = handlers.trace(own.full).get_trace(**data)
    hidden = {
        name
        for name, site in trace.items()
        if site["type"] == "sample" and not site["is_observed"]
    }
    assert hidden == set(factors)

    def one(key):
        keys = jax.random.split(key, len(factors))
        drawn = {
            name: factor.sample(own_key)
            for own_key, (name, factor) in zip(keys, factors.items(), strict=True)
        }
        for name, value in drawn.items():
            assert value.shape == trace[name]["value"].shape, name
        of_q = sum(f.log_prob(drawn[name]).sum() for name, f in factors.items())
        return log_density(own.full, (), data, drawn)[0] - of_q

    keys = jax.random.split(jax.random.key(5), draws)
    ratio = np.asarray(jax.jit(lambda k: jax.lax.map(one, k, batch_size=500))(keys))
    return float(own.bound(s, q)), ratio.mean(), ratio.std() / draws**0.5
