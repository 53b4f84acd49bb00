"""Eight schools: effects of coaching on a score, eight estimates with their errors.

The data are those of Rubin (1981), table 1.
"""

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist


def data():
    """Estimated effects, and their standard errors (8,)."""
    return {
        "effect": np.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0]),
        "error": np.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0]),
    }


def model(effect, error):
    """Non-centred, with the priors of the Inference Gym (Sountsov et al. 2020)."""
    mean = numpyro.sample("mean", dist.Normal(0, 10))
    log_sd = numpyro.sample("log_sd", dist.Normal(5, 1))
    with numpyro.plate("school", len(effect)):
        z = numpyro.sample("z", dist.Normal(0, 1))
        theta = numpyro.deterministic("theta", mean + jnp.exp(log_sd) * z)
        numpyro.sample("effect", dist.Normal(theta, error), obs=effect)


def centred(effect, error):
    """The effects themselves as variables, with a half-Cauchy prior: a funnel."""
    mean = numpyro.sample("mean", dist.Normal(0, 5))
    sd = numpyro.sample("sd", dist.HalfCauchy(5))
    with numpyro.plate("school", len(effect)):
        theta = numpyro.sample("theta", dist.Normal(mean, sd))
        numpyro.sample("effect", dist.Normal(theta, error), obs=effect)
