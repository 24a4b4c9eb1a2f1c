"""A CSV file as numbers: features standardised, a target, and every refusal in words.

Reading executes nothing and is bounded in bytes, rows and columns. What cannot be used is refused
with the column, the line of the file and what would do.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from .csv_text import MAX_BYTES, NUMBER, TableError, read_text, short

MAX_LEVELS = 1_000
MAX_CLASSES = 100
MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "?", "."})
POLICIES = ("refuse", "drop-rows", "mean")
TARGETS = ("binary", "number", "class", "count", "quantity")
MAX_COUNT = 2**24  # the integers that a 32-bit float holds exactly


@dataclasses.dataclass(frozen=True)
class Table:
    """Standardised features and a target.

    `features`: (n, d), each numeric column with mean 0 and standard deviation 1; indicators of
    categorical columns are 0 or 1. `names`: d column names. `target`: (n,), numbers, or the index
    into `classes`. `notes`: what was done to the file, in sentences. `group`: (n,), the index into
    `levels`, of a column that groups the rows. `errors`: (n,), the known standard error of each
    row's target.
    """

    features: np.ndarray
    names: tuple[str, ...]
    target: np.ndarray
    classes: tuple[str, ...]
    notes: tuple[str, ...]
    group: np.ndarray | None = None
    levels: tuple[str, ...] = ()
    errors: np.ndarray | None = None


def read_table(
    path: str | Path,
    target: str,
    *,
    target_kind: str = "binary",
    drop: Sequence[str] = (),
    categorical: Sequence[str] = (),
    group: str | None = None,
    errors: str | None = None,
    missing: str = "refuse",
    delimiter: str = ",",
    max_bytes: int = MAX_BYTES,
) -> Table:
    """Read a CSV file with a header.

    `target_kind`: `"binary"` (two values, text or numbers, sorted: the first is 0), `"number"`
    (standardised), `"class"` (two or more values), `"count"` (0, 1, 2, ...) or `"quantity"` (a
    number in its own units). `drop`: columns to leave out. `categorical`: columns to code as
    indicators against their first level. `group`: a column that groups the rows, `errors`: one of
    known standard errors of the target; neither is a feature, and with a group features are
    optional. `missing`: `"refuse"`, `"drop-rows"`, or `"mean"` (of the numeric column). Raises
    TableError.
    """
    if missing not in POLICIES:
        raise TableError(f"missing: got {missing!r}; one of {', '.join(POLICIES)}")
    if target_kind not in TARGETS:
        raise TableError(f"target_kind: got {target_kind!r}; one of {', '.join(TARGETS)}")
    path = Path(path)
    header, rows, lines = read_text(path, delimiter, max_bytes)
    sheet = Sheet(path.name, header, rows, lines, missing)
    roles = {"group": group, "errors": errors}
    sheet.check_names(target, drop, categorical, roles)
    sheet.check_missing([name for name in header if name not in drop], target)
    notes = list(sheet.notes)
    values, classes, said = sheet.target(target, target_kind)
    notes += said
    columns, names = [], []
    for name in header:
        if name in (target, group, errors, *drop):
            continue
        parts = sheet.indicators(name) if name in categorical else sheet.standardised(name)
        for label, column in parts:
            names.append(label)
            columns.append(column)
    if not columns and group is None:
        raise TableError(f"{path.name}: no feature column is left beside the target {target!r}")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise TableError(
            f"{path.name}: the indicators of a categorical column make the name {twice!r} twice; "
            "rename that column"
        )
    features = np.stack(columns, axis=1) if columns else np.zeros((len(sheet.rows), 0))
    index, levels = (None, ()) if group is None else sheet.groups(group)
    known = None if errors is None else sheet.errors(errors)
    return Table(features, tuple(names), values, classes, tuple(notes), index, levels, known)


@dataclasses.dataclass
class Sheet:
    """Text by column, until every column has become numbers."""

    file: str
    header: list[str]
    rows: list[list[str]]
    lines: list[int]
    missing: str
    notes: list[str] = dataclasses.field(default_factory=list)

    def check_names(
        self,
        target: str,
        drop: Sequence[str],
        categorical: Sequence[str],
        roles: Mapping[str, str | None],
    ) -> None:
        asked = {"target": [target], "drop": drop, "categorical": categorical}
        taken = {role: name for role, name in roles.items() if name is not None}
        for key, names in {**asked, **{role: [name] for role, name in taken.items()}}.items():
            self.check_columns(key, names)
        used = {"target": target}
        for role, name in taken.items():
            for other, column in used.items():
                if name == column:
                    raise TableError(f"{self.file}: {other} and {role} are both {name!r}")
            if name in (*drop, *categorical):
                raise TableError(
                    f"{self.file}: {role} names the column {name!r}, which is also in drop or "
                    "categorical"
                )
            used[role] = name
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
                raise TableError(f"{self._where(row, name)}: {short(text)} {said}; {remedy}")
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
        if kind in ("quantity", "count"):
            raw = self.numbers(name, "this target must be numeric")
            if kind == "count":
                self._check_counts(name, raw)
            return raw, (), [f"target {name}: as in the file"]
        index = self.header.index(name)
        values = [record[index].strip() for record in self.rows]
        levels = _sorted_levels(values, f"{self.file}, target {name!r}")
        if len(levels) < 2:
            raise TableError(
                f"{self.file}, target {name!r}: every row is {short(levels[0])}; two classes are "
                "needed"
            )
        if kind == "binary" and len(levels) > 2:
            raise TableError(
                f"{self.file}, target {name!r}: {len(levels)} different values "
                f"({', '.join(map(short, levels[:4]))}{', ...' if len(levels) > 4 else ''}); a "
                "binary target has two. Try softmax (multinomial) regression for classes, linear "
                "regression for numbers"
            )
        if len(levels) > MAX_CLASSES:
            raise TableError(
                f"{self.file}, target {name!r}: {len(levels):,} different values, the bound for "
                f"classes is {MAX_CLASSES}; for numbers use linear regression"
            )
        code = {level: i for i, level in enumerate(levels)}
        mapping = ", ".join(f"{level} = {i}" for level, i in code.items())
        return np.asarray([code[v] for v in values]), tuple(levels), [f"target {name}: {mapping}"]

    def _check_counts(self, name: str, column: np.ndarray) -> None:
        bad = np.flatnonzero((column < 0) | (column != np.floor(column)) | (column > MAX_COUNT))
        if bad.size:
            text = short(self.rows[bad[0]][self.header.index(name)].strip())
            raise TableError(
                f"{self._where(int(bad[0]), name)}: {text} is no count; "
                f"integers from 0 to {MAX_COUNT:,} are needed"
            )
        if not column.any():
            raise TableError(f"{self.file}, column {name!r}: every count is 0, which says nothing")

    def groups(self, name: str) -> tuple[np.ndarray, tuple[str, ...]]:
        """For each row the index of its group, and the groups, in the order of the file."""
        index = self.header.index(name)
        values = [record[index].strip() for record in self.rows]
        for row, value in enumerate(values):
            if value.lower() in MISSING:
                raise TableError(
                    f'{self._where(row, name)}: the group is missing; say missing = "drop-rows"'
                )
        _sorted_levels(values, f"{self.file}, column {name!r}")
        code = {level: i for i, level in enumerate(dict.fromkeys(values))}
        if len(code) < 2:
            raise TableError(
                f"{self.file}, column {name!r}: one group only, {short(values[0])}; how groups "
                'differ needs two or more. Try kind = "linear", or another column'
            )
        if len(code) > MAX_LEVELS:
            raise TableError(
                f"{self.file}, column {name!r}: {len(code):,} groups, the bound is {MAX_LEVELS:,}"
            )
        return np.asarray([code[value] for value in values]), tuple(code)

    def errors(self, name: str) -> np.ndarray:
        """Known standard errors."""
        column = self.numbers(name, "standard errors are positive numbers")
        bad = np.flatnonzero(~(column > 0))
        if bad.size:
            text = short(self.rows[bad[0]][self.header.index(name)].strip())
            raise TableError(
                f"{self._where(int(bad[0]), name)}: {text}; standard errors are positive numbers"
            )
        return column

    def _where(self, row: int, name: str) -> str:
        return f"{self.file}, line {self.lines[row]}, column {name!r}"


def _sorted_levels(values: list[str], where: str) -> list[str]:
    """Distinct values: as numbers if all are, else as text."""
    levels = sorted(set(values))
    for level in levels:
        if not level.isprintable():
            raise TableError(f"{where}: {short(level)} has control characters")
    if all(NUMBER.fullmatch(level) for level in levels):
        levels.sort(key=float)
    return levels


def _is_float(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _quoted(name: str) -> str:
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _nearest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    listed = ", ".join(repr(k) for k in known[:8])
    return f"it has {listed}{', ...' if len(known) > 8 else ''}"
