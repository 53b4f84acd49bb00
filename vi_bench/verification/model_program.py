"""Compiled functions of a problem and the form of q: draws, densities, derivatives."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from numpyro import infer

from vi_bench.posterior.numpyro_posterior import NumPyroPosterior
from vi_bench.posterior.structure import bare
from vi_bench.verification.factors import Factor, draw, is_real, parameters_of
from vi_bench.verification.model_problems import ModelProblem
from vi_bench.verification.tails import WIDER


class Program(NamedTuple):
    """Compiled functions of keys, the factors' parameters, and the data's arrays.

    Attributes:
        sampled: draws of q, what is evaluated at them.
        curved: second derivatives of log p by point estimates.
        by_element: discrete site -> log p and log q where one of its elements has
            another value, further given the elements (M,) and the values (M,).
        drawn: draws of the real sites (no data is given).
        wider: real site -> log p and log q where one coordinate is further from the
            centre, log q where it is not, and that coordinate, further given which it
            is, and the centre (p,).
    """

    sampled: Callable[..., Any]
    curved: Callable[..., Any]
    by_element: Mapping[str, Callable[..., Any]]
    drawn: Callable[..., dict[str, Any]]
    wider: Mapping[str, Callable[..., Any]]


AT_ONCE = 2000
"""Draws that are computed at once."""

_programs: dict[Hashable, Program] = {}
"""Programs by what their problems and factors have in common."""

KEPT = 64
"""Programs that are kept, those used last: problems of the same shapes share them."""


def program_of(
    problem: ModelProblem, factors: Sequence[Factor], summed_out: bool
) -> Program:
    """The program for a problem: a kept one if all shapes are the same.

    Args:
        problem: the problem.
        factors: the factors of q.
        summed_out: whether discrete sites that q leaves out are summed out.
    """
    alike = tuple(factor.alike for factor in factors)
    known = all(alike) and problem.alike is not None and not summed_out
    key: Hashable = (problem.alike, alike)
    if known and key in _programs:
        _programs[key] = _programs.pop(key)  # the last to go
        return _programs[key]
    made = _made(problem, factors, summed_out)
    if not _traceable(made, problem, factors):
        fixed = {name: jnp.asarray(value) for name, value in problem.arrays.items()}
        return _made(problem, factors, summed_out, fixed)
    if known:
        if len(_programs) >= KEPT:
            del _programs[next(iter(_programs))]
        _programs[key] = made
    return made


def _traceable(
    program: Program, problem: ModelProblem, factors: Sequence[Factor]
) -> bool:
    """Whether the model works where its data's values are not known."""
    keys = jax.random.split(jax.random.key(0), AT_ONCE)
    try:
        jax.eval_shape(program.sampled, keys, parameters_of(factors), problem.arrays)
    except Exception:  # a user's code may raise anything
        return False
    return True


def _made(
    problem: ModelProblem,
    factors: Sequence[Factor],
    summed_out: bool,
    fixed: Mapping[str, Any] | None = None,
) -> Program:
    logistic = None if summed_out else problem.logistic
    points = [
        f
        for f in factors
        if f.transform is not None
        # a share of a single component has no free parameter
        and math.prod(f.transform.inverse_shape(problem.trace[f.site]["value"].shape))
    ]
    still = {n: v for n, v in problem.data.items() if n not in problem.arrays}
    posterior = None
    if summed_out:
        known = {n: jnp.asarray(v) for n, v in problem.arrays.items()}
        posterior = NumPyroPosterior.of(problem.model, **known, **still)

    def joint(values: Mapping[str, Any], data: Mapping[str, Any]) -> Any:
        if posterior is not None:
            total = posterior.log_joint(dict(values))
            return total, (jnp.zeros(1), jnp.abs(total))
        data = {**(data if fixed is None else fixed), **still}
        total, trace = infer.util.log_density(problem.model, (), data, dict(values))
        logits = jnp.zeros(1)  # a map of arrays without elements fails
        if logistic is not None:
            site = trace[logistic.site]
            shape = jnp.shape(site["value"])
            own = jnp.ravel(jnp.broadcast_to(bare(site["fn"]).logits, shape))
            logits = jnp.concatenate([logits, own])
        return total, (logits, _terms(trace))

    def at_points(values: Mapping[str, Any], data: Any) -> Callable[[Any], Any]:
        def along(own: Mapping[str, Any]) -> Any:
            moved = {f.site: f.transform(own[f.site]) for f in points if f.site in own}
            return joint({**values, **moved}, data)[0]

        return along

    def unconstrained(values: Mapping[str, Any]) -> dict[str, Any]:
        return {f.site: f.transform.inv(values[f.site]) for f in points}

    def one(key: Any, parameters: Any, data: Any) -> Any:
        values = draw(factors, key, parameters)
        log_p, (logits, terms) = joint(values, data)
        log_q, scores = jnp.zeros(()), {}
        for factor, (leaves, rest) in zip(factors, parameters, strict=True):

            def own(leaves: Any, factor: Any = factor, rest: Any = rest) -> Any:
                return factor.log_prob(leaves, rest, values[factor.site], values)

            # a map of arrays without elements fails; programs are shared among shapes
            if not factor.point and any(leaf.size for leaf in leaves):
                density, score = jax.value_and_grad(own)(tuple(leaves))
                scores[factor.site] = ravel_pytree(score)[0]
            else:
                density = own(leaves)
            log_q += density
        here = unconstrained(values)
        slopes = jax.grad(at_points(values, data))(here) if points else {}
        slopes = {name: jnp.ravel(v) for name, v in slopes.items()}
        return log_p, log_q, scores, slopes, logits, terms + jnp.abs(log_q)

    def curved(key: Any, parameters: Any, data: Any) -> Any:
        values = draw(factors, key, parameters)
        found = {}
        for f in points:
            flat, shaped = ravel_pytree(unconstrained(values)[f.site])
            along = at_points(values, data)
            found[f.site] = jax.hessian(
                lambda v, f=f, along=along, shaped=shaped: along({f.site: shaped(v)})
            )(flat)
        return found

    def sampled(keys: Any, parameters: Any, data: Any) -> Any:
        return jax.lax.map(
            lambda key: one(key, parameters, data), keys, batch_size=AT_ONCE
        )

    def second(keys: Any, parameters: Any, data: Any) -> Any:
        return jax.vmap(lambda key: curved(key, parameters, data))(keys)

    supports = {f.site: problem.trace[f.site]["fn"].support for f in factors}
    real = [f.site for f in factors if not f.point and is_real(supports[f.site])]

    def drawn(keys: Any, parameters: Any) -> dict[str, Any]:
        every = jax.vmap(lambda key: draw(factors, key, parameters))(keys)
        return {site: every[site] for site in real}

    return Program(
        sampled=jax.jit(sampled),
        curved=jax.jit(second),
        by_element={
            f.site: jax.jit(_by_element(f.site, factors, joint))
            for f in factors
            if f.by_element
        },
        drawn=jax.jit(drawn),
        wider={site: jax.jit(_wider(site, factors, joint)) for site in real},
    )


Joint = Callable[[Mapping[str, Any], Mapping[str, Any]], tuple[Any, Any]]
"""(values by site, data) -> log p, and what else is known of it."""


def _by_element(
    site: str, factors: Sequence[Factor], joint: Joint
) -> Callable[..., Any]:
    place = [f.site for f in factors].index(site)
    factor = factors[place]

    def one(key: Any, parameters: Any, data: Any, elements: Any, to: Any) -> Any:
        drawn = draw(factors, key, parameters)

        def at(element: Any, value: Any) -> tuple[Any, Any]:
            z = _with(drawn[site], element, value)
            values = {**drawn, site: z}
            log_q = factor.log_prob(*parameters[place], z, values)
            return joint(values, data)[0], log_q

        return jax.vmap(at)(elements, to)

    return lambda keys, *given: jax.lax.map(lambda key: one(key, *given), keys)


def _wider(site: str, factors: Sequence[Factor], joint: Joint) -> Callable[..., Any]:
    def one(key: Any, parameters: Any, data: Any, place: Any, centre: Any) -> Any:
        drawn = draw(factors, key, parameters)

        def log_q(values: Mapping[str, Any]) -> Any:
            return sum(
                f.log_prob(own, rest, values[f.site], values)
                for f, (own, rest) in zip(factors, parameters, strict=True)
            )

        far = jnp.ravel(drawn[site])[place] - centre[place]
        moved = _with(drawn[site], place, centre[place] + WIDER * far)
        values = {**drawn, site: moved}
        to = jnp.ravel(moved)[place]
        return joint(values, data)[0], log_q(values), log_q(drawn), to

    return lambda keys, *given: jax.lax.map(
        lambda key: one(key, *given), keys, batch_size=AT_ONCE
    )


def _with(array: Any, place: Any, value: Any) -> Any:
    """An array with another value at a place of its flattened form."""
    flat = jnp.ravel(array).at[place].set(jnp.asarray(value, array.dtype))
    return flat.reshape(array.shape)


def _terms(trace: Mapping[str, Any]) -> Any:
    """Sum of the sizes of all log densities of a trace."""
    total = jnp.zeros(())
    for site in trace.values():
        if site["type"] == "sample":
            total += jnp.sum(jnp.abs(site["fn"].log_prob(site["value"])))
    return total
