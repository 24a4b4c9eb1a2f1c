"""Descents to minima of E, in the coordinates of a frame: L-BFGS of SciPy, gradients counted."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from scipy import optimize

from .frame import Frame
from .target import Target


@dataclasses.dataclass(frozen=True)
class Descended:
    """Where a descent ended: place (d,) in the frame, E and its gradient (d,) there.

    `first`: the gradient (d,) at its start. `settled`: it came to rest at a finite value; else its
    gradients ran out, or there was no way down. `known`: it ended where it was told to.
    """

    place: np.ndarray
    value: float
    slope: np.ndarray
    first: np.ndarray
    settled: bool
    known: bool
    gradients: int


class _Ended(Exception):
    """The descent has used up its gradients, or came to where nothing more is to be learnt."""


def plain(target: Target) -> Frame:
    """The target's own coordinates, about its start."""
    return Frame(target, target.start, jnp.ones_like(target.start))


def descend(
    frame: Frame,
    start: np.ndarray,
    most: int,
    *,
    stride: float = 1.0,
    met: Callable[[np.ndarray], bool] | None = None,
) -> Descended:
    """Down from `start` (d,) by at most `most` gradients.

    `stride`: the length of the first step tried. `met(y)`: whether to end at y, asked before E is.
    """
    spent, known = 0, False
    nothing = np.full(len(start), math.nan)
    best, first = (math.inf, np.asarray(start, float), nothing), nothing

    def fun(u: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal spent, known, best, first
        y = stride * u
        known = met is not None and met(y)
        if known or spent == most:
            raise _Ended
        spent += 1
        value, slope = slope_at(frame, y)
        if not (math.isfinite(value) and np.isfinite(slope).all()):
            return 1e30, np.zeros_like(slope)  # a line search needs numbers; a wall will do
        first = slope if spent == 1 else first
        if value < best[0]:
            best = value, y, slope
        return value, stride * slope

    options = dict(maxfun=2 * most, maxcor=20, maxls=20, ftol=1e-7, gtol=1e-4)
    settled = False
    with contextlib.suppress(_Ended):
        # Its first step has length one.
        found = optimize.minimize(
            fun, np.asarray(start, float) / stride, jac=True, method="L-BFGS-B", options=options
        )
        settled = found.status in (0, 2) and math.isfinite(best[0])
    value, place, slope = best
    return Descended(place, value, slope, first, settled, known, spent)


def slope_at(frame: Frame, y: np.ndarray) -> tuple[float, np.ndarray]:
    """E and its gradient (d,) at a place (d,) of the frame; one gradient."""
    value, slope = _value_and_slope(frame, jnp.asarray(y, frame.centre.dtype))
    return float(value), np.asarray(slope, float)


def curvature(frame: Frame, at: np.ndarray) -> np.ndarray:
    """The Hessian of E at a place (d,) of the frame, in its coordinates; costs d gradients."""
    found = np.asarray(_hessian(frame, jnp.asarray(at, frame.centre.dtype)), float)
    return 0.5 * (found + found.T)


def mode_near(frame: Frame, end: Descended) -> tuple[np.ndarray, np.ndarray, float] | None:
    """(place (d,), Hessian (d, d), how far E still falls) of the mode next to a descent's end.

    By one step of Newton's method; None where a quadratic has much left to fall, or none is there.
    Costs d gradients.
    """
    hessian = curvature(frame, end.place)
    if not positive(hessian):
        return None
    newton = np.linalg.solve(hessian, end.slope)
    twice = float(end.slope @ newton)
    return (end.place - newton, hessian, 0.5 * twice) if twice < 0.1 * len(newton) else None


def positive(matrix: np.ndarray, least: float = 1e-10) -> bool:
    """Whether a symmetric matrix is finite, with all eigenvalues beyond `least` of the largest."""
    if not np.isfinite(matrix).all():
        return False
    values = np.linalg.eigvalsh(matrix)
    return bool(values[0] > least * values[-1] > 0)


@eqx.filter_jit
def _value_and_slope(frame: Frame, y: jax.Array) -> tuple[Any, Any]:
    return jax.value_and_grad(frame)(y)


@eqx.filter_jit
def _hessian(frame: Frame, y: jax.Array) -> Any:
    return jax.hessian(frame)(y)
