"""Newton's method on a discrete action: a sum over intervals, each of its own few points.

    S_d(x) = sum_k S_k(x_k),    neighbours share their end points

Its second variation is block-tridiagonal: O(nodes) a step. The elimination also counts its negative
directions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..errors import ArgumentError, NotConverged
from .band import solve_blocks

MOST_STEPS, HALVINGS = 60, 30


class DiscreteAction(eqx.Module):
    """`element`: (points (k, d), t, step) -> action of one interval; the intervals in time."""

    element: Callable[..., Any]
    begins: Float[Array, " n"]
    steps: Float[Array, " n"]


class Found(eqx.Module):
    """Of the discrete action at a path: what Newton's method and the user want to know."""

    action: Any
    move: Any
    residual: Any
    merit: Any
    index: Any
    negative: Any
    ends: Any
    sensitivity: Any


def newton(problem: DiscreteAction, x: Float[Array, "n k d"]) -> tuple[Array, Found]:
    """Damped by halving until the first variation shrinks."""
    found = second_variation(problem, x)
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
            return x + found.move, second_variation(problem, x + found.move)
        share = 1.0
        for _ in range(HALVINGS):
            trial = x + share * found.move
            if float(_merit(problem, trial)) <= (1 - 1e-4 * share) * float(found.merit):
                break
            share *= 0.5
        else:
            break
        x, found = trial, second_variation(problem, trial)
    raise NotConverged(
        f"stationary_path: no path found after {len(sizes)} Newton steps, residual "
        f"{float(found.residual):.3g}, Morse index {int(found.index)} there; perhaps none joins "
        "the ends in this time: try another guess, another t1, or more nodes"
    )


def _assemble(problem: DiscreteAction, x: Array, hessians: bool) -> tuple[Any, ...]:
    one = problem.element
    over = lambda fn: jax.vmap(fn)(x, problem.begins, problem.steps)  # noqa: E731
    values, slopes = over(jax.value_and_grad(one))
    return values, slopes, over(jax.hessian(one)) if hessians else None


@eqx.filter_jit
def _merit(problem: DiscreteAction, x: Array) -> Array:
    _, slopes, _ = _assemble(problem, x, False)
    return _norm(slopes)


def _norm(slopes: Array) -> Array:
    inner = slopes[1:, 0] + slopes[:-1, -1]
    return jnp.sqrt(jnp.sum(inner**2) + jnp.sum(slopes[:, 1:-1] ** 2))


@eqx.filter_jit
def second_variation(problem: DiscreteAction, x: Float[Array, "n k d"]) -> Found:
    """Newton's step, with the inner points of every interval eliminated first."""
    count, size, d = x.shape
    values, slopes, bends = _assemble(problem, x, True)
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
    residual = jnp.max(jnp.abs(total) / (0.5 * (problem.steps[1:] + problem.steps[:-1]))[:, None])
    if m:
        inside = jnp.abs(slopes[:, 1:-1]) / problem.steps[:, None, None]
        residual = jnp.maximum(residual, jnp.max(inside))
    return Found(
        jnp.sum(values),
        move,
        residual,
        _norm(slopes),
        index + negative[-1],
        negative,
        (slopes[0, 0], slopes[-1, -1]),
        jnp.max(jnp.abs(fields)),
    )
