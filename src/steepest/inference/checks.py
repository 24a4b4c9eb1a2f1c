"""What is checked of a fitted law on its own draws: gradient, optimum, weights.

With r(z) = L^T (grad E + grad log q) at x = m + L z, under a Gaussian q = N(m, L L^T):

    L^T E[grad E] = E[r],   L^T E[Hessian] L - 1 = E[r z^T]     (Stein),

the natural gradient of the free energy; half its squared norm, 1/2 |E r|^2 + 1/4 |E[r z^T]|^2, is
Newton's estimate of what a better Gaussian would gain. r vanishes where q is exact, so its noise
does too (Roeder, Wu and Duvenaud, NeurIPS 2017).
"""

from __future__ import annotations

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from .certificate import Statement
from .frame import Frame
from .importance import Weighted
from .tails import MOST_K

BATCHES = 32
SEGMENTS, NODES = 6, 8
ENOUGH = "effective draws needed over had"
WEIGHTS = "Pareto k"
GRADIENT_COST = SEGMENTS * (NODES + 1) + 1


def gradient_statement(frame: Frame, weighted: Weighted) -> Statement:
    """Whether E rises along lines as its gradient says; costs `GRADIENT_COST` gradients.

    From the centre of the law to draws of it: Gauss's rule for the integral of the gradient against
    the difference of the values, relative to the integral of its size.
    """
    dtype = frame.centre.dtype
    centre = jnp.asarray(weighted.proposal.moments()[0], dtype)
    ends = jnp.asarray(weighted.y[weighted.own][:SEGMENTS], dtype)
    gaps, sizes, values = (np.asarray(v, float) for v in _along(frame, centre, ends))
    rounding = 100.0 * float(jnp.finfo(dtype).eps) * float(np.max(np.abs(values)))
    value = float(np.max(np.abs(gaps) / (sizes + rounding / 0.02)))
    return Statement.of(
        "gradient against values",
        value,
        0.02,
        floor=1e-6,
        assumption="E is smooth on the scale of the law",
        why="how much the gradient misses the differences of E along lines, relatively",
    )


@eqx.filter_jit
def _along(frame: Frame, centre: Any, ends: Any) -> tuple[Any, Any, Any]:
    s, w = np.polynomial.legendre.leggauss(NODES)
    s, w = jnp.asarray(0.5 * (s + 1.0), centre.dtype), jnp.asarray(0.5 * w, centre.dtype)
    start = frame(centre)

    def one(end: Any) -> tuple[Any, Any, Any]:
        slopes = jax.vmap(lambda t: jax.grad(frame)(centre + t * (end - centre)))(s)
        rises = slopes @ (end - centre)
        value = frame(end)
        return value - start - w @ rises, w @ jnp.abs(rises), value

    return jax.vmap(one)(ends)


def optimum_statement(weighted: Weighted, tolerance: float, diagonal: bool, needed: bool = True):
    """Whether a better Gaussian would lower the free energy by less than `tolerance`, at 95 %."""
    value, error = decrement(weighted, diagonal)
    upper = value + float(stats.norm.ppf(0.95)) * error
    return Statement.of(
        "remaining decrease",
        upper,
        tolerance,
        floor=float(stats.norm.ppf(0.95)) * error,
        assumption="F is quadratic over the last step in the natural parameters",
        why="half the squared natural gradient of the free energy (nats), its upper 95 % limit",
        needed=needed,
    )


def decrement(weighted: Weighted, diagonal: bool) -> tuple[float, float]:
    """1/2 |E r|^2 + 1/4 |E[r z^T]|^2 without the bias of noise, and its standard error.

    <G_a, G_b> over pairs of different batches; the error is that of the jackknife over batches.
    """
    r, z = residual(weighted)
    parts = []
    for block in np.array_split(np.arange(len(r)), BATCHES):
        mean = r[block].mean(axis=0) / math.sqrt(2.0)
        bend = r[block].T @ z[block] / len(block)
        bend = np.diagonal(bend) if diagonal else 0.5 * (bend + bend.T)
        parts.append(np.concatenate([mean, 0.5 * bend.ravel()]))
    total = np.stack(parts)
    return _pairs(total), _jackknife(total)


def _pairs(parts: np.ndarray) -> float:
    m = len(parts)
    return float((np.sum(parts.sum(0) ** 2) - np.sum(parts**2)) / (m * (m - 1)))


def _jackknife(parts: np.ndarray) -> float:
    m = len(parts)
    left = np.array([_pairs(np.delete(parts, i, axis=0)) for i in range(m)])
    return float(math.sqrt((m - 1) / m * np.sum((left - left.mean()) ** 2)))


def residual(weighted: Weighted) -> tuple[np.ndarray, np.ndarray]:
    """r and z of the draws that a Gaussian law itself made."""
    own = weighted.own
    mean, lower = weighted.proposal.means[0], weighted.proposal.lowers[0]
    z = np.linalg.solve(lower, (weighted.y[own] - mean).T).T
    return weighted.slope[own] @ lower - z, z


def score_gap(weighted: Weighted) -> np.ndarray:
    """grad E + grad log q at the draws of the law q itself, in the target's coordinates (n, d)."""
    own = weighted.own
    gap = weighted.slope[own] + weighted.proposal.score(weighted.y[own])
    root = np.asarray(weighted.frame.root, float)
    return gap / root if root.ndim == 1 else np.linalg.solve(root.T, gap.T).T


def projection_statement(weighted: Weighted) -> Statement:
    """How much of the velocity towards the target no Gaussian can follow.

    1/2 E|r - its affine part|^2: were the target as log-concave as the law, the KL of the best
    Gaussian would be no more (log-Sobolev).
    """
    r, z = residual(weighted)
    finite = np.all(np.isfinite(r), axis=1)
    r, z = r[finite], z[finite]
    mean = r.mean(axis=0)
    bend = r.T @ z / len(r)
    left = r - mean - z @ (0.5 * (bend + bend.T)).T
    return Statement.of(
        "velocity outside the family",
        0.5 * float(np.mean(np.sum(left**2, axis=1))),
        0.5,
        assumption="the target is as log-concave as the law (not checked)",
        why="half the Fisher information that is left after its projection on Gaussians, in nats",
        needed=False,
    )


def weight_statements(weighted: Weighted) -> tuple[Statement, ...]:
    """Whether importance weights can be trusted."""
    n = weighted.count
    gap, error = weighted.gap()
    return (
        Statement.of(
            WEIGHTS,
            max(weighted.k, -1.0),
            min(MOST_K, 1.0 - 1.0 / math.log10(n)),
            assumption="draws have met every mode, and the tail seen is the tail there is",
            why="shape of the tail of the weights of the draws, on which log Z rests",
            needed=False,
        ),
        Statement.of(
            ENOUGH,
            400.0 / weighted.effective,
            1.0,
            assumption="",
            why=f"the weights are worth {weighted.effective:.0f} independent draws",
        ),
        Statement.of(
            "information of the weights",
            weighted.information(),
            math.log(n) - 9.2,
            assumption="",
            why="KL(target || proposal) in nats; e^-t/4 <= 0.1 for n = exp(KL + t) draws",
            needed=False,
        ),
        Statement.of(
            "Pareto k of the law alone",
            max(weighted.law_k, -1.0),
            MOST_K,
            assumption="as for Pareto k",
            why="beyond it the fitted law itself, without weights, is far from the target",
            needed=False,
        ),
        Statement.of(
            "KL(law || target)",
            gap + 1.645 * error,
            0.5,
            floor=1.645 * error,
            assumption="log Z by the same weights",
            why="free energy plus log Z, its upper 95 % limit, in nats",
            needed=False,
        ),
    )
