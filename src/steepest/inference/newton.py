"""The mode, by Newton's flow of E on points (eq. 38).

dx/dt = -|H(x)|^{-1} grad E(x), with H the Hessian and |.| on its eigenvalues (in the units that
make its diagonal one), so that saddles repel. A step of length one is Newton's.
Source: Dauphin et al., NeurIPS 2014 (|H|).
"""

from __future__ import annotations

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..flow import Flow
from ..functionals import Energy
from ..geometries import Riemannian
from ..ledger import Ledger
from .descent import descend
from .frame import Frame
from .target import Target

MOST_STEPS = 40


class Curvature(eqx.Module):
    """x -> the Hessian of E; `absolute`: with its eigenvalues made positive."""

    target: Any
    absolute: bool = eqx.field(static=True, default=True)

    def __call__(self, x: Float[Array, " d"]) -> Float[Array, "d d"]:
        own = self.target.expect_gaussian
        if own is None:
            hessian = jax.hessian(self.target)(x)
        else:
            hessian = own(x, jnp.zeros((x.size, x.size), x.dtype), count=1)[2]
        hessian = 0.5 * (hessian + hessian.T)
        return absolute(hessian) if self.absolute else hessian


def absolute(matrix: Float[Array, "d d"]) -> Float[Array, "d d"]:
    """|matrix|, with a floor at its rounding errors in the units that make its diagonal one."""
    diagonal = jnp.abs(jnp.diagonal(matrix))
    floor = 16.0 * matrix.shape[0] * jnp.finfo(matrix.dtype).eps
    size = jnp.sqrt(jnp.maximum(diagonal, floor * jnp.max(diagonal)) + jnp.finfo(matrix.dtype).tiny)
    values, vectors = jnp.linalg.eigh(matrix / jnp.outer(size, size))
    values = jnp.maximum(jnp.abs(values), floor * jnp.maximum(jnp.max(jnp.abs(values)), 1.0))
    return jnp.outer(size, size) * ((vectors * values) @ vectors.T)


@dataclasses.dataclass(frozen=True)
class Found:
    """Where Newton's flow ended from one start.

    `precision`: the Hessian there, None unless it is positive and the flow came to rest. `value`:
    of E. `remaining`: nats of E - min E, by Newton's estimate.
    """

    point: Array
    value: float
    precision: np.ndarray | None
    remaining: float
    gradients: int
    ledger: Ledger | None
    why: str


def mode_from(target: Target, start: Array, budget: int, remaining: float = 1e-3) -> Found:
    """Newton's flow from `start`, by at most `MOST_STEPS` steps."""
    flow = Flow(Energy(target), Riemannian(Curvature(target)))
    cost = hessian_cost(target)
    run = descend(
        flow, start, cost=cost, trial=1, budget=budget, remaining=remaining, most=MOST_STEPS
    )
    if run.ledger is None:
        return Found(run.state, np.nan, None, np.inf, 0, None, run.why)
    hessian = np.asarray(_hessian(Curvature(target, absolute=False), run.state), float)
    found = run.remaining <= max(remaining, 0.1) and _positive(hessian)
    return Found(
        run.state,
        float(run.ledger.functional[-1]),
        hessian if found else None,
        run.remaining,
        run.gradients,
        run.ledger,
        run.why,
    )


def hessian_cost(target: Target) -> int:
    """Gradients that the value, slope and Hessian at one point cost."""
    return 1 if target.expect_gaussian is not None else 1 + target.dimension


@dataclasses.dataclass(frozen=True)
class Mode:
    """The mode and the frame at it, in units of the curvature.

    `found`: whether E has a strict minimum there; else the frame is that of the start.
    """

    point: Array
    frame: Frame
    found: bool
    remaining: float
    gradients: int
    ledger: Ledger | None
    why: str


def find_mode(target: Target, budget: int, remaining: float) -> Mode:
    """From the target's start; `remaining`: nats of E - min E, by Newton's estimate."""
    end = mode_from(target, target.start, budget, remaining)
    d = target.dimension
    rest = (end.remaining, end.gradients, end.ledger, end.why)
    if end.precision is not None:
        return Mode(end.point, Frame.from_precision(target, end.point, end.precision), True, *rest)
    if end.ledger is None:
        return Mode(end.point, Frame.from_precision(target, end.point, np.eye(d)), False, *rest)
    hessian = np.asarray(_hessian(Curvature(target), target.start), float)
    # Nothing is known of how far the curvature at the start reaches: no scale beyond one.
    hessian = hessian + np.eye(d)
    return Mode(end.point, Frame.from_precision(target, target.start, hessian), False, *rest)


@eqx.filter_jit
def _hessian(curvature: Curvature, x: Array) -> Array:
    return curvature(x)


def _positive(matrix: np.ndarray) -> bool:
    diagonal = np.diagonal(matrix)
    if not (np.all(np.isfinite(matrix)) and np.all(diagonal > 0)):
        return False
    size = np.sqrt(diagonal)
    return bool(np.linalg.eigvalsh(matrix / np.outer(size, size))[0] > 1e-6)
