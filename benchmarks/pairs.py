"""The same coordinate ascent in the library and in another package: data, start, prior.

Every function makes two fits of one model, each a function from a number of sweeps to
the parameters after them; names and meaning of the parameters are those of the library.
Where the other package updates in another order, or drops something, its docstring says
what was made equal, and how.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

Parameters = Mapping[str, Any]
Fit = Callable[[int], Parameters]


@dataclass(frozen=True)
class Sides:
    """Two fits of one model to the same data.

    Attributes:
        ours: of the library.
        theirs: of the other package.
        note: what differs between them, if anything does.
    """

    ours: Fit
    theirs: Fit
    note: str = ""


def sweeping(
    own: Any,
    data: Mapping[str, Any],
    start: Mapping[str, Any],
    bounds: bool,
    sweep: Callable[[Any, Any], Any] | None = None,
) -> Callable[[int], Any]:
    """A function from a number of sweeps to q; the data's statistics are made before.

    Args:
        own: a model of the library.
        data: its data by name.
        start: the q before the first sweep.
        bounds: whether the ELBO is computed after every sweep, as the driver does.
        sweep: what one sweep is, instead of the model's.
    """
    import jax
    import jax.numpy as jnp

    statistics = jax.jit(lambda data: own.statistics(**data))(dict(data))
    onward = own.sweep if sweep is None else sweep

    @jax.jit
    def program(statistics: Any, q: Any, number: Any) -> Any:
        def one(_: Any, state: Any) -> Any:
            q, total = state
            q = onward(statistics, q)
            return q, total + (own.bound(statistics, q) if bounds else 0.0)

        return jax.lax.fori_loop(0, number, one, (q, jnp.zeros(())))

    # the loop's state has every entry that a sweep makes
    first = jax.jit(onward)(statistics, dict(start))
    whole = {**jax.tree.map(jnp.zeros_like, first), **start}
    return lambda number: jax.block_until_ready(program(statistics, whole, number))[0]


def regression_data(rows: int, predictors: int) -> dict[str, Any]:
    """Rows of which a quarter of the predictors matter."""
    random = np.random.default_rng(0)
    x = random.normal(size=(rows, predictors))
    w = random.normal(size=predictors) * (np.arange(predictors) % 4 == 0)
    return {"x": x, "y": x @ w + random.normal(size=rows)}


def documents(size: Mapping[str, int]) -> np.ndarray:
    """Counts (documents, words) of a corpus drawn from LDA."""
    random = np.random.default_rng(0)
    theta = random.dirichlet(np.full(size["topics"], 0.3), size["documents"])
    beta = random.dirichlet(np.full(size["words"], 0.1), size["topics"])
    tokens = random.poisson(size["tokens"], size["documents"])
    return np.asarray(random.multinomial(tokens, theta @ beta))


def chain(steps: int, states: int) -> np.ndarray:
    """A hidden path that stays with probability 0.9."""
    random = np.random.default_rng(0)
    moved = (random.random(steps) > 0.9) * random.integers(1, states, steps)
    return np.asarray(np.cumsum(moved) % states)


def regression_start(own: Any, predictors: int) -> dict[str, Any]:
    """Both precisions at their priors; a sweep makes the coefficients from them."""
    import jax.numpy as jnp

    from vi_bench.factors import Gamma, Gaussian

    each = jnp.ones(predictors)
    return {
        "w": Gaussian.of(0 * each, jnp.eye(predictors)),
        "alpha": Gamma(own.a * each, own.b * each),
        "tau": Gamma(jnp.asarray(own.c), jnp.asarray(own.d)),
    }


def regression_parameters(q: Mapping[str, Any]) -> dict[str, Any]:
    """Means, covariance and precisions, as far as both sides have them."""
    return {
        "mean of w": q["w"].mean(),
        "covariance of w": q["w"].covariance,
        "mean of alpha": q["alpha"].mean(),
        "mean of tau": q["tau"].mean(),
    }


def ard_sklearn(size: Mapping[str, int]) -> Sides:
    """Its sweep differs, its fixed point does not.

    Its alpha_j is (1 - alpha_j S_jj + 2 a) / (m_j^2 + 2 b), where CAVI's mean is
    (1 + 2 a) / (m_j^2 + S_jj + 2 b): both hold where alpha_j (m_j^2 + S_jj + 2 b) is
    1 + 2 a. Likewise tau. Weights are not pruned; there is no intercept on either side.
    """
    from sklearn.linear_model import ARDRegression

    from vi_bench.models.linear_regression import LinearRegression

    own = LinearRegression()
    data = regression_data(size["rows"], size["predictors"])
    start = regression_start(own, size["predictors"])
    fit = sweeping(own, data, start, bounds=False)

    def theirs(sweeps: int) -> Parameters:
        model = ARDRegression(
            max_iter=sweeps,
            tol=0.0,
            alpha_1=own.c,
            alpha_2=own.d,
            lambda_1=own.a,
            lambda_2=own.b,
            threshold_lambda=1e300,
            fit_intercept=False,
        ).fit(data["x"], data["y"])
        return {
            "mean of w": model.coef_,
            "covariance of w": model.sigma_,
            "mean of alpha": model.lambda_,
            "mean of tau": model.alpha_,
        }

    return Sides(
        lambda sweeps: regression_parameters(fit(sweeps)),
        theirs,
        "another update of the precisions with the same fixed point; compared there",
    )


def ard_bayespy(size: Mapping[str, int]) -> Sides:
    """The same updates in the same order."""
    from bayespy.inference import VB
    from bayespy.nodes import Gamma, GaussianARD, SumMultiply

    from vi_bench.models.linear_regression import LinearRegression

    own = LinearRegression()
    data = regression_data(size["rows"], size["predictors"])
    start = regression_start(own, size["predictors"])
    fit = sweeping(own, data, start, bounds=True)

    def theirs(sweeps: int) -> Parameters:
        alpha = Gamma(own.a, own.b, plates=(size["predictors"],))
        w = GaussianARD(0, alpha, shape=(size["predictors"],))
        tau = Gamma(own.c, own.d)
        y = GaussianARD(SumMultiply("i,i", w, data["x"]), tau)
        y.observe(data["y"])
        updated(VB(y, w, alpha, tau), (w, alpha, tau), sweeps)
        mean, second = w.get_moments()
        return {
            "mean of w": mean,
            "covariance of w": second - np.outer(mean, mean),
            "mean of alpha": alpha.get_moments()[0],
            "mean of tau": tau.get_moments()[0],
        }

    return Sides(lambda sweeps: regression_parameters(fit(sweeps)), theirs)


def updated(inference: Any, order: tuple[Any, ...], sweeps: int) -> None:
    """Sweeps of BayesPy in an order, without its own stopping rule."""
    inference.ignore_bound_checks = True
    inference.update(*order, repeat=sweeps, tol=0, verbose=False)


def lda_start(size: Mapping[str, int]) -> np.ndarray:
    """Concentrations of topics (K, V)."""
    random = np.random.default_rng(1)
    return np.asarray(random.gamma(100.0, 0.01, (size["topics"], size["words"])))


def lda_model(size: Mapping[str, int], counts: np.ndarray) -> Any:
    """LDA with the usual sparse priors."""
    from vi_bench.models.lda import LDA

    return LDA(topics=size["topics"], alpha=0.5, eta=0.1).complete(counts)


def nested(size: Mapping[str, int], rounds: int) -> tuple[Any, np.ndarray, Fit]:
    """LDA whose documents go some rounds, from 1 each, before the topics are updated.

    That is how scikit-learn and gensim order the updates: after the rounds the words'
    topics are made once more, for beta.
    """
    import jax
    import jax.numpy as jnp

    from vi_bench.factors import Dirichlet
    from vi_bench.models._shares import share_out

    counts = documents(size)
    own = lda_model(size, counts)

    def sweep(s: Any, q: dict[str, Any]) -> dict[str, Any]:
        right = q["beta"].mean_log().T

        def once(_: Any, theta: Any) -> Any:
            return own.alpha + share_out(s, Dirichlet(theta).mean_log(), right).rows

        start = jnp.ones_like(q["theta"].concentration)
        theta = Dirichlet(jax.lax.fori_loop(0, rounds, once, start))
        words = share_out(s, theta.mean_log(), right).columns.T
        return {"theta": theta, "beta": Dirichlet(own.eta + words)}

    start = {
        "theta": Dirichlet(jnp.ones((size["documents"], size["topics"]))),
        "beta": Dirichlet(jnp.asarray(lda_start(size))),
    }
    fit = sweeping(own, {"counts": counts}, start, bounds=False, sweep=sweep)
    return own, counts, lambda sweeps: {"beta": fit(sweeps)["beta"].concentration}


def lda_sklearn(size: Mapping[str, int], rounds: int = 10) -> Sides:
    """Documents begin at random there, at 1 here: after enough rounds, the same."""
    from scipy.sparse import csr_matrix
    from sklearn.decomposition import LatentDirichletAllocation
    from sklearn.decomposition._lda import _dirichlet_expectation_2d

    own, counts, ours = nested(size, rounds)
    sparse = csr_matrix(counts.astype(float))

    def theirs(sweeps: int) -> Parameters:
        model = LatentDirichletAllocation(
            n_components=own.topics,
            doc_topic_prior=own.alpha,
            topic_word_prior=own.eta,
            max_doc_update_iter=rounds,
            mean_change_tol=0.0,
            random_state=0,
        )
        model._init_latent_vars(counts.shape[1])
        model.components_ = lda_start(size)
        expected = _dirichlet_expectation_2d(model.components_)
        model.exp_dirichlet_component_ = np.exp(expected)
        for _ in range(sweeps):
            model._em_step(sparse, total_samples=len(counts), batch_update=True)
        return {"beta": model.components_}

    return Sides(ours, theirs)


def lda_gensim(size: Mapping[str, int], rounds: int = 10) -> Sides:
    """Documents begin at random there, too."""
    from gensim.models import LdaModel

    logging.getLogger("gensim").setLevel(logging.ERROR)
    own, counts, ours = nested(size, rounds)
    corpus = [[(int(v), int(row[v])) for v in np.flatnonzero(row)] for row in counts]

    def theirs(sweeps: int) -> Parameters:
        model = LdaModel(
            num_topics=own.topics,
            id2word={v: str(v) for v in range(counts.shape[1])},
            alpha=np.full(own.topics, own.alpha),
            eta=own.eta,
            iterations=rounds,
            gamma_threshold=0.0,
            dtype=np.float64,
            random_state=0,
        )
        model.state.sstats = lda_start(size) - own.eta
        model.sync_state()
        for _ in range(sweeps):
            _, model.state.sstats = model.inference(corpus, collect_sstats=True)
            model.sync_state()
        return {"beta": model.state.get_lambda()}

    return Sides(ours, theirs)


def lda_bayespy(size: Mapping[str, int]) -> Sides:
    """The same updates; it holds the topics of every single word."""
    import jax.numpy as jnp
    from bayespy.inference import VB
    from bayespy.nodes import Categorical, Dirichlet, Gate

    from vi_bench import factors

    counts = documents(size)
    own = lda_model(size, counts)
    place, word = np.nonzero(counts)
    times = counts[place, word]
    place, word = np.repeat(place, times), np.repeat(word, times)
    start = {
        "theta": factors.Dirichlet(jnp.ones((size["documents"], size["topics"]))),
        "beta": factors.Dirichlet(jnp.asarray(lda_start(size))),
    }
    fit = sweeping(own, {"counts": counts}, start, bounds=True)

    def ours(sweeps: int) -> Parameters:
        q = fit(sweeps)
        return {name: q[name].concentration for name in ("theta", "beta")}

    def theirs(sweeps: int) -> Parameters:
        theta = Dirichlet(np.full(own.topics, own.alpha), plates=(len(counts),))
        beta = Dirichlet(np.full(counts.shape[1], own.eta), plates=(own.topics,))
        topics = Categorical(Gate(place, theta), plates=(len(place),))
        words = Categorical(Gate(topics, beta))
        words.observe(word)
        theta.initialize_from_parameters(np.ones((len(counts), own.topics)))
        beta.initialize_from_parameters(lda_start(size))
        order = topics, theta, beta
        updated(VB(words, *order), order, sweeps)
        return {"theta": theta.phi[0], "beta": beta.phi[0]}

    return Sides(ours, theirs)


def hmm_start(own: Any, emission: Any) -> dict[str, Any]:
    """Paths' factors of no data; states differ by what they emit."""
    import jax.numpy as jnp

    from vi_bench.factors import Dirichlet

    states = own.states
    return {
        "initial": Dirichlet(jnp.ones(states)),
        "transition": Dirichlet(1 + 9 * jnp.eye(states)),
        own._emits().name: emission,
    }


def hmm_hmmlearn(size: Mapping[str, int], implementation: str = "log") -> Sides:
    """One feature: Wishart precisions are Gamma there, and the same as ours.

    Its default sums in logarithms; "scaling" is its quicker way, as ours is.

    Its `diag` of more features takes E log det of a Wishart for independent precisions,
    digamma((dof - j) / 2) for the j-th of them, where each has digamma(dof / 2).
    """
    import jax.numpy as jnp
    from hmmlearn.vhmm import VariationalGaussianHMM

    from vi_bench.factors import NormalGamma
    from vi_bench.models.hmm import HMM

    logging.getLogger("hmmlearn").setLevel(logging.ERROR)
    states = size["states"]
    own = HMM(states=states, kappa=0.5, a=2.0, b=1.0, stay=2.0)
    random = np.random.default_rng(2)
    y = 3.0 * chain(size["steps"], states) + random.normal(size=size["steps"])
    y = y[:, None]
    middle = 3.0 * np.arange(states)[:, None] + 0.5
    each = jnp.ones((states, 1))
    emission = NormalGamma(jnp.asarray(middle), 10 * each, 5 * each, 5 * each)
    fit = sweeping(own, {"y": y}, hmm_start(own, emission), bounds=True)

    def ours(sweeps: int) -> Parameters:
        q = fit(sweeps)
        return {
            "initial": q["initial"].concentration,
            "transition": q["transition"].concentration,
            "means": q["emission"].middle,
            "kappa": q["emission"].kappa[:, 0],
            "shape": q["emission"].shape[:, 0],
            "rate": q["emission"].rate,
        }

    def theirs(sweeps: int) -> Parameters:
        model = VariationalGaussianHMM(
            states,
            covariance_type="diag",
            n_iter=sweeps,
            tol=-np.inf,
            init_params="",
            implementation=implementation,
        )
        model.startprob_prior_ = np.full(states, own.first)
        model.startprob_posterior_ = np.ones(states)
        model.transmat_prior_ = own.switch + (own.stay - own.switch) * np.eye(states)
        model.transmat_posterior_ = 1 + 9 * np.eye(states)
        model.means_prior_ = np.full((states, 1), own.mean)
        model.means_posterior_ = middle
        model.beta_prior_ = np.full(states, own.kappa)
        model.beta_posterior_ = np.full(states, 10.0)
        model.dof_prior_, model.dof_posterior_ = (
            np.full(states, 2 * own.a),
            np.full(states, 10.0),
        )
        model.scale_prior_ = np.full((states, 1), 2 * own.b)
        model.scale_posterior_ = np.full((states, 1), 10.0)
        model.fit(y)
        return {
            "initial": model.startprob_posterior_,
            "transition": model.transmat_posterior_,
            "means": model.means_posterior_,
            "kappa": model.beta_posterior_,
            "shape": model.dof_posterior_ / 2,
            "rate": model.scale_posterior_ / 2,
        }

    return Sides(ours, theirs, "the bound there lacks -T / 2 log 2 pi")


def hmm_bayespy(size: Mapping[str, int]) -> Sides:
    """Categorical rows; the same updates in the same order."""
    import jax.numpy as jnp
    from bayespy.inference import VB
    from bayespy.nodes import Categorical, CategoricalMarkovChain, Dirichlet, Mixture

    from vi_bench import factors
    from vi_bench.models.hmm import HMM

    states, codes = size["states"], size["codes"]
    own = HMM(emission="categorical", states=states, stay=2.0, categories=codes)
    random = np.random.default_rng(2)
    rows = random.dirichlet(np.full(codes, 0.3), states)
    y = np.array(
        [random.choice(codes, p=rows[z]) for z in chain(size["steps"], states)]
    )
    first = random.dirichlet(np.ones(codes), states) * 10
    name = own._emits().name
    emission = factors.Dirichlet(jnp.asarray(first)[:, None, :])
    fit = sweeping(own, {"y": y[:, None]}, hmm_start(own, emission), bounds=True)

    def ours(sweeps: int) -> Parameters:
        q = fit(sweeps)
        return {
            "initial": q["initial"].concentration,
            "transition": q["transition"].concentration,
            "emission": q[name].concentration[:, 0],
        }

    def theirs(sweeps: int) -> Parameters:
        initial = Dirichlet(np.full(states, own.first))
        prior = own.switch + (own.stay - own.switch) * np.eye(states)
        transition = Dirichlet(prior, plates=(states,))
        emits = Dirichlet(np.full(codes, own.concentration), plates=(states,))
        z = CategoricalMarkovChain(initial, transition, states=len(y))
        seen = Mixture(z, Categorical, emits)
        seen.observe(y)
        initial.initialize_from_parameters(np.ones(states))
        transition.initialize_from_parameters(1 + 9 * np.eye(states))
        emits.initialize_from_parameters(first)
        order = z, initial, transition, emits
        updated(VB(seen, *order), order, sweeps)
        return {
            "initial": initial.phi[0],
            "transition": transition.phi[0],
            "emission": emits.phi[0],
        }

    return Sides(ours, theirs)


def ppca_bayespy(size: Mapping[str, int]) -> Sides:
    """The same updates in the same order; it passes over the rows, we need no row."""
    import jax.numpy as jnp
    from bayespy.inference import VB
    from bayespy.nodes import Add, Gamma, GaussianARD, SumMultiply

    from vi_bench import factors
    from vi_bench.models.ppca import PPCA

    rows, features, number = size["rows"], size["features"], size["factors"]
    own = PPCA(factors=number)
    random = np.random.default_rng(0)
    x = random.normal(size=(rows, number)) @ random.normal(size=(number, features))
    x = x + random.normal(size=features) + random.normal(size=(rows, features))
    first = random.normal(size=(features, number))
    start = {
        "W": factors.Gaussian.of(
            10 * jnp.asarray(first), 10 * jnp.ones((features, 1, 1)) * jnp.eye(number)
        ),
        "mu": factors.Normal(jnp.zeros(features), jnp.full(features, own.precision)),
        "alpha": factors.Gamma(jnp.full(number, own.a), jnp.full(number, own.b)),
        "tau": factors.Gamma(jnp.asarray(own.c), jnp.asarray(own.d)),
    }
    fit = sweeping(own, {"x": x}, start, bounds=True)

    def ours(sweeps: int) -> Parameters:
        q = fit(sweeps)
        return {
            "mean of W": q["W"].mean(),
            "mean of mu": q["mu"].mean(),
            "mean of alpha": q["alpha"].mean(),
            "mean of tau": q["tau"].mean(),
        }

    def theirs(sweeps: int) -> Parameters:
        alpha = Gamma(own.a, own.b, plates=(number,))
        w = GaussianARD(0, alpha, plates=(features, 1), shape=(number,))
        z = GaussianARD(0, 1, plates=(1, rows), shape=(number,))
        mu = GaussianARD(0, own.precision, plates=(features, 1))
        tau = Gamma(own.c, own.d)
        seen = GaussianARD(Add(SumMultiply("i,i", w, z), mu), tau)
        seen.observe(x.T)
        w.initialize_from_parameters(
            first[:, None, :], np.full((features, 1, number), 10.0)
        )
        order = z, w, mu, tau, alpha
        updated(VB(seen, *order), order, sweeps)
        return {
            "mean of W": w.get_moments()[0][:, 0],
            "mean of mu": mu.get_moments()[0][:, 0],
            "mean of alpha": alpha.get_moments()[0],
            "mean of tau": tau.get_moments()[0],
        }

    return Sides(ours, theirs)


PAIRS: dict[str, Callable[..., Sides]] = {
    "linear-regression, scikit-learn": ard_sklearn,
    "linear-regression, BayesPy": ard_bayespy,
    "lda, scikit-learn": lda_sklearn,
    "lda, gensim": lda_gensim,
    "lda, BayesPy": lda_bayespy,
    "hmm, hmmlearn": hmm_hmmlearn,
    "hmm, BayesPy": hmm_bayespy,
    "ppca, BayesPy": ppca_bayespy,
}
