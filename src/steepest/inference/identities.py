"""What the gradient of E says of draws: identities that hold under exp(-E), and distances from it.

Integration by parts gives, for the law of x ~ exp(-E) and any fixed c,

    <d_j E> = 0,   <(x - c)_i d_j E> = delta_ij,   <|grad E|^2> = <lap E>

(mean force, virial, configurational temperature), and the kernelised Stein discrepancy is the
largest violation over a whole space of such functions. Draws are in pieces that are independent of
each other, so that every mean is a t statistic. Positions are in whitened coordinates.
Sources: Rugh, Phys. Rev. Lett. 78 (1997) 772 (configurational temperature); Gorham and Mackey, ICML
2017 (Stein discrepancy).
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from scipy import stats

from ..functionals import SteinDiscrepancy
from ..kernels import InverseMultiquadric
from ..states import Particles
from .certificate import Statement
from .dynamics import Account, gradient_at, in_batches, slope_at
from .frame import Frame
from .proposal import generator

ALARM = 0.002
"""The probability with which one statement fails on a right run."""
BIASED = 0.05
"""The share that is left to the bias of draws that are not claimed to be exact."""
MOST_POINTS = 1024
GRADIENT_PAIRS, GRADIENT_NODES = 16, 5
OVERHEAD = GRADIENT_PAIRS * (GRADIENT_NODES + 1)
"""Gradients that a look takes besides three a draw."""


@dataclasses.dataclass(frozen=True)
class Look:
    """Draws `z` (piece, draw, d) with the `slope` of E there, its `curvature` v . Hess E v for a
    random sign vector v (piece, draw), and the `centre` (d,) of all draws."""

    frame: Frame
    z: np.ndarray
    slope: np.ndarray
    curvature: np.ndarray
    centre: np.ndarray

    @property
    def virial(self) -> np.ndarray:
        """<(z_i - c_i) dE/dz_j> of each piece, (piece, d, d)."""
        return np.einsum("cni,cnj->cij", self.z - self.centre, self.slope) / self.z.shape[1]


def look(
    frame: Frame, z: np.ndarray, account: Account, key: Any, most: int = MOST_POINTS
) -> Look | None:
    """At about `most` of the draws z (piece, draw, d), evenly; None where gradients are short."""
    pieces, saves, d = z.shape
    points = min(most, (account.left - OVERHEAD) // 3) // pieces
    if points < 1:
        return None
    index = np.linspace(0, saves - 1, min(points, saves)).astype(int)
    chosen = z[:, index]
    flat = chosen.reshape(-1, d)
    probes = generator(key, 0).choice([-1.0, 1.0], flat.shape)
    _, slope, curved = in_batches(slope_at, frame, flat, probes)
    account.spend(3 * len(flat))
    shape = chosen.shape
    return Look(frame, chosen, slope.reshape(shape), curved.reshape(shape[:2]), z.mean(axis=(0, 1)))


def along(frame: Frame, z: np.ndarray, most: int) -> Look:
    """At up to `most` saves z (chain, save, d) of chains that Metropolis moved, without curvature.

    Their last leap ended with these gradients; to compute them again costs seconds, and none of the
    budget.
    """
    chains, saves, d = z.shape
    chosen = z[:, :: -(-chains * saves // most)]
    slope = in_batches(gradient_at, frame, chosen.reshape(-1, d)).reshape(chosen.shape)
    return Look(frame, chosen, slope, np.zeros((chains, 0)), z.mean(axis=(0, 1)))


def identities(
    look: Look, account: Account, *, slack: float = 0.0, decisive: bool = True
) -> list[Statement]:
    """The gradient itself, then what it says.

    `slack`: the bias that is allowed, in sds. `decisive`: whether the certificate rests on the
    Stein discrepancy.
    """
    d = look.z.shape[2]
    assumption = "E grows at infinity; chains are independent"
    virial = look.virial - np.eye(d)
    trace = np.einsum("cii->c", virial)
    size, curvature = np.sum(look.slope**2, axis=2), float(np.mean(look.curvature))
    heat = np.mean(size - look.curvature, axis=1)
    tests = (
        ("mean force", look.slope.mean(axis=1), slack, "entries of <grad E> = 0"),
        (
            "equipartition",
            trace[:, None],
            slack * d,
            f"<(x - m) . grad E> / d = {1.0 + np.mean(trace) / d:.4g}, 1 is right",
        ),
        (
            "virial matrix",
            virial.reshape(len(virial), -1),
            slack,
            "entries of <(x - m)_i d_j E> = delta_ij",
        ),
        (
            "configurational temperature",
            heat[:, None],
            slack * curvature,
            f"<|grad E|^2> / <lap E> = {np.mean(size) / curvature:.4g}, 1 is right",
        ),
    )
    found = [gradient(look, account)]
    for name, values, allowed, why in tests:
        largest, bound, floor = largest_t(values, allowed)
        words = f"{why}, in standard errors"
        found.append(
            Statement.of(name, largest, bound, floor=floor, assumption=assumption, why=words)
        )
    return [*found, stein(look, decisive)]


def gradient(look: Look, account: Account) -> Statement:
    """Whether grad E is the gradient of E: along segments by Gauss and Legendre, five nodes."""
    d = look.z.shape[2]
    z, slope = look.z.reshape(-1, d), look.slope.reshape(-1, d)
    pairs, nodes = min(GRADIENT_PAIRS, len(z) // 2), GRADIENT_NODES
    account.spend(pairs * (nodes + 1))
    step = 0.1 * (z[pairs : 2 * pairs] - z[:pairs])
    # Along the steepest directions: the change of E is then far above its rounding.
    size = np.linalg.norm(step, axis=1, keepdims=True)
    steep = slope[:pairs] / np.maximum(np.linalg.norm(slope[:pairs], axis=1, keepdims=True), 1e-300)
    step = step + size * steep
    at, weights = np.polynomial.legendre.leggauss(nodes)
    along = z[:pairs, None] + 0.5 * (1 + at)[None, :, None] * step[:, None]
    everything = np.concatenate([along.reshape(-1, d), z[:pairs], z[:pairs] + step])
    values, slopes, _ = in_batches(slope_at, look.frame, everything, 0 * everything)
    inner = np.einsum("pnd,pd->pn", slopes[: pairs * nodes].reshape(along.shape), step)
    predicted = inner @ (0.5 * weights)
    before, after = values[pairs * nodes :].reshape(2, pairs)
    rounding = 8 * float(jnp.finfo(look.frame.centre.dtype).eps) * np.abs(before)
    scale = np.abs(inner) @ (0.5 * weights)
    off = np.maximum(np.abs(after - before - predicted) - 2 * rounding, 0.0)
    return Statement.of(
        "gradient",
        float(np.sum(off) / max(np.sum(scale), 1e-300)),
        0.01,
        assumption="E is smooth over a tenth of its width",
        why="differences of E against the integral of its gradient, relative",
    )


def stein(look: Look, needed: bool) -> Statement:
    """The kernelised Stein discrepancy, in standard deviations of its null.

    The null of independent draws is widened by the correlation along chains.
    """
    n, d = look.z.shape[1:]
    dtype = look.frame.centre.dtype
    kernel = InverseMultiquadric(float(math.sqrt(d)))
    state = Particles.from_positions(jnp.asarray(look.z.reshape(-1, d), dtype))
    at = jnp.asarray(look.slope.reshape(-1, d), dtype)
    estimate = SteinDiscrepancy(look.frame, kernel).measure(state, at)
    widened = float(estimate.null) / max(float(np.min(within(look.z))) if n > 3 else 1.0, 0.05)
    return Statement.of(
        "Stein discrepancy",
        float(estimate.value) / max(widened, 1e-300),
        5.0,
        floor=1.0,
        assumption="the score is right",
        why="of the draws against grad E, in standard deviations of its null",
        needed=needed,
    )


def within(z: np.ndarray) -> np.ndarray:
    """Effective draws per draw inside a chain, (d,), at most 1.

    From correlations about each chain's own mean, so that chains which disagree do not hide it. The
    mean takes tau/n of the variance off every covariance: with K lags summed, the sum s comes out
    such that tau = s / (1 - (2 K + 1 - s)/n).
    """
    n, d = z.shape[1:]
    centred = z - z.mean(axis=1, keepdims=True)
    variance = np.maximum(np.mean(centred**2, axis=(0, 1)), 1e-300)
    total, lags, going = np.ones(d), np.zeros(d), np.ones(d, bool)
    for lag in range(1, max(2, min(n // 2, 200)), 2):
        pair = np.zeros(d)
        for k in (lag, lag + 1):
            if k < n:
                pair += np.mean(centred[:, k:] * centred[:, :-k], axis=(0, 1)) / variance
        going &= pair > 0  # Geyer: sums of neighbours are positive, until they are noise
        total += np.where(going, 2 * pair, 0.0)
        lags += 2 * going
        if not going.any():
            break
    total = np.maximum(total, 1.0)
    return np.minimum(np.maximum(1.0 - (2 * lags + 1 - total) / n, 0.1) / total, 1.0)


def largest_t(values: np.ndarray, slack: float = 0.0) -> tuple[float, float, float]:
    """(largest |t|, its bound, its usual size) over columns of values (piece, k).

    `slack`: how far from zero a mean may be for other reasons.
    """
    pieces, k = values.shape
    size = values.std(axis=0, ddof=1) / math.sqrt(pieces)
    mean = np.maximum(np.abs(values.mean(axis=0)) - slack, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(size > 0, mean / size, np.where(mean > 0, np.inf, 0.0))
    quantile = lambda p: float(stats.t.ppf(p, pieces - 1))  # noqa: E731
    worst = float(np.max(t)) if np.isfinite(values).all() else math.nan
    return worst, quantile(1 - ALARM / (2 * k)), quantile(1 - 0.25 / k)
