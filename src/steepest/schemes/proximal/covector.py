"""The minimizing movement of a point: unknown is the covector c of the displacement.

x+ = retract(x_k, -step K c), whose cost is step/2 <c, K c>: half the squared length over the step,
exactly where `retract` is the exponential map. At the minimum c = dF(x+).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optimistix as optx
from jax.flatten_util import ravel_pytree

from ... import tree
from .problem import Movement, Problem

DENSE = 128  # up to this many unknowns a dense quasi-Newton matrix and a Newton polish are used


def minimise(problem: Problem) -> Movement:
    """By quasi-Newton (BFGS, L-BFGS when large) and, where K is flat and small, a Newton polish."""
    functional, geometry, state = problem.functional, problem.geometry, problem.state
    flat, unravel = ravel_pytree(problem.covector)
    step = jnp.asarray(problem.step, flat.dtype)
    tolerance = problem.accuracy()
    value = functional(state)

    def land(c: Any) -> Any:
        return geometry.retract(state, tree.scale(-step, geometry.sharp(state, unravel(c))))

    def increase(c: Any, _: Any = None) -> Any:
        cost = 0.5 * step * geometry.norm_sq(state, unravel(c))
        return functional(land(c)) - value + cost

    def mismatch(c: Any, _: Any = None) -> Any:
        # d(increase)/dc = step K (c - dF(x+)) on a flat space; autodiff knows the curved ones.
        return jax.grad(increase)(c) / step

    dense = flat.size <= DENSE
    kind = optx.BFGS if dense else optx.LBFGS
    best = optx.minimise(
        increase,
        kind(rtol=tolerance, atol=0.1 * tolerance),
        flat,
        max_steps=problem.max_iterations,
        throw=False,
    ).value
    scale = 1.0 + jnp.linalg.norm(ravel_pytree(geometry.sharp(state, problem.covector))[0])
    if dense and not geometry.curved:
        root = optx.root_find(
            mismatch,
            optx.Newton(rtol=0.1 * tolerance, atol=0.1 * tolerance),
            best,
            max_steps=8,
            throw=False,
        ).value
        better = jnp.linalg.norm(mismatch(root)) < jnp.linalg.norm(mismatch(best))
        lower = increase(root) <= increase(best) + tolerance * scale
        best = jnp.where(better & lower, root, best)
    residual = jnp.linalg.norm(mismatch(best)) / (tolerance * scale)
    return Movement(land(best), increase(best), residual)
