"""Paths of stationary action between two configurations, and what kind of point they are.

    delta S = 0 with q(t0) = q0, q(t1) = q1        (eq. 12-15, 22)

Newton's method on the discrete action counts the negative directions of its second variation: the
Morse index, which by Morse's theorem is the number of points conjugate to the start. Source:
Milnor, Morse Theory, chapter 15.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .. import tree
from ..errors import ArgumentError, NotConverged
from ..schemes.collocation import table
from .action import Polynomials, flat_points
from .discrete_action import DiscreteAction, Found, newton
from .lagrangian import Lagrangian

SENSITIVE = 1e3
STRETCHES = tuple(k / 8 for k in range(1, 9))


@dataclasses.dataclass(frozen=True)
class StationaryPath:
    """A path on which the action is stationary (eq. 22).

    `times` (n,); `path`: q with leading axis n; `action`: S; `morse_index`: the number of
    independent variations that lower S, 0 at a minimum; `residual`: the largest Euler-Lagrange
    residual of the discrete action, in units of force. `conjugate_times`: those after t0 and before
    t1 at which neighbouring motions from q0 meet again, to within a step, each as often as it
    counts. `momenta`: p at the two ends, -dS/dq0 and dS/dq1.
    """

    times: Any
    path: Any
    action: Any
    morse_index: int
    residual: float
    conjugate_times: np.ndarray
    momenta: tuple[Any, Any]

    @property
    def kind(self) -> str:
        """`minimum`, or `saddle of index k` (eq. 22: stationary, not least)."""
        return "minimum" if self.morse_index == 0 else f"saddle of index {self.morse_index}"

    def __str__(self) -> str:
        return (
            f"{self.kind}: action {float(self.action):.10g}, residual {self.residual:.1e}, "
            f"{len(self.times)} points from t = {self.times[0]:g} to {self.times[-1]:g}"
        )


def stationary_path(
    lagrangian: Lagrangian,
    q0: Any,
    q1: Any,
    t0: float,
    t1: float,
    nodes: int | Float[Array, " n"],
    order: int = 2,
    guess: Any = None,
) -> StationaryPath:
    """The path from q0 at t0 to q1 at t1 that makes the action stationary, near `guess`.

    `nodes`: how many points in time, equally spaced, the ends among them, or these times
    themselves; `order` of the discretisation: 2, 4 or 6. `guess`: a function t -> q or a pytree
    with an axis of `nodes` first; None: a straight line. Other guesses may find other paths.
    Raises ArgumentError for what cannot be used, NotConverged where no path is found, as where t1
    is conjugate to t0: then none or infinitely many join the ends.
    """
    times = _times(t0, t1, nodes)
    _check(lagrangian, order)
    q0, q1 = tree.as_float(q0, "q0"), tree.as_float(q1, "q1")
    if jax.tree.structure(q0) != jax.tree.structure(q1) or [
        jnp.shape(x) for x in jax.tree.leaves(q0)
    ] != [jnp.shape(x) for x in jax.tree.leaves(q1)]:
        raise ArgumentError("q1", q1, f"the structure and shapes of q0 = {q0}")
    x, unravel = _start(q0, q1, times, order, guess)
    problem = _over(times, Polynomials(lagrangian, unravel, order), x.dtype)
    try:
        x, found = newton(problem, x)
    except NotConverged:
        if guess is not None:
            raise
        x, found = _stretched(problem, x)
    _check_joined(problem, x, found, times)
    return answer(times, x, found, unravel)


def answer(times: np.ndarray, x: Float[Array, "n k d"], found: Found, unravel: Any) -> Any:
    """The path of the intervals' points `x`, as users see it."""
    counts = np.asarray(found.negative)
    where = np.repeat(np.arange(len(counts)), np.diff(counts, prepend=0).clip(min=0))
    return StationaryPath(
        jnp.asarray(times, x.dtype),
        jax.vmap(unravel)(jnp.concatenate([x[:, 0], x[-1:, -1]])),
        found.action,
        int(found.index),
        float(found.residual),
        # The count of the paths up to node k + 1 includes the conjugate points before it.
        times[1:][where],
        (unravel(-found.ends[0]), unravel(found.ends[1])),
    )


def _over(times: np.ndarray, element: Any, dtype: Any) -> DiscreteAction:
    # Times as arrays: other ends in time do not compile again.
    return DiscreteAction(
        element, jnp.asarray(times[:-1], dtype), jnp.asarray(np.diff(times), dtype)
    )


def _stretched(problem: DiscreteAction, x: Array) -> tuple[Array, Found]:
    """From a straight line in a short time, where it is nearly a motion, to the time asked for."""
    begins = problem.begins
    for share in STRETCHES:
        shorter = DiscreteAction(
            problem.element, begins[0] + share * (begins - begins[0]), share * problem.steps
        )
        x, found = newton(shorter, x)
    return x, found  # pyright: ignore[reportPossiblyUnboundVariable]


def _check_joined(problem: DiscreteAction, x: Array, found: Found, times: np.ndarray) -> None:
    """Where the ends determine the path badly, does it survive another number of nodes?

    At a conjugate t1 the discrete problem still has a solution, whose size grows like a power of
    the number of nodes: it is one of the discretisation alone.
    """
    nodes = len(times)
    if not float(found.sensitivity) > SENSITIVE or nodes < 9:
        return
    element: Any = problem.element
    at = np.linspace(0, nodes - 1, (nodes - 1) // 2 + 1)
    fewer = np.interp(at, np.arange(nodes), times)
    line = jnp.concatenate([x[:, 0], x[-1:, -1]])
    guess = jax.vmap(lambda c: jnp.interp(jnp.asarray(fewer), jnp.asarray(times), c), 1, 1)(line)
    y, _ = _start(
        element.unravel(line[0]),
        element.unravel(line[-1]),
        fewer,
        element.order,
        jax.vmap(element.unravel)(guess),
    )
    try:
        y, _ = newton(_over(fewer, element, x.dtype), y)
        gap = float(jnp.max(jnp.abs(jnp.concatenate([y[:, 0], y[-1:, -1]]) - guess)))
    except NotConverged:
        gap = math.inf
    if gap > 0.3 * float(jnp.max(jnp.abs(guess))):
        raise NotConverged(
            f"stationary_path: t1 = {times[-1]:g} is conjugate to t0 = {times[0]:g} to within the "
            "discretisation (the path changes with the number of nodes): no path joins the ends, "
            "or infinitely many; try another t1"
        )


def _start(
    q0: Any, q1: Any, times: np.ndarray, order: int, guess: Any
) -> tuple[Float[Array, "n k d"], Any]:
    """(control points of every interval, unravel)."""
    nodes, degree = len(times), order // 2
    both = jax.tree.map(lambda a, b: jnp.stack([a, b]), q0, q1)
    ends, unravel = flat_points(both)
    inside = jnp.asarray(table("lobatto", order).nodes, ends.dtype)
    clock = jnp.asarray(times, ends.dtype)
    at = clock[:-1, None] + (clock[1:] - clock[:-1])[:, None] * inside
    if guess is None:
        share = (at - clock[0]) / (clock[-1] - clock[0])
        x = ends[0] + (ends[1] - ends[0]) * share[..., None]
    elif callable(guess):
        x = jax.vmap(jax.vmap(lambda t: flat_points(_lead(guess(t)))[0][0]))(at)
    else:
        rows, _ = flat_points(guess)
        if rows.shape != (nodes, ends.shape[1]):
            given = f"{rows.shape[0]} points of {rows.shape[1]} numbers"
            raise ArgumentError("guess", given, f"{nodes} points of {ends.shape[1]} numbers")
        x = rows[:-1, None] + (rows[1:] - rows[:-1])[:, None] * inside[:, None]
    x = jnp.asarray(x, ends.dtype)
    if x.shape != (nodes - 1, degree + 1, ends.shape[1]):
        raise ArgumentError("guess", f"values of {x.shape[-1]} numbers", "those of q0")
    return x.at[0, 0].set(ends[0]).at[-1, -1].set(ends[1]), unravel


def _lead(q: Any) -> Any:
    return jax.tree.map(lambda x: jnp.asarray(x)[None], q)


def _times(t0: float, t1: float, nodes: Any) -> np.ndarray:
    """The nodes in time, checked."""
    if not (math.isfinite(t0) and math.isfinite(t1) and t1 > t0):
        raise ArgumentError("t0, t1", (t0, t1), "finite times with t0 < t1")
    if not isinstance(nodes, int):
        times = np.asarray(nodes, float)
        good = times.ndim == 1 and len(times) >= 4 and (np.diff(times) > 0).all()
        if not (good and times[0] == t0 and times[-1] == t1):
            raise ArgumentError("nodes", nodes, "an integer, or increasing times from t0 to t1")
        return times
    if nodes < 4:
        raise ArgumentError("nodes", nodes, "an integer of at least 4")
    return t0 + (t1 - t0) / (nodes - 1) * np.arange(nodes)


def _check(lagrangian: Any, order: int) -> None:
    if not isinstance(lagrangian, Lagrangian):
        raise ArgumentError("lagrangian", type(lagrangian).__name__, "a Lagrangian(fn)")
    for name in ("force", "rayleigh", "constraint"):
        if getattr(lagrangian, name) is not None:
            raise ArgumentError(name, "a Lagrangian with one", "the action holds L alone")
    if order not in (2, 4, 6):
        raise ArgumentError("order", order, "2, 4 or 6")
