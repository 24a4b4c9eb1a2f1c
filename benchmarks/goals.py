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


def _others() -> list[Goal]:
    """Those of the tables of paired timings; tables of another kind are to be read."""
    goals = []
    for case in ("line N=1000", "line N=4000", "plane 256^2"):
        peers = ("py-pde (LSODA banded / explicit)", "FiPy (implicit, exponential fluxes)")
        ours = ("steepest.solve with its ledger",)
        goals.append(
            Goal(f"3.8 {case}: faster peer / solve", best("density", case, peers, ours), None, 10)
        )
    linear = scaling("density", "plane 512^2", "plane 1024^2", "steepest.solve with its ledger", 4)
    goals.append(Goal("3.8 plane: cost of a cell, 1024^2 / 512^2", linear, most=1.3))
    for size in ("1k", "10k", "50k"):
        pairs = quotient("interacting", f"pairs n={size}", "steepest", "hand-written blocked limit")
        goals.append(Goal(f"4.6 pairs n={size}: steepest / limit", pairs, most=1.3))
    ours = "steepest, ledger at saves"
    for size, ahead in (("1k", 10), ("4k", 50), ("10k", 50)):
        case = f"svgd n={size}"
        own = quotient("interacting", case, ours, "hand-written blocked limit")
        peer = quotient("interacting", case, "blackjax svgd", ours)
        goals.append(Goal(f"4.6 {case}: steepest / limit", own, most=1.3))
        goals.append(Goal(f"4.6 {case}: blackjax / steepest", peer, None, ahead))
    for case in ("descent", "heavy ball", "sign", "muon"):
        own = quotient("optimizers", case, "steepest.as_optax", "optax")
        goals.append(Goal(f"5.5 {case}: as_optax / optax", own, most=1.05))
    for case in ("sampling", "training step"):
        own = quotient("diffusion", case, "steepest", "hand-written JAX")
        goals.append(Goal(f"8.5 {case}: steepest / hand-written", own, most=1.1))
    for n, ahead in ((1000, 1.0), (5000, 3.0), (10000, 3.0)):
        for d in (2, 16):
            case = f"n={n} d={d}"
            peers = tuple(
                f"ott-jax, {kind}"
                for kind in (
                    "logarithms, whole matrix",
                    "kernel, whole matrix",
                    "momentum 1.5, whole matrix",
                )
            )
            own = best("sinkhorn", case, peers, ("steepest, online",))
            goals.append(Goal(f"9.4 Sinkhorn {case}: best ott-jax / steepest", own, None, ahead))
    for d in (2, 16, 64):
        own = quotient("light_bridges", f"d={d} steps=1000", "torch, loop, one thread", "steepest")
        goals.append(Goal(f"9.4 light bridge d={d}: torch / steepest", own, None, 3.0))
    for d in (2, 16, 64, 128):
        for peer in ("MixtureSameFamily, one thread", "by hand, one thread"):
            own = quotient("light_bridges", f"draws d={d}", f"torch, {peer}", "steepest")
            goals.append(Goal(f"9.4 ends d={d}: torch, {peer} / steepest", own, None, 3.0))
    return goals


GOALS: list[Goal] = _sampling() + _others()
