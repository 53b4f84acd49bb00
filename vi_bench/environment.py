"""Where a run takes place: device, precision, versions; and the compilation cache."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from vi_bench.errors import InputError

PACKAGES = (
    "vi-bench", "jax", "jaxlib", "numpyro", "blackjax", "optax",
    "arviz", "arviz-base", "arviz-stats", "numpy", "scipy", "xarray",
)  # fmt: skip


def find_device(name: str) -> jax.Device:
    """The first device of a kind; "auto" is JAX's own choice.

    Raises:
        InputError: there is none of that kind, and what there is.
    """
    try:
        return jax.local_devices(backend=None if name == "auto" else name)[0]
    except RuntimeError:
        there = ", ".join(sorted({d.platform for d in jax.devices()}))
        raise InputError(
            f"device {name!r} is not here; JAX sees: {there} (for NVIDIA GPUs: "
            "pip install 'vi-bench[cuda]')"
        ) from None


def backend() -> str:
    """Of the device chosen by `jax.default_device`, or of JAX's own choice."""
    device = jax.config.jax_default_device
    return str(getattr(device, "platform", device or jax.default_backend()))


def split_processor(number: int) -> None:
    """Let a CPU be as many devices, if JAX does not have its devices yet."""
    if number > 1:
        with suppress(RuntimeError):
            jax.config.update("jax_num_cpu_devices", number)


def find_mesh(kind: str, number: int) -> Mesh | None:
    """`number` devices of a kind and process along one axis; None for one device.

    Raises:
        InputError: there are not as many, and how many there are.
    """
    number *= jax.process_count()
    if number == 1:
        return None
    found = find_device(kind).platform
    there = jax.devices(found)
    if len(there) < number:
        early = "; a CPU is split only before anything is computed"
        raise InputError(
            f"devices = {number}: JAX sees {len(there)} of kind {found}"
            + (early if found == "cpu" else "")
        )
    return Mesh(np.array(there[:number]), ("rows",))


@contextmanager
def computing(device: jax.Device, precision: int) -> Iterator[None]:
    """Compute on a device in 64 or 32 bits; JAX's settings are restored after."""
    with jax.enable_x64(precision == 64), jax.default_device(device):
        yield


def describe(device: jax.Device, precision: int) -> dict[str, Any]:
    """What the numbers of a run depend on, as plain values."""
    return {
        "device": f"{device.platform}: {device.device_kind}",
        "devices": jax.device_count(),
        "processes": jax.process_count(),
        "precision": precision,
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "jax_default_prng_impl": jax.config.jax_default_prng_impl,
        "jax_threefry_partitionable": bool(jax.config.jax_threefry_partitionable),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "compilation_cache": bool(jax.config.jax_compilation_cache_dir),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def use_compilation_cache() -> None:
    """Keep compiled programs in the user's cache folder, so a second start is quick.

    JAX_COMPILATION_CACHE_DIR, where set, is left to decide.
    """
    import platformdirs

    if not jax.config.jax_compilation_cache_dir:
        folder = Path(platformdirs.user_cache_dir("vi_bench")) / "jax"
        jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
