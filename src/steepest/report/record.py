"""What a report is made from: plain data, no flows and no devices; into JSON and back."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from ..figures.theme import Theme


@dataclasses.dataclass(frozen=True)
class Picture:
    """A figure drawn on demand: `draw(theme)` gives a matplotlib Figure; `wide` fills the page.

    `draw` is None for a picture that was drawn before and is kept in a file.
    """

    name: str
    alt: str
    caption: str
    draw: Callable[[Theme], Any] | None
    wide: bool = False


@dataclasses.dataclass(frozen=True)
class Link:
    """A cell of a sheet that leads to another file of the run folder: a relative `address`."""

    text: str
    address: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*(?:/[a-z0-9][a-z0-9_.-]*)*", self.address):
            raise ValueError(f"not a relative address: {self.address!r}")


@dataclasses.dataclass(frozen=True)
class Sheet:
    """A table of the report: rows are dictionaries with the same keys; text, numbers or links."""

    title: str
    rows: tuple[dict[str, Any], ...]
    caption: str = ""


@dataclasses.dataclass(frozen=True)
class Record:
    """One run.

    `verdict`: "audit passed" or "audit failed". `facts`: (label, value) for the head of the page.
    `row`: the flow in words. `checks`: name, residual, tolerance, verdict, why. `summary`: a row
    for each parameter. `ledger`: columns of equal length. `spec`: the resolved spec as TOML.
    `provenance`: (label, value). `frames`: pictures of the state at successive times, captioned by
    those times. `sheets`: tables before the audit. `said`: a sentence beside the verdict, by
    default how many checks hold. Sections without content are left out.
    """

    title: str
    passed: bool
    verdict: str
    facts: tuple[tuple[str, str], ...]
    pictures: tuple[Picture, ...]
    spec: str
    provenance: tuple[tuple[str, str], ...]
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    row: dict[str, str] = dataclasses.field(default_factory=dict)
    checks: tuple[dict[str, Any], ...] = ()
    summary: tuple[dict[str, Any], ...] = ()
    ledger: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    frames: tuple[Picture, ...] = ()
    sheets: tuple[Sheet, ...] = ()
    said: str = ""
    command: str = "steepest run"

    def as_json(self) -> dict[str, Any]:
        """All but the numbers of the ledger, the images and the spec, for run.json."""
        return {
            "title": self.title,
            "command": self.command,
            "passed": self.passed,
            "verdict": self.verdict,
            "said": self.said,
            "facts": dict(self.facts),
            "notes": list(self.notes),
            "warnings": list(self.warnings),
            "row": self.row,
            "checks": [_plain(check) for check in self.checks],
            "summary": [_plain(row) for row in self.summary],
            "sheets": {
                sheet.title: {"caption": sheet.caption, "rows": [_plain(r) for r in sheet.rows]}
                for sheet in self.sheets
            },
            "pictures": [_described(picture) for picture in self.pictures],
            "frames": [_described(picture) for picture in self.frames],
            "ledger": bool(self.ledger),
            "provenance": dict(self.provenance),
        }

    @classmethod
    def from_json(cls, said: dict[str, Any], ledger: dict[str, np.ndarray], spec: str) -> Record:
        """What `as_json` wrote, with the ledger and the spec read from their own files.

        Raises KeyError, TypeError, ValueError or AttributeError for anything else.
        """
        sheets = said["sheets"].items()
        return cls(
            title=str(said["title"]),
            command=str(said["command"]),
            passed=said["passed"] is True,
            verdict=str(said["verdict"]),
            said=str(said["said"]),
            facts=tuple(said["facts"].items()),
            notes=tuple(map(str, said["notes"])),
            warnings=tuple(map(str, said["warnings"])),
            row=dict(said["row"]),
            checks=tuple(map(_number_again, said["checks"])),
            summary=tuple(map(_number_again, said["summary"])),
            sheets=tuple(
                Sheet(title, tuple(map(_number_again, sheet["rows"])), str(sheet["caption"]))
                for title, sheet in sheets
            ),
            pictures=tuple(map(_undrawn, said["pictures"])),
            frames=tuple(map(_undrawn, said["frames"])),
            ledger=ledger,
            provenance=tuple(said["provenance"].items()),
            spec=spec,
        )


def _described(picture: Picture) -> dict[str, Any]:
    words = {"name": picture.name, "alt": picture.alt, "caption": picture.caption}
    return words | {"wide": picture.wide}


def _undrawn(said: dict[str, Any]) -> Picture:
    name = str(said["name"])
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise ValueError(f"not the name of a picture: {name!r}")
    return Picture(name, str(said["alt"]), str(said["caption"]), None, said["wide"] is True)


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """JSON has no NaN, no infinity and no links: each is an object with one key."""

    def plain(value: Any) -> Any:
        if isinstance(value, Link):
            return {"link": [value.text, value.address]}
        if isinstance(value, float) and not np.isfinite(value):
            return {"float": str(value)}
        return value

    return {key: plain(value) for key, value in values.items()}


def _number_again(values: dict[str, Any]) -> dict[str, Any]:
    """The inverse of `_plain`."""

    def again(value: Any) -> Any:
        match value:
            case {"link": [str(text), str(address)]}:
                return Link(text, address)
            case {"float": str(text)}:
                return float(text)
            case str() | int() | float() | None:
                return value
        raise ValueError(f"not a cell: {value!r}")

    return {key: again(value) for key, value in values.items()}
