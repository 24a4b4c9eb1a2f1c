"""What it takes to repeat a run: versions, seed, device, data, command, resolved spec."""

from __future__ import annotations

import copy
import hashlib
import os
import platform
import shlex
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import jax
import numpy

from ..__about__ import __version__
from .spec import to_toml


def provenance(
    command: list[str],
    again: str,
    began: datetime,
    seconds: dict[str, float],
    *,
    seed: int,
    precision: str,
    data: Path | None,
) -> tuple[tuple[str, str], ...]:
    """(label, value) rows of any command; `again` repeats it from inside its folder."""
    device = jax.devices()[0]
    found = [
        ("command", shlex.join(command)),
        ("or, in the run folder", again),
        ("began", began.strftime("%Y-%m-%d %H:%M:%S UTC")),
        ("seconds", ", ".join(f"{name} {value:.1f}" for name, value in seconds.items())),
        ("seed", str(seed)),
        ("precision", precision),
        ("device", f"{device.device_kind}, {os.cpu_count()} processors"),
        ("steepest", __version__),
        ("jax", jax.__version__),
        ("numpy", numpy.__version__),
        ("python", platform.python_version()),
        ("system", platform.platform()),
    ]
    if data is not None:
        found.append((f"sha256 of {data.name}", _digest(data)))
    return tuple(found)


def _digest(data: Path) -> str:
    """Of a file; of a folder, of the names and digests of its files in order."""
    if data.is_dir():
        whole = hashlib.sha256()
        for path in sorted(p for p in data.rglob("*") if p.is_file()):
            whole.update(f"{path.relative_to(data).as_posix()} {_digest(path)}\n".encode())
        return whole.hexdigest()
    with open(data, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def data_file(tables: dict[str, Any], folder: Path) -> Path | None:
    """The first file of data that a spec names."""
    for table in _each_table(tables):
        if "data" in table:
            return folder / table["data"]
    return None


def resolved(tables: dict[str, Any], folder: Path, place: Path) -> str:
    """A spec as it stands in the folder `place`: paths relative to `folder` become so to that."""
    moved = copy.deepcopy(tables)
    for table in _each_table(moved):
        for key in ("data", "folder"):
            if key in table and not os.path.isabs(table[key]):
                table[key] = os.path.relpath(folder / table[key], place)
    return to_toml(moved)


def _each_table(tables: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The tables of a spec, and the energies inside them."""
    for given in tables.values():
        for table in given if isinstance(given, list) else [given]:
            if isinstance(table, dict):
                yield table
                if isinstance(table.get("energy"), dict):
                    yield table["energy"]
