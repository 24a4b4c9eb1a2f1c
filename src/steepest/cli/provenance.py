"""What it takes to repeat a run: versions, seed, device, data, command, resolved spec."""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
from datetime import datetime
from pathlib import Path
from typing import Any

import jax
import numpy

from ..__about__ import __version__
from .spec import Spec, to_toml


def provenance(
    spec: Spec, command: list[str], began: datetime, seconds: dict[str, float]
) -> tuple[tuple[str, str], ...]:
    """(label, value) rows."""
    again = "steepest run spec.toml --out again" + (
        " --allow-code" if "--allow-code" in command else ""
    )
    data = getattr(spec.functional[0], "data", None)
    return rows(
        command,
        again,
        began,
        seconds,
        (spec.run.seed, spec.run.precision),
        None if data is None else spec.folder / data,
    )


def rows(
    command: list[str],
    again: str,
    began: datetime,
    seconds: dict[str, float],
    drawn: tuple[int, str],
    data: Path | None,
) -> tuple[tuple[str, str], ...]:
    """The same of any command: `again` repeats it, `drawn` is its seed and precision."""
    device = jax.devices()[0]
    seed, precision = drawn
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
        with open(data, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        found.append((f"sha256 of {data.name}", digest))
    return tuple(found)


def resolved(spec: Spec, place: Path) -> str:
    """The resolved spec as it stands in the folder `place`: its paths are relative to that."""
    tables = spec.tables()
    for section in ("functional", "geometry"):
        given = tables[section]
        for table in given if isinstance(given, list) else [given]:
            move_paths(table, spec.folder, place)
            move_paths(table.get("energy"), spec.folder, place)
    return to_toml(tables)


def move_paths(table: Any, folder: Path, place: Path) -> None:
    """Rewrite what is relative to `folder` in a table as relative to `place`."""
    if not isinstance(table, dict):
        return
    for key in ("data", "folder"):
        if key in table and not os.path.isabs(table[key]):
            table[key] = os.path.relpath(folder / table[key], place)
