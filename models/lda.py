"""Latent Dirichlet allocation: documents mix topics, topics are words' frequencies.

theta_d ~ Dirichlet(alpha), beta_k ~ Dirichlet(eta), and the counts of words in document
d ~ Multinomial(N_d, sum_k theta_dk beta_k); the topic of each word is summed out.
q(theta) q(beta) q(topics of words). Blei, Ng and Jordan (2003), with a factor of the
topics too as in Hoffman, Blei and Bach (2010), whose equations are named below.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
from annotated_types import Ge, Gt
from jax.scipy.special import gammaln
from jaxtyping import Array, Float, Int
from numpyro import distributions as dist

from vi_bench.contract import Key
from vi_bench.errors import ModelError
from vi_bench.factors import Dirichlet
from vi_bench.models._shares import (
    Multinomial,
    Table,
    settled,
    share_out,
    shares_of,
    some_rows,
    table_of,
)

DATA = {"counts": ("document", "word")}


@dataclass(frozen=True)
class LDA:
    """The number of topics, and symmetric priors.

    Attributes:
        topics: K.
        alpha: prior concentration of every topic in a document.
        eta: prior concentration of every word in a topic.
        entries: how many of the counts are not 0; by default sweeps read all of them.
        longest: the number of different words that no document exceeds.
    """

    topics: Annotated[int, Ge(1)] = 2
    alpha: Annotated[float, Gt(0)] = 1.0
    eta: Annotated[float, Gt(0)] = 1.0
    entries: Annotated[int, Ge(0)] | None = None
    longest: Annotated[int, Ge(0)] | None = None

    summary: ClassVar[str] = "latent Dirichlet allocation: topics of documents' words"
    references: ClassVar[tuple[str, ...]] = ("blei2003", "hoffman2010")
    compared: ClassVar[tuple[str, ...]] = ("beta", "share")

    def complete(self, counts: Any) -> LDA:
        """The model whose sweeps read no count of 0.

        Raises:
            InputError: something is no count.
        """
        wrong = np.argwhere(~((np.asarray(counts) >= 0) & (np.mod(counts, 1) == 0)))
        if len(wrong):
            at = tuple(map(int, wrong[0]))
            raise ModelError(
                f"model 'lda': counts is {np.asarray(counts)[at]} at {list(at)}: "
                "expected counts 0, 1, 2, ..."
            )
        different = np.count_nonzero(counts, axis=1)
        most = int(np.max(different, initial=0))
        return replace(self, entries=int(np.sum(different)), longest=most)

    def model(self, counts: Any) -> None:
        """Topics of documents theta (D, K), words of topics beta (K, V)."""
        self._model(counts)

    def full(self, counts: Any) -> None:
        """How many of a word's occurrences in a document have each topic, too.

        p(counts) p(topics | counts) is the density of words and topics together.
        """
        theta, beta, seen = self._model(counts)
        each = theta[:, None] * beta.T
        share = each / jnp.sum(each, axis=-1, keepdims=True)
        rows = numpyro.plate("document", len(theta), dim=-2)
        with rows, numpyro.plate("word", beta.shape[1], dim=-1):
            numpyro.sample("topics", Multinomial(share, seen))

    def statistics(self, counts: Any) -> Table:
        """The counts that are not 0, or all."""
        return table_of(counts, self.entries)

    def init(self, key: Key, s: Table) -> dict[str, Any]:
        """Every topic from the words of a document and of all, documents even.

        Starts of nothing but random words, or random shares of documents, were found to
        end in worse optima.
        """
        place, noise = jax.random.split(key)
        shape = (self.topics, s.columns.size)
        chosen = jax.random.randint(place, (self.topics,), 0, s.rows.size)
        words = jax.lax.map(lambda row: words_of(s, row), chosen)
        words *= 0.5 * jnp.sum(s.rows) / jnp.maximum(s.rows[chosen], 1)[:, None]
        # two topics may have the same document: let them differ all the same
        words += 0.5 * s.columns * jax.random.gamma(noise, 100.0, shape) / 100
        even = jnp.full(self.topics, 1 / self.topics)
        theta = Dirichlet(self.alpha + s.rows[:, None] * even)
        beta = Dirichlet(self.eta + words / self.topics)
        return self.local(s, {"theta": theta, "beta": beta})

    def local(self, s: Table, q: dict[str, Any]) -> dict[str, Any]:
        """Words' topics phi_dvk ~ exp(E log theta_dk + E log beta_kv), equation 5."""
        return {**q, "topics": share_out(s, *self._scores(q))}

    def sweep(self, s: Table, q: dict[str, Any]) -> dict[str, Any]:
        """Words' topics; then theta and beta, neither of which needs the other."""
        topics = self.local(s, q)["topics"]
        theta = Dirichlet(self.alpha + topics.rows)
        beta = Dirichlet(self.eta + topics.columns.T)
        return {"theta": theta, "beta": beta, "topics": topics}

    def bound(self, s: Table, q: dict[str, Any]) -> Float[Array, ""]:
        """E log p(words, topics) + the topics' entropy - divergences, equation 3."""
        theta, beta, topics = q["theta"], q["beta"], q["topics"]
        log_theta, log_beta = self._scores(q)
        words = jnp.sum(topics.rows * log_theta) + jnp.sum(topics.columns * log_beta)
        # the log multinomial coefficients of the documents
        words += jnp.sum(gammaln(s.rows + 1)) - s.log_factorials
        alpha = Dirichlet(jnp.full_like(theta.concentration, self.alpha))
        eta = Dirichlet(jnp.full_like(beta.concentration, self.eta))
        found: Array = words + topics.entropy - theta.kl(alpha) - beta.kl(eta)
        return found

    def rows(self, counts: Any) -> Table:
        """The words of each document."""
        return self.statistics(counts)

    def batch(self, rows: Table, chosen: Any) -> tuple[Any, Table]:
        """Some documents' numbers, and their words."""
        longest = rows.columns.size if self.longest is None else self.longest
        return chosen, some_rows(rows, chosen, longest)

    def settle(self, batch: tuple[Any, Table], q: dict[str, Any]) -> dict[str, Any]:
        """Topics of these documents given those of all words."""
        (chosen, words), every = batch, q["theta"].concentration
        new = settled(words, self.alpha, every[chosen], q["beta"].mean_log().T)
        return {**q, "theta": Dirichlet(every.at[chosen].set(new))}

    def shared(self, batch: tuple[Any, Table], q: dict[str, Any], times: float) -> Any:
        """Topics, from the words of these documents: Hoffman, Blei and Bach (2010)."""
        log_theta, log_beta = self._scores(q)
        words = share_out(batch[1], log_theta[batch[0]], log_beta).columns.T
        return {"beta": Dirichlet(self.eta + times * words)}

    def counts(self, q: dict[str, Any]) -> Float[Array, " K"]:
        """Expected words of each topic."""
        found: Array = jnp.sum(q["topics"].rows, axis=0)
        return found

    def local_factors(self, s: Table, q: dict[str, Any]) -> dict[str, Any]:
        """How each count is shared out among the topics."""
        return {"topics": shares_of(s, *self._scores(q))}

    def example(self, random: np.random.Generator, rows: int) -> dict[str, Any]:
        """Documents of about a dozen words out of six."""
        theta = random.dirichlet(np.full(self.topics, self.alpha), rows)
        beta = random.dirichlet(np.full(6, self.eta), self.topics)
        return {"counts": random.multinomial(random.poisson(12, rows), theta @ beta)}

    def _model(self, counts: Any) -> tuple[Any, Any, Any]:
        documents, words = counts.shape
        alpha, eta = jnp.full(self.topics, self.alpha), jnp.full(words, self.eta)
        with numpyro.plate("document", documents):
            theta = numpyro.sample("theta", dist.Dirichlet(alpha))
        with numpyro.plate("component", self.topics):
            beta = numpyro.sample("beta", dist.Dirichlet(eta))
            numpyro.deterministic("share", jnp.mean(theta, axis=0))
        with numpyro.plate("document", documents):
            drawn = Multinomial(theta @ beta, jnp.sum(counts, axis=-1))
            return theta, beta, numpyro.sample("counts", drawn, obs=counts)

    def _scores(self, q: dict[str, Any]) -> tuple[Array, Array]:
        """E log theta (D, K), and E log beta (V, K)."""
        return q["theta"].mean_log(), q["beta"].mean_log().T


def words_of(s: Table, document: Int[Array, ""]) -> Float[Array, " V"]:
    """The counts of one document."""
    known = s.by_row
    own = jnp.where(known.row[:, None] == document, known.entry, 0.0)
    return jnp.zeros_like(s.columns).at[known.column].add(own)


MODEL = LDA
