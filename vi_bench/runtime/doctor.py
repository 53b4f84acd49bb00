"""Check that what vi_bench needs is installed and works, and suggest remedies.

Everything is tried rather than looked up: 64 bits by a computation, a folder by writing
to it. One fault must not hide the others, so JAX is imported only where it is tried.
"""

from __future__ import annotations

import os
import platform
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.requirements import Requirement

from vi_bench.errors import one_line
from vi_bench.runtime.provenance import LIMITS, cores, processor, version_of

if TYPE_CHECKING:
    import jax

OWN = "vi-bench"

PLUGINS = ("jax-cuda13-plugin", "jax-cuda12-plugin")
"""JAX's CUDA plug-ins; the extra `cuda` installs the first one."""

DRIVER = Path("/proc/driver/nvidia/version")
"""A file that exists where the driver of an NVIDIA card is loaded."""


@dataclass(frozen=True)
class Problem:
    """Something that does not work.

    Attributes:
        what: description of the fault.
        remedy: what to do about it.
    """

    what: str
    remedy: str


@dataclass(frozen=True)
class Examination:
    """The result of all checks; docs/cli.md has the keys.

    Attributes:
        problems: everything that does not work.
        facts: versions, devices and folders, as plain values.
    """

    problems: tuple[Problem, ...]
    facts: dict[str, Any]

    @property
    def well(self) -> bool:
        """Whether everything works."""
        return not self.problems

    def record(self) -> dict[str, Any]:
        """The result as plain values."""
        told = {"well": self.well, "problems": [asdict(p) for p in self.problems]}
        return told | self.facts


Found = tuple[Any, list[Problem]]
"""The facts of one check, and its problems."""


def examine() -> Examination:
    """Run all checks."""
    seen = devices()
    parts: dict[str, Found] = {
        "devices": seen,
        "packages": packages(load=bool(seen[0])),
        "extras": extras(),
        "cache": cache(),
        "results": results(),
    }
    facts: dict[str, Any] = {
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": {
            "model": processor(),
            "cores": cores(),
            "machine_cores": os.cpu_count(),
            "thread_limits": {n: os.environ[n] for n in LIMITS if n in os.environ},
        },
    }
    facts |= {name: found for name, (found, _) in parts.items()}
    return Examination(tuple(p for _, some in parts.values() for p in some), facts)


def packages(load: bool) -> Found:
    """Versions of the required packages; with `load` each one is imported too."""
    own = version_of(OWN)
    found = {OWN: own}
    if own is None:
        return found, [Problem(f"{OWN} is not installed", f"pip install {OWN}")]
    problems = []
    modules = _modules() if load else {}
    for need in _needs(""):
        found[need.name] = version_of(need.name)
        problems += _unmet(need) or _unloadable(need, modules.get(need.name, []))
    found["jaxlib"] = version_of("jaxlib")
    return dict(sorted(found.items())), problems


def extras() -> Found:
    """Versions of optional packages; only a version that does not fit is a problem."""
    found, problems = [], []
    for extra in ("parquet", "zarr", "cluster"):
        for need in _needs(extra):
            there = version_of(need.name)
            found.append({"extra": extra, "package": need.name, "version": there})
            problems += _unmet(need) if there else []
    plugin = next(filter(version_of, PLUGINS), PLUGINS[0])
    found.append({"extra": "cuda", "package": plugin, "version": version_of(plugin)})
    return found, problems


def _needs(extra: str) -> Iterator[Requirement]:
    """Requirements of this package: of an extra, or those always needed ("")."""
    try:
        listed = requires(OWN) or []
    except PackageNotFoundError:
        listed = []
    for need in map(Requirement, listed):
        always = need.marker is None or need.marker.evaluate({"extra": ""})
        asked = need.marker is None or need.marker.evaluate({"extra": extra})
        if asked and (always or extra) and not (always and extra):
            yield need


def _unmet(need: Requirement) -> list[Problem]:
    """The problem, if a package is missing or its version does not fit."""
    there = version_of(need.name)
    wanted = f"{need.name}{need.specifier}"
    if there is None:
        said = f"{need.name} is not installed"
    elif not need.specifier.contains(there, prereleases=True):
        said = f"{need.name} is {there}; {OWN} needs {wanted}"
    else:
        return []
    return [Problem(said, f"pip install '{wanted}'")]


def _unloadable(need: Requirement, modules: Iterable[str]) -> list[Problem]:
    """The problem, if one of a package's modules cannot be imported."""
    for module in modules:
        try:
            with warnings.catch_warnings(action="ignore"):
                import_module(module)
        except Exception as error:
            said = f"{module} cannot be imported: {one_line(error)}"
            again = f"pip install --force-reinstall '{need.name}{need.specifier}'"
            return [Problem(said, again)]
    return []


def _modules() -> dict[str, list[str]]:
    """Distribution -> the top-level modules that it installs."""
    found: dict[str, list[str]] = {}
    for module, distributions in packages_distributions().items():
        for name in distributions:
            if module.isidentifier() and not module.startswith("_"):
                found.setdefault(name, []).append(module)
    return found


def devices() -> Found:
    """The devices that JAX sees, and whether each computes correctly in 64 bits."""
    try:
        import jax

        there = jax.local_devices()
    except Exception as error:
        return [], [Problem(f"JAX finds no device: {one_line(error)}", _freed())]
    found, problems = [], []
    for device in there:
        wrong = _miscomputed(device)
        name = f"{device.platform}: {device.device_kind}"
        found.append({"name": name, "float64": not wrong})
        if wrong:
            problems.append(Problem(f"{name} {wrong}", "use another --device"))
    if any(device.platform == "cpu" for device in there):
        problems += _products()
    idle = DRIVER.exists() and not any(d.platform == "gpu" for d in there)
    if idle and "JAX_PLATFORMS" not in os.environ:
        problems.append(
            Problem(
                "there is an NVIDIA card that JAX does not see",
                "pip install 'vi-bench[cuda]', or set JAX_PLATFORMS=cpu to leave it",
            )
        )
    return found, problems


def _freed() -> str:
    given = os.environ.get("JAX_PLATFORMS")
    return f"unset JAX_PLATFORMS, which is {given!r}" if given else "pip install -U jax"


def _miscomputed(device: jax.Device) -> str:
    """What is wrong with a matrix product in 64 bits; empty where nothing is."""
    try:
        import jax
        import jax.numpy as jnp

        from vi_bench.runtime.environment import computing

        with warnings.catch_warnings(action="ignore"), computing(device, 64):
            ones = jnp.full((8, 8), 1 + 2.0**-40, jnp.float64)
            found = jax.jit(jnp.matmul)(ones, ones)
            off = float(jnp.abs(found / (8 * (1 + 2.0**-40) ** 2) - 1).max())
    except Exception as error:
        return f"cannot compute: {one_line(error)}"
    if found.dtype != "float64" or not off < 2.0**-50:
        return f"does not compute in 64 bits: a product is off by {off:.1g}"
    return ""


def _products() -> list[Problem]:
    try:
        from vi_bench.runtime.environment import products_are_right

        right = products_are_right()
    except Exception:  # `devices` has reported that already
        return []
    if right:
        return []
    return [
        Problem(
            "this jaxlib's CPU programs are wrong (docs/verifying.md)",
            "take the option --xla_cpu_experimental_ynn_fusion_type out of XLA_FLAGS",
        )
    ]


def cache() -> Found:
    """The folder of compiled programs: size, and whether it can be written."""
    try:
        import jax

        from vi_bench.runtime.environment import programs_folder

        enabled = bool(jax.config.jax_enable_compilation_cache)
        folder = programs_folder()
    except Exception:  # `devices` has reported that already
        return None, []
    if "://" in str(folder) or not enabled:
        return {"folder": str(folder), "enabled": enabled}, []
    sizes = _sizes(folder)
    wrong = unwritable(folder)
    found = {
        "folder": str(folder),
        "enabled": enabled,
        "programs": sum(name.endswith("-cache") for name in sizes),
        "bytes": sum(sizes.values()),
        "writable": not wrong,
    }
    if not wrong:
        return found, []
    remedy = "make it a folder of yours, or name one: JAX_COMPILATION_CACHE_DIR=FOLDER"
    said = f"compiled programs are not kept: {str(folder)!r} cannot be written: {wrong}"
    return found, [Problem(said, remedy)]


def _sizes(folder: Path) -> dict[str, int]:
    """File -> size in bytes; other processes may remove files meanwhile."""
    found = {}
    with suppress(OSError):
        for entry in os.scandir(folder):
            with suppress(OSError):
                found[entry.name] = entry.stat().st_size
    return found


def results() -> Found:
    """The default folder of runs, and whether it can be written."""
    folder = Path("results").absolute()
    wrong = unwritable(folder)
    found = {"folder": str(folder), "writable": not wrong}
    if not wrong:
        return found, []
    said = f"{str(folder)!r} cannot be written: {wrong}"
    return found, [Problem(said, "work in another folder, or name one with --out")]


def unwritable(folder: Path) -> str:
    """Why a folder cannot be created and written to; empty if it can.

    Whatever is created for this check is removed again.
    """
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"\n")
    except OSError as error:
        return error.strerror or str(error)
    finally:
        for place in missing:
            with suppress(OSError):
                place.rmdir()
    return ""
