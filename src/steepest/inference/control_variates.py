"""How far draws are off, by functions whose mean under exp(-E) is known: control variates.

With m and S the draws' mean and covariance and g = grad E,

    a(x) = S g,   b_j(x) = ((x - m)_j (S g)_j / S_jj - 1) / 2

both have mean zero under exp(-E). For draws of the law tilted by a linear or quadratic function
<a> is the error of their mean, and <b_j> the relative error of the sd of x_j, to first order in the
tilt (for a Gaussian law <a> is the error whatever the draws are). What is left,
x - a and ((x - m)_j^2 / S_jj - 1)/2 - b_j, are control variates of known mean, whose Monte-Carlo
error is what the bounds have besides.
Sources: Assaraf and Caffarel, Phys. Rev. Lett. 83 (1999) 4682; Mira, Solgi and Imparato, Stat.
Comput. 23 (2013) 653 (control variates by the score).
"""

from __future__ import annotations

import numpy as np
from scipy import stats

from .certificate import CONFIDENCE
from .identities import Look
from .sampling_error import SamplingError, sampling_error
from .tails import allowance

DRAWS_OF_A_COORDINATE = 4
"""Effective draws for every dimension that a dense covariance takes."""


def enough(spread: SamplingError) -> bool:
    """Whether the draws tell their covariance, and not the variances alone."""
    return float(np.min(spread.ess)) >= DRAWS_OF_A_COORDINATE * len(spread.ess)


def covariance_of(z: np.ndarray, spread: SamplingError) -> np.ndarray:
    """Of draws z (chain, save, d), (d, d); diagonal where they are not `enough`."""
    d = z.shape[-1]
    if not enough(spread):
        return np.diag(z.var(axis=(0, 1)))
    return np.cov(z.reshape(-1, d).T, bias=True).reshape(d, d)


def corrected(
    x: np.ndarray,
    look: Look,
    *,
    covariance: np.ndarray | None = None,
    independent: bool = False,
    exact: bool = False,
) -> tuple[float, float]:
    """Bounds at 95 % on the two errors of the draws x (chain, save, d), over all coordinates.

    `covariance` (d, d): S in the frame's coordinates; one where the frame is made of the draws.
    `independent`: the draws are, and no chains. `exact`: they are of the law, or on their way to
    it, so that a and b_j are taken whole only where that leaves less variance than there was.
    Infinite where fewer than 8 draws of a chain were looked at.
    """
    chains, d = len(x), x.shape[-1]
    root = np.asarray(look.frame.root, float)
    root = np.diag(root) if root.ndim == 1 else root
    sds = x.std(axis=(0, 1))
    # Of the whole chains again, so that correlations across the cuts are seen; in sds.
    whole = lambda v: (v @ root.T / sds).reshape(chains, -1, d)  # noqa: E731
    gap = whole(look.z - look.centre)
    pull = whole(look.slope if covariance is None else look.slope @ covariance)
    pairs = (gap, pull), (0.5 * (gap**2 - 1.0), 0.5 * (gap * pull - 1.0))
    first, second = (f - (_share(f, known) if exact else 1.0) * known for f, known in pairs)
    quantile = float(stats.norm.ppf(1.0 - (1.0 - CONFIDENCE) / (4.0 * d)))
    errors = [sampling_error(v, independent) for v in (first, second)]
    # Their expectations are m - mean, and half of (sd / sd of the draws)^2 - 1.
    off = np.abs(first.mean(axis=(0, 1))) + quantile * errors[0].mean_error
    stretch = np.abs(second.mean(axis=(0, 1)))
    stretch += quantile * errors[1].mean_error * allowance(errors[0].shapes)
    with np.errstate(invalid="ignore", divide="ignore"):
        least = np.sqrt(1.0 - 2.0 * stretch)  # that the sd can be, in those of the draws
        mean, sd = off / least, 1.0 / least - 1.0
    worst = lambda v: float(np.max(np.where(np.isfinite(v), v, np.inf)))  # noqa: E731
    return worst(mean), worst(sd)


def _share(f: np.ndarray, known: np.ndarray) -> np.ndarray:
    """How much of `known` (chain, save, d) to take off f, (d,): all where Var(f - known) <= Var f,
    else what leaves the least variance, from 0 to 1/2."""
    f, known = (v - v.mean(axis=(0, 1)) for v in (f, known))
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.nan_to_num(np.mean(f * known, axis=(0, 1)) / np.mean(known**2, axis=(0, 1)))
    return np.where(share >= 0.5, 1.0, np.maximum(share, 0.0))
