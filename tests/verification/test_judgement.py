"""What draws of q can tell, and what they cannot: no right fit is accused for it."""

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from scipy.optimize import brentq
from scipy.special import expit, gammaln, logsumexp

import vi_bench as vb
from tests.zoo.models import normal_gamma
from vi_bench.errors import InputError
from vi_bench.verification.model_answer import call
from vi_bench.verification.model_battery import model_battery
from vi_bench.verification.model_case import ModelCase, is_heavy, pareto_khat
from vi_bench.verification.model_problems import ModelProblem
from vi_bench.verification.model_rows import rows_of
from vi_bench.verification.reassign import reassigned
from vi_bench.verification.report import told

X = normal_gamma.data()["x"]


def case_of(fit, problem):
    return ModelCase(problem, call(fit, problem, 60.0)[0])


def few_events(x):
    """One rate with a prior that is nearly all at 0."""
    rate = numpyro.sample("rate", dist.Gamma(0.001, 0.001))
    with numpyro.plate("row", len(x)):
        numpyro.sample("x", dist.Poisson(rate), obs=x)


def test_draws_that_underflow_are_no_fault_and_said_to_be_not_judged():
    x = np.zeros(2, int)
    bound = 0.001 * np.log(0.001) - 0.001 * np.log(2.001)

    def exact(x):
        return {"q": {"rate": dist.Gamma(0.001, 2.001)}, "elbo": [bound, bound]}

    problem = ModelProblem("no events", few_events, {"x": x}, rows=2)
    report = vb.verify(exact, problems=[problem])
    assert report.passed, told(report)
    assert any("underflow" in note for note in report.notes)
    assert "not everything could be checked" in report.verdict


def test_a_tail_that_no_draw_reaches_is_told_by_the_tail_that_they_reach(random):
    z = random.normal(size=20_000)
    assert pareto_khat(np.exp(6 * z)) > 0.7
    assert pareto_khat(-np.exp(6 * z)) < 0.7
    assert is_heavy(-np.exp(6 * z), 0.01)
    assert pareto_khat(z**2) < 0.7
    assert pareto_khat(np.full(100, 3.0)) == 0
    assert pareto_khat(np.repeat([0.0, 1.0], 50)) == 0
    assert is_heavy(np.exp(6 * z), 0.1)
    rare = np.where(np.arange(len(z)) % 100, 0.0, 5.0) + 0.01 * z
    assert not is_heavy(rare, 0.1)


def log_rate(x, var):
    """Counts with a normal prior on the log of their rate."""
    b = numpyro.sample("b", dist.Normal(0, var**0.5))
    with numpyro.plate("row", len(x)):
        numpyro.sample("x", dist.Poisson(jnp.exp(b)), obs=x)


def best_normal(x, var, wider=1.0):
    """The best normal q of the log rate, and its bound in closed form."""
    n, s = len(x), x.sum()

    def variance(m):
        return 1 / (s - m / var + 1 / var)

    def slope(m):
        return n * np.exp(m + variance(m) / 2) - s + m / var

    m = brentq(slope, -2 * var - 50, np.log(s / n + 0.01) + 1, xtol=1e-14)
    v = variance(m) * wider
    bound = s * m - n * np.exp(m + v / 2) - gammaln(x + 1).sum()
    bound += 0.5 * (1 + np.log(v / var)) - (m**2 + v) / (2 * var)
    return {"q": {"b": dist.Normal(m, v**0.5)}, "elbo": [bound - 1e-9, bound]}


def test_what_no_draw_reaches_is_no_fault():
    """All of E_q exp(b) comes from 6 sds away, and no draw shows it."""
    problem = ModelProblem("no event", log_rate, {"x": np.array([0]), "var": 1000.0})
    case = case_of(best_normal, problem)
    assert case.judged
    off = abs(case.bound[0] - case.answer.elbo[-1])
    assert off > 4 * case.bound[1] + 1e-3
    report = vb.verify(best_normal, problems=[problem])
    assert report.passed, told(report)
    assert any("values that no draw reaches" in note for note in report.notes)


def test_wider_draws_excuse_nothing_that_draws_reach():
    problem = ModelProblem("few", log_rate, {"x": np.array([1, 2]), "var": 4.0})
    report = vb.verify(
        lambda x, var: best_normal(x, var, wider=1.5), problems=[problem]
    )
    assert "every factor is stationary" in report.failures


def shares(x, K):
    """Categories that are observed."""
    p = numpyro.sample("p", dist.Dirichlet(np.full(K, 2.0)))
    with numpyro.plate("row", len(x)):
        numpyro.sample("x", dist.Categorical(probs=p), obs=x)


CATEGORIES = np.array([0, 1, 2, 2, 2])


def at_maximum(x, K, off=0.0):
    """The posterior mode on the simplex, maybe moved."""
    p = (1 + np.bincount(x, minlength=K)) / (K + len(x))
    p = p + off * np.array([1, -1, 0])
    return {"q": {"p": dist.Delta(p, event_dim=1)}}


def test_a_point_estimate_is_held_to_its_support():
    problem = ModelProblem("5 rows", shares, {"x": CATEGORIES, "K": 3}, rows=5)
    right = case_of(at_maximum, problem).gains["p"]
    assert abs(right.slope) < 1e-6
    wrong = case_of(lambda x, K: at_maximum(x, K, 0.05), problem).gains["p"]
    assert wrong.nats > 0.01


def test_a_count_of_observed_categories_is_no_number_of_components():
    problems, _ = model_battery(shares, {"x": np.tile(CATEGORIES, 5), "K": 3})
    assert {p.data["K"] for p in problems} == {3}


def test_numbers_as_parameters_may_be_integers():
    def counted(x, off=0):
        n, k = len(x), int(x.sum())
        return {"q": {"p": dist.Beta(2 + k + off, 3 + n - k)}}

    def coin(x):
        p = numpyro.sample("p", dist.Beta(2, 3))
        with numpyro.plate("row", len(x)):
            numpyro.sample("x", dist.Bernoulli(p), obs=x)

    problem = ModelProblem("5 rows", coin, {"x": np.array([0, 1, 1, 1, 1])}, rows=5)
    assert case_of(counted, problem).form == "elbo"  # its probability is no logit
    assert abs(case_of(counted, problem).gains["p"].nats) < 1e-6
    assert case_of(lambda x: counted(x, 3), problem).gains["p"].nats > 0.1


def tied(x):
    """The mean's prior depends on the precision."""
    tau = numpyro.sample("tau", dist.Gamma(2, 1))
    mu = numpyro.sample("mu", dist.Normal(0, tau**-0.5))
    with numpyro.plate("row", len(x)):
        numpyro.sample("x", dist.Normal(mu, tau**-0.5), obs=x)


@pytest.mark.parametrize(("off", "gain"), [(0.0, 0.0), (3.0, 0.1)])
def test_numbers_around_a_factor_that_is_a_function_are_its_parameters(off, gain):
    def exact(x):
        k, n = [1.0 + len(x) + off], len(x)
        m = x.sum() / (1 + n)
        a, b = 2 + n / 2, 1 + ((x - m) ** 2).sum() / 2 + m**2 / 2
        mu = lambda tau: dist.Normal(m, (k[0] * tau) ** -0.5)  # noqa: E731
        return {"q": {"tau": dist.Gamma(a, b), "mu": mu}}

    found = case_of(exact, ModelProblem("2 rows", tied, {"x": X[:2]}, rows=2))
    (factor,) = [f for f in found.answer.factors if f.site == "mu"]
    assert factor.names == ("k[0]", "m")
    assert found.gains["mu"].nats == pytest.approx(gain, abs=0.05)


def test_a_factor_that_jax_cannot_trace_is_refused_in_one_line():
    def fit(x):
        mu = lambda tau: dist.Normal(0.0, np.sqrt(tau))  # noqa: E731
        return {"q": {"tau": dist.Gamma(2.0, 1.0), "mu": mu}}

    with pytest.raises(InputError, match="JAX cannot trace the function"):
        vb.verify(fit, problems=[ModelProblem("2 rows", tied, {"x": X[:2]}, rows=2)])


def schools(J, y, sigma):
    """Sizes as arguments, as Stan's models have them."""
    mu = numpyro.sample("mu", dist.Normal(0, 5))
    with numpyro.plate("school", J):
        theta = numpyro.sample("theta", dist.Normal(mu, 2))
        numpyro.sample("y", dist.Normal(theta, sigma), obs=y)


def test_numbers_of_rows_among_the_arguments_follow():
    data = {"J": 8, "y": np.arange(8.0), "sigma": np.ones(8)}
    problems, _ = model_battery(schools, data)
    assert {p.rows for p in problems} == {1, 2, 5, 8}
    assert all(p.data["J"] == p.rows == len(p.data["y"]) for p in problems)


def groups(y, group, m0):
    """As many groups as rows."""
    theta = numpyro.sample("theta", dist.Normal(m0, 1).to_event(1))
    with numpyro.plate("row", len(y)):
        numpyro.sample("y", dist.Normal(theta[group], 1), obs=y)


def test_arrays_that_are_as_long_by_chance_are_not_taken_for_rows(random):
    data = {
        "y": random.normal(size=6),
        "group": np.array([0, 5, 3, 3, 1, 2]),
        "m0": random.normal(size=6),
    }
    whole = ModelProblem("the data", groups, data)
    assert rows_of(whole) == (6, ("y", "group"))
    problems, _ = model_battery(groups, data)
    assert all(len(p.data["m0"]) == 6 for p in problems)


def test_every_size_has_two_data_sets():
    problems, _ = model_battery(normal_gamma.model, normal_gamma.data())
    sizes = [p.rows for p in problems if p.rows]
    assert all(sizes.count(n) >= 2 for n in sizes)


class LosesItsLastRow(normal_gamma.Right):
    """The bound leaves out the last row of the longest data."""

    def __call__(self, x, seed):
        found = super().__call__(x, seed)
        if len(x) < 5:
            return found
        q = {
            "m": float(found["q"]["mu"].loc),
            "v": float(found["q"]["mu"].scale) ** 2,
            "a": float(found["q"]["tau"].concentration),
            "b": float(found["q"]["tau"].rate),
        }
        lost = self.likelihood(np.asarray(x[-1:], float), q)
        return found | {"elbo": np.asarray(found["elbo"]) - lost}


def test_what_one_size_alone_shows_is_no_constant():
    problems = [
        ModelProblem(f"{n} rows", normal_gamma.model, {"x": X[a : a + n]}, n, rows=n)
        for n, a in ((2, 0), (2, 2), (5, 0))
    ]
    report = vb.verify(LosesItsLastRow(), problems=problems)
    assert set(report.failures) == {"the ELBO is what it says"}


def test_a_constant_of_the_entropy_is_named():
    class NoTwoPi(normal_gamma.Right):
        def entropy_mean(self, q):
            return 0.5 * (1 + np.log(q["v"]))

    problems = [
        ModelProblem(f"{n} rows", normal_gamma.model, {"x": X[a : a + n]}, n, rows=n)
        for n, a in ((2, 0), (2, 2), (5, 0), (5, 5))
    ]
    report = vb.verify(NoTwoPi(), problems=problems)
    assert report.passed, told(report)
    assert any("(p/2) log 2 pi of the entropy of mu" in note for note in report.notes)


def binomial(t, n):
    w = numpyro.sample("w", dist.Normal(0, 1))
    with numpyro.plate("row", len(t)):
        numpyro.sample("t", dist.Binomial(n, logits=w), obs=t)


def test_jaakkola_and_jordans_bound_of_counts_and_of_nothing_else():
    t, n = np.array([1, 3]), np.array([2, 3])
    m, v = 0.4, 0.3
    xi = np.sqrt(m**2 + v)
    lam = np.tanh(xi / 2) / (4 * xi)
    each = n * np.log(expit(xi)) - n * xi / 2 + (t - n / 2) * m - n * lam * 0
    each = each + gammaln(n + 1) - gammaln(t + 1) - gammaln(n - t + 1)
    kl = 0.5 * (m**2 + v - 1 - np.log(v))

    def fit(t, n):
        return {
            "q": {"w": dist.Normal(m, v**0.5)},
            "elbo": [each.sum() - kl],
            "form": "jaakkola-jordan",
        }

    problem = ModelProblem("2 rows", binomial, {"t": t, "n": n}, rows=2)
    mean, error = case_of(fit, problem).bound
    assert mean == pytest.approx(each.sum() - kl, abs=5 * error + 1e-9)
    other = ModelProblem("2 rows", tied, {"x": X[:2]}, rows=2)
    q = {"tau": dist.Gamma(2.0, 1.0), "mu": dist.Normal(0.0, 1.0)}
    with pytest.raises(InputError, match="no Bernoulli or binomial observations"):
        vb.verify(lambda x: {"q": q, "form": "jaakkola-jordan"}, problems=[other])


TABLE = np.array([[0.0, -1.0, -8.0], [-2.0, 0.0, -9.0]])
"""Log p by element and category."""


def program(q, noise=0.0):
    """Log p and log q of a table, the same at each draw but for noise."""

    def both(keys, elements, to):
        draws = np.random.default_rng(0).normal(size=(len(keys), 1)) * noise
        with np.errstate(divide="ignore"):
            own = np.log(q[elements, to])
        return TABLE[elements, to] + draws, np.broadcast_to(own, (len(keys), len(to)))

    return both


def optimal(table):
    return np.exp(table - logsumexp(table, axis=1, keepdims=True))


def test_probabilities_that_are_hardly_ever_drawn_are_judged():
    best = optimal(TABLE)
    right = reassigned(program(best, 3.0), (2,), np.arange(3))
    assert abs(right.nats) < 1e-9
    clipped = np.maximum(best, 0.01)
    clipped /= clipped.sum(axis=1, keepdims=True)
    wrong = reassigned(program(clipped), (2,), np.arange(3))
    gap = np.sum(clipped * (np.log(clipped) - np.log(best)))
    assert wrong.nats == pytest.approx(gap)
    assert wrong.error < 1e-9
    assert wrong.element == (1,)
    assert wrong.tried == 1


@pytest.mark.parametrize(("labels", "gain"), [([0, 1], 0.0), ([1, 1], 1.0)])
def test_hard_assignments_are_held_to_their_best_label(labels, gain):
    found = reassigned(program(np.eye(3)[labels]), (2,), np.arange(3))
    assert found.nats == pytest.approx(gain)
    if gain:
        assert found.element == (0,)
        assert (found.category, found.has, found.best) == (0, 0, 1)


def test_what_is_certain_stays_so_where_the_other_value_is_impossible():
    """NumPyro keeps a probability of 0 at the machine's epsilon."""
    eps = np.finfo(float).eps
    q = np.array([[eps, 1 - eps], [eps, 1 - eps]])
    table = np.array([[-np.inf, -1.0], [-np.inf, -3.0]])

    def both(keys, elements, to):
        shape = len(keys), len(to)
        log_p, log_q = table[elements, to], np.log(q[elements, to])
        return np.broadcast_to(log_p, shape), np.broadcast_to(log_q, shape)

    found = reassigned(both, (2,), np.arange(2))
    assert found.nats == 0


def test_the_probability_that_is_off_is_told_not_its_complement():
    best = optimal(np.array([[0.0, -20.0, -21.0], [0.0, 0.0, 0.0]]))
    q = best.copy()
    q[0] = [1 - 2e-3, 1e-3, 1e-3]
    table = np.log(best)
    given = lambda keys, i, to: (  # noqa: E731
        np.broadcast_to(table[i, to], (len(keys), len(to))),
        np.broadcast_to(np.log(q[i, to]), (len(keys), len(to))),
    )
    found = reassigned(given, (2,), np.arange(3))
    assert found.element == (0,)
    assert found.category in (1, 2)
    assert found.has == pytest.approx(1e-3)


def test_many_elements_are_tried_in_part():
    table = np.zeros((1000, 3))

    def both(keys, elements, to):
        zeros = np.zeros((len(keys), len(elements)))
        return zeros + table[elements, to], zeros

    found = reassigned(both, (1000,), np.arange(3))
    assert found.tried == 0.2
    assert abs(found.nats) < 1e-9


def two_means(x):
    mu = numpyro.sample("mu", dist.Normal(0, 3).expand([2]).to_event(1))
    with numpyro.plate("row", len(x)):
        z = numpyro.sample("z", dist.Categorical(probs=np.full(2, 0.5)))
        numpyro.sample("x", dist.Normal(mu[z], 1), obs=x)


def test_elements_that_other_factors_depend_on_are_not_moved_alone():
    """They would have to move with them, as beta with gamma of spike and slab."""
    x = np.array([-3.0, -2.5, 2.0, 3.1])
    hard = dist.Categorical(probs=np.eye(2)[[0, 0, 1, 0]])

    def fit(x):
        mu = lambda z: dist.Normal(jnp.zeros(2), 1.0).to_event(1)  # noqa: E731
        return {"q": {"mu": mu, "z": hard}}

    problem = ModelProblem("4 rows", two_means, {"x": x}, rows=4)
    assert case_of(fit, problem).reassigned == {}


@pytest.mark.parametrize("form", ["delta", "one-hot"])
@pytest.mark.parametrize(("best", "gain"), [(True, 0.0), (False, 5.0)])
def test_labels_that_are_fixed_are_judged_by_the_model(form, best, gain):
    x = np.array([-3.0, -2.5, 2.0, 3.1])
    labels = np.array([0, 0, 1, 1]) if best else np.array([0, 0, 1, 0])
    counts = np.bincount(labels)
    v = 1 / (1 / 9 + counts)
    m = v * np.bincount(labels, x)
    z = dist.Delta(labels)
    if form == "one-hot":
        z = dist.Categorical(probs=np.eye(2)[labels])

    def fit(x):
        return {"q": {"mu": dist.Normal(m, v**0.5).to_event(1), "z": z}}

    problem = ModelProblem("4 rows", two_means, {"x": x}, rows=4)
    found = case_of(fit, problem).reassigned["z"]
    if best:
        assert abs(found.nats) < 1e-9
    else:
        assert found.nats > gain
        assert found.element == (3,)
