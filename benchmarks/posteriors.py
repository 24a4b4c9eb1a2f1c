"""Samplers on posteriors: what they spend until means of squares are right, and on a draw.

`python -m benchmarks posteriors [--case NAME] [--rounds N] [--out FILE]`, N / 3 repeats each.
*Low error*: the squared error of E[x^2] over Var[x^2] is at most 0.01 in the worst dimension, in
the median of the repeats. Every gradient counts, those of tuning too; own methods are run anew with
every budget, of peers the draws of one run are cut short. In brackets: after tuning. Compile: what
the first of two equal runs takes longer. All run in float64 on the CPU; set OPENBLAS_NUM_THREADS=1
where the machine is shared.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from steepest.inference import Answer, fit
from steepest.inference.sampling_error import sampling_error

from .harness import chosen
from .posterior_peers import PEERS, Result, Run
from .targets import CASES, Case, truth

LOW = 0.01
BUDGETS = tuple(int(1000 * 1.25**k) for k in range(4, 27))
OWN = ("hmc", "microcanonical")
SAMPLE_BUDGET = 50_000
HEAD = (
    "| sampler | gradients to low error | s to low error | ESS / 1000 gradients | ESS / s"
    " | gradients, tuning + run | tune, s | run, s | compile, s | said |\n|" + "---|" * 10
)


def tables(rounds: int, only: str | None) -> Iterator[str]:
    """The tables row by row, so that what is done counts where a run is cut off."""
    for name in chosen(CASES, only):
        with jax.enable_x64(True):
            yield from _table(name, CASES[name](), max(1, rounds // 3))


def _table(name: str, case: Case, repeats: int) -> Iterator[str]:
    yield f"### {name}\n\n{HEAD}"
    # First of all, while nothing is compiled that they share with each other or the long run.
    cold = {"hmc": _compiling(lambda: _go("hmc", case, SAMPLE_BUDGET, 0))}
    exact = truth(case)
    for method in OWN:
        if method not in cold:
            cold[method] = _compiling(lambda m=method: _go(m, case, SAMPLE_BUDGET, 0))
        yield _own(method, case, exact, repeats, cold[method])
    for label, make in PEERS.items():
        try:
            yield _peer(label, make(case), exact, repeats)
        except Exception as reason:
            yield f"| {label} | not run: {type(reason).__name__}: {str(reason)[:80]} |" + " |" * 8
    yield ""


def _compiling(work: Callable[[], Any]) -> float:
    """Seconds that the first of two equal runs takes longer."""
    seconds = []
    for _ in range(2):
        before = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - before)
    return max(seconds[0] - seconds[1], 0.0)


def error(
    draws: np.ndarray, exact: tuple[np.ndarray, np.ndarray], weights: np.ndarray | None = None
) -> float:
    """The largest squared error of E[x^2] over Var[x^2], by draws (chain, save, d)."""
    squares = draws.reshape(-1, draws.shape[-1]) ** 2
    found = np.average(squares, axis=0, weights=None if weights is None else weights.ravel())
    worst = float(np.max((found - exact[0]) ** 2 / exact[1]))
    return worst if math.isfinite(worst) else math.inf


def _go(method: str, case: Case, budget: int, seed: int) -> Answer:
    start, key = jnp.asarray(case.start), jax.random.key(seed)
    return fit(case.energy, method, budget, start=start, key=key)


def _own(
    method: str, case: Case, exact: tuple[np.ndarray, np.ndarray], repeats: int, cold: float
) -> str:
    seeds = range(2, 2 + repeats)
    low = "not by " + f"{BUDGETS[-1]:,}", "-"
    for budget in BUDGETS:
        found = [_go(method, case, budget, seed) for seed in seeds]
        if np.median([error(a.draws, exact) for a in found]) <= LOW:
            # Once more, with nothing left to compile.
            found = [_go(method, case, budget, seed) for seed in seeds]
            seconds = [a.seconds["tune"] + a.seconds["run"] for a in found]
            gradients = int(np.median([a.gradients for a in found]))
            low = f"{gradients:,}", f"{np.median(seconds):.3f}"
            break
    done = _go(method, case, SAMPLE_BUDGET, 1)
    ess = float(np.min(sampling_error(done.draws).ess))
    said = done.certificate.verdict
    said += f"; {done.phases['certify']:,} gradients and {done.seconds['certify']:.2f} s for that"
    tuning, drawing = done.phases["tune"], done.phases["run"]
    return _row(
        method, low, ess, tuning, drawing, done.seconds["tune"], done.seconds["run"], cold, said
    )


def _peer(label: str, run: Run, exact: tuple[np.ndarray, np.ndarray], repeats: int) -> str:
    cold = _compiling(lambda: run(0))
    found = [run(seed) for seed in range(1, 1 + repeats)]
    last, saves = found[-1], found[-1].draws.shape[1]
    low = f"not by {int(np.median([r.gradients for r in found])):,}", "-"
    for count in np.unique(np.geomspace(5, saves, 60).astype(int)):
        if np.median([_cut_error(r, int(count), exact) for r in found]) <= LOW:
            part = count / saves
            spent = [r.tuning + (r.gradients - r.tuning) * part for r in found]
            seconds = [r.tune + r.run * part for r in found]
            tuning = int(np.median([r.tuning for r in found]))
            gradients = int(np.median(spent))
            low = f"{gradients:,} ({gradients - tuning:,})", f"{np.median(seconds):.3f}"
            break
    if last.weights is None:
        spread = sampling_error(last.draws)
        ess, said = float(np.min(spread.ess)), f"R-hat {np.max(spread.r_hat):.3f}"
    else:
        ess = float(1.0 / np.sum(last.weights**2))
        said = f"largest weight {np.max(last.weights):.2g}"
    said += f", error {np.median([error(r.draws, exact, r.weights) for r in found]):.2g}"
    drawing = last.gradients - last.tuning
    return _row(label, low, ess, last.tuning, drawing, last.tune, last.run, cold, said)


def _cut_error(result: Result, count: int, exact: tuple[np.ndarray, np.ndarray]) -> float:
    weights = None if result.weights is None else result.weights[:, :count]
    return error(result.draws[:, :count], exact, weights)


def _row(
    label: str,
    low: tuple[str, str],
    ess: float,
    tuning: int,
    drawing: int,
    tune: float,
    run: float,
    cold: float,
    said: str,
) -> str:
    """Rates with tuning, and in brackets without."""
    return (
        f"| {label} | {low[0]} | {low[1]} | {1000 * ess / (tuning + drawing):.1f}"
        f" ({1000 * ess / drawing:.1f}) | {ess / (tune + run):,.0f} ({ess / run:,.0f})"
        f" | {tuning:,} + {drawing:,} | {tune:.3f} | {run:.3f} | {cold:.1f} | {said} |"
    )
