"""Points from a CSV file, as they are: one row a point, one column a coordinate."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .csv_text import MAX_BYTES, TableError, read_text
from .table import Sheet


def read_points(
    path: str | Path,
    columns: Sequence[str] = (),
    *,
    delimiter: str = ",",
    max_bytes: int = MAX_BYTES,
) -> tuple[np.ndarray, tuple[str, ...]]:
    """(points, names): the named columns of a CSV file with a header, all of them if none is named.

    Nothing is rescaled. Raises TableError where a value is missing or is no finite number.
    """
    path = Path(path)
    header, rows, lines = read_text(path, delimiter, max_bytes)
    names = tuple(columns) or tuple(header)
    sheet = Sheet(path.name, header, rows, lines, "refuse")
    sheet.check_columns("columns", names)
    if len(set(names)) < len(names):
        raise TableError(f"{path.name}: columns names one column twice")
    listed = ", ".join(f'"{name}"' for name in names[:3])
    remedy = f"say which columns are coordinates, e.g. columns = [{listed}]"
    found = [sheet.numbers(name, remedy) for name in names]
    points = np.stack(found, axis=1)
    if np.isnan(points).any():
        row, column = np.argwhere(np.isnan(points))[0]
        raise TableError(f"{path.name}, line {lines[row]}, column {names[column]!r}: no value")
    return points, names
