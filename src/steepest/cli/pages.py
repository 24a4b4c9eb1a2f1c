"""The page of a run folder and the files that it is made from: written, read again, rebuilt.

All that a page says is in run.json (words and tables), spec.toml, ledger.csv and the pictures,
light beside it and dark in dark/: `steepest report` needs neither the data nor the program.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ArgumentError
from ..report import Record, ledger_csv, paint, render
from . import folder, screen

PAGE, SPEC, LEDGER, DARK = "report.html", "spec.toml", "ledger.csv", "dark"
PNG = b"\x89PNG\r\n\x1a\n"
Images = dict[str, tuple[bytes, bytes]]


def write_page(place: Path, record: Record) -> None:
    """The spec, the ledger, the pictures, the page and, last, the mark that lists all files."""
    images = paint(record)
    if images:
        (place / DARK).mkdir()
    for name, (light, dark) in images.items():
        (place / f"{name}.png").write_bytes(light)
        (place / DARK / f"{name}.png").write_bytes(dark)
    (place / SPEC).write_text(record.spec, encoding="utf-8")
    if record.ledger:
        (place / LEDGER).write_text(ledger_csv(record.ledger), encoding="utf-8")
    (place / PAGE).write_text(render(record, images), encoding="utf-8")
    folder.write_mark(place, record.as_json())


def read_page(place: Path) -> tuple[Record, Images]:
    """The record of a run folder and its pictures; raises ArgumentError where there is none."""
    try:
        said = folder.read_mark(place)
        ledger = _read_ledger(place / LEDGER) if said["ledger"] else {}
        spec = (place / SPEC).read_text(encoding="utf-8")
        record = Record.from_json(said, ledger, spec)
        pictures = (*record.pictures, *record.frames)
        images = {
            p.name: (_read_png(place / f"{p.name}.png"), _read_png(place / DARK / f"{p.name}.png"))
            for p in pictures
        }
    except KeyError as error:
        what = f"a run folder of this version: its {folder.MARK} lacks {error}; run it again"
        raise ArgumentError("RUN", place, what) from None
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ArgumentError("RUN", place, f"a whole run folder: {error}") from None
    return record, images


def _read_ledger(path: Path) -> dict[str, np.ndarray]:
    with open(path, newline="", encoding="utf-8") as file:
        names, *rows = csv.reader(file)
    columns = np.array([[float(cell) for cell in row] for row in rows])
    return dict(zip(names, columns.T, strict=True))


def _read_png(path: Path) -> bytes:
    data = path.read_bytes()
    if not data.startswith(PNG):
        raise ValueError(f"{path.name} is no PNG file")
    return data


def report(runs: Sequence[Path]) -> int:
    """`steepest report`: the pages of run folders, made again from their files; the exit code."""
    for run in runs:
        record, images = read_page(run)
        text, page = render(record, images), run / PAGE
        before = page.read_text(encoding="utf-8") if page.is_file() else None
        scratch = page.with_name(f".{PAGE}.partial")
        try:
            scratch.write_text(text, encoding="utf-8")
            os.replace(scratch, page)
        except OSError as error:
            raise ArgumentError("RUN", run, f"cannot be written: {error.strerror}") from None
        told = "made" if before is None else "unchanged" if before == text else "made again"
        screen.say(f"report: {screen.relative(page)} ({told})")
    return 0


def write_table(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """A CSV file of rows with the same keys."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
