"""Find models, methods and experiments by name; listing imports nothing heavy.

Apart from those that ship, models and methods come from entry points
(`vi_bench.models`, `vi_bench.methods`) and from folders and files that the user names.
A user's file is run only when its model or method is loaded; its SHA-256 is recorded
with the results.
"""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import importlib
import importlib.util
import sys
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Literal, cast

from vi_bench.errors import InputError, PluginError, unknown

PACKAGE = Path(__file__).parent

Plugin = Literal["model", "method"]
Kind = Plugin | Literal["weights"]

ATTRIBUTE = {"model": "MODEL", "method": "METHOD"}
"""Kind -> the name to which a module of that kind binds its class."""

OFFERS = {
    "model": ("centred", "dims", "statistics", "prior", "update", "log_prior"),
    "method": ("kind", "prepare", "outcome"),
    "own": ("model", "statistics", "init", "sweep", "bound"),
}
"""Kind -> attributes that a class must have to be accepted as one of that kind; "own"
are models that are no families of mixtures, and bring their own CAVI."""

ARGUMENTS = "DATA"
"""The name that a module of such a model binds: its data, name -> dimensions."""

LOADED = "vi_bench_file_"
"""What the names of modules begin with that are loaded by their paths."""

WITHOUT_FILE = ("eight-schools", "pixels", "velocities", "waiting")
"""Built-in data that have no file of their own."""

WEIGHTS = {
    "uniform": "every weight is 1/K",
    "dirichlet": "symmetric Dirichlet; small concentrations leave components empty",
    "stick-breaking": "Dirichlet process by stick-breaking, truncated at K",
}


@dataclass(frozen=True)
class Entry:
    """A model or a method that can be named.

    Attributes:
        name: its name in specs.
        origin: "shipped", "entry point ...", "Python", or the file's name.
        summary: one line on what it is.
        load: imports the module and returns the class.
        sha256: SHA-256 of a file that the user named; else empty.
        own: whether it is a model with its own CAVI, and no family of mixtures.
    """

    name: str
    origin: str
    summary: str
    load: Callable[[], Any]
    sha256: str = ""
    own: bool = False


_added: dict[str, dict[str, Entry]] = {"model": {}, "method": {}}

_files: dict[tuple[Plugin, str], str] = {}
"""(kind, path) -> SHA-256 of each added file."""

_functions: dict[str, Callable[..., Any]] = {}
"""Name -> function that was given in Python."""


@contextmanager
def scope(empty: bool = False) -> Iterator[None]:
    """Forget, on exit, the models and methods that were added inside this context.

    Args:
        empty: begin as if nothing had been added before.
    """
    added = {kind: dict(known) for kind, known in _added.items()}
    before = added, dict(_files), dict(_functions)
    try:
        if empty:
            _restore({kind: {} for kind in _added}, {}, {})
        yield
    finally:
        _restore(*before)


def _restore(
    added: Mapping[str, dict[str, Entry]],
    files: Mapping[tuple[Plugin, str], str],
    functions: Mapping[str, Callable[..., Any]],
) -> None:
    for now, then in ((_added, added), (_files, files), (_functions, functions)):
        now.clear()
        now.update(then)  # type: ignore[arg-type]


def entries(kind: Plugin) -> dict[str, Entry]:
    """All entries of a kind by name: shipped, from entry points, and added.

    Raises:
        InputError: an entry point has the name of a shipped model or method.
    """
    found = _shipped(kind) | _added[kind]
    for name, entry in _installed(kind).items():
        if name in _shipped(kind):
            raise PluginError(
                f"{kind} {name!r}: {entry.origin} has the name of one that ships; "
                "uninstall or rename it"
            )
        found.setdefault(name, entry)
    return dict(sorted(found.items()))


def names(kind: Kind) -> list[str]:
    """The registered names of a kind."""
    if kind == "weights":
        return list(WEIGHTS)
    return list(entries(kind))


def known(kind: Kind, name: str) -> None:
    """Raise InputError for an unregistered name, suggesting the nearest known one."""
    if not isinstance(name, str):
        raise InputError(f"{kind} = {name!r}: expected a name")
    if name not in names(kind):
        raise unknown(kind, name, names(kind))


def model(name: str) -> Any:
    """The family class of a model; InputError if it is unknown."""
    known("model", name)
    return entries("model")[name].load()


def families() -> list[str]:
    """The registered names of families of mixtures."""
    return [name for name, entry in entries("model").items() if not entry.own]


def brings_cavi(name: Any) -> bool:
    """Whether a model is no family of mixtures, and has a coordinate ascent."""
    entry = entries("model").get(name) if isinstance(name, str) else None
    return entry is not None and entry.own


def library() -> list[str]:
    """Names of the models that bring their own coordinate ascent."""
    return [name for name in names("model") if brings_cavi(name)]


def is_numpyro(name: Any) -> bool:
    """Whether a model is no mixture: a NumPyro model whose data are named arrays."""
    return is_function(name) or brings_cavi(name)


def dimensions(own: type) -> dict[str, tuple[str, ...]]:
    """The data of a model with its own CAVI: name -> names of its dimensions."""
    module = sys.modules[own.__module__]
    return dict(getattr(module, ARGUMENTS, {}))


def method(name: str) -> Any:
    """The settings class of a method; InputError if it is unknown."""
    known("method", name)
    return entries("method")[name].load()


def weights(name: str) -> Any:
    """The class of a prior on the weights; InputError if it is unknown."""
    from vi_bench.mixture import weights as module

    known("weights", name)
    return getattr(module, name.title().replace("-", ""))


def registered(kind: Kind, offered: type) -> str:
    """The registered name of a class, which is first registered if it is not yet.

    The new name is that of its module, or of the class where that is taken.

    Raises:
        InputError: another model or method has the new name.
    """
    if kind == "weights":
        return next(n for n in names(kind) if weights(n) is offered)
    for name, entry in entries(kind).items():
        if entry.origin != "shipped" and entry.load() is offered:
            return name
    name = _dashed(offered.__module__.rpartition(".")[2])
    if offered.__module__.startswith(f"vi_bench.{kind}s."):
        return name
    if name == "__main__" or name in names(kind):
        name = _dashed(offered.__name__.lower())
    summary = str(getattr(offered, "summary", ""))
    own = kind == "model" and all(hasattr(offered, n) for n in OFFERS["own"])
    return _add(kind, Entry(name, "Python", summary, lambda: offered, own=own))


def add_folder(folder: Path) -> list[str]:
    """Add every model file of a folder; returns the models' names.

    Raises:
        InputError: it is no folder, has no .py files, or a file cannot be added.
    """
    if not folder.is_dir():
        raise PluginError(f"models {str(folder)!r}: is not a folder")
    files = [f for f in sorted(folder.glob("*.py")) if not f.stem.startswith("_")]
    if not files:
        raise PluginError(f"models {str(folder)!r}: has no .py files")
    return [add_file("model", file) for file in files]


def add_file(kind: Plugin, file: Path) -> str:
    """Add a model or a method by its file; returns its name, the file's stem.

    Raises:
        InputError: the file cannot be read, binds no class, or its name is taken.
    """
    try:
        source = file.read_bytes()
        summary = _summary(source.decode("utf-8"))
    except (OSError, ValueError, SyntaxError) as error:
        raise PluginError(f"{kind} {str(file)!r}: cannot be read: {error}") from None
    if not _binds(source, ATTRIBUTE[kind]):
        raise _without(kind, str(file))
    digest = hashlib.sha256(source).hexdigest()

    def load() -> Any:
        return _offered(kind, _module(file.resolve(), source, digest), str(file))

    own = _is_own(kind, source)
    entry = Entry(_dashed(file.stem), file.name, summary, load, digest, own)
    name = _add(kind, entry)
    _files[kind, str(file.resolve())] = digest
    return name


def files() -> list[tuple[Plugin, str, str]]:
    """(kind, path, SHA-256) of every added file, for other processes to add."""
    return [(kind, path, digest) for (kind, path), digest in _files.items()]


def add_files(wanted: Iterable[tuple[Plugin, str, str]]) -> None:
    """Add the files that another process has added, except those added already.

    Raises:
        InputError: a file is missing, cannot be added, or has changed.
    """
    for kind, path, digest in wanted:
        if _files.get((kind, path)) == digest:
            continue
        try:
            there = hashlib.sha256(Path(path).read_bytes()).hexdigest()
        except OSError as error:
            raise PluginError(f"{kind} {path!r}: {error.strerror}") from None
        if there != digest:
            raise PluginError(f"{kind} {path!r} changed since the sweep was begun")
        add_file(kind, Path(path))


def function(where: str) -> Callable[..., Any]:
    """The function that `path/to/file.py:name` names; the file is run.

    Raises:
        InputError: there is no such file, or it has no function of that name.
    """
    if where in _functions:
        return _functions[where]
    path, name, source = _named(where)
    found = getattr(
        _module(path.resolve(), source, hashlib.sha256(source).hexdigest()), name, None
    )
    if found is None:
        raise InputError(f"{path}: has no function {name!r}")
    if not callable(found):
        raise InputError(f"{path}: {name!r} is no function")
    return cast("Callable[..., Any]", found)


def is_function(name: Any) -> bool:
    """Whether a name is that of a function: in a file, or given in Python."""
    return isinstance(name, str) and (name in _functions or ":" in name)


def known_function(where: str) -> None:
    """Refuse the name of a function that is not there; its file is not run.

    Raises:
        InputError: there is no such file, or it binds no such name.
    """
    if where in _functions:
        return
    path, name, source = _named(where)
    try:
        if _binds(source, name, path.name):
            return
    except SyntaxError as error:
        raise InputError(f"{path}: cannot be loaded: {error}") from None
    raise InputError(f"{path}: has no function {name!r}")


def add_function(given: Callable[..., Any]) -> str:
    """Name a function that is given in Python, as "module:function"."""
    name = f"{given.__module__}:{getattr(given, '__qualname__', 'function')}"
    _functions[name] = given
    return name


def origin_of(where: str) -> tuple[str, str]:
    """The file of a function and its SHA-256; "Python" and nothing if it has none."""
    if where in _functions:
        return "Python", ""
    path, _, source = _named(where)
    return path.name, hashlib.sha256(source).hexdigest()


def _named(where: str) -> tuple[Path, str, bytes]:
    """Path, name and source of path/to/file.py:name."""
    path, _, name = where.rpartition(":")
    if not path.endswith(".py") or not name.isidentifier():
        raise InputError(f"{where!r}: expected path/to/file.py:function")
    try:
        return Path(path), name, Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None


def provenance(named: Iterable[tuple[Plugin, str]]) -> list[dict[str, str]]:
    """Kind, name, origin and SHA-256 of those entries that do not ship."""
    found = []
    for kind, name in named:
        if is_function(name):
            origin, sha256 = origin_of(name)
            found.append(
                {"kind": kind, "name": name, "origin": origin, "sha256": sha256}
            )
        elif (e := entries(kind)[name]).origin != "shipped":
            found.append(
                {"kind": kind, "name": name, "origin": e.origin, "sha256": e.sha256}
            )
    return found


def datasets() -> list[str]:
    """Names of the data sets that ship; they are not read."""
    files = (f.stem for f in (PACKAGE / "datasets").iterdir())
    return sorted({*files, *WITHOUT_FILE})


def references() -> list[str]:
    """Names of the reference posteriors that ship; they are not read."""
    return sorted(f.stem for f in (PACKAGE / "references").glob("*.nc"))


def reference(name: str) -> Path:
    """The file of a reference posterior."""
    return PACKAGE / "references" / f"{name}.nc"


def experiments() -> list[str]:
    """Names of the built-in experiments."""
    return sorted(f.stem for f in (PACKAGE / "experiments").glob("[!_]*.toml"))


def described_experiments() -> list[tuple[str, str]]:
    """Name and first comment of every built-in experiment."""
    found = []
    for name in experiments():
        first = experiment(name).read_text(encoding="utf-8").partition("\n")[0]
        found.append((name, first.removeprefix("# ")))
    return found


@cache
def defaults() -> dict[str, Any]:
    """The default model, weights, methods, reference, margin and verified families."""
    return tomllib.loads(experiment("_defaults").read_text(encoding="utf-8"))


def loaded(kind: Plugin) -> dict[str, Any]:
    """Name -> class of all models or methods, loaded.

    One that does not ship and fails to load is left out.
    """
    found = {}
    for name, entry in entries(kind).items():
        try:
            found[name] = entry.load()
        except Exception:
            if entry.origin == "shipped":
                raise
    return found


def with_role(role: str) -> list[str]:
    """Names of the methods that `reference = "auto"` may take for a role, best first.

    Their classes are loaded, see `loaded`; roles that are no mapping are none.
    """
    found = {}
    for name, method in loaded("method").items():
        roles = getattr(method, "roles", None)
        if isinstance(roles, Mapping) and roles.get(role) is not None:
            found[name] = roles[role]
    return sorted(found, key=lambda name: (found[name], name))


def experiment(name: str) -> Path:
    """The file of a built-in experiment."""
    return PACKAGE / "experiments" / f"{name}.toml"


def _dashed(name: str) -> str:
    return name.replace("_", "-")


def _add(kind: Plugin, entry: Entry) -> str:
    there = entries(kind).get(entry.name)
    if there is not None and (
        there.origin == "shipped" or there.sha256 != entry.sha256
    ):
        raise PluginError(
            f"{kind} {entry.name!r}: {entry.origin} and {there.origin} have the same "
            "name; rename one"
        )
    _added[kind][entry.name] = entry
    return entry.name


@cache
def _shipped(kind: Plugin) -> dict[str, Entry]:
    found = {}
    for file in (PACKAGE / f"{kind}s").glob("*.py"):
        if file.stem.startswith("_"):
            continue
        module = f"vi_bench.{kind}s.{file.stem}"

        def load(module: str = module) -> Any:
            return getattr(importlib.import_module(module), ATTRIBUTE[kind])

        name, source = _dashed(file.stem), file.read_text(encoding="utf-8")
        own = _is_own(kind, source.encode())
        found[name] = Entry(name, "shipped", _summary(source), load, own=own)
    return found


@cache
def _installed(kind: Plugin) -> dict[str, Entry]:
    found: dict[str, Entry] = {}
    for point in entry_points(group=f"vi_bench.{kind}s"):
        package = point.dist.name if point.dist else point.value
        origin = f"entry point of {package}"
        if point.name in found:
            raise PluginError(
                f"{kind} {point.name!r}: {found[point.name].origin} and {origin} have "
                "the same name; uninstall one"
            )
        about = point.dist.metadata["Summary"] if point.dist else ""

        def load(point: Any = point) -> Any:
            return point.load()

        own = _is_own(kind, _source(point.module))
        found[point.name] = Entry(point.name, origin, about or "", load, own=own)
    return found


def _is_own(kind: Plugin, source: bytes) -> bool:
    """Whether a module is a model with its own CAVI; it is parsed, not run."""
    return kind == "model" and _binds(source, ARGUMENTS)


def _source(module: str) -> bytes:
    """The source of a module that is not run; empty if it has none."""
    try:
        found = importlib.util.find_spec(module)
        return Path(str(found and found.origin)).read_bytes()
    except (ImportError, OSError):
        return b""


def _summary(source: str) -> str:
    """The first line of a module's docstring, without running it."""
    lines = (ast.get_docstring(ast.parse(source)) or "").splitlines()
    return lines[0].rstrip(".") if lines else ""


@cache
def _module(file: Path, source: bytes, digest: str) -> Any:
    """A user's file as a module, run once for each content.

    A class that is defined twice is two types, which JAX's tree functions refuse.
    """
    name = f"{LOADED}{file.stem}_{digest[:12]}"
    spec = importlib.util.spec_from_loader(name, loader=None, origin=str(file))
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    module.__file__ = str(file)
    sys.modules[name] = module
    try:
        with _as_script(file):
            exec(compile(source, str(file), "exec"), module.__dict__)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise InputError(
            f"{file.name}: cannot be loaded: {type(error).__name__}: {error}"
        ) from error
    return module


@contextmanager
def _as_script(file: Path) -> Iterator[None]:
    """Run a file as `python FILE` would: its folder comes first, no arguments.

    Afterwards the folder comes last, for what a function imports when it is called. A
    module of another user's folder does not stand in for one of this folder.
    """
    folder = str(file.parent)
    for other in file.parent.glob("*.py"):
        known = getattr(sys.modules.get(other.stem), "__file__", None)
        if known and str(Path(known).parent) in _folders - {folder}:
            del sys.modules[other.stem]
    arguments, sys.argv = sys.argv, [str(file)]
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.argv = arguments
        if folder in sys.path:  # the file may have changed the path
            sys.path.remove(folder)
        if folder not in sys.path:
            sys.path.append(folder)
        _folders.add(folder)


_folders: set[str] = set()
"""Folders of the users' files that were run."""


def _offered(kind: Plugin, module: Any, where: str) -> Any:
    found = getattr(module, ATTRIBUTE[kind], None)
    if not isinstance(found, type):
        raise _without(kind, where)
    named = f"{kind} {where!r}: {ATTRIBUTE[kind]} is {found.__name__}, which"
    if not dataclasses.is_dataclass(found):
        raise PluginError(f"{named} is not a dataclass")
    own = kind == "model" and hasattr(module, ARGUMENTS)
    for name in OFFERS["own" if own else kind]:
        if not hasattr(found, name):
            raise PluginError(f"{named} has no {name!r}, so it is no {kind}")
    return found


def _binds(source: bytes, name: str, where: str = "<unknown>") -> bool:
    """Whether source code may bind a name; it is parsed, not run."""
    for node in ast.walk(ast.parse(source, where)):
        match node:
            case ast.Name(id=found, ctx=ast.Store()):
                pass
            case ast.ClassDef(name=found) | ast.FunctionDef(name=found):
                pass
            case ast.alias(name=first, asname=second):
                found = second or first
            case _:
                continue
        if found in (name, "*"):
            return True
    return False


def _without(kind: Plugin, where: str) -> InputError:
    return PluginError(
        f"{kind} {where!r}: defines no {ATTRIBUTE[kind]}, the {kind}'s class"
    )
