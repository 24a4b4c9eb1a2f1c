"""Tails of the terms that an average is made of: can its standard error speak for them?

The terms of the sd of x_j are, to first order, w ((x_j - mean_j)^2 - sd_j^2): w importance weights.
For draws of a chain they are (x_j - mean_j)^2, averaged over blocks, since a chain that strays far
stays far. Weights that are nearly equal can have a steep tail of their own, of no weight beside
what the terms are made of; so it is the terms' tail that decides. The tail of n terms t is like
that of Pareto's generalised law, P(t > u + v) = P(t > u) (1 + k v / s)^(-1/k); their variance is
finite where k < 1/2, and k is known to (1 + k) / sqrt(m) from the m largest.
Sources: Vehtari, Simpson, Gelman, Yao and Gabry, J. Mach. Learn. Res. 25 (2024) 72 (PSIS); Smith,
Biometrika 72 (1985) 67 (the error of k).
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np

from ..summary import load_arviz
from .certificate import Statement

MOST_K = 0.7
MOMENTS = "Pareto k of the moments"


def smoothed(log_terms: np.ndarray) -> tuple[np.ndarray, float]:
    """Logs of terms (n,) scaled to sum one, their tail smoothed, and the tail's shape k.

    Equal terms have k = -inf; where no tail can be fitted k = inf.
    """
    finite = np.isfinite(log_terms)
    if not finite.any():
        return np.full(len(log_terms), -math.log(len(log_terms))), math.inf
    if np.ptp(log_terms[finite]) < 1e-6 and finite.all():
        return np.full(len(log_terms), -math.log(len(log_terms))), -math.inf
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        arviz = load_arviz()
        logs = np.where(finite, log_terms, log_terms[finite].min() - 700.0)
        found, k = arviz.psislw(logs)
    found, k = np.asarray(found, float), float(k)
    return found - np.logaddexp.reduce(found), k if math.isfinite(k) else math.inf


def weighted_shapes(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """k of w |(x_j - mean_j)^2 - sd_j^2| of draws (n, d) with weights (n,) of sum one, (d,)."""
    squares = (x - w @ x) ** 2
    with np.errstate(divide="ignore"):
        terms = np.log(w)[:, None] + np.log(np.abs(squares - w @ squares))
    return np.array([smoothed(column)[1] for column in terms.T])


def block_shapes(squares: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(k, its standard error), both (d,), of means over blocks of squares (chain, save, d).

    `lengths` (d,): of the blocks, at least as long as squares are correlated.
    """
    chains, saves, d = squares.shape
    shapes, errors = np.empty(d), np.empty(d)
    for j, length in enumerate(lengths):
        count = saves // length
        kept = squares[:, saves - count * length :, j].reshape(chains, count, length)
        with np.errstate(divide="ignore"):
            k = smoothed(np.log(kept.mean(axis=2).ravel()))[1]
        largest = min(0.2 * chains * count, 3.0 * math.sqrt(chains * count))
        shapes[j], errors[j] = k, (1.0 + max(k, 0.0)) / math.sqrt(largest)
    return shapes, errors


def allowance(k: Any) -> Any:
    """By how much standard errors from terms with tail shape k are taken larger, (1 - k)^(-1/2).

    A sample misses what lies beyond its largest term u; there the mean excess is u k / (1 - k), so
    that the total of the squares is about 1 / (1 - k) times what was seen. Measured on weighted
    draws of laws of Student, Laplace, Gumbel, logistic, skew-normal and log-gamma kind, in 2 to 20
    dimensions, with 4,000 and 16,000 draws and k <= 0.7: of the bounds at 95 % on all means and sds
    together 2 to 3 % are missed (without it 5 to 6 %; with 1,000 draws 8 %, so they are refused).
    Of Student's law with 3 degrees of freedom more are: its sd has no standard error. Random walks
    on Student's laws with 3 to 6 degrees of freedom, 64 chains of 60 draws, miss the sd of some of
    5 coordinates in 60 to 10 % of runs without it, in 21 to 3 % with k of blocks and its error.
    """
    return 1.0 / np.sqrt(1.0 - np.clip(k, 0.0, MOST_K))


def moments_statement(shapes: np.ndarray, terms: str) -> Statement:
    """Whether the `terms` of sds have tails that their standard errors can speak for."""
    return Statement.of(
        MOMENTS,
        max(float(np.max(shapes)), -1.0),
        MOST_K,
        assumption="the tail seen is the tail there is",
        why=f"shape of the tail of {terms}, the worst coordinate",
    )
