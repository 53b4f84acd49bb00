"""Whether what vi_bench needs is there and works, and what to do where it is not.

Nothing is believed that can be tried: 64 bits are a computation, a folder that can be
written is one that was. What is broken must not keep the rest from being said, so
nothing of JAX is imported here but where that is tried.
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
"""What the extra `cuda` installs, for versions of CUDA."""

DRIVER = Path("/proc/driver/nvidia/version")
"""There where an NVIDIA card can be used."""


@dataclass(frozen=True)
class Problem:
    """Something that does not work.

    Attributes:
        what: it is.
        remedy: what to do.
    """

    what: str
    remedy: str


@dataclass(frozen=True)
class Examination:
    """What was found; docs/cli.md has the keys.

    Attributes:
        problems: what does not work.
        facts: plain values.
    """

    problems: tuple[Problem, ...]
    facts: dict[str, Any]

    @property
    def well(self) -> bool:
        """Whether everything works."""
        return not self.problems

    def record(self) -> dict[str, Any]:
        """As plain values."""
        told = {"well": self.well, "problems": [asdict(p) for p in self.problems]}
        return told | self.facts


Found = tuple[Any, list[Problem]]
"""Facts of one kind, and the problems among them."""


def examine() -> Examination:
    """Try all there is to try."""
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
    """Versions of what is required; each is imported too, unless JAX cannot be."""
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
    """Versions of what is not required; only a version that is too old is a problem."""
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
    """What the package itself says it needs, by itself or for an extra."""
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
    """Whether a package is missing, or of a version that is not fit."""
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
    """Whether a package cannot be imported, by its first module that cannot."""
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
    """Distribution -> modules that it offers."""
    found: dict[str, list[str]] = {}
    for module, distributions in packages_distributions().items():
        for name in distributions:
            if module.isidentifier() and not module.startswith("_"):
                found.setdefault(name, []).append(module)
    return found


def devices() -> Found:
    """What JAX sees, and whether each can compute in 64 bits."""
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
    except Exception:  # what is wrong with the device is told already
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
    """Where compiled programs are kept."""
    try:
        import jax

        from vi_bench.runtime.environment import programs_folder

        enabled = bool(jax.config.jax_enable_compilation_cache)
        folder = programs_folder()
    except Exception:  # that JAX is broken is told already
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
    """File -> bytes; other processes may remove some meanwhile."""
    found = {}
    with suppress(OSError):
        for entry in os.scandir(folder):
            with suppress(OSError):
                found[entry.name] = entry.stat().st_size
    return found


def results() -> Found:
    """Where runs go by default."""
    folder = Path("results").absolute()
    wrong = unwritable(folder)
    found = {"folder": str(folder), "writable": not wrong}
    if not wrong:
        return found, []
    said = f"{str(folder)!r} cannot be written: {wrong}"
    return found, [Problem(said, "work in another folder, or name one with --out")]


def unwritable(folder: Path) -> str:
    """Why a folder cannot be made and written into; empty where it can.

    What was made to try is removed.
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
