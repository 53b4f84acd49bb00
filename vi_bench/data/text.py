"""Read rows of numbers from text, as spreadsheets and other programs write them.

Separators, decimal commas, comments, a line of names and a column that numbers the rows
are recognised where only one reading makes sense, and said in the table's note. Else
one line names the option that decides.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vi_bench.data.table import Table, from_array
from vi_bench.errors import SpecError, unknown

SEPARATORS = {"comma": ",", "semicolon": ";", "tab": "\t", "space": " "}
"""Name of a separator -> the character; any run of blanks is one space."""

WHOLE = re.compile(r"[+-]?\d+")

MISSING = {"", "na", "n/a", "nan", "null", "none", "?", "-", "."}
"""What stands for a missing value, in lower case; no name of a column."""

DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+(?:[eE][+-]?\d+)?")


@dataclass(frozen=True)
class Layout:
    """How a text file of rows is laid out; None where the file shows it.

    Attributes:
        separator: what stands between cells, a key of SEPARATORS.
        header: whether the first line holds names.
        index: whether the first column numbers or names the rows, and is left out.
        labels: name of a column of known labels, which is left out.
    """

    separator: str | None = None
    header: bool | None = None
    index: bool | None = None
    labels: str | None = None


@dataclass
class _Sheet:
    """Cells of a file, with the number of each line, and what was recognised."""

    path: Path
    lines: list[tuple[int, list[str]]]
    said: list[str] = field(default_factory=list)
    names: list[str] | None = None
    commas: bool = True
    first_column: int = 1

    def wrong(self, what: str) -> SpecError:
        return SpecError(f"data {str(self.path)!r}: {what}")

    def drop(self, column: int) -> list[str]:
        """Take a column out of all lines; its cells."""
        if self.names is not None:
            del self.names[column]
        return [cells.pop(column) for _, cells in self.lines]


def read_text(path: Path, layout: Layout | None = None) -> Table:
    """Read a table of numbers from text.

    Args:
        path: a UTF-8 file, with or without a byte-order mark.
        layout: what the user says of it.

    Raises:
        InputError: the file cannot be read, is no table of finite numbers, or can be
            read in two ways.
    """
    layout = layout or Layout()
    if layout.separator is not None and layout.separator not in SEPARATORS:
        raise unknown("separator", layout.separator, SEPARATORS, error=SpecError)
    sheet = _sheet(path, layout)
    _take_names(sheet, layout)
    width = len(sheet.names) if sheet.names is not None else None
    _check_widths(sheet, width)
    _take_index(sheet, layout)
    truth = _take_labels(sheet, layout)
    if not sheet.lines:
        raise sheet.wrong("is empty, expected rows of numbers")
    if not sheet.lines[0][1]:
        raise sheet.wrong("has no column of numbers")
    _check_numbers(sheet)
    values = np.array([[float(cell) for cell in cells] for _, cells in sheet.lines])
    lines, first = sheet.lines, sheet.first_column
    return from_array(
        values,
        path.name,
        sheet.names,
        lambda row, column: f"line {lines[row][0]}, column {column + first}",
        note="; ".join(sheet.said),
        truth=truth,
    )


def read_columns(
    path: Path, layout: Layout | None = None
) -> tuple[dict[str, np.ndarray], dict[str, str], str]:
    """Read the columns of a text file that hold finite numbers alone.

    Returns:
        Name -> column; name -> why a column is none of them; and a note.

    Raises:
        InputError: the file cannot be read, or can be read in two ways.
    """
    layout = layout or Layout()
    sheet = _sheet(path, layout)
    _take_names(sheet, layout)
    _check_widths(sheet, len(sheet.names) if sheet.names is not None else None)
    _take_index(sheet, layout)
    if not sheet.lines:
        raise sheet.wrong("is empty, expected rows of numbers")
    names = sheet.names or [f"x{i}" for i in range(len(sheet.lines[0][1]))]
    columns, unfit = {}, {}
    for i, name in enumerate(names):
        bad = next(
            (
                f"{cells[i]!r} at line {number}"
                for number, cells in sheet.lines
                if not (is_number(cells[i]) and np.isfinite(float(cells[i])))
            ),
            None,
        )
        if bad is None:
            columns[name] = np.array([float(cells[i]) for _, cells in sheet.lines])
        else:
            unfit[name] = f"{bad} is no finite number"
    return columns, unfit, "; ".join(sheet.said)


def _sheet(path: Path, layout: Layout) -> _Sheet:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise SpecError(f"data {str(path)!r}: is not UTF-8 text") from None
    except OSError as error:
        raise SpecError(
            f"data {str(path)!r}: cannot be read: {error.strerror}"
        ) from None
    sheet = _Sheet(path, [])
    numbered = [(i, s) for i, s in enumerate(text.splitlines(), 1) if s.strip()]
    comments = [line for line in numbered if line[1].lstrip().startswith("#")]
    if comments:
        sheet.said.append(f"{_lines(comments)} beginning with # left out")
        left_out = {number for number, _ in comments}
        numbered = [line for line in numbered if line[0] not in left_out]
    if not numbered:
        raise sheet.wrong("is empty, expected rows of numbers")
    named = re.fullmatch(r"sep=(.)", numbered[0][1].strip())  # as Excel writes it
    if named is not None and named[1] in SEPARATORS.values():
        del numbered[0]
        name = next(k for k, v in SEPARATORS.items() if v == named[1])
    else:
        name = layout.separator or _separator(numbered, sheet)
    sheet.commas = name == "comma"
    if name != "comma":
        sheet.said.append(f"cells separated by {name}s")
    sheet.lines = [(i, _cells(s, SEPARATORS[name], i, sheet)) for i, s in numbered]
    _drop_trailing(sheet)
    if name != "comma":
        _point_for_comma(sheet)
    return sheet


def _drop_trailing(sheet: _Sheet) -> None:
    """Leave out an empty last column, which lines that end in a separator have."""
    if all(len(cells) > 1 and not cells[-1] for _, cells in sheet.lines):
        for _, cells in sheet.lines:
            cells.pop()
        sheet.said.append("empty last column left out")


def _lines(found: Sequence[object]) -> str:
    return "1 line" if len(found) == 1 else f"{len(found)} lines"


def _cells(line: str, separator: str, number: int, sheet: _Sheet) -> list[str]:
    if separator == " ":
        line = " ".join(line.split())
    try:
        (cells,) = csv.reader([line], delimiter=separator, skipinitialspace=True)
    except (csv.Error, ValueError) as error:
        raise sheet.wrong(f"line {number}: {error}") from None
    return [cell.strip() for cell in cells]


def _separator(lines: Sequence[tuple[int, str]], sheet: _Sheet) -> str:
    """The separator that leaves numbers in the cells, as many in every line."""
    sample = lines[:200]
    scores: dict[str, float] = {}
    for name, character in SEPARATORS.items():
        rows = [_cells(line, character, i, sheet) for i, line in sample]
        widths = {len(row) for row in rows}
        # R writes no name for the column that numbers the rows
        named_short = len(rows) > 1 and len(rows[0]) == len(rows[1]) - 1
        if named_short and name != "comma":
            widths = {len(row) for row in rows[1:]}
        if len(widths) != 1 or widths == {1}:
            continue
        cells = [cell for row in rows[1:] or rows for cell in row]
        good = [
            is_number(c) or (name != "comma" and bool(DECIMAL_COMMA.fullmatch(c)))
            for c in cells
        ]
        scores[name] = sum(good) / len(good)
    best = [name for name, score in scores.items() if score == max(scores.values())]
    if len(best) > 1 and "space" in best:  # also behind others
        best.remove("space")
    if len(best) > 1:
        raise sheet.wrong(
            f"cells could be separated by {' or '.join(best)}; give --separator"
        )
    if best:
        return best[0]
    # one column, or lines of different lengths, which are told where they are read
    for name in ("comma", "semicolon", "tab"):
        if any(SEPARATORS[name] in line for _, line in sample):
            return name
    return "space" if any(len(line.split()) > 1 for _, line in sample[1:]) else "comma"


def _point_for_comma(sheet: _Sheet) -> None:
    """Write decimal commas as points, where a cell has one."""
    changed = pointed = ""  # the first cell of each kind
    for _, cells in sheet.lines:
        for column, cell in enumerate(cells):
            if DECIMAL_COMMA.fullmatch(cell):
                changed = changed or cell
                cells[column] = cell.replace(",", ".")
            elif "." in cell and is_number(cell):
                pointed = pointed or cell
    if changed and pointed:
        raise sheet.wrong(
            f"has decimal points, as in {pointed!r}, and commas, as in "
            f"{changed!r}; expected one decimal mark, and none between thousands"
        )
    if changed:
        sheet.said.append("decimal commas read as points")


def _take_names(sheet: _Sheet, layout: Layout) -> None:
    """Take the line of names out of the sheet, if there is one."""
    first = sheet.lines[0][1]
    second = sheet.lines[1][1] if len(sheet.lines) > 1 else []
    header = _has_names(sheet) if layout.header is None else layout.header
    if not header:
        return
    del sheet.lines[0]
    # R writes no name for the column that numbers the rows, and blanks between cells
    if not sheet.commas and second and len(second) == len(first) + 1:
        first = ["", *first]
    sheet.names = first


def _has_names(sheet: _Sheet) -> bool:
    """Whether the first line holds names; refused where that is not clear."""
    number, first = sheet.lines[0]
    below = [cells for _, cells in sheet.lines[1:]]
    texts = [not is_number(cell) for cell in first]
    rest = first[1:] if first[0] == "" else first
    missing = any(cell.lower() in MISSING for cell in rest)
    if below and [not is_number(cell) for cell in below[0]] == texts and not all(texts):
        # cells of the same kinds: a row, unless its numbers only count columns
        counts = len(first) > 1 and _counts(first)
        if not any(texts) and (counts or _whole_above_fractions(first, below)):
            raise _unclear(sheet, number, first)
        return False
    if all(not is_number(cell) for cell in rest) and not missing:
        return True
    if first[0] == "" and _counts(rest):
        return True
    if not any(texts):
        return False
    raise _unclear(sheet, number, first)


def _whole_above_fractions(first: Sequence[str], below: Sequence[list[str]]) -> bool:
    """Whether whole numbers stand above numbers with a point alone, as years may."""
    whole = all(WHOLE.fullmatch(cell) for cell in first)
    return whole and all("." in cell for row in below for cell in row)


def _unclear(sheet: _Sheet, number: int, first: Sequence[str]) -> SpecError:
    shown = ", ".join(cell or "(empty)" for cell in first[:4])
    more = ", ..." if len(first) > 4 else ""
    return sheet.wrong(
        f"line {number}, {shown}{more}, may be names or a row: give --header or "
        "--no-header"
    )


def _counts(cells: Sequence[str]) -> bool:
    """Whether cells are 0, 1, 2, ..., as a table without names is written."""
    return list(cells) == [str(i) for i in range(len(cells))]


def _check_widths(sheet: _Sheet, width: int | None) -> None:
    for number, cells in sheet.lines:
        width = len(cells) if width is None else width
        if len(cells) != width:
            raise sheet.wrong(f"line {number} has {len(cells)} cells, expected {width}")


def _take_index(sheet: _Sheet, layout: Layout) -> None:
    """Leave out a first column that numbers or names the rows."""
    names = sheet.names
    index = layout.index
    if index is None:
        index = names is not None and names[:1] == [""]
    if index and sheet.lines:
        if len(sheet.lines[0][1]) < 2:
            raise sheet.wrong("has one column, which cannot be left out as the index")
        called = f" {names[0]!r}" if names and names[0] else ""
        sheet.drop(0)
        sheet.first_column = 2
        sheet.said.append(f"first column{called} left out as the index of the rows")
    elif names is not None and names[:1] == [""]:
        names[0] = "column 1"
    if sheet.names is None:
        return
    if "" in sheet.names:
        at = sheet.names.index("") + sheet.first_column
        raise sheet.wrong(f"column {at} has no name; name it, or give --no-header")
    twice = {name for name in sheet.names if sheet.names.count(name) > 1}
    if twice:
        raise sheet.wrong(f"column {min(twice)!r} occurs twice")


def _take_labels(sheet: _Sheet, layout: Layout) -> dict[str, np.ndarray]:
    """Take a column of known labels out of the sheet; their codes, as `truth`."""
    if layout.labels is None:
        return {}
    names = sheet.names or [f"x{i}" for i in range(len(sheet.lines[0][1]))]
    if layout.labels not in names:
        raise unknown("column", layout.labels, names, "--labels", error=SpecError)
    found = sheet.drop(names.index(layout.labels))
    for (number, _), label in zip(sheet.lines, found, strict=True):
        if not label:
            raise sheet.wrong(f"no label at line {number}, column {layout.labels!r}")
    sheet.said.append(f"column {layout.labels!r} left out as known labels")
    _, codes = np.unique(found, return_inverse=True)
    return {"labels": codes}


def _check_numbers(sheet: _Sheet) -> None:
    for number, cells in sheet.lines:
        for column, cell in enumerate(cells):
            if is_number(cell):
                continue
            place = f"line {number}, column {column + sheet.first_column}"
            told = f"{cell!r} at {place} is not a number"
            texts = sum(not is_number(c[column]) for _, c in sheet.lines)
            if texts < len(sheet.lines):
                raise sheet.wrong(told)
            named = sheet.names[column] if sheet.names else f"x{column}"
            ways = [f"leave the column out as known labels: --labels {named!r}"]
            if sheet.names is None:
                ways.append(f"if line {number} holds names: --header")
            if column == 0 and sheet.first_column == 1:
                ways.append("as the index of the rows: --index")
            raise sheet.wrong(f"{told}; {', or '.join(ways)}")


def is_number(cell: str) -> bool:
    """Whether a cell is one plain number."""
    # float() also accepts 1_000, and digits of other scripts
    if "_" in cell or not cell.isascii():
        return False
    try:
        float(cell)
    except ValueError:
        return False
    return True
