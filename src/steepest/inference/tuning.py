"""Step, length and coordinates from the ensemble itself, while the chains warm up.

Step: the average acceptance of all chains. An energy error that is Gaussian with variance s^2 and
mean s^2/2 is accepted with probability 2 Phi(-s/2), and s grows as step^p, so one look gives the
next step. Length: the slowest direction of the ensemble should turn by a quarter of a period.
Coordinates: directions whose variance sticks out of what a sample of the identity shows
(Marchenko and Pastur) are rescaled; the others are left alone.
Sources: Roberts and Rosenthal, Stat. Sci. 16 (2001) 351; Johnstone, Ann. Stat. 29 (2001) 295.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Protocol

import numpy as np
from scipy import stats

from ..errors import Diverged
from ..trajectory import Trajectory
from .dynamics import Ensemble

BAND = 1.3
"""How far beyond the null band of a sample covariance an eigenvalue must lie to count."""
DIVERGENT = 0.004
"""The share of divergent proposals at which steps become shorter; chains that never move apart."""
SHARE = 0.5
"""Of the budget, the most for warm-up."""


class Move(Protocol):
    """How a method moves: the scheme for a step and a length, and what to aim at."""

    target: float
    exponent: float
    steps: int
    lag: float | None

    def scheme(self, step: float, length: float) -> Any:
        """What advances the chains."""
        ...

    def friction(self, step: float, length: float) -> float:
        """Of the bath."""
        ...

    def every(self, step: float, length: float) -> int:
        """Steps between the saves that warm-up looks at, an odd number."""
        ...

    def seen(self, run: Trajectory) -> tuple[float, float]:
        """(acceptance, share of divergences) of a run."""
        ...


@dataclasses.dataclass
class Tuned:
    """What warm-up settled on. `acceptance`: at the end; `rounds`: how many looks it took."""

    step: float
    length: float
    acceptance: float = math.nan
    rounds: int = 0
    settled: bool = False
    reshaped: int = 0
    restarted: int = 0


def next_step(step: float, acceptance: float, target: float, exponent: float) -> float:
    """The step at which the acceptance would be `target`, changed fourfold at most."""
    seen = min(max(acceptance, 0.005), 0.995)
    # 2 Phi(-s/2) = acceptance.
    ratio = stats.norm.ppf(target / 2) / stats.norm.ppf(seen / 2)
    return step * min(max(float(ratio) ** (1.0 / exponent), 0.25), 2.0)


def slowest(z: np.ndarray) -> float:
    """The largest correlation between successive saves of z (chain, save, d) over coordinates.

    Far outliers, chains still on their way in, count as if they were at the edge. What the largest
    of d correlations shows by sampling alone is taken off.
    """
    centre = np.median(z, axis=(0, 1))
    width = 1.5 * np.median(np.abs(z - centre), axis=(0, 1))
    moving = width > 0
    if not moving.any():
        return 1.0
    scaled = np.clip((z - centre)[..., moving] / width[moving], -3.0, 3.0)
    centred = scaled - scaled.mean(axis=(0, 1))
    together = np.mean(centred[:, 1:] * centred[:, :-1], axis=(0, 1))
    noise = math.sqrt(2.0 * math.log(2.0 * len(together)) / max(z[:, 1:, 0].size, 1))
    return float(np.max(together / np.mean(centred**2, axis=(0, 1)))) - noise


def next_length(length: float, correlation: float, acceptance: float) -> float:
    """The length at which the slowest direction turns by a quarter, changed by half at most.

    A rejected proposal stays, so the correlation is 1 - a + a cos(angle).
    """
    cosine = (correlation - (1.0 - acceptance)) / max(acceptance, 0.05)
    angle = math.acos(min(max(cosine, -0.5), 0.999))
    return length * min(max(0.5 * math.pi / angle, 0.8), 1.5)


def reshape(z: np.ndarray, diagonal: bool) -> np.ndarray | None:
    """The change of coordinates that pooled saves z (chain, save, d) ask for, if any.

    A matrix, or the square roots of variances; None where the sample is compatible with a multiple
    of the identity near 1.
    """
    chains, saves, d = z.shape
    flat = z.reshape(-1, d) - z.mean(axis=(0, 1))
    centred = z - z.mean(axis=(0, 1))
    lag = np.mean(centred[:, 1:] * centred[:, :-1]) / max(np.mean(centred**2), 1e-300)
    lag = min(max(float(lag), 0.0), 0.95)
    count = max(chains * saves * (1.0 - lag) / (1.0 + lag), chains)
    if diagonal:
        variance = np.maximum(np.mean(flat**2, axis=0), 1e-12)
        off = np.max(np.abs(np.log(variance)))
        return np.sqrt(variance) if off > math.log(2.0) + 4.0 * math.sqrt(2.0 / count) else None
    values, vectors = np.linalg.eigh(flat.T @ flat / len(flat))
    ratio = d / count
    high = (1.0 + math.sqrt(ratio)) ** 2 * BAND
    low = (1.0 - math.sqrt(ratio)) ** 2 / BAND if ratio < 1 else 0.0
    # Ledoit and Wolf's shrinkage would move all; here what may be noise becomes one number.
    scale = float(np.median(values))
    inside = (values < high * scale) & (values > low * scale)
    if inside.any():
        scale = float(np.mean(values[inside]))
        inside = (values < high * scale) & (values > low * scale)
    if inside.all() and 0.7 < scale < 1.4:
        return None
    shaped = np.where(inside, scale, np.maximum(values, 1e-3 * scale))
    return vectors * np.sqrt(shaped)


def warm_up(ensemble: Ensemble, move: Move, tuned: Tuned) -> Tuned:
    """Moves the chains until step, length and coordinates stand; at most SHARE of the budget.

    First short moves, until the step is right; then windows that also see to length, coordinates
    and chains that cannot move where they began, and grow after every change of coordinates.
    """
    limit = ensemble.account.spent + SHARE * ensemble.account.left
    window, settling, target = 2 * move.steps, True, move.target
    tuned.step *= 0.5  # chains begin far out, where the energy is steep
    while True:
        length = min(tuned.length, 3 * tuned.step) if settling else tuned.length
        scheme = move.scheme(tuned.step, length)
        each = 1.1 * ensemble.chains * getattr(scheme, "leaps", 1)
        every = move.every(tuned.step, length)
        affordable = int((limit - ensemble.account.spent - ensemble.chains) / each / every)
        if affordable < move.steps:
            return tuned
        steps = move.steps if settling else min(window, affordable)
        tuned.rounds += 1
        friction = move.friction(tuned.step, length)
        try:
            run = ensemble.advance(scheme, steps * every, friction=friction, save_every=every)
        except Diverged:
            tuned.step *= 0.25
            continue
        tuned.acceptance, diverged = move.seen(run)
        good = abs(tuned.acceptance - target) < 0.12
        z = ensemble.saved(run)
        stuck = _restart(ensemble, z, tuned)
        narrow = diverged > np.mean(stuck) + DIVERGENT or np.any(stuck & ensemble.apart)
        if not settling and narrow:
            # Somewhere the law is narrower than on average: shorter steps everywhere.
            target = min(0.5 * (1.0 + target), 0.95)
        tuned.step = next_step(tuned.step, tuned.acceptance, target, move.exponent)
        if settling:
            settling = not (good and tuned.rounds >= 2)
            continue
        if tuned.acceptance < 0.3:
            continue
        z = z[~stuck]
        if move.lag is not None:
            longer = next_length(tuned.length, slowest(z) - move.lag, tuned.acceptance)
            good &= longer < 1.3 * tuned.length
            tuned.length = longer
        change = reshape(z, ensemble.energy.root.ndim == 1)
        if change is not None:
            tuned.reshaped += 1
            _change(ensemble, change)
            window, settling = min(2 * window, 16 * move.steps), True
        elif good and not stuck.any():
            tuned.settled = True
            return tuned


def _restart(ensemble: Ensemble, z: np.ndarray, tuned: Tuned) -> np.ndarray:
    """Puts chains that never moved in z, where the others do, at the places of others.

    Not those that began at a mode of their own: there is mass where they are.
    """
    stuck = np.all(z == z[:, :1], axis=(1, 2))
    lost = stuck & ~ensemble.apart
    if tuned.acceptance > 0.5 and lost.any():
        tuned.restarted += int(lost.sum())
        here, free = ensemble.positions.copy(), np.flatnonzero(~stuck)
        here[lost] = here[free[np.arange(lost.sum()) % len(free)]]
        ensemble.place(here)
    return stuck


def _change(ensemble: Ensemble, change: np.ndarray) -> None:
    """To coordinates that are refined by `change`."""
    x = ensemble.energy.places(ensemble.positions)
    ensemble.energy = ensemble.energy.refined(change)
    ensemble.place(ensemble.energy.seen_from(x))
