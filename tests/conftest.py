"""Double precision, shapes checked at run time, small data."""

import functools
import gc
import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

# before NumPy is loaded: threads of two workers wait for one another's cores
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.pop("COLUMNS", None)  # of whatever terminal the tests were called from

from jaxtyping import install_import_hook

import tests.typechecker  # noqa: F401 - named below

CHECKED = ["comparison", "enumeration", "inference", "methods", "mixture"]
hook = install_import_hook(
    [f"vi_bench.{m}" for m in CHECKED], "tests.typechecker.functions"
)

import jax  # noqa: E402
import numpy as np  # noqa: E402
import numpyro  # noqa: E402, F401 - whole, before tests import parts of it
import pytest  # noqa: E402
import typer.main  # noqa: E402
import typer.testing  # noqa: E402

import vi_bench as vb  # noqa: E402
from tests.small import FIELDS, METHODS, ROWS  # noqa: E402
from vi_bench import catalogue  # noqa: E402
from vi_bench.runtime.environment import forget_programs  # noqa: E402

gc.freeze()  # what is imported stays: it need not be looked through again and again
gc.set_threshold(50_000)  # tracing makes many objects, few of them in cycles

# the command line is the same in all tests; to build it takes longer than a refusal
typer.testing._get_command = functools.cache(typer.main.get_command)  # type: ignore[attr-defined]

jax.config.update("jax_enable_x64", True)
# many tests run the same programs: both workers share what one of them has compiled
if "VI_BENCH_TEST_PROGRAMS" not in os.environ:
    os.environ["VI_BENCH_TEST_PROGRAMS"] = tempfile.mkdtemp(prefix="vi-bench-tests-")
COMPILED = os.environ["VI_BENCH_TEST_PROGRAMS"]
jax.config.update("jax_compilation_cache_dir", COMPILED)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


NUMERICS = {
    "comparison",
    "contract",
    "enumeration",
    "inference",
    "methods",
    "mixture",
    "models",
}
"""Folders whose slow tests are the first half of all."""


@pytest.hookimpl(tryfirst=True)  # before tests are selected by their markers
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every slow test belongs to one of two halves, by its folder."""
    for item in items:
        if item.get_closest_marker("slow"):
            first = item.path.parent.name in NUMERICS
            item.add_marker("slow_numerics" if first else "slow_programs")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """The first process to start is the last to end, and cleans up."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        shutil.rmtree(COMPILED, ignore_errors=True)


def optimised(on: bool) -> None:
    """From now on programs are compiled as a user's are, or fast."""
    if NOW["optimised"] is not on:
        jax.clear_caches()  # runs of a process share programs, however compiled
        jax.config.update("jax_disable_most_optimizations", not on)
        NOW["optimised"] = on


NOW = {"optimised": True}
optimised(False)


@pytest.fixture(autouse=True)
def as_a_user_has_it(request: pytest.FixtureRequest) -> None:
    """Programs that run a few times are compiled without most optimisations.

    Not those of tests marked `optimised`, nor what runs in a process of its own.
    """
    optimised(request.node.get_closest_marker("optimised") is not None)


@pytest.fixture(autouse=True, scope="module")
def no_plug_in_of_another_file() -> Iterator[None]:
    """What a fixture of a whole file adds is gone after that file."""
    with catalogue.scope():
        yield


@pytest.fixture(autouse=True)
def no_plug_in_of_another() -> Iterator[None]:
    """A model or a method that a test adds is gone after it."""
    with catalogue.scope():
        yield


TESTS = itertools.count(1)


@pytest.fixture(autouse=True)
def few_programs() -> Iterator[None]:
    """Of all tests of a process those that are left fit into its memory maps.

    To count them takes longer than many a test, and ten tests make some thousands.
    """
    yield
    if next(TESTS) % 10 == 0:
        forget_programs(40_000)


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(20170601)


@pytest.fixture
def overlapping(random: np.random.Generator) -> np.ndarray:
    """60 x 2 from three overlapping clusters."""
    means = np.array([[-1.0, 0.0], [1.0, 0.5], [0.0, 1.5]])
    return means[random.integers(3, size=60)] + random.normal(size=(60, 2))


@pytest.fixture
def separated(random: np.random.Generator) -> np.ndarray:
    """90 x 2 from three clusters ten standard deviations apart."""
    means = np.array([[-10.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    return means[np.arange(90) % 3] + random.normal(size=(90, 2))


@pytest.fixture(scope="session")
def stored_run() -> Path:
    """The folder of a run on an array, by an optimiser and a sampler; to be read only.

    The two are held against each other, and one has a label of its own. The worker that
    needs it first makes it for both.
    """
    place = Path(COMPILED) / "stored" / "first"
    if place.is_dir():
        return place
    methods = {"cavi": METHODS["cavi"], "my_gibbs": {"method": "gibbs", "warmup": 50}}
    given = FIELDS | {"reference": "my_gibbs", "repeats": 1, "draws": 500}
    place.parent.mkdir(exist_ok=True)
    own = Path(tempfile.mkdtemp(dir=place.parent))
    vb.run("gaussian", ROWS, methods, **given).save(own, figures=False)
    with suppress(OSError):  # the other worker was faster
        own.rename(place)
    return place


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, to look at pages."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as player:
        found = player.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        yield found
        found.close()
