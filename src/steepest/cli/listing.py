"""`steepest ls`: the runs below a folder, newest first."""

from __future__ import annotations

from pathlib import Path

from ..errors import ArgumentError
from . import folder, screen

DEPTH = 3


def command(place: Path) -> int:
    """Print a row for each run folder at most `DEPTH` levels below `place`; the exit code.

    Raises ArgumentError where `place` is no folder.
    """
    if not place.is_dir():
        raise ArgumentError("DIR", place, "a folder that holds run folders, such as runs")
    rows = sorted((_row(run, place) for run in _runs(place, DEPTH)), key=lambda row: row["began"])
    if not rows:
        screen.say(f"no run below {place}; steepest run SPEC.toml makes one")
        return 0
    screen.runs(rows[::-1])
    return 0


def _runs(place: Path, depth: int) -> list[Path]:
    if (place / folder.MARK).is_file():
        return [place]
    try:
        inner = sorted(p for p in place.iterdir() if p.is_dir() and not p.is_symlink())
    except PermissionError:
        return []
    visible = [p for p in inner if not p.name.startswith(".")]
    return [run for p in visible if depth for run in _runs(p, depth - 1)]


def _row(run: Path, place: Path) -> dict[str, str]:
    name = str(run.relative_to(place)) if run != place else run.resolve().name
    row = dict(run=name, command="", began="", passed="no")
    try:
        written = folder.read_mark(run)
        known, verdict = dict(written["provenance"]), str(written["verdict"])
    except (OSError, KeyError, TypeError, ValueError) as error:
        return row | {"verdict": f"cannot be read: {error}"}
    row["command"] = " ".join(str(known.get("command", "")).split()[1:2])
    row["began"] = str(known.get("began", ""))
    row["passed"] = "yes" if written.get("passed") is True else "no"
    return row | {"verdict": verdict}
