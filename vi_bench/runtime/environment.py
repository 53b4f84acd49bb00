"""The environment of a run: device, precision, versions, the compilation cache."""

from __future__ import annotations

import os
import platform
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import cache, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from vi_bench.errors import ScalingError
from vi_bench.runtime.provenance import cores, processor, version_of

PACKAGES = (
    "vi-bench", "jax", "jaxlib", "numpyro", "blackjax", "optax",
    "arviz", "arviz-base", "arviz-stats", "numpy", "scipy", "xarray",
)  # fmt: skip


def find_device(name: str) -> jax.Device:
    """The first device of a kind; "auto" is JAX's default.

    Raises:
        InputError: there is none of that kind; says which kinds there are.
    """
    try:
        return jax.local_devices(backend=None if name == "auto" else name)[0]
    except RuntimeError:
        there = ", ".join(sorted({d.platform for d in jax.devices()}))
        raise ScalingError(
            f"device {name!r} is not here; JAX sees: {there} (for NVIDIA GPUs: "
            "pip install 'vi-bench[cuda]')"
        ) from None


def backend() -> str:
    """Platform, such as "cpu", of the device that JAX computes on by default."""
    device = jax.config.jax_default_device
    return str(getattr(device, "platform", device or jax.default_backend()))


def split_processor(number: int) -> None:
    """Split the CPU into so many devices, if JAX has not initialised it yet."""
    if number > 1:
        with suppress(RuntimeError):
            jax.config.update("jax_num_cpu_devices", number)


def find_mesh(kind: str, number: int) -> Mesh | None:
    """A mesh of `number` devices per process along one axis; None for one device.

    Raises:
        InputError: there are fewer; says how many there are.
    """
    number *= jax.process_count()
    if number == 1:
        return None
    found = find_device(kind).platform
    there = jax.devices(found)
    if len(there) < number:
        early = "; a CPU is split only before anything is computed"
        raise ScalingError(
            f"devices = {number}: JAX sees {len(there)} of kind {found}"
            + (early if found == "cpu" else "")
        )
    return Mesh(np.array(there[:number]), ("rows",))


def forget_programs(most: int = 20_000) -> None:
    """Drop compiled programs once this process has over `most` memory maps.

    Beyond the system's limit, 65,530, JAX's compiler ends in a segmentation fault.
    """
    maps = Path("/proc/self/maps")
    if maps.is_file() and len(maps.read_bytes().splitlines()) > most:
        jax.clear_caches()


@cache
def products_are_right() -> bool:
    """Whether XLA on CPUs multiplies a batch of matrices by a constant one correctly.

    In jaxlib 0.12.0 the result is off by its own size, unless `vi_bench` was imported
    before JAX computed anything: see `xla_flags.avoid_wrong_products`.
    """
    values = np.arange(64 * 9 * 9, dtype=np.float32).reshape(64, 9, 9) % 7

    @jax.jit
    def program(values: jax.Array, number: jax.Array) -> jax.Array:
        return jnp.sum((values @ jnp.full_like(values, number)) * values, axis=-1)

    with jax.default_device(jax.local_devices(backend="cpu")[0]):
        found = np.asarray(program(values, np.float32(2.0)))
    return bool(np.allclose(found, 2.0 * values.sum(axis=-1) ** 2, rtol=1e-4))


@contextmanager
def computing(device: jax.Device, precision: int) -> Iterator[None]:
    """Compute on a device in 64 or 32 bits; JAX's settings are restored on exit.

    Warns if this process's CPU programs are wrong (`products_are_right`).
    """
    if device.platform == "cpu" and not products_are_right():
        warnings.warn(
            "JAX computed something before vi_bench was imported, and this jaxlib's "
            "CPU programs can be wrong: import vi_bench first (docs/verifying)",
            stacklevel=3,
        )
    # a GPU's default precision of products has 10 bits
    with _settings(device, precision == 64, "highest"):
        yield


def settings_here() -> Callable[[], AbstractContextManager[None]]:
    """Makes contexts, for other threads, with the JAX settings of this thread."""
    now = jax.config
    wide, products = now.jax_enable_x64, now.jax_default_matmul_precision
    return partial(_settings, now.jax_default_device, wide, products)


@contextmanager
def _settings(device: Any, wide: bool, products: str | None) -> Iterator[None]:
    """JAX's settings that `computing` makes: device, 64 bits, precision of products."""
    with (
        jax.enable_x64(wide),
        jax.default_device(device),
        jax.default_matmul_precision(products),
    ):
        yield


def describe(device: jax.Device, precision: int) -> dict[str, Any]:
    """Device, versions and settings that a run's numbers depend on, as plain values."""
    return {
        "device": f"{device.platform}: {device.device_kind}",
        "devices": jax.device_count(),
        "processes": jax.process_count(),
        "precision": precision,
        "processor": processor(),
        "cores": cores(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: version_of(name) for name in PACKAGES},
        "jax_default_prng_impl": jax.config.jax_default_prng_impl,
        "jax_threefry_partitionable": bool(jax.config.jax_threefry_partitionable),
        "products_are_right": device.platform != "cpu" or products_are_right(),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "compilation_cache": bool(jax.config.jax_compilation_cache_dir),
    }


def programs_folder() -> Path:
    """The folder of compiled programs: JAX's setting, or in the user's cache folder."""
    import platformdirs

    given = jax.config.jax_compilation_cache_dir
    return Path(given or Path(platformdirs.user_cache_dir("vi_bench")) / "jax")


@contextmanager
def kept_programs() -> Iterator[None]:
    """Keep compiled programs in the user's cache folder, so a second start is quick.

    A folder set for JAX already, as by JAX_COMPILATION_CACHE_DIR, is used instead;
    JAX_ENABLE_COMPILATION_CACHE=false turns all of it off. JAX's settings are restored
    on exit.
    """
    from jax.experimental.compilation_cache.compilation_cache import reset_cache

    settings: dict[str, Any] = {
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    own = not jax.config.jax_compilation_cache_dir
    if own:
        settings["jax_compilation_cache_dir"] = str(programs_folder())
    before = {name: getattr(jax.config, name) for name in settings}
    try:
        for name, value in settings.items():
            jax.config.update(name, value)
        if own:
            reset_cache()  # JAX may have decided already to use no cache
        yield
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
        if own:
            reset_cache()


THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS")
"""Environment variables with which a user sets LAPACK's threads."""


@contextmanager
def one_thread_in_lapack() -> Iterator[None]:
    """Let SciPy's LAPACK, which JAX calls on a CPU, have one thread.

    Its matrices are small here. Threads that wait for each other spin: on a machine
    with other work, two of them took 200 times as long as one over triangular systems
    in 10 unknowns. What the user has set (THREADS) is left as it is.
    """
    if any(os.environ.get(name) for name in THREADS):
        yield
        return
    import scipy.linalg  # noqa: F401 - loads the library that is limited
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, user_api="blas"):
        yield


@contextmanager
def session() -> Iterator[None]:
    """`kept_programs` and `one_thread_in_lapack`."""
    with kept_programs(), one_thread_in_lapack():
        yield
