"""Regressions of labels, 0 or 1, on two predictors, against quadrature."""

import jax
import numpy as np
from scipy.special import logsumexp
from scipy.stats import norm

from tests.models.ascents import climbed
from tests.models.response import chosen, sds_at
from vi_bench.posterior.cavi_posterior import CAVIPosterior


def quadrature(data, alpha, log_chance, middle=(0.0, 0.0), sd=None, nodes=241):
    """Log p(y), and the sds of both coefficients given y.

    The trapezoid rule is nearly exact on densities whose tails are smooth.

    Args:
        data: predictors x (N, 2) and labels y (N,).
        alpha: prior precision of every coefficient.
        log_chance: x w -> log p(y = 1).
        middle: of the grid.
        sd: a ninth of the grid's half-width, by default that of the prior.
        nodes: of the grid, along each axis.
    """
    unit = np.linspace(-9, 9, nodes)
    sd = np.broadcast_to(alpha**-0.5 if sd is None else sd, 2)
    axes = np.asarray(middle) + np.outer(unit, sd)
    grid = np.stack(np.meshgrid(*axes.T), -1).reshape(-1, 2)
    value = norm.logpdf(grid, 0, alpha**-0.5).sum(1)
    value += log_chance((2 * data["y"] - 1) * (grid @ data["x"].T)).sum(1)
    total = logsumexp(value)
    weight = np.exp(value - total)
    sds = np.sqrt(weight @ (grid - weight @ grid) ** 2)
    return total + np.log(np.prod(sd) * (unit[1] - unit[0]) ** 2), sds


def labelled(random, rows, log_chance):
    """Correlated predictors, and labels that tell them apart but for some overlap."""
    x = random.normal(size=(rows, 2)) @ np.array([[1.0, 1.0], [0.0, 1.0]])
    chance = np.exp(log_chance(x @ np.array([1.5, -0.8])))
    return {"x": x, "y": (random.random(rows) < chance).astype(int)}


def over_quadrature(own, data, log_chance):
    """Sds by linear response, and under q, over those by quadrature."""
    posterior = CAVIPosterior.bound(own, data)
    q, _ = climbed(own, data, jax.random.key(0))
    found = [list(sds.values()) for sds in sds_at(posterior, q, chosen(["w"]))]
    middle = np.asarray(q["w"].mean())
    _, true = quadrature(data, own.alpha, log_chance, middle, found[0], 61)
    return np.array(found) / true


def twice_over(own, log_chance):
    """`over_quadrature` of 1600 rows, and of these four times."""
    data = labelled(np.random.default_rng(1), 1600, log_chance)
    more = {name: np.concatenate([value] * 4) for name, value in data.items()}
    return [over_quadrature(own, each, log_chance) for each in (data, more)]
