"""Logistic regression: CAVI by hand, right and with one fault each.

Jaakkola and Jordan (2000): every row has a point xi at which its bound touches the
likelihood; Bishop (2006), section 10.6. A result whose bound is theirs says so: "form".
Every mutant overrides one step of a right one. Its docstring names the fault.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from scipy.special import expit, log_expit

SD = 1.5  # of every weight's prior
FORM = "jaakkola-jordan"


def model(X, y):
    """Weights w (p,)."""
    w = numpyro.sample("w", dist.Normal(0, SD).expand([X.shape[1]]).to_event(1))
    numpyro.sample("y", dist.Bernoulli(logits=X @ w).to_event(1), obs=y)


def data(seed=0):
    """40 rows simulated from the model: a column of ones and two covariates."""
    random = np.random.default_rng(seed)
    X = np.c_[np.ones(40), random.normal(size=(40, 2)) @ [[1, 0.6], [0, 0.8]]]
    w = random.normal(0, SD, 3)
    return {"X": X, "y": (random.random(40) < expit(X @ w)).astype(int)}


def curvature(xi):
    """lambda(xi) = tanh(xi / 2) / (4 xi), which is 1/8 at 0."""
    safe = np.maximum(np.abs(xi), 1e-6)
    return np.tanh(safe / 2) / (4 * safe)


class Right:
    """q(w) is a full Normal of mean m and covariance S."""

    tol = 1e-12
    most = 5000

    def __call__(self, X, y, seed):
        X, y = self.prepare(X, y)
        q = {"xi": self.start(y, np.random.default_rng(seed))}
        trace = []
        while len(trace) < self.most and not self.ended(trace):
            q = self.sweep(X, y, q)
            trace.append(self.bound(X, y, q))
        return self.result(q, trace)

    def prepare(self, X, y):
        return np.asarray(X, float), np.asarray(y, float)

    def start(self, y, random):
        return random.gamma(2, size=len(y))

    def sweep(self, X, y, q):
        q = q | self.weights(X, y, q)
        return q | {"xi": self.touch(X, q)}

    def curvature(self, xi):
        return curvature(xi)

    def penalty(self, p):
        return np.eye(p) / SD**2

    def weights(self, X, y, q):
        rows = 2 * self.curvature(q["xi"])[:, None] * X
        S = np.linalg.inv(self.penalty(X.shape[1]) + X.T @ rows)
        return {"m": S @ self.labels(X, y), "S": S}

    def labels(self, X, y):
        return X.T @ (y - 0.5)

    def square(self, X, q):
        """E (x w)^2, row by row."""
        return (X @ q["m"]) ** 2 + np.sum((X @ q["S"]) * X, axis=1)

    def touch(self, X, q):
        return np.sqrt(self.square(X, q))

    def likelihood(self, X, y, q):
        xi = q["xi"]
        rows = log_expit(xi) - xi / 2 + self.curvature(xi) * xi**2
        rows -= self.curvature(xi) * self.square(X, q)
        return rows.sum() + self.labels(X, y) @ q["m"]

    def entropy(self, S):
        return 0.5 * (len(S) * (1 + np.log(2 * np.pi)) + np.linalg.slogdet(S)[1])

    def prior(self, q):
        square = q["m"] @ q["m"] + np.trace(q["S"])
        return -0.5 * len(q["m"]) * np.log(2 * np.pi * SD**2) - square / (2 * SD**2)

    def bound(self, X, y, q):
        return self.likelihood(X, y, q) + self.prior(q) + self.entropy(q["S"])

    def ended(self, trace):
        if len(trace) < 2:
            return False
        return abs(trace[-1] - trace[-2]) < self.tol * (1 + abs(trace[-1]))

    def factors(self, q):
        return {"w": dist.MultivariateNormal(q["m"], q["S"])}

    def result(self, q, trace):
        return {"q": self.factors(q), "elbo": trace, "form": FORM}


class RightJax:
    """A while_loop in natural parameters; the bound in its compact form.

    The compact form is right where w is optimal for xi, so w is updated last.
    """

    most = 3000

    def __call__(self, X, y, seed):
        X, y = jnp.asarray(X, float), jnp.asarray(y, float)
        m, P, trace, n = self.climb(X, y)
        w = dist.MultivariateNormal(m, precision_matrix=P)
        return {"q": {"w": w}, "elbo": np.asarray(trace[:n]), "form": FORM}

    @partial(jax.jit, static_argnums=0)
    def climb(self, X, y):
        def on(state):
            *_, trace, n = state
            rise = trace[n - 1] - trace[n - 2]
            small = rise < 1e-13 * (1 + jnp.abs(trace[n - 1]))
            return (n < 2) | ((n < self.most) & ~small)

        def sweep(state):
            m, P, trace, n = state
            xi = self.touch(X, m, P)
            m, P = self.weights(X, y, xi)
            return m, P, trace.at[n].set(self.bound(xi, m, P)), n + 1

        m, P = self.weights(X, y, jnp.ones(len(y)))
        return jax.lax.while_loop(on, sweep, (m, P, jnp.zeros(self.most), 0))

    def touch(self, X, m, P):
        half = jnp.linalg.solve(jnp.linalg.cholesky(P), X.T)
        return jnp.sqrt((X @ m) ** 2 + jnp.sum(half**2, axis=0))

    def curvature(self, xi):
        return (jax.nn.sigmoid(xi) - 0.5) / (2 * xi)

    def weights(self, X, y, xi):
        P = jnp.eye(X.shape[1]) / SD**2 + 2 * (self.curvature(xi) * X.T) @ X
        return jnp.linalg.solve(P, X.T @ (y - 0.5)), P

    def rows(self, xi):
        return jax.nn.log_sigmoid(xi) - xi / 2 + self.curvature(xi) * xi**2

    def bound(self, xi, m, P):
        fit = 0.5 * (m @ P @ m - jnp.linalg.slogdet(P)[1]) - len(m) * np.log(SD)
        return jnp.sum(self.rows(xi)) + fit


class RightDamped(Right):
    """Half steps in the natural parameters of w, from q at the prior; plain results."""

    def start(self, y, random):
        return np.full(len(y), 0.1)

    def weights(self, X, y, q):
        new = super().weights(X, y, q)
        if "m" not in q:
            q = q | {"m": np.zeros(X.shape[1]), "S": SD**2 * np.eye(X.shape[1])}
        old, full = np.linalg.inv(q["S"]), np.linalg.inv(new["S"])
        S = np.linalg.inv((old + full) / 2)
        return {"m": S @ (old @ q["m"] + full @ new["m"]) / 2, "S": S}

    def factors(self, q):
        return {"w": {"loc": q["m"], "covariance_matrix": q["S"]}}


class Quadrature(Right):
    """The best Normal q itself: E log-sigmoid by Gauss and Hermite, no bound of rows.

    Newton's steps (Opper and Archambeau 2009), halved while the bound would fall.
    """

    nodes, masses = np.polynomial.hermite_e.hermegauss(80)

    def at(self, X, q):
        sd = np.sqrt(np.sum((X @ q["S"]) * X, axis=1))
        return (X @ q["m"])[:, None] + sd[:, None] * self.nodes

    def mean(self, values):
        return values @ self.masses / self.masses.sum()

    def likelihood(self, X, y, q):
        return np.sum(self.mean(log_expit((2 * y - 1)[:, None] * self.at(X, q))))

    def sweep(self, X, y, q):
        p = X.shape[1]
        if "m" not in q:
            return q | {"m": np.zeros(p), "S": SD**2 * np.eye(p)}
        chance = expit(self.at(X, q))
        curve = self.mean(chance * (1 - chance))
        full = np.eye(p) / SD**2 + X.T @ (curve[:, None] * X)
        slope = X.T @ (y - self.mean(chance)) - q["m"] / SD**2
        old, size, now = np.linalg.inv(q["S"]), 1.0, self.bound(X, y, q)
        while size > 1e-12:
            S = np.linalg.inv((1 - size) * old + size * full)
            new = q | {"m": q["m"] + size * S @ slope, "S": S}
            if self.bound(X, y, new) >= now:
                return new
            size /= 2
        return q

    def result(self, q, trace):
        return {"q": self.factors(q), "elbo": trace}


class Diagonal(Right):
    """Coarse: independent weights, Jaakkola and Jordan's bound."""

    def weights(self, X, y, q):
        size = 2 * self.curvature(q["xi"])
        v = 1 / (size @ X**2 + SD**-2)
        m = q["m"].copy() if "m" in q else np.zeros(X.shape[1])
        fit = self.labels(X, y)
        for j in range(len(m)):
            rest = X @ m - X[:, j] * m[j]
            m[j] = v[j] * (fit[j] - (size * X[:, j]) @ rest)
        return {"m": m, "S": np.diag(v)}

    def factors(self, q):
        return {"w": dist.Normal(q["m"], np.sqrt(np.diag(q["S"]))).to_event(1)}


class Point(Right):
    """Coarse: w is its most probable value, the bound is log p there."""

    def sweep(self, X, y, q):
        p = X.shape[1]
        if "m" not in q:
            return {"m": np.zeros(p), "S": np.zeros((p, p))}
        chance = expit(X @ q["m"])
        full = np.eye(p) / SD**2 + X.T @ ((chance * (1 - chance))[:, None] * X)
        step = np.linalg.solve(full, X.T @ (y - chance) - q["m"] / SD**2)
        now = self.bound(X, y, q)
        while np.abs(step).max() > 1e-12:
            new = q | {"m": q["m"] + step}
            if self.bound(X, y, new) >= now:
                return new
            step = step / 2
        return q

    def likelihood(self, X, y, q):
        return log_expit((2 * y - 1) * (X @ q["m"])).sum()

    def entropy(self, S):
        return 0.0

    def factors(self, q):
        return {"w": dist.Delta(q["m"], event_dim=1)}

    def result(self, q, trace):
        return {"q": self.factors(q), "elbo": trace}


class XiFromMean(Right):
    """The covariance is forgotten in xi: it is |x m|."""

    def touch(self, X, q):
        return np.abs(X @ q["m"])


class XiFromMeanThroughout(Right):
    """The covariance is forgotten in E(x w)^2, in xi and in the bound."""

    def square(self, X, q):
        return (X @ q["m"]) ** 2


class XiSquared(Right):
    """The square root is missing in xi."""

    def touch(self, X, q):
        return self.square(X, q)


class NoFactorTwo(Right):
    """The 2 is missing before lambda(xi) in the precision of w."""

    def weights(self, X, y, q):
        rows = self.curvature(q["xi"])[:, None] * X
        S = np.linalg.inv(self.penalty(X.shape[1]) + X.T @ rows)
        return {"m": S @ self.labels(X, y), "S": S}


class DoubledCurvature(Right):
    """lambda is tanh(xi / 2) / (2 xi), in the update and the bound."""

    def curvature(self, xi):
        return 2 * curvature(xi)


class CurvatureOfXi(Right):
    """tanh(xi) for tanh(xi / 2) in lambda."""

    def curvature(self, xi):
        safe = np.maximum(xi, 1e-6)
        return np.tanh(safe) / (4 * safe)


class CurvatureForm(Right):
    """sigmoid(xi) without its - 1/2 in lambda."""

    def curvature(self, xi):
        return expit(xi) / (2 * np.maximum(xi, 1e-6))


class LabelsNotCentred(Right):
    """y for y - 1/2 in the mean of w."""

    def weights(self, X, y, q):
        new = super().weights(X, y, q)
        return new | {"m": new["S"] @ X.T @ y}


class LabelsOfSigns(Right):
    """Signs -1 and 1 for y - 1/2, in the update and the bound."""

    def labels(self, X, y):
        return X.T @ (2 * y - 1)


class SdForVariance(Right):
    """The prior's sd for its variance in the precision of w."""

    def penalty(self, p):
        return np.eye(p) / SD


class NoPrior(Right):
    """The prior is as good as left out of the update."""

    def penalty(self, p):
        return 1e-6 * np.eye(p)


class UnpenalisedIntercept(Right):
    """The intercept is not penalised in the update, though the prior says so."""

    def penalty(self, p):
        full = super().penalty(p)
        full[0, 0] = 1e-6
        return full


class NoEntropy(Right):
    """The log determinant is left out of the bound."""

    def entropy(self, S):
        return 0.5 * len(S) * (1 + np.log(2 * np.pi))


class LogDetSign(Right):
    """The log determinant has the wrong sign in the bound."""

    def entropy(self, S):
        return super().entropy(S) - np.linalg.slogdet(S)[1]


class NoTraceInPrior(Right):
    """The trace of S is left out of the prior's part of the bound."""

    def prior(self, q):
        return super().prior(q | {"S": 0 * q["S"]})


class NoHalfXi(Right):
    """- xi / 2 is left out of the bound."""

    def likelihood(self, X, y, q):
        return super().likelihood(X, y, q) + q["xi"].sum() / 2


class NoSquareXi(Right):
    """lambda(xi) xi^2 is left out of the bound."""

    def likelihood(self, X, y, q):
        xi = q["xi"]
        return super().likelihood(X, y, q) - np.sum(self.curvature(xi) * xi**2)


class XiNeverUpdated(Right):
    """xi keeps its start."""

    def sweep(self, X, y, q):
        return q | self.weights(X, y, q)


class OneXi(Right):
    """One xi for all rows, the mean."""

    def touch(self, X, q):
        xi = super().touch(X, q)
        return np.full_like(xi, xi.mean()) if len(xi) else xi


class LastRowLost(Right):
    """The labels' sum leaves out the last row; the bound is right."""

    def weights(self, X, y, q):
        new = super().weights(X, y, q)
        return new | {"m": new["S"] @ self.labels(X[:-1], y[:-1])}


class PrecisionForCovariance(Right):
    """The returned Normal has the precision where the covariance belongs."""

    def factors(self, q):
        return {"w": dist.MultivariateNormal(q["m"], np.linalg.inv(q["S"]))}


class OffDiagonalLost(Right):
    """The returned Normal has the variances only; the bound is the full one's."""

    def factors(self, q):
        return {"w": dist.Normal(q["m"], np.sqrt(np.diag(q["S"]))).to_event(1)}


class Laplace(Point):
    """Laplace's Normal is returned with Jaakkola and Jordan's bound at it."""

    def result(self, q, trace):
        X, y = self.rows
        chance = expit(X @ q["m"])
        full = np.eye(len(q["m"])) / SD**2 + (X.T * chance * (1 - chance)) @ X
        q = q | {"S": np.linalg.inv(full)}
        q = q | {"xi": np.sqrt(Right.square(self, X, q))}
        last = Right.likelihood(self, X, y, q) + self.prior(q)
        last += Right.entropy(self, q["S"])
        return {"q": Right.factors(self, q), "elbo": [last], "form": FORM}

    def prepare(self, X, y):
        self.rows = super().prepare(X, y)
        return self.rows


class StoppedEarly(Right):
    """One sweep, whatever it reaches."""

    most = 1


class PriorConstant(Right):
    """The prior's constant is dropped: log of its sd."""

    constant = True

    def prior(self, q):
        return super().prior(q) + len(q["m"]) * np.log(SD)


class HalfPerWeight(Right):
    """The 1/2 of every weight's entropy is dropped."""

    constant = True

    def entropy(self, S):
        return super().entropy(S) - 0.5 * len(S)


class JaxCompactHalf(RightJax):
    """m'Pm without its 1/2 in the compact bound."""

    def bound(self, xi, m, P):
        return super().bound(xi, m, P) + 0.5 * m @ P @ m


class JaxRows(RightJax):
    """lambda(xi) xi^2 has the wrong sign in the compact bound."""

    def rows(self, xi):
        return super().rows(xi) - 2 * self.curvature(xi) * xi**2


class QuadratureCoarse(Quadrature):
    """Two nodes are too few for the quadrature."""

    nodes, masses = np.polynomial.hermite_e.hermegauss(2)


class QuadratureAtMean(Quadrature):
    """The likelihood is taken at the mean of x w: its sd is left out."""

    def at(self, X, q):
        return (X @ q["m"])[:, None] + 0 * self.nodes


RIGHT = [Right, RightJax, RightDamped, Quadrature]
COARSE = [Diagonal, Point]
MUTANTS = [
    XiFromMean,
    XiFromMeanThroughout,
    XiSquared,
    NoFactorTwo,
    DoubledCurvature,
    CurvatureOfXi,
    CurvatureForm,
    LabelsNotCentred,
    LabelsOfSigns,
    SdForVariance,
    NoPrior,
    UnpenalisedIntercept,
    NoEntropy,
    LogDetSign,
    NoTraceInPrior,
    NoHalfXi,
    NoSquareXi,
    XiNeverUpdated,
    OneXi,
    LastRowLost,
    PrecisionForCovariance,
    OffDiagonalLost,
    Laplace,
    StoppedEarly,
    PriorConstant,
    HalfPerWeight,
    JaxCompactHalf,
    JaxRows,
    QuadratureCoarse,
    QuadratureAtMean,
]
