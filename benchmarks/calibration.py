"""Are certificates right? Runs with known truth: how often the error exceeds the certified bound.

`python -m benchmarks calibration [--case hmc] [--rounds N]`: N instances of every family of
`known.py` for every method at two budgets. A certificate claims that means and sds lie within its
bounds with 95 %; the share of certified answers whose true error is larger must be at most 5 %.
"""

from __future__ import annotations

from collections.abc import Iterator

import jax
import numpy as np
from scipy import stats

from steepest.inference import fit
from steepest.inference.methods import names

from .known import FAMILIES, Known

BUDGETS = (2_000, 20_000)


def tables(rounds: int, only: str | None) -> Iterator[str]:
    with jax.enable_x64(True):
        for method in names():
            if only is None or only == method:
                yield _table(method, rounds)


def trial(known: Known, method: str, budget: int, seed: int) -> tuple[bool, float, float]:
    """(certified, error of means / bound, error of sds / bound) of one run."""
    answer = fit(known.energy, method, budget, start=known.start, key=jax.random.key(seed))
    certificate = answer.certificate
    mean = np.max(np.abs(answer.mean - known.mean) / known.sd) / certificate.mean
    sd = np.max(np.abs(answer.sd / known.sd - 1.0)) / certificate.sd
    return certificate.certified, float(mean), float(sd)


def _table(method: str, rounds: int) -> str:
    lines = [
        f"### {method}",
        "",
        "| family | budget | runs | certified | exceeded | worst error / bound |",
        "|---|---|---|---|---|---|",
    ]
    certified = exceeded = 0
    for name, make in FAMILIES.items():
        for budget in BUDGETS:
            found = [trial(make(1000 + k), method, budget, k) for k in range(rounds)]
            held = [max(mean, sd) for good, mean, sd in found if good]
            beyond = sum(ratio > 1.0 for ratio in held)
            worst = f"{max(held):.2f}" if held else ""
            lines.append(f"| {name} | {budget} | {rounds} | {len(held)} | {beyond} | {worst} |")
            certified, exceeded = certified + len(held), exceeded + beyond
    upper = stats.beta.ppf(0.95, exceeded + 1, max(certified - exceeded, 1))
    lines += [
        "",
        f"{exceeded} of {certified} certified answers exceed their bound (at most "
        f"{100 * upper:.1f} % at 95 % confidence).",
        "",
    ]
    return "\n".join(lines)
