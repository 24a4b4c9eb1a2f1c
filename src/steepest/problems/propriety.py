"""Whether a posterior can be normalised; each way in which it cannot is refused in words.

A flat prior leaves the likelihood to bound every direction of parameter space: a direction along
which it never falls (dependent columns, separated classes) makes the posterior improper. So does a
noise scale that is free to go to zero on data that the model fits exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import ArgumentError

RANK = 1e-9  # a column this close to the span of others, relative to its length, is dependent
EXACT = 1e-10  # residuals this small, relative to the target, are round-off
SLOPE = 1e-6  # of a linear programme whose rows are feasible to 1e-7


def check_rank(design: np.ndarray, names: Sequence[str], argument: str = "prior_scale") -> None:
    """A flat prior needs independent columns. Raises ArgumentError with the name of one."""
    dependent = dependent_columns(design)
    if len(dependent):
        named = ", ".join(repr(names[i]) for i in dependent[:3])
        raise ArgumentError(
            argument,
            "inf",
            f"the posterior is improper: {len(dependent)} of {design.shape[1]} columns depend on "
            f"the others ({named}); drop them, or give a finite prior_scale",
        )


def dependent_columns(design: np.ndarray) -> list[int]:
    """Columns without which the others are independent and span the same space."""
    import scipy.linalg

    length = np.linalg.norm(design, axis=0)
    scaled = design / np.where(length > 0, length, 1.0)
    found: Any = scipy.linalg.qr(scaled, mode="r", pivoting=True)
    triangle, order = found
    size = np.zeros(design.shape[1])
    diagonal = np.abs(np.diagonal(triangle))
    size[: len(diagonal)] = diagonal
    return sorted(int(order[i]) for i in np.flatnonzero(size <= RANK))


def check_residual(
    design: np.ndarray,
    target: np.ndarray,
    file: str,
    spent: int = 0,
    length: float | None = None,
) -> None:
    """Raises ArgumentError where the columns fit the target exactly with rows to spare.

    Then the density of the noise scale s goes as s^-(n - rank) near zero, which has no integral.
    `spent`: the rank of columns that were already taken out of both; `length`: of the target
    before that.
    """
    length = float(np.linalg.norm(target)) if length is None else length
    rank, residual = spent, target
    if design.shape[1]:
        solution, _, found, _ = np.linalg.lstsq(design, target, rcond=RANK)
        rank, residual = spent + int(found), target - design @ solution
    if rank < len(target) and np.linalg.norm(residual) <= EXACT * length:
        raise ArgumentError(
            "target",
            f"values that the columns of {file} fit exactly",
            "the posterior of the noise scale is improper; drop the column that gives the target "
            "away, or fix the noise",
        )


def unbounded_direction(gains: np.ndarray, fixed: np.ndarray | None = None) -> np.ndarray | None:
    """A direction v with gains v >= 0, not all zero, and fixed v = 0; None where there is none.

    `gains` (m, p), `fixed` (k, p). The linear programme max sum(gains v) over a box.
    """
    from scipy.optimize import linprog

    if not len(gains):
        return None
    size = float(np.max(np.abs(gains))) or 1.0
    gains = gains / size
    kept = None if fixed is None or not len(fixed) else fixed / size
    found = linprog(
        -gains.sum(axis=0),
        A_ub=-gains,
        b_ub=np.zeros(len(gains)),
        A_eq=kept,
        b_eq=None if kept is None else np.zeros(len(kept)),
        bounds=(-1, 1),
        method="highs",
    )
    if found.x is None:
        raise ArgumentError(
            "prior_scale",
            "inf",
            f"whether the posterior is proper could not be decided ({found.message}); "
            "give a finite prior_scale",
        )
    return found.x if float(np.max(gains @ found.x)) > SLOPE else None


def check_separation(
    gains: np.ndarray, names: Sequence[str], what: str, fixed: np.ndarray | None = None
) -> None:
    """A flat prior needs a likelihood that falls in every direction.

    Raises ArgumentError that says `what` happened and names the largest parts of a direction.
    """
    direction = unbounded_direction(gains, fixed)
    if direction is not None:
        largest = np.argsort(-np.abs(direction), kind="stable")[:3]
        named = ", ".join(repr(names[i]) for i in largest if abs(direction[i]) > SLOPE)
        raise ArgumentError(
            "prior_scale",
            "inf",
            f"the posterior is improper: {what} (along {named}); give a finite prior_scale, e.g. 1",
        )
