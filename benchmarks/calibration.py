"""Are certificates right? Runs with known truth: how often the error exceeds the certified bound.

`python -m benchmarks calibration [--case hmc] [--rounds N]`: N times every method on an instance of
every family of `known.py`, budgets in turn. Seeds are fresh in every call, and printed with each
run as it comes, so that a table cut short counts. A certificate claims that means and sds lie
within its bounds with 95 %; the share of certified answers whose true error is larger must be at
most 5 %.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import jax
import numpy as np
from scipy import stats

from steepest.errors import SteepestError
from steepest.inference import fit
from steepest.inference.methods import names

from .known import FAMILIES, Known

BUDGETS = (6_000, 20_000)
PARTS = tuple(names())


def tables(rounds: int, only: str | None) -> Iterator[str]:
    methods = [name for name in names() if only is None or only == name]
    first = secrets.randbelow(10**6)
    found: dict[str, list[tuple[bool, float]]] = {name: [] for name in methods}
    yield "| method | family | seed | budget | certified | error of means / bound | of sds |"
    yield "|---|---|---|---|---|---|---|"
    with jax.enable_x64(True):
        for turn in range(rounds):
            for i, (family, make) in enumerate(FAMILIES.items()):
                seed = first + turn
                jax.clear_caches()  # programs hold memory maps, of which a process has 65,530
                known = make(seed)
                for j, method in enumerate(methods):
                    budget = BUDGETS[(turn + i + j) % len(BUDGETS)]
                    good, mean, sd = trial(known, method, budget, seed)
                    found[method].append((good, max(mean, sd)))
                    yield (
                        f"| {method} | {family} | {seed} | {budget} | {'yes' if good else 'no'} "
                        f"| {mean:.2f} | {sd:.2f} |"
                    )
    yield summary(found)


def trial(known: Known, method: str, budget: int, seed: int) -> tuple[bool, float, float]:
    """(certified, error of means / bound, error of sds / bound) of one run."""
    try:
        answer = fit(known.energy, method, budget, start=known.start, key=jax.random.key(seed))
    except SteepestError:
        return False, np.nan, np.nan
    certificate = answer.certificate
    mean = np.max(np.abs(answer.mean - known.mean) / known.sd) / certificate.mean
    sd = np.max(np.abs(answer.sd / known.sd - 1.0)) / certificate.sd
    return certificate.certified, float(mean), float(sd)


def summary(found: dict[str, list[tuple[bool, float]]]) -> str:
    """Of each method's (certified, error / bound), and of all, with the 95 % interval."""
    lines = [
        "",
        "| method | runs | certified | beyond the bound | 95 % interval | worst error / bound |",
        "|---|---|---|---|---|---|",
    ]
    everything = [run for runs in found.values() for run in runs]
    for method, runs in [*found.items(), ("all", everything)]:
        held = [ratio for good, ratio in runs if good]
        beyond, many = sum(ratio > 1.0 for ratio in held), len(held)
        low = stats.beta.ppf(0.025, beyond, many - beyond + 1) if beyond else 0.0
        high = stats.beta.ppf(0.975, beyond + 1, many - beyond) if beyond < many else 1.0
        worst = f"{max(held):.2f}" if held else ""
        lines.append(
            f"| {method} | {len(runs)} | {many} | {beyond} | {100 * low:.1f} to "
            f"{100 * high:.1f} % | {worst} |"
        )
    return "\n".join(lines)
