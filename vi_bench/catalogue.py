"""Find models, methods and experiments by name; listing imports nothing heavy."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, Literal

from vi_bench.errors import unknown

PACKAGE = Path(__file__).parent


def _names(folder: Path, suffix: str) -> list[str]:
    files = folder.glob(f"*{suffix}")
    return sorted(f.stem for f in files if not f.stem.startswith("_"))


def models() -> list[str]:
    """Names of the component families: the files in models/."""
    return [name.replace("_", "-") for name in _names(PACKAGE / "models", ".py")]


def methods() -> list[str]:
    """Names of the inference methods: the files in methods/."""
    return [name.replace("_", "-") for name in _names(PACKAGE / "methods", ".py")]


def experiments() -> list[str]:
    """Names of the built-in experiments."""
    return _names(PACKAGE / "experiments", ".toml")


def known(kind: Literal["model", "method"], name: str) -> None:
    """Refuse a name that is not registered, naming the nearest one that is."""
    names = models() if kind == "model" else methods()
    if name not in names:
        raise unknown(kind, name, names)


def model(name: str) -> Any:
    """The family class of a model."""
    known("model", name)
    module = importlib.import_module(f"vi_bench.models.{name.replace('-', '_')}")
    return module.MODEL


def method(name: str) -> Any:
    """The settings class of a method."""
    known("method", name)
    module = importlib.import_module(f"vi_bench.methods.{name.replace('-', '_')}")
    return module.METHOD


def experiment(name: str) -> Path:
    """The file of a built-in experiment."""
    return PACKAGE / "experiments" / f"{name}.toml"
