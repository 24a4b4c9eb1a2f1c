"""A CSV file as numbers: features standardised, a target, and every refusal in words.

Reading executes nothing and is bounded in bytes, rows and columns. What cannot be used is refused
with the column, the line of the file and what would do.
"""

from __future__ import annotations

import collections
import csv
import dataclasses
import difflib
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import SteepestError

MAX_BYTES = 512 * 2**20
MAX_CELLS = 20_000_000
MAX_COLUMNS = 10_000
MAX_LEVELS = 1_000
MAX_CLASSES = 100
MAX_FIELD = 10_000
MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "?", "."})
POLICIES = ("refuse", "drop-rows", "mean")
TARGETS = ("binary", "number", "class")
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


class TableError(SteepestError, ValueError):
    """A table that cannot be used; the message says where and what would do."""


@dataclasses.dataclass(frozen=True)
class Table:
    """Standardised features and a target.

    `features`: (n, d), each numeric column with mean 0 and standard deviation 1; indicators of
    categorical columns are 0 or 1. `names`: d column names. `target`: (n,), numbers, or the index
    into `classes`. `notes`: what was done to the file, in sentences.
    """

    features: np.ndarray
    names: tuple[str, ...]
    target: np.ndarray
    classes: tuple[str, ...]
    notes: tuple[str, ...]


def read_table(
    path: str | Path,
    target: str,
    *,
    target_kind: str = "binary",
    drop: Sequence[str] = (),
    categorical: Sequence[str] = (),
    missing: str = "refuse",
    delimiter: str = ",",
    max_bytes: int = MAX_BYTES,
) -> Table:
    """Read a CSV file with a header.

    `target_kind`: `"binary"` (two values, text or numbers, sorted: the first is 0), `"number"`
    (standardised) or `"class"` (two or more values). `drop`: columns to leave out. `categorical`:
    columns to code as indicators against their first level. `missing`: `"refuse"`, `"drop-rows"`,
    or `"mean"` (of the numeric column). Raises TableError.
    """
    if missing not in POLICIES:
        raise TableError(f"missing: got {missing!r}; one of {', '.join(POLICIES)}")
    if target_kind not in TARGETS:
        raise TableError(f"target_kind: got {target_kind!r}; one of {', '.join(TARGETS)}")
    path = Path(path)
    header, rows, lines = read_text(path, delimiter, max_bytes)
    sheet = Sheet(path.name, header, rows, lines, missing)
    sheet.check_names(target, drop, categorical)
    sheet.check_missing([name for name in header if name not in drop], target)
    notes = list(sheet.notes)
    values, classes, said = sheet.target(target, target_kind)
    notes += said
    columns, names = [], []
    for name in header:
        if name == target or name in drop:
            continue
        parts = sheet.indicators(name) if name in categorical else sheet.standardised(name)
        for label, column in parts:
            names.append(label)
            columns.append(column)
    if not columns:
        raise TableError(f"{path.name}: no feature column is left beside the target {target!r}")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise TableError(
            f"{path.name}: the indicators of a categorical column make the name {twice!r} twice; "
            "rename that column"
        )
    return Table(np.stack(columns, axis=1), tuple(names), values, classes, tuple(notes))


def read_text(
    path: Path, delimiter: str, max_bytes: int
) -> tuple[list[str], list[list[str]], list[int]]:
    """The header, the rows and the line on which each row ends."""
    try:
        if not path.is_file():
            found = "this is no regular file" if path.exists() else "the file does not exist"
            raise TableError(f"{path}: {found}; paths are relative to the spec's folder")
        size = path.stat().st_size
        if size > max_bytes:
            raise TableError(
                f"{path.name}: {size / 2**20:.0f} MiB, the bound is {max_bytes / 2**20:.0f} MiB; "
                "take a sample of the rows"
            )
        with open(path, encoding="utf-8-sig", newline="") as file:
            records = _records(path.name, csv.reader(file, delimiter=delimiter, strict=True))
            _, header = next(records, (0, None))
            if header is None:
                raise TableError(f"{path.name}: the file is empty; a header and rows are needed")
            header = [name.strip() for name in header]
            _check_header(path.name, header, delimiter)
            rows, lines = [], []
            for line, record in records:
                if len(record) != len(header):
                    raise TableError(
                        f"{path.name}, line {line}: {len(record)} fields, the header has "
                        f"{len(header)}; quote fields that contain {delimiter!r}"
                    )
                rows.append(record)
                lines.append(line)
                if len(rows) * len(header) > MAX_CELLS:
                    raise TableError(
                        f"{path.name}: more than {MAX_CELLS:,} cells; take a sample of the rows"
                    )
    except UnicodeDecodeError as error:
        raise TableError(
            f"{path.name}: byte {error.start} is not UTF-8 text; save the file as CSV in UTF-8"
        ) from None
    except OSError as error:
        raise TableError(f"{path}: cannot be read ({error.strerror})") from None
    if not rows:
        raise TableError(f"{path.name}: a header without rows")
    return header, rows, lines


def _records(name: str, reader: Any) -> Iterator[tuple[int, list[str]]]:
    """(line, fields) of every line that is not blank; csv errors in words."""
    while True:
        try:
            record = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise TableError(f"{name}, line {reader.line_num}: not CSV ({error})") from None
        if not record or (len(record) == 1 and not record[0].strip()):
            continue
        longest = max(len(field) for field in record)
        if longest > MAX_FIELD:
            raise TableError(
                f"{name}, line {reader.line_num}: a field of {longest:,} characters; the bound is "
                f"{MAX_FIELD:,} (is a quotation mark left open?)"
            )
        yield reader.line_num, record


def _check_header(file: str, header: list[str], delimiter: str) -> None:
    if len(header) > MAX_COLUMNS:
        raise TableError(f"{file}: {len(header):,} columns; the bound is {MAX_COLUMNS:,}")
    if len(header) == 1:
        other = next((d for d in ";\t|," if d != delimiter and d in header[0]), None)
        if other is not None:
            raise TableError(
                f"{file}: one column only, named {_short(header[0])}; it looks separated by "
                f"{other!r}: say delimiter = {other!r}"
            )
    for name, times in collections.Counter(header).items():
        if times > 1:
            where = [i + 1 for i, other in enumerate(header) if other == name]
            raise TableError(
                f"{file}: columns {', '.join(map(str, where))} share the name {_short(name)}; "
                "names must differ"
            )
    for index, name in enumerate(header):
        if not name.isprintable():
            raise TableError(
                f"{file}: the name of column {index + 1}, {_short(name)}, has control characters"
            )
    if all(NUMBER.fullmatch(name) for name in header):
        raise TableError(f"{file}: the first line holds numbers; a header of names is needed")


@dataclasses.dataclass
class Sheet:
    """Text by column, until every column has become numbers."""

    file: str
    header: list[str]
    rows: list[list[str]]
    lines: list[int]
    missing: str
    notes: list[str] = dataclasses.field(default_factory=list)

    def check_names(self, target: str, drop: Sequence[str], categorical: Sequence[str]) -> None:
        asked = {"target": [target], "drop": drop, "categorical": categorical}
        for key, names in asked.items():
            self.check_columns(key, names)
        for name in {target, *categorical} & set(drop):
            raise TableError(f"{self.file}: the column {name!r} is dropped and used at once")
        if target in categorical:
            raise TableError(f"{self.file}: the target {target!r} cannot be categorical as well")
        for index, name in enumerate(self.header):
            if not name and name not in drop:
                raise TableError(
                    f'{self.file}: column {index + 1} has no name; name it, or drop = [""]'
                )

    def check_columns(self, key: str, names: Sequence[str]) -> None:
        """Raises TableError for a name that is no column."""
        for name in names:
            if name not in self.header:
                raise TableError(
                    f"{self.file}: {key} names the column {name!r}, which the file lacks; "
                    f"{_nearest(name, self.header)}"
                )

    def check_missing(self, used: list[str], target: str) -> None:
        """Apply the policy: refuse, drop rows, or leave numeric gaps to their mean."""
        index = [self.header.index(name) for name in used]
        gaps = [
            (row, i)
            for row, record in enumerate(self.rows)
            for i in index
            if record[i].strip().lower() in MISSING
        ]
        if not gaps:
            return
        if self.missing == "refuse":
            row, i = gaps[0]
            counted = len({g for g, _ in gaps})
            raise TableError(
                f"{self._where(row, self.header[i])}: the value is missing "
                f"({counted} of {len(self.rows)} rows have gaps); "
                'say missing = "drop-rows" or missing = "mean", or drop the column'
            )
        if self.missing == "mean":
            for row, i in gaps:
                if self.header[i] == target:
                    raise TableError(
                        f"{self._where(row, target)}: the target is missing, which a mean cannot "
                        'replace; say missing = "drop-rows"'
                    )
            self.notes.append(f"{len(gaps)} missing values replaced by the mean of their column")
            return
        gone = {row for row, _ in gaps}
        self.notes.append(f"{len(gone)} of {len(self.rows)} rows dropped for missing values")
        self.rows = [r for i, r in enumerate(self.rows) if i not in gone]
        self.lines = [r for i, r in enumerate(self.lines) if i not in gone]
        if not self.rows:
            raise TableError(f"{self.file}: every row has a missing value; drop the columns")

    def numbers(self, name: str, remedy: str) -> np.ndarray:
        """The column as floats, NaN where missing."""
        index = self.header.index(name)
        out = np.empty(len(self.rows))
        for row, record in enumerate(self.rows):
            text = record[index].strip()
            if text.lower() in MISSING:
                out[row] = math.nan
                continue
            if not NUMBER.fullmatch(text) or not math.isfinite(float(text)):
                said = "is not a finite number" if _is_float(text) else "is not a number"
                raise TableError(f"{self._where(row, name)}: {_short(text)} {said}; {remedy}")
            out[row] = float(text)
        return out

    def standardised(self, name: str) -> list[tuple[str, np.ndarray]]:
        column = self.numbers(
            name,
            f"drop = [{_quoted(name)}] leaves it out, categorical = [{_quoted(name)}] codes it",
        )
        known = column[~np.isnan(column)]
        if not known.size:
            raise TableError(f"{self.file}, column {name!r}: every value is missing; drop it")
        column = np.where(np.isnan(column), known.mean(), column)
        return [(name, self._scaled(name, column)[0])]

    def _scaled(self, name: str, column: np.ndarray) -> tuple[np.ndarray, float, float]:
        # Dividing first keeps 1e200 and 1e-200 from overflowing in the square.
        size = float(np.max(np.abs(column))) or 1.0
        unit = column / size
        centre, spread = float(unit.mean()), float(unit.std())
        if not spread > 1e-12:
            raise TableError(
                f"{self.file}, column {name!r}: constant at {column[0]:g}, so it says nothing; "
                f"drop = [{_quoted(name)}]"
            )
        return (unit - centre) / spread, centre * size, spread * size

    def indicators(self, name: str) -> list[tuple[str, np.ndarray]]:
        index = self.header.index(name)
        values = [record[index].strip() for record in self.rows]
        for row, value in enumerate(values):
            if value.lower() in MISSING:
                raise TableError(
                    f"{self._where(row, name)}: a category is missing, which a mean cannot "
                    'replace; say missing = "drop-rows"'
                )
        levels = _sorted_levels(values, f"{self.file}, column {name!r}")
        if len(levels) < 2:
            raise TableError(f"{self.file}, column {name!r}: one level only; drop it")
        if len(levels) > MAX_LEVELS:
            raise TableError(
                f"{self.file}, column {name!r}: {len(levels):,} levels, the bound is "
                f"{MAX_LEVELS:,}; is it an identifier? drop = [{_quoted(name)}]"
            )
        self.notes.append(f"{name}: indicators against {levels[0]!r}")
        column = np.asarray(values)
        return [(f"{name}={level}", (column == level).astype(float)) for level in levels[1:]]

    def target(self, name: str, kind: str) -> tuple[np.ndarray, tuple[str, ...], list[str]]:
        if kind == "number":
            raw = self.numbers(name, "this target must be numeric")
            scaled, centre, spread = self._scaled(name, raw)
            said = f"target {name} standardised: mean {centre:.6g}, standard deviation {spread:.6g}"
            return scaled, (), [said]
        index = self.header.index(name)
        values = [record[index].strip() for record in self.rows]
        levels = _sorted_levels(values, f"{self.file}, target {name!r}")
        if len(levels) < 2:
            raise TableError(
                f"{self.file}, target {name!r}: every row is {_short(levels[0])}; two classes are "
                "needed"
            )
        if kind == "binary" and len(levels) > 2:
            raise TableError(
                f"{self.file}, target {name!r}: {len(levels)} different values "
                f"({', '.join(map(_short, levels[:4]))}{', ...' if len(levels) > 4 else ''}); a "
                'binary target has two. Try "softmax-regression" for classes, '
                '"linear-regression" for numbers'
            )
        if len(levels) > MAX_CLASSES:
            raise TableError(
                f"{self.file}, target {name!r}: {len(levels):,} different values, the bound for "
                f'classes is {MAX_CLASSES}; for numbers use "linear-regression"'
            )
        code = {level: i for i, level in enumerate(levels)}
        mapping = ", ".join(f"{level} = {i}" for level, i in code.items())
        return np.asarray([code[v] for v in values]), tuple(levels), [f"target {name}: {mapping}"]

    def _where(self, row: int, name: str) -> str:
        return f"{self.file}, line {self.lines[row]}, column {name!r}"


def _sorted_levels(values: list[str], where: str) -> list[str]:
    """Distinct values: as numbers if all are, else as text."""
    levels = sorted(set(values))
    for level in levels:
        if not level.isprintable():
            raise TableError(f"{where}: {_short(level)} has control characters")
    if all(NUMBER.fullmatch(level) for level in levels):
        levels.sort(key=float)
    return levels


def _is_float(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "...")


def _quoted(name: str) -> str:
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _nearest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    listed = ", ".join(repr(k) for k in known[:8])
    return f"it has {listed}{', ...' if len(known) > 8 else ''}"
