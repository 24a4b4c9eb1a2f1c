"""Least action at a fixed energy: the curve first, the clock after it (eq. 12-15; Maupertuis).

Along a path of least action e = |v|^2/4 - |b|^2/4 is constant, so that

    S = integral of sqrt(|b|^2/4 + e) |dx| - e t + (E(x1) - E(x0))/2,
    dt = |dx| / sqrt(|b|^2 + 4 e)

The curve is a geodesic of Jacobi's metric; how long it takes decides on e, which falls like
exp(-rate t): the path then waits at minima and saddles, at each for a share that e determines,
where in the clock's own coordinates nothing but round-off would. Source: Heymann and
Vanden-Eijnden, Comm. Pure Appl. Math. 61 (2008) 1052.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from .. import tree
from ..errors import NotConverged
from ..flow import Flow
from ..geometries.string import evenly
from .action import Polynomials, flat_points
from .discrete_action import DiscreteAction, newton
from .lagrangian import Lagrangian
from .stationary import StationaryPath, answer

ROUNDS, SETTLED, BISECTIONS = 40, 1e-8, 100
LEAST, MOST = -690.0, 230.0  # of log c: what float64 holds
NEAR, EVEN = 0.1, 1e-12


class Clock:
    """Time and action along a polygon (n, d) at speed sqrt(|b|^2 + c), b straight on each piece.

    Then |b|^2 is a parabola, (begin + u root)^2 + foot for u from 0 to 1. Where it passes zero
    within `NEAR` of a piece, which the mesh cannot tell from zero, the path goes through a minimum
    or saddle, and ends there if it ends within as much.
    """

    def __init__(self, flow: Flow, rows: Float[Array, "n d"], unravel: Any):
        field = jax.vmap(lambda x: _flat(drift(flow, unravel(x))))(rows)
        b, change = field[:-1], field[1:] - field[:-1]
        at = 0.5 * (rows[1:] + rows[:-1])
        square = jax.vmap(lambda x, v: flow.geometry.length_sq(unravel(x), unravel(v)))
        grown = square(at, change)
        product = 0.5 * (square(at, b + change) - square(at, b) - grown)
        # What is left of b across its change: by differences of vectors, not of squares.
        foot = square(at, b - change * (product / jnp.where(grown > 0, grown, 1.0))[:, None])
        self.middle = np.asarray(square(at, b + 0.5 * change), float)
        self.length = np.sqrt(np.asarray(square(at, rows[1:] - rows[:-1]), float))
        grown, product, foot = (np.asarray(a, float) for a in (grown, product, foot))
        self.root = np.sqrt(grown)
        self.begin = product / np.where(self.root > 0, self.root, 1.0)
        self.end = self.begin + self.root
        tiny = NEAR * self.root
        crosses = (self.begin <= tiny) & (self.end >= -tiny)
        self.foot = np.where(crosses & (foot < tiny**2), 0.0, foot)
        if abs(self.begin[0]) < tiny[0]:
            self.begin[0] = 0.0
        if abs(self.end[-1]) < tiny[-1]:
            self.end[-1] = 0.0

    def durations(self, log_c: float) -> Float[np.ndarray, " m"]:
        """Of every piece."""
        c = math.exp(log_c)
        width = np.sqrt(self.foot + c)
        swept = np.arcsinh(self.end / width) - np.arcsinh(self.begin / width)
        even = self.root**2 <= EVEN * (self.middle + c)
        safe = np.where(even, 1.0, self.root)
        return self.length * np.where(even, 1.0 / np.sqrt(self.middle + c), swept / safe)

    def times(self, log_c: float) -> Float[np.ndarray, " n"]:
        """At the points of the polygon, from 0."""
        return np.append(0.0, np.cumsum(self.durations(log_c)))

    def climb(self, log_c: float) -> float:
        """The integral of sqrt(|b|^2 + c)/2 along the polygon."""
        c = math.exp(log_c)
        width = self.foot + c

        def half(y: np.ndarray) -> np.ndarray:
            return 0.5 * (y * np.sqrt(y**2 + width) + width * np.arcsinh(y / np.sqrt(width)))

        even = self.root**2 <= EVEN * (self.middle + c)
        swept = (half(self.end) - half(self.begin)) / np.where(even, 1.0, self.root)
        return 0.5 * float(self.length @ np.where(even, np.sqrt(self.middle + c), swept))

    def log_c(self, time: float) -> float:
        """log c of the speed that takes `time`; the least that floats hold where none takes it."""
        low, high = LEAST, MOST
        for _ in range(BISECTIONS):
            middle = 0.5 * (low + high)
            longer = self.durations(middle).sum() > time
            low, high = (middle, high) if longer else (low, middle)
        return 0.5 * (low + high)


def drift(flow: Flow, x: Any) -> Any:
    """b = -K dE, without the part that the noise adds."""
    return tree.scale(-1.0, flow.geometry.sharp(x, flow.functional.differential(x)))


def _flat(x: Any) -> Array:
    return ravel_pytree(x)[0]


class _Jacobi(eqx.Module):
    """(w - tension) |v| + stiffness/2 |v|^2 with w = sqrt(|b|^2/4 + e).

    Where |v| = tension/stiffness everywhere the first variation is that of w |v| alone: of the
    length in Jacobi's metric, which by itself would leave the points free to slide.
    """

    flow: Flow
    energy: Any
    tension: Any
    stiffness: Any

    def __call__(self, x: Any, v: Any) -> Array:
        geometry = self.flow.geometry
        length = jnp.sqrt(geometry.length_sq(x, v))
        w = jnp.sqrt(0.25 * geometry.length_sq(x, drift(self.flow, x)) + self.energy)
        return (w - self.tension) * length + 0.5 * self.stiffness * length**2


def geometric_path(flow: Flow, curve: Any, time: float, nodes: int) -> StationaryPath:
    """The path of least action near `curve` that takes `time`, its points evenly along it.

    Its `times` are those of the clock, its Morse index that at a fixed energy, and its residual the
    force across it. Of second order in the points. Raises NotConverged where no geodesic is found,
    and where `time` is longer than that of any energy that floats hold.
    """
    rows, unravel = flat_points(curve)
    rows = evenly(rows, nodes)
    array = lambda a: jnp.asarray(a, rows.dtype)  # noqa: E731
    at = jnp.linspace(0.0, 1.0, nodes, dtype=rows.dtype)
    before = (0.0, 0.0)
    for _ in range(ROUNDS):
        clock = Clock(flow, rows, unravel)
        log_c, length = clock.log_c(time), clock.length.sum()
        if log_c <= LEAST + 1.0:
            raise NotConverged(
                f"transition_path: in a time of {time:g} the path only waits at minima and "
                f"saddles; S is that of {clock.durations(LEAST + 1.0).sum():.3g} already"
            )
        # The energy that the mesh can tell from zero: what it moves the path by is of its order.
        shown = max(math.exp(log_c), float(clock.root.max()) ** 2)
        weight = np.average(0.5 * np.sqrt(clock.middle + shown), weights=clock.length)
        stiffness = 0.1 * weight / length
        jacobi = _Jacobi(flow, array(shown / 4), array(stiffness * length), array(stiffness))
        element = Polynomials(Lagrangian(jacobi), unravel, 2)
        x = jnp.stack([rows[:-1], rows[1:]], axis=1)
        x, found = newton(DiscreteAction(element, at[:-1], at[1:] - at[:-1]), x)
        rows = jnp.concatenate([x[:, 0], x[-1:, -1]])
        if abs(length - before[0]) < SETTLED * length and abs(log_c - before[1]) < SETTLED**0.5:
            break
        before = (length, log_c)
    else:
        raise NotConverged("transition_path: curve and clock do not settle; try a shorter time")
    passed = clock.times(log_c)
    passed[-1] = time
    c, start, end = math.exp(log_c), unravel(rows[0]), unravel(rows[-1])
    climbed = float(flow.functional(end) - flow.functional(start))
    return dataclasses.replace(
        answer(passed, x, found, unravel),
        action=array(clock.climb(log_c) - 0.25 * c * time + 0.5 * climbed),
        momenta=(
            _momentum(flow, start, unravel(rows[1] - rows[0]), c),
            _momentum(flow, end, unravel(rows[-1] - rows[-2]), c),
        ),
    )


def _momentum(flow: Flow, x: Any, along: Any, c: float) -> Any:
    """dL/dv of L = |v - b|^2/4 at the speed of the path."""
    b, length = drift(flow, x), flow.geometry.length_sq
    speed = jnp.sqrt((length(x, b) + c) / length(x, along))
    cost = lambda v: 0.25 * length(x, tree.sub(v, b))  # noqa: E731
    return jax.grad(cost)(tree.scale(speed, along))
