"""Importance weights of a fitted law: how far it is from the target, and draws that correct it.

Weights exp(-E(x_i)) / p(x_i), smoothed in the tail (Pareto), give means and sds of the target with
standard errors, log Z, and draws; the shape k of the tail says whether they can be trusted.
Source: Vehtari, Simpson, Gelman, Yao and Gabry, J. Mach. Learn. Res. 25 (2024) 72 (PSIS).
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from .certificate import CONFIDENCE
from .frame import Frame
from .proposal import Proposal, generator
from .tails import allowance, smoothed, weighted_shapes

MOST_DRAWS = 16_000
CHUNK = 1_000


@dataclasses.dataclass(frozen=True)
class Weighted:
    """Draws with weights, in the frame's coordinates.

    `y` (n, d); `component` (n,), -1 where Student's law drew; `energy` (n,) and `slope` (n, d) of E
    there, `log_law` (n,) of the fitted law. `weights` (n,): smoothed, sum one. `k`: of their tail;
    `law_k`: of weights of the fitted law alone. `log_z`, `log_z_error`: of the integral of exp(-E).
    """

    frame: Frame
    proposal: Proposal
    y: np.ndarray
    component: np.ndarray
    energy: np.ndarray
    slope: np.ndarray
    log_law: np.ndarray
    weights: np.ndarray
    k: float
    law_k: float
    log_z: float
    log_z_error: float

    @property
    def count(self) -> int:
        """n."""
        return len(self.y)

    @property
    def effective(self) -> float:
        """1 / sum w^2."""
        return float(1.0 / np.sum(self.weights**2))

    @property
    def own(self) -> np.ndarray:
        """Which draws the fitted law itself made."""
        return self.component >= 0

    def free_energy(self) -> tuple[float, float]:
        """E_q[E] - S(q) of the fitted law, with its standard error."""
        terms = (self.energy + self.log_law)[self.own] - self.frame.log_volume
        return float(terms.mean()), float(terms.std() / math.sqrt(len(terms)))

    def gap(self) -> tuple[float, float]:
        """KL(law || target) = F + log Z, with its standard error."""
        value, error = self.free_energy()
        return value + self.log_z, math.hypot(error, self.log_z_error)

    def information(self) -> float:
        """KL(target || proposal), which log n has to exceed for the weights to do (nats)."""
        w = self.weights[self.weights > 0]
        return float(np.sum(w * np.log(w * self.count)))

    @property
    def x(self) -> np.ndarray:
        """The draws in the target's coordinates, (n, d)."""
        return place(self.frame, self.y)

    def shapes(self) -> np.ndarray:
        """Pareto's k of the terms of each coordinate's sd, (d,)."""
        return weighted_shapes(self.x, self.weights)

    def estimates(self) -> tuple[np.ndarray, ...]:
        """mean, sd, and their standard errors, of each coordinate of x, all (d,)."""
        return weighted_moments(self.x, self.weights)


def weigh(frame: Frame, law: Any, key: jax.Array, n: int) -> Weighted:
    """n draws for a law of the frame's coordinates, n gradients. `n`: a multiple of `CHUNK`."""
    proposal = Proposal.of(law, frame.root)
    y, component = proposal.draw(generator(key, 0), n)
    y = np.asarray(y, np.dtype(frame.centre.dtype)).astype(float)  # as E sees them
    values, slopes = [], []
    for block in np.split(y, range(CHUNK, n, CHUNK)):
        value, slope = _at(frame, jnp.asarray(block, frame.centre.dtype))
        values.append(np.asarray(value, float))
        slopes.append(np.asarray(slope, float))
    energy, slope = np.concatenate(values), np.concatenate(slopes)
    # Outside the support the target has no mass: weight zero.
    energy = np.where(np.isnan(energy), np.inf, energy)
    ratio = -energy + frame.log_volume - proposal.log_density(y, n)
    log_law = proposal.log_law(y)
    own = component >= 0
    smooth, k = smoothed(ratio)
    _, law_k = smoothed((-energy - log_law)[own])
    top = ratio.max()
    size = np.exp(ratio - top)
    log_z = top + math.log(size.mean())
    weights = np.exp(smooth)
    error = float(np.sqrt(max(np.sum(weights**2) - 1.0 / n, 0.0)))
    return Weighted(
        frame, proposal, y, component, energy, slope, log_law, weights, k, law_k, log_z, error
    )


def weighted_moments(x: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, ...]:
    """mean, sd and their standard errors of draws (n, d) with weights (n,) that sum to one.

    The delta method for ratios: error^2 of <f> is sum w^2 (f - <f>)^2.
    """
    mean = w @ x
    gap = x - mean
    variance = w @ gap**2
    sd = np.sqrt(variance)
    mean_error = np.sqrt(w**2 @ gap**2)
    safe = np.where(sd > 0, sd, 1.0)
    sd_error = np.sqrt(w**2 @ (gap**2 - variance) ** 2) / (2.0 * safe)
    return mean, sd, mean_error, sd_error


def bounds(
    weighted: Weighted,
    shapes: np.ndarray,
    mean: np.ndarray,
    sd: np.ndarray,
    confidence: float = CONFIDENCE,
) -> tuple[float, float]:
    """Bounds on the two errors of an answer with these means and sds (d,), by Bonferroni.

    Each is the gap to the weighted estimate, plus what that estimate can itself be wrong by;
    `shapes`: those of `weighted_shapes`.
    """
    true_mean, true_sd, mean_error, sd_error = weighted.estimates()
    d = len(mean)
    quantile = float(stats.norm.ppf(1.0 - (1.0 - confidence) / (4.0 * d)))
    wide = quantile * allowance(shapes)
    mean_error, sd_error = wide * mean_error, wide * sd_error
    with np.errstate(divide="ignore", invalid="ignore"):
        lowest = true_sd - sd_error  # the least that the sd can be
        worst_mean = (np.abs(mean - true_mean) + mean_error) / lowest
        worst_sd = (np.abs(sd - true_sd) + sd_error) / lowest
    worst = lambda v: float(np.max(np.where(lowest > 0, v, np.inf)))  # noqa: E731
    return worst(worst_mean), worst(worst_sd)


def resample(weighted: Weighted, key: jax.Array) -> np.ndarray:
    """As many equally weighted draws of x as the weights are worth, (m, d), in random order.

    Systematic: a draw of weight w comes m w times, to within one. Then every coordinate is moved
    and stretched, by less than the standard errors, to the weighted mean and sd.
    """
    rng = generator(key, 1)
    order = rng.permutation(weighted.count)
    m = max(2, int(weighted.effective))
    edges = np.cumsum(weighted.weights[order])
    chosen = np.searchsorted(edges / edges[-1], (np.arange(m) + rng.uniform()) / m)
    picked = order[np.minimum(chosen, weighted.count - 1)]
    x = place(weighted.frame, weighted.y[picked])
    mean, sd, *_ = weighted.estimates()
    own = x.std(axis=0)
    x = mean + (x - x.mean(axis=0)) * np.where(own > 0, sd / np.where(own > 0, own, 1.0), 1.0)
    return x[rng.permutation(m)]


@eqx.filter_jit
def _at(frame: Frame, y: jax.Array) -> tuple[jax.Array, jax.Array]:
    return jax.vmap(jax.value_and_grad(frame))(y)


def place(frame: Frame, y: np.ndarray) -> np.ndarray:
    """x of y (n, d), in 64-bit numbers."""
    root, centre = np.asarray(frame.root, float), np.asarray(frame.centre, float)
    return centre + (y * root if root.ndim == 1 else y @ root.T)
