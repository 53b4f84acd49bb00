"""The factor of a switch and a value against sums and quadrature."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from vi_bench.factors import Normal, base
from vi_bench.factors.spike_slab import SpikeSlab


def some(random, size=()):
    return SpikeSlab(
        jnp.asarray(random.normal(size=size)),
        jnp.asarray(random.normal(size=size)),
        jnp.asarray(random.gamma(3, size=size)),
        jnp.asarray(random.normal(size=size)),
        jnp.asarray(random.gamma(3, size=size)),
    )


def density(factor, gamma, w):
    """The density that the class is said to have, normalised by quadrature."""

    def plain(gamma, w):
        a, b, c, d, e = (float(v) for v in factor.natural())
        on, off = a + b * w - c * w**2 / 2, d * w - e * w**2 / 2
        return np.exp(gamma * on + (1 - gamma) * off)

    total = sum(quad(lambda w, g=g: plain(g, w), -40, 40)[0] for g in (0, 1))
    return plain(gamma, w) / total


def expected(factor, of):
    """E of a function of gamma and w, by a sum and quadrature."""
    grid = np.linspace(-12, 12, 20_001)
    total = sum(density(factor, g, grid) * of(g, grid) for g in (0, 1))
    return np.sum(total) * (grid[1] - grid[0])


def test_it_is_a_factor(random):
    assert isinstance(some(random), base.Factor)


def test_its_moments(random):
    for _ in range(5):
        one = some(random)
        on = expected(one, lambda g, w: g + 0 * w)
        mean = expected(one, lambda g, w: g * w)
        square = expected(one, lambda g, w: g * w**2)
        assert float(one.inclusion()) == pytest.approx(on, rel=1e-8)
        assert float(one.effect()) == pytest.approx(mean, rel=1e-8)
        assert float(one.spread()) == pytest.approx(square - mean**2, rel=1e-8)
        whole = expected(one, lambda g, w: w)
        assert float(one.mean()) == pytest.approx(whole, rel=1e-8)
        # the probability of the switch at one value, by Bayes
        ratio = density(one, 1, 0.7) / density(one, 0, 0.7)
        known = float(one.log_odds_given(jnp.asarray(0.7)))
        assert known == pytest.approx(np.log(ratio), rel=1e-8)


def test_its_entropy_and_divergence(random):
    for _ in range(5):
        one, other = some(random), some(random)

        def log_p(factor, g, w):
            return np.log(np.maximum(density(factor, g, w), 1e-300))

        entropy = expected(one, lambda g, w: -log_p(one, g, w))  # noqa: B023
        assert float(one.entropy()) == pytest.approx(entropy, rel=1e-7)
        kl = expected(one, lambda g, w: log_p(one, g, w) - log_p(other, g, w))  # noqa: B023
        assert float(one.kl(other)) == pytest.approx(kl, rel=1e-6)
        assert float(one.kl(one)) == pytest.approx(0, abs=1e-12)


def test_its_distribution_is_that_of_the_value(random):
    one = some(random)
    at = np.array([-1.3, 0.2, 2.5])
    wanted = np.log(density(one, 0, at) + density(one, 1, at))
    np.testing.assert_allclose(one.distribution().log_prob(at), wanted, rtol=1e-8)


def test_copies_are_independent(random):
    q = {"w": some(random, (3,))}
    theta = base.draw(jax.random.key(0), q, (4, 5))
    assert theta["w"].shape == (4, 5, 3)
    each = q["w"].distribution().log_prob(theta["w"])
    np.testing.assert_allclose(base.log_q(theta, q), each.sum(-1))
    parts = [SpikeSlab(*(v[j] for v in q["w"].natural())) for j in range(3)]
    total = sum(float(part.entropy()) for part in parts)
    assert float(q["w"].entropy()) == pytest.approx(total)


def test_natural_parameters_make_it_again(random):
    q = {"w": some(random, (3,))}
    again = base.with_natural(q, base.natural_of(q))["w"]
    np.testing.assert_allclose(again.log_odds(), q["w"].log_odds())
    assert base.scale_of(q).shape == (15,)
    made = SpikeSlab.of(jnp.asarray(1.3), q["w"].on(), q["w"].off())
    np.testing.assert_allclose(made.log_odds(), 1.3)


def test_certain_switches_stay_finite():
    one = jnp.ones(2)
    wide = Normal(0 * one, one)
    sure = SpikeSlab.of(jnp.array([-1e5, 1e5]), Normal(1e4 * one, 1e8 * one), wide)
    prior = SpikeSlab.of(0 * one, wide, wide)
    slab = 0.5 * (1e-8 - 1 + np.log(1e8) + 1e-8)
    assert float(sure.kl(prior)) == pytest.approx(2 * np.log(2) + slab, rel=1e-9)
    assert np.isfinite(jax.grad(lambda f: f.kl(prior))(sure).weight).all()
    wanted = 1 + np.log(2 * np.pi) - 0.5 * np.log(1e8)
    assert float(sure.entropy()) == pytest.approx(wanted, rel=1e-9)
    np.testing.assert_allclose(
        sure.distribution().log_prob(jnp.zeros(2))[0], norm.logpdf(0)
    )


def test_a_tilt_by_the_value_moves_its_mean_by_its_variance(random):
    """So w is among the sufficient statistics, as linear response needs it to be."""
    eta = jnp.stack(some(random).natural())
    one = SpikeSlab(*eta)

    @jax.jit
    def parts(eta):
        slope = jax.grad(lambda e: SpikeSlab(*e).mean())(eta)
        return slope, jax.hessian(lambda e: one.kl(SpikeSlab(*e)))(eta)

    slope, fisher = map(np.asarray, parts(eta))
    variance = float(one.distribution().variance)
    assert slope @ np.linalg.solve(fisher, slope) == pytest.approx(variance, rel=1e-8)
