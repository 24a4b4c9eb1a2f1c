"""A CSV file as text by rows: bounded in bytes, rows and columns, and every refusal in words."""

from __future__ import annotations

import collections
import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import SteepestError

MAX_BYTES = 512 * 2**20
MAX_CELLS = 20_000_000
MAX_COLUMNS = 10_000
MAX_FIELD = 10_000
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


class TableError(SteepestError, ValueError):
    """A table that cannot be used; the message says where and what would do."""


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
                f"{file}: one column only, named {short(header[0])}; it looks separated by "
                f"{other!r}: say delimiter = {other!r}"
            )
    for name, times in collections.Counter(header).items():
        if times > 1:
            where = [i + 1 for i, other in enumerate(header) if other == name]
            raise TableError(
                f"{file}: columns {', '.join(map(str, where))} share the name {short(name)}; "
                "names must differ"
            )
    for index, name in enumerate(header):
        if not name.isprintable():
            raise TableError(
                f"{file}: the name of column {index + 1}, {short(name)}, has control characters"
            )
    if all(NUMBER.fullmatch(name) for name in header):
        raise TableError(f"{file}: the first line holds numbers; a header of names is needed")


def short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "...")
