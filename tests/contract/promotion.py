"""Trace what methods compute under JAX's strictest rules; a program of its own.

    python -m tests.contract.promotion [METHOD[@FAMILY] ...]

Arrays of different types or numbers of axes then raise, unless both are written out.
Nothing is compiled. The libraries that methods call keep the rules that they are
written for, so their functions are wrapped; hence a process of its own.
"""

import functools
import inspect
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import blackjax
import jax
import jax.numpy as jnp
import numpyro.infer
import optax

LIBRARIES = ("numpyro", "blackjax", "optax")
KEPT = ("__new__", "__init_subclass__", "__getattr__", "__setattr__")


def lenient(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function under JAX's usual rules, and functions that it makes."""

    @functools.wraps(function)
    def call(*args: Any, **options: Any) -> Any:
        with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
            made = function(*args, **options)
        if inspect.isfunction(made) and of_a_library(made):
            return made if hasattr(made, "lenient") else lenient(made)
        return made

    call.lenient = True  # type: ignore[attr-defined]
    return call


def of_a_library(value: Any) -> bool:
    """Whether a class or function is defined in one of them."""
    return (getattr(value, "__module__", None) or "").partition(".")[0] in LIBRARIES


def wrapped(value: Any) -> Any:
    """A function or property of a library, wrapped; None for anything else."""
    if inspect.isfunction(value) and not inspect.isgeneratorfunction(value):
        return None if hasattr(value, "lenient") else lenient(value)
    if isinstance(value, property) and value.fget is not None:
        return property(lenient(value.fget), value.fset, value.fdel)
    return None


def wrap_libraries() -> None:
    """Wrap every function and method of the libraries that have been imported."""
    assert blackjax
    assert optax
    assert numpyro.infer
    for name, module in list(sys.modules.items()):
        if module is None or name.partition(".")[0] not in LIBRARIES:
            continue
        for key, value in list(vars(module).items()):
            if not of_a_library(value):
                continue
            if inspect.isclass(value):
                for own, method in list(vars(value).items()):
                    if own not in KEPT and (new := wrapped(method)) is not None:
                        setattr(value, own, new)
            elif (new := wrapped(value)) is not None:
                setattr(module, key, new)


def programs(names: list[str]) -> Iterator[tuple[str, Callable[[], Any]]]:
    """What is traced: all stages of methods, the evaluation, and linear response."""
    from vi_bench import catalogue
    from vi_bench.contract import ExponentialFactors, Problem
    from vi_bench.errors import NotApplicable
    from vi_bench.inference.linear_response import linearise
    from vi_bench.inference.stages import drive, prepare
    from vi_bench.runner.evaluate import _evaluated
    from vi_bench.verification.mixtures import mixture_battery

    problems = {
        (p.model["name"], p.weights["name"]): p
        for p in mixture_battery(0)
        if len(p.data) and p.K > 1
    }
    key = jax.random.key(0)

    def whole(method: Any, problem: Any) -> None:
        mixture = problem.mixture
        try:
            stages = prepare(method, Problem(mixture, 4, 50), key)
        except NotApplicable:
            return

        def each(stage: Any, keys: Any, mixture: Any, carry: Any) -> Any:
            return jax.eval_shape(stage.run, keys[0], mixture, carry)

        draws = drive(stages, key, mixture, each)
        known = method if hasattr(method, "log_q") else None
        judged = partial(_evaluated, method=known, jointly=True)
        jax.eval_shape(judged, mixture, draws, jnp.asarray(problem.data[:2]))
        family = mixture.family
        if draws.factors is not None and isinstance(family, ExponentialFactors):
            coordinates = family.coordinates(problem.features)
            response = partial(linearise, coordinates=coordinates)
            jax.eval_shape(response, mixture, draws.factors)

    # every method on one family, and coordinate ascent and Gibbs sampling on all
    for (family, weights), problem in problems.items():
        for named in names:
            name, _, only = named.partition("@")
            if only not in ("", family):
                continue
            if family == "gaussian" or name in ("cavi", "gibbs", "exact"):
                method = catalogue.method(name)()
                said = f"{name} on {family}, {weights} weights"
                yield said, partial(whole, method, problem)


def main(names: list[str]) -> None:
    """Trace, and print where rules are broken; the exit code is 1 if any is."""
    jax.config.update("jax_enable_x64", True)
    wrap_libraries()
    from vi_bench import catalogue

    broken = traced = 0
    jax.config.update("jax_numpy_dtype_promotion", "strict")
    jax.config.update("jax_numpy_rank_promotion", "raise")
    for said, trace in programs(names or catalogue.names("method")):
        traced += 1
        try:
            trace()
        except (ValueError, TypeError) as error:
            broken += 1
            place = inspect.trace()[-1]
            for frame in inspect.trace():
                if "vi_bench" in frame.filename or "models" in frame.filename:
                    place = frame
            code = (place.code_context or [""])[0].strip()
            print(f"{said}: line {place.lineno}: {code}: {error}")
    print(f"{traced} traced, {broken} broken")
    raise SystemExit(int(broken > 0))


if __name__ == "__main__":
    main(sys.argv[1:])
