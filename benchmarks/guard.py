"""A guard against slow changes: ratios to hand-written references in one process.

    python -m benchmarks.guard [--rounds 7] [--slack 1.25]      ends with 1 if a ratio is too large

Both sides run in turn, in the same process on the same machine, so that nothing but their ratio is
judged: against the goal of `benchmarks.goals`, or what was recorded on this device where that is
more, times the slack. No absolute time is a criterion.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import sys
import time
from typing import Any

from .goals import GOALS, Records
from .harness import device
from .store import records

WATCHED = (
    ("sampling", "langevin d=2", "steepest_saves", "limit",
     "2.4 langevin d=2: ledger at saves / limit"),
    ("sampling", "langevin d=2", "steepest_steps", "limit",
     "2.4 langevin d=2: ledger at every step / limit"),
    ("sampling", "baoab d=2", "steepest_saves", "limit",
     "2.4 baoab d=2: ledger at saves / limit"),
    ("interacting", "pairs n=1k", "steepest", "limit", "4.6 pairs n=1k: steepest / limit"),
    ("optimizers", "descent", "ours", "theirs", "5.5 descent: as_optax / optax"),
    # The last, as it takes double precision for the process.
    ("mechanics", "100000 trajectories, 200 steps", "steepest_verlet", "hand_scan",
     "7.6 Verlet, 100000 trajectories, 200 steps: ledger at saves / scan"),
)  # fmt: skip


def expected(name: str, found: Records) -> float:
    """The goal of this name, or what was recorded on this device where the goal is missed."""
    goal = next(goal for goal in GOALS if goal.name == name)
    return max(goal.most or 0.0, goal.measure(found) or 0.0)


def ratio(module: str, case: str, ours: str, reference: str, rounds: int) -> float:
    """The median over rounds of one side's time by the other's."""
    home: Any = importlib.import_module(f"benchmarks.{module}")
    sides = [getattr(home, ours)(case), getattr(home, reference)(case)]
    for side in sides:
        side()
    found = []
    for _ in range(rounds):
        seconds = []
        for side in sides:
            before = time.perf_counter()
            side()
            seconds.append(time.perf_counter() - before)
        found.append(seconds[0] / seconds[1])
    return statistics.median(found)


def main() -> None:
    """Print a line for each pair, and end with 1 if one is beyond its bound."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.guard", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--slack", type=float, default=1.25)
    options = parser.parse_args()
    slow, recorded = False, Records(records(device()))
    for module, case, ours, reference, goal in WATCHED:
        found = ratio(module, case, ours, reference, options.rounds)
        bound = expected(goal, recorded) * options.slack
        slow |= found > bound
        verdict = "within" if found <= bound else "BEYOND"
        line = f"{module}, {case}: {ours} / {reference} = {found:.2f}, {verdict} {bound:.2f}"
        print(line, flush=True)
    sys.exit(slow)


if __name__ == "__main__":
    main()
