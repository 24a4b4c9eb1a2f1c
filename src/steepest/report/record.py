"""What a report is made from: plain data, no flows and no devices."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from ..figures.theme import Theme


@dataclasses.dataclass(frozen=True)
class Picture:
    """A figure drawn on demand: `draw(theme)` gives a matplotlib Figure; `wide` fills the page."""

    name: str
    alt: str
    caption: str
    draw: Callable[[Theme], Any]
    wide: bool = False


@dataclasses.dataclass(frozen=True)
class Sheet:
    """A table of the report: rows are dictionaries with the same keys, text or numbers."""

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
        """What is not an array or a picture, for run.json."""
        return {
            "title": self.title,
            "passed": self.passed,
            "verdict": self.verdict,
            "facts": dict(self.facts),
            "notes": list(self.notes),
            "warnings": list(self.warnings),
            "row": self.row,
            "checks": [_finite(check) for check in self.checks],
            "summary": [_finite(row) for row in self.summary],
            "sheets": {sheet.title: [_finite(row) for row in sheet.rows] for sheet in self.sheets},
            "provenance": dict(self.provenance),
        }


def _finite(values: dict[str, Any]) -> dict[str, Any]:
    """JSON has no NaN."""
    return {
        key: None if isinstance(value, float) and not np.isfinite(value) else value
        for key, value in values.items()
    }
