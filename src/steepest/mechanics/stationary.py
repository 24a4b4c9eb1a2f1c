"""Paths of stationary action between two configurations, and what kind of point they are.

    delta S = 0 with q(t0) = q0, q(t1) = q1        (eq. 12-15, 22)

Newton's method on the discrete action, whose second variation is block-tridiagonal: O(nodes) a
step. The elimination also counts its negative directions: the Morse index, which by Morse's theorem
is the number of points conjugate to the start. Source: Milnor, Morse Theory, chapter 15.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .. import tree
from ..errors import ArgumentError, NotConverged
from .action import element, flat_points
from .band import solve_blocks
from .lagrangian import Lagrangian

MOST_STEPS, HALVINGS = 60, 30
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
    nodes: int,
    order: int = 2,
    guess: Any = None,
) -> StationaryPath:
    """The path from q0 at t0 to q1 at t1 that makes the action stationary, near `guess`.

    `nodes`: points in time, equally spaced, the ends among them; `order` of the discretisation: 2,
    4 or 6. `guess`: a function t -> q or a pytree with leading axis `nodes`; None: a straight line.
    Other guesses may find other paths.
    Raises ArgumentError for what cannot be used, NotConverged where no path is found, as where t1
    is conjugate to t0: then none or infinitely many join the ends.
    """
    _check(lagrangian, t0, t1, nodes, order)
    q0, q1 = tree.as_float(q0, "q0"), tree.as_float(q1, "q1")
    if jax.tree.structure(q0) != jax.tree.structure(q1) or [
        jnp.shape(x) for x in jax.tree.leaves(q0)
    ] != [jnp.shape(x) for x in jax.tree.leaves(q1)]:
        raise ArgumentError("q1", q1, f"the structure and shapes of q0 = {q0}")
    times, x, unravel = _start(q0, q1, t0, t1, nodes, order, guess)
    # Times as arrays: other ends in time do not compile again.
    step, begin = jnp.asarray((t1 - t0) / (nodes - 1), x.dtype), jnp.asarray(t0, x.dtype)
    problem = _Problem(lagrangian, begin, step, order)
    try:
        x, found = _newton(problem, x, unravel)
    except NotConverged:
        if guess is not None:
            raise
        x, found = _stretched(problem, x, unravel)
    _check_joined(problem, x, unravel, found, nodes)
    back = jax.vmap(unravel)
    counts = np.asarray(found.negative)
    where = np.repeat(np.arange(len(counts)), np.diff(counts, prepend=0).clip(min=0))
    return StationaryPath(
        times,
        back(jnp.concatenate([x[:, 0], x[-1:, -1]])),
        found.action,
        int(found.index),
        float(found.residual),
        # The count of the paths up to node k + 1 includes the conjugate points before it.
        np.asarray(times)[1:][where],
        (unravel(-found.ends[0]), unravel(found.ends[1])),
    )


class _Problem(eqx.Module):
    lagrangian: Lagrangian
    t0: Any
    step: Any
    order: int = eqx.field(static=True)


class _Found(eqx.Module):
    """Of the discrete action at a path: what Newton's method and the user want to know."""

    action: Any
    move: Any
    residual: Any
    merit: Any
    index: Any
    negative: Any
    ends: Any
    sensitivity: Any


def _newton(problem: _Problem, x: Array, unravel: Any) -> tuple[Array, _Found]:
    """Damped by halving until the first variation shrinks."""
    found = _second(problem, x, unravel)
    if not bool(jnp.isfinite(found.action)) or not bool(jnp.isfinite(found.merit)):
        raise ArgumentError(
            "guess",
            "a path on which the Lagrangian or its derivatives are not finite",
            "give another guess, inside the domain of the Lagrangian",
        )
    count = x.shape[0]
    epsilon = float(jnp.finfo(x.dtype).eps)
    # Rounding of the second differences, m eps/step, divided by the smallest eigenvalue.
    floor = max(1e-10, 20 * epsilon * math.sqrt(count) * count)
    sizes = []
    for _ in range(MOST_STEPS):
        scale = float(jnp.max(jnp.abs(x))) or 1.0
        size = float(jnp.max(jnp.abs(found.move))) / scale
        if not math.isfinite(size):
            break
        sizes.append(size)
        stalled = (
            len(sizes) > 2 and sizes[-1] > 0.3 * sizes[-2] and sizes[-1] < 1e-3 * min(1, floor**0.5)
        )
        if size <= floor or stalled:
            return x + found.move, _second(problem, x + found.move, unravel)
        share = 1.0
        for _ in range(HALVINGS):
            trial = x + share * found.move
            if float(_merit(problem, trial, unravel)) <= (1 - 1e-4 * share) * float(found.merit):
                break
            share *= 0.5
        else:
            break
        x, found = trial, _second(problem, trial, unravel)
    raise NotConverged(
        f"stationary_path: no path found after {len(sizes)} Newton steps, residual "
        f"{float(found.residual):.3g}, Morse index {int(found.index)} there; perhaps none joins "
        "the ends in this time: try another guess, another t1, or more nodes"
    )


def _stretched(problem: _Problem, x: Array, unravel: Any) -> tuple[Array, _Found]:
    """From a straight line in a short time, where it is nearly a motion, to the time asked for."""
    for share in STRETCHES:
        shorter = _Problem(problem.lagrangian, problem.t0, share * problem.step, problem.order)
        x, found = _newton(shorter, x, unravel)
    return x, found  # pyright: ignore[reportPossiblyUnboundVariable]


def _assemble(problem: _Problem, x: Array, unravel: Any, hessians: bool) -> tuple[Any, ...]:
    one = element(problem.lagrangian, unravel, problem.order)
    times = problem.t0 + problem.step * jnp.arange(x.shape[0], dtype=x.dtype)
    over = lambda fn: jax.vmap(lambda a, t: fn(a, t, problem.step))(x, times)  # noqa: E731
    values, slopes = over(jax.value_and_grad(one))
    return values, slopes, over(jax.hessian(one)) if hessians else None


@eqx.filter_jit
def _merit(problem: _Problem, x: Array, unravel: Any) -> Array:
    _, slopes, _ = _assemble(problem, x, unravel, False)
    return _norm(slopes)


def _norm(slopes: Array) -> Array:
    inner = slopes[1:, 0] + slopes[:-1, -1]
    return jnp.sqrt(jnp.sum(inner**2) + jnp.sum(slopes[:, 1:-1] ** 2))


@eqx.filter_jit
def _second(problem: _Problem, x: Array, unravel: Any) -> _Found:
    """Newton's step, with the inner points of every interval eliminated first.

    `x` (intervals, order/2 + 1, d); neighbours share their end points.
    """
    count, size, d = x.shape
    values, slopes, bends = _assemble(problem, x, unravel, True)
    assert bends is not None
    m = (size - 2) * d
    outer = np.array([*range(d), *range((size - 1) * d, size * d)])
    inner = np.arange(d, d + m)
    flat, matrix = slopes.reshape(count, -1), bends.reshape(count, size * d, size * d)
    ends, slope = matrix[:, outer[:, None], outer], flat[:, outer]
    index, solved = jnp.zeros((), jnp.int32), jnp.zeros((count, 0, 2 * d + 1), x.dtype)
    if m:
        own, cross = matrix[:, inner[:, None], inner], matrix[:, inner[:, None], outer]
        both = jnp.concatenate([cross, flat[:, inner, None]], axis=2)
        solved = jnp.linalg.solve(own, both)
        ends = ends - jnp.swapaxes(cross, 1, 2) @ solved[..., :-1]
        slope = slope - jnp.einsum("kio,ki->ko", cross, solved[..., -1])
        index = index + jnp.sum(jnp.linalg.eigvalsh(own) < 0)
    diagonal = ends[:-1, d:, d:] + ends[1:, :d, :d]
    upper = ends[1:-1, :d, d:]
    gradient = slope[:-1, d:] + slope[1:, :d]
    # A second right-hand side: how the path answers when q1 moves, the Jacobi fields.
    answer = jnp.zeros((count - 1, d, d), x.dtype).at[-1].set(-ends[-1, :d, d:])
    right = jnp.concatenate([-gradient[..., None], answer], axis=2)
    solved_all, pivots = solve_blocks(diagonal, upper, right)
    moves, fields = solved_all[..., 0], solved_all[..., 1:]
    negative = jnp.cumsum(jnp.sum(jnp.linalg.eigvalsh(pivots) < 0, axis=1))
    zero = jnp.zeros((1, d), x.dtype)
    nodes = jnp.concatenate([zero, moves, zero])
    move = jnp.zeros_like(x).at[:, 0].set(nodes[:-1]).at[:, -1].set(nodes[1:])
    if m:
        outside = jnp.concatenate([nodes[:-1], nodes[1:]], axis=1)
        inside = -solved[..., -1] - jnp.einsum("kio,ko->ki", solved[..., :-1], outside)
        move = move.at[:, 1:-1].set(inside.reshape(count, size - 2, d))
    total = slopes[1:, 0] + slopes[:-1, -1]
    residual = jnp.max(jnp.abs(total))
    if m:
        residual = jnp.maximum(residual, jnp.max(jnp.abs(slopes[:, 1:-1])))
    return _Found(
        jnp.sum(values),
        move,
        residual / problem.step,
        _norm(slopes),
        index + negative[-1],
        negative,
        (slopes[0, 0], slopes[-1, -1]),
        jnp.max(jnp.abs(fields)),
    )


def _check_joined(problem: _Problem, x: Array, unravel: Any, found: _Found, nodes: int) -> None:
    """Where the ends determine the path badly, does it survive another number of nodes?

    At a conjugate t1 the discrete problem still has a solution, whose size grows like a power of
    the number of nodes: it is one of the discretisation alone.
    """
    if not float(found.sensitivity) > SENSITIVE or nodes < 9:
        return
    coarse = (nodes - 1) // 2 + 1
    line = jnp.concatenate([x[:, 0], x[-1:, -1]])
    q0, q1 = unravel(line[0]), unravel(line[-1])
    t0, t1 = float(problem.t0), float(problem.t0 + problem.step * (nodes - 1))
    at = np.linspace(0, nodes - 1, coarse)
    guess = jax.vmap(lambda c: jnp.interp(at, np.arange(nodes), c), 1, 1)(line)
    _, y, _ = _start(q0, q1, t0, t1, coarse, problem.order, jax.vmap(unravel)(guess))
    step = jnp.asarray((t1 - t0) / (coarse - 1), x.dtype)
    again = _Problem(problem.lagrangian, problem.t0, step, problem.order)
    try:
        y, _ = _newton(again, y, unravel)
        gap = float(jnp.max(jnp.abs(jnp.concatenate([y[:, 0], y[-1:, -1]]) - guess)))
    except NotConverged:
        gap = math.inf
    if gap > 0.3 * float(jnp.max(jnp.abs(guess))):
        raise NotConverged(
            f"stationary_path: t1 = {t1:g} is conjugate to t0 = {t0:g} to within the "
            "discretisation (the path changes with the number of nodes): no path joins the ends, "
            "or infinitely many; try another t1"
        )


def _start(
    q0: Any, q1: Any, t0: float, t1: float, nodes: int, order: int, guess: Any
) -> tuple[Any, Float[Array, "n k d"], Any]:
    """(times, control points of every interval, unravel)."""
    degree = order // 2
    both = jax.tree.map(lambda a, b: jnp.stack([a, b]), q0, q1)
    ends, unravel = flat_points(both)
    times = t0 + (t1 - t0) / (nodes - 1) * jnp.arange(nodes, dtype=ends.dtype)
    from ..schemes.collocation import table

    inside = jnp.asarray(table("lobatto", order).nodes, ends.dtype)
    at = times[:-1, None] + (times[1:] - times[:-1])[:, None] * inside
    if guess is None:
        x = ends[0] + (ends[1] - ends[0]) * ((at - t0) / (t1 - t0))[..., None]
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
    return times, x.at[0, 0].set(ends[0]).at[-1, -1].set(ends[1]), unravel


def _lead(q: Any) -> Any:
    return jax.tree.map(lambda x: jnp.asarray(x)[None], q)


def _check(lagrangian: Any, t0: float, t1: float, nodes: int, order: int) -> None:
    if not isinstance(lagrangian, Lagrangian):
        raise ArgumentError("lagrangian", type(lagrangian).__name__, "a Lagrangian(fn)")
    for name in ("force", "rayleigh", "constraint"):
        if getattr(lagrangian, name) is not None:
            raise ArgumentError(name, "a Lagrangian with one", "the action holds L alone")
    if not (math.isfinite(t0) and math.isfinite(t1) and t1 > t0):
        raise ArgumentError("t0, t1", (t0, t1), "finite times with t0 < t1")
    if not isinstance(nodes, int) or nodes < 4:
        raise ArgumentError("nodes", nodes, "an integer of at least 4")
    if order not in (2, 4, 6):
        raise ArgumentError("order", order, "2, 4 or 6")
