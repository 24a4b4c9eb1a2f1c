"""The ratio goals: what was asked of which contenders, held against the records.

A ratio is that of the medians of both contenders' ratios to the first contender of their table,
which are taken round by round. Goals on tables that are no paired timings read their cells.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any


class Records:
    """The records of one device, looked up by benchmark and case."""

    def __init__(self, found: list[dict[str, Any]]):
        self.found = {(r["benchmark"], r["case"]): r for r in found}

    def ratio(self, benchmark: str, case: str, contender: str) -> float | None:
        """To the first contender of the case; None if that was not measured."""
        rows = self.found.get((benchmark, case), {"rows": []})["rows"]
        return next((row["ratio"] for row in rows if row["contender"] == contender), None)

    def seconds(self, benchmark: str, case: str, contender: str) -> float | None:
        rows = self.found.get((benchmark, case), {"rows": []})["rows"]
        return next((row["seconds"] for row in rows if row["contender"] == contender), None)

    def cells(self, benchmark: str, case: str | None) -> list[dict[str, str]]:
        """The rows of all Markdown tables that a part printed, by the words of their heads."""
        found: list[dict[str, str]] = []
        head: list[str] | None = None
        output = "\n".join(self.found.get((benchmark, case), {"output": []})["output"])
        for line in output.splitlines():
            cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
            if not line.startswith("|"):
                head = None
            elif head is None:
                head = cells
            elif not set(line) <= set("|-: "):
                found.append(dict(zip(head, cells, strict=False)))
        return found


@dataclasses.dataclass(frozen=True)
class Goal:
    """`measure(records)` is at most, or at least, a bound; None where it was not measured."""

    name: str
    measure: Callable[[Records], float | None]
    most: float | None = None
    least: float | None = None

    @property
    def asked(self) -> str:
        return f"<= {self.most:g}" if self.most is not None else f">= {self.least:g}"


def verdict(goal: Goal, found: Records) -> tuple[float | None, str]:
    """(measured, "held" | "missed" | "not measured")."""
    value = goal.measure(found)
    if value is None:
        return None, "not measured"
    good = value <= goal.most if goal.most is not None else value >= (goal.least or 0.0)
    return value, "held" if good else "missed"


def quotient(benchmark: str, case: str, over: str, under: str) -> Callable[[Records], float | None]:
    """The time of `over` by that of `under`; None where one of them is missing."""

    def measure(found: Records) -> float | None:
        a, b = (found.ratio(benchmark, case, name) for name in (over, under))
        return None if a is None or b is None else a / b

    return measure


def best(benchmark: str, case: str, over: tuple[str, ...], under: tuple[str, ...]):
    """The fastest of `over` by the fastest of `under`, among those that ran."""

    def measure(found: Records) -> float | None:
        sides = [[found.ratio(benchmark, case, name) for name in side] for side in (over, under)]
        a, b = (min((x for x in side if x is not None), default=None) for side in sides)
        return None if a is None or b is None else a / b

    return measure


def scaling(benchmark: str, small: str, large: str, contender: str, factor: float):
    """Seconds of the large case by seconds of the small one, for `factor` times the work."""

    def measure(found: Records) -> float | None:
        a, b = (found.seconds(benchmark, case, contender) for case in (large, small))
        return None if a is None or b is None else a / b / factor

    return measure


def _sampling() -> list[Goal]:
    limit, saves, steps = (
        "hand-written limit",
        "steepest, ledger at saves",
        "steepest, ledger at every step",
    )
    goals = []
    for case in ("langevin d=2", "langevin d=100", "baoab d=2", "baoab d=100"):
        take = lambda over, under, case=case: quotient("sampling", case, over, under)  # noqa: E731
        goals += [
            Goal(f"2.4 {case}: ledger at saves / limit", take(saves, limit), most=1.3),
            Goal(f"2.4 {case}: ledger at every step / limit", take(steps, limit), most=1.5),
        ]
        ahead = 4.0 if case.endswith("d=2") else 1.8
        for peer in ("blackjax (sgld / ghmc)", "diffrax (Euler / ALIGN)"):
            goals.append(
                Goal(f"2.4 {case}: {peer} / ledger at saves", take(peer, saves), None, ahead)
            )
    return goals


GOALS: list[Goal] = _sampling()
