"""External draws: read as ArviZ DataTrees, then converted to samples to compare.

Supported are netCDF files and Zarr folders as ArviZ writes them, and reference draws of
posteriordb. Nothing that is read is ever executed.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from xarray import DataArray, Dataset, DataTree, open_datatree

from vi_bench.comparison import Sample
from vi_bench.comparison.quantities import WEIGHT, Quantity, flatten
from vi_bench.draws import posteriordb
from vi_bench.errors import InputError, unknown

ZARR = ("zarr.json", ".zgroup", ".zmetadata")
"""File names of which every Zarr folder holds at least one."""

HDF5 = b"\x89HDF\r\n\x1a\n"
"""The first bytes of an HDF5 file."""

DRAWS = ("chain", "draw")


def read_draws(path: Path | str) -> DataTree:
    """Read the draws in a file or folder into memory.

    Args:
        path: a .nc file; a Zarr folder; a .json, .json.zip or .zip of posteriordb's
            reference draws; a folder in posteriordb's layout, or any that holds one
            file of draws.

    Raises:
        InputError: it cannot be found or read, or holds no draws.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"draws {str(path)!r}: there is no such file or folder")
    if path.is_dir():
        if any((path / name).exists() for name in ZARR):
            return _read_zarr(path)
        path = _only_file(path)
    if path.suffix in (".json", ".zip"):
        return posteriordb.read(path)
    if path.suffix == ".nc":
        return _read_netcdf(path)
    raise InputError(
        f"draws {str(path)!r}: unknown kind of file; expected .nc, .json, .json.zip, "
        ".zip or a folder"
    )


def _read_zarr(path: Path) -> DataTree:
    if importlib.util.find_spec("zarr") is None:
        raise InputError(
            f"draws {str(path)!r}: a Zarr folder; to read it, install zarr, or give "
            "the draws as .nc"
        )
    return _read_tree(path, engine="zarr", consolidated=False)


def _read_netcdf(path: Path) -> DataTree:
    try:
        with path.open("rb") as stream:
            start = stream.read(len(HDF5))
    except OSError as error:
        raise InputError(
            f"draws {str(path)!r}: cannot be read ({error.strerror})"
        ) from None
    if start != HDF5:
        raise InputError(
            f"draws {str(path)!r}: not an HDF5 file; expected netCDF-4, as ArviZ "
            "writes it"
        )
    return _read_tree(path, engine="netcdf4")


def _read_tree(path: Path, **options: Any) -> DataTree:
    try:
        with open_datatree(path, decode_times=False, **options) as tree:
            if tree.nbytes > posteriordb.MOST_BYTES:
                raise posteriordb.too_large(path)
            tree.load()
    except InputError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"draws {str(path)!r}: cannot be read ({why}); expected a netCDF-4 file or "
            "Zarr folder as ArviZ writes it"
        ) from None
    _posterior(tree, f"draws {str(path)!r}")
    return tree


def _only_file(folder: Path) -> Path:
    """The one file of draws in a folder."""
    for place in posteriordb.PLACES:
        found = sorted(
            p
            for kind in ("*.json", "*.json.zip", "*.nc")
            for p in (folder / place).glob(kind)
            if not p.name.endswith(".info.json")
        )
        if len(found) > 1:
            names = ", ".join(p.name for p in found[:5])
            more = ", ..." if len(found) > 5 else ""
            raise InputError(
                f"draws {str(folder)!r}: holds {len(found)} files of draws; pass one "
                f"of {names}{more}"
            )
        if found:
            return found[0]
    raise InputError(
        f"draws {str(folder)!r}: holds no draws; expected a .json, .json.zip or .nc "
        "file, a Zarr folder, or posteriordb's layout"
    )


def _posterior(tree: DataTree, label: str) -> Dataset:
    """The posterior group, its variables over chain and draw."""
    if "posterior" not in tree.children:
        raise InputError(
            f"{label}: no posterior group; expected an ArviZ DataTree, found the "
            f"groups: {', '.join(tree.children) or 'none'}"
        )
    posterior = tree.children["posterior"].to_dataset()
    if not posterior.data_vars:
        raise InputError(f"{label}: the posterior group holds no variables")
    return _with_chains(posterior, label)


def _with_chains(group: Dataset, label: str) -> Dataset:
    for name, values in group.data_vars.items():
        if "draw" not in values.dims:
            found = ", ".join(map(str, values.dims)) or "none"
            raise InputError(
                f"{label}: {name!r} has the dimensions {found}; expected chain and draw"
            )
    return group if "chain" in group.dims else group.expand_dims("chain")


def sample_of(
    tree: DataTree,
    *,
    component_dim: str | Collection[str] = "component",
    weight: str = WEIGHT,
    variables: Sequence[str] | None = None,
    label: str = "draws",
) -> Sample:
    """The posterior group as a sample; relabelling is left to the comparison.

    Of `sample_stats`, "log_joint" and "diverging" are used. "lp" is not: it may be a
    density of unconstrained parameters, Jacobians included, and up to a constant.

    Args:
        tree: draws, dimensions (chain, draw, ...), or (draw, ...) for one chain.
        component_dim: the dimension of the components; several names where each
            variable has its own. Variables without it are shared by the components.
        weight: the variable that holds the components' weights, if there is one.
        variables: variables to take; by default all of floating point, as integer
            variables such as assignments have no moments.
        label: name of these draws in messages.

    Raises:
        InputError: a variable is missing, has wrong dimensions, or is not finite.
    """
    posterior = _posterior(tree, label)
    own = {component_dim} if isinstance(component_dim, str) else set(component_dim)
    names = _chosen(posterior, variables, label)
    if weight != WEIGHT and weight not in names:
        raise unknown("variable", weight, names, label)
    if weight != WEIGHT and WEIGHT in names:
        raise InputError(
            f"{label}: both {weight!r} and {WEIGHT!r} cannot be the weights"
        )
    _check_components(posterior[names], own, label)
    named = {
        WEIGHT if name == weight else name: _values(posterior[name], own, label)
        for name in names
    }
    if WEIGHT in named:
        _check_weights(*named[WEIGHT], label)
    coordinates = {
        str(dim): posterior[dim].to_numpy().tolist()  # a range without coordinates
        for dim in posterior.dims
    }
    columns, shared = flatten(named, coordinates)
    stats = _statistics(tree, posterior, label)
    diverging = stats.get("diverging")
    return Sample(
        columns,
        shared,
        stats.get("log_joint"),
        0.0 if diverging is None else float(diverging.mean()),
    )


def _chosen(
    posterior: Dataset, variables: Sequence[str] | None, label: str
) -> list[str]:
    known = [str(name) for name in posterior.data_vars]
    if variables is None:
        return [name for name in known if posterior[name].dtype.kind == "f"]
    for name in variables:
        if name not in known:
            raise unknown("variable", name, known, label)
    return list(variables)


def _values(
    variable: DataArray, own: set[str], label: str
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Values (chain, draw, K, ...) or (chain, draw, ...), and the dimensions' names."""
    if variable.dtype.kind not in "fiub":
        raise InputError(
            f"{label}: {variable.name!r} holds {variable.dtype}; expected numbers"
        )
    component = [d for d in variable.dims if d in own]
    rest = [d for d in variable.dims if d not in own and d not in DRAWS]
    if "component" in rest:
        raise InputError(
            f"{label}: 'component' of {variable.name!r} is not said to be the "
            "dimension of the components; rename it"
        )
    values = variable.transpose(*DRAWS, *component, *rest).to_numpy().astype(float)
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        chain, draw = bad[0][:2]
        raise InputError(
            f"{label}: {variable.name!r} is not finite in chain {chain}, draw {draw} "
            "(counted from 0); expected finite draws"
        )
    return values, (*("component" for _ in component), *map(str, rest))


def _check_components(posterior: Dataset, own: set[str], label: str) -> None:
    sizes: dict[str, int] = {}
    for name, values in posterior.data_vars.items():
        found = [str(d) for d in values.dims if d in own]
        if len(found) > 1:
            raise InputError(
                f"{label}: {name!r} has several dimensions of components, "
                f"{', '.join(found)}; expected one"
            )
        sizes |= {str(name): values.sizes[d] for d in found}
    if not sizes:
        dims = ", ".join(str(d) for d in posterior.dims if d not in DRAWS) or "none"
        raise InputError(
            f"{label}: no variable has the dimension {' or '.join(sorted(own))} of the "
            f"components; the dimensions are: {dims}"
        )
    if len(set(sizes.values())) > 1:
        each = ", ".join(f"{name!r} {size}" for name, size in sizes.items())
        raise InputError(
            f"{label}: different numbers of components: {each}; expected one number"
        )


def _check_weights(values: np.ndarray, dims: tuple[str, ...], label: str) -> None:
    if dims != ("component",):
        raise InputError(f"{label}: the weights need one dimension, of the components")
    if values.min() < 0 or np.abs(values.sum(axis=-1) - 1).max() > 1e-4:
        raise InputError(f"{label}: the weights must sum to 1, without any below 0")


def _statistics(
    tree: DataTree, posterior: Dataset, label: str
) -> dict[str, np.ndarray]:
    """`log_joint` and `diverging` of each draw (chain, draw), where they are given."""
    if "sample_stats" not in tree.children:
        return {}
    found = {}
    for name in ("log_joint", "diverging"):
        group = tree.children["sample_stats"].to_dataset()
        if name in group:
            one = _with_chains(group[[name]], f"{label}: sample_stats")
            found[name], _ = _values(one[name], set(), label)
            expected = tuple(posterior.sizes[d] for d in DRAWS)
            if found[name].shape != expected:
                raise InputError(
                    f"{label}: {name!r} has the shape {found[name].shape}; expected "
                    f"{expected}, the posterior's chains and draws"
                )
    return found


def comparable(
    samples: Mapping[str, Sample],
) -> tuple[dict[str, Sample], list[str]]:
    """The samples restricted to the quantities that all have, and the names left out.

    Raises:
        InputError: they have no component's quantity in common, or the numbers of
            components differ.
    """
    has = {label: set(s.columns) | set(s.shared) for label, s in samples.items()}
    common = set.intersection(*has.values())
    if not any(common & set(s.columns) for s in samples.values()):
        each = "; ".join(f"{k}: {', '.join(sorted(v)[:5])}" for k, v in has.items())
        raise InputError(f"no column of components is in all of the draws ({each})")
    first, *others = samples
    for label in others:
        for name in sorted(common):
            one, two = (_shape(samples[k], name) for k in (first, label))
            if one != two:
                raise InputError(
                    f"{name!r} is {one} in {first} and {two} in {label}; expected "
                    "draws of the same mixture"
                )
    kept = {
        label: replace(
            s,
            columns={k: v for k, v in s.columns.items() if k in common},
            shared={k: v for k, v in s.shared.items() if k in common},
        )
        for label, s in samples.items()
    }
    return kept, sorted(set.union(*has.values()) - common)


def _shape(sample: Sample, name: Quantity) -> str:
    if name in sample.columns:
        return f"of {sample.columns[name].shape[-1]} components"
    return "shared by the components"
