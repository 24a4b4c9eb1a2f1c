"""The action of a path, its first variation, and the discrete Lagrangian behind both (eq. 8-20).

S[q] = integral of L(q, dq/dt, t) dt,    S_d(q_0, ..., q_N) = sum_k L_d(q_k, q_{k+1})
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from .. import tree
from ..errors import ArgumentError
from ..schemes.collocation import interpolation, table
from .lagrangian import Lagrangian

SMOOTH = 8


def action(lagrangian: Lagrangian, path: Any, times: Float[Array, " n"]) -> Float[Array, ""]:
    """S[path] over `times` (eq. 8, 9, 12, 16).

    `path`: a function t -> q, then each interval is integrated by 4 Gauss points; or a pytree with
    leading axis n, then the path is straight between its points and L is taken at the middle: the
    discrete action of second order. Raises ArgumentError for times that do not increase.
    """
    times = jnp.asarray(times)
    _check_times(times)
    steps = times[1:] - times[:-1]
    if callable(path):
        return _integral(lambda t: lagrangian(*_motion(path, t), t), times)
    for leaf in jax.tree.leaves(path):
        if jnp.shape(leaf)[:1] != times.shape:
            raise ArgumentError("path", f"shape {jnp.shape(leaf)}", f"{len(times)} points of time")
    middle = jax.tree.map(lambda x: 0.5 * (x[1:] + x[:-1]), path)
    slope = jax.tree.map(lambda x: jax.vmap(lambda d, h: d / h)(x[1:] - x[:-1], steps), path)
    values = jax.vmap(lagrangian)(middle, slope, 0.5 * (times[1:] + times[:-1]))
    return jnp.sum(steps * values)


def first_variation(lagrangian: Lagrangian, path: Any, times: Float[Array, " n"]) -> Any:
    """The derivative of the discrete action in each point of a path, zero at the ends (eq. 14-20).

    Divided by the step it is the Euler-Lagrange residual at the inner times, to second order.
    """
    slope = jax.grad(lambda p: action(lagrangian, p, times))(path)
    return jax.tree.map(lambda x: x.at[0].set(0.0).at[-1].set(0.0), slope)


def variation_terms(
    lagrangian: Lagrangian,
    path: Callable[[Array], Any],
    variation: Callable[[Array], Any],
    times: Float[Array, " n"],
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """(integral of dL/dq . eta, integral of dL/dv . d eta/dt), which add to dS (eq. 17, 18).

    `path` and `variation` eta: functions t -> q; each interval is integrated by 4 Gauss points.
    """
    times = jnp.asarray(times)
    _check_times(times)

    def slope(t: Array, moved: int) -> Array:
        (q, v), along = _motion(path, t), _motion(variation, t)[moved]
        fn = (lambda x: lagrangian(x, v, t)) if moved == 0 else (lambda x: lagrangian(q, x, t))
        return jax.jvp(fn, ((q, v)[moved],), (along,))[1]

    return _integral(lambda t: slope(t, 0), times), _integral(lambda t: slope(t, 1), times)


def _motion(path: Callable[[Array], Any], t: Array) -> tuple[Any, Any]:
    """(position, velocity) along a curve (eq. 6, 7)."""
    return jax.jvp(path, (t,), (jnp.ones_like(t),))


def _integral(density: Callable[[Array], Array], times: Array) -> Array:
    """Over `times`, by Gauss points in each interval."""
    used, steps = table("gauss", SMOOTH), times[1:] - times[:-1]
    at = times[:-1, None] + steps[:, None] * jnp.asarray(used.nodes, times.dtype)
    values = jax.vmap(density)(at.ravel()).reshape(len(steps), -1)
    return jnp.sum(steps * (values @ jnp.asarray(used.weights, times.dtype)))


class Polynomials(eqx.Module):
    """(x, t, step) -> the action of one step whose path is a polynomial of degree order/2.

    `x` (order/2 + 1, d): its values at the Lobatto points of the step, the ends among them.
    """

    lagrangian: Lagrangian
    unravel: Callable[[Array], Any] = eqx.field(static=True)
    order: int = eqx.field(static=True)

    def __call__(self, x: Float[Array, "k d"], t: Any, step: Any) -> Float[Array, ""]:
        values, slopes = interpolation("gauss", self.order)
        used = table("gauss", self.order)
        q = jnp.asarray(values, x.dtype) @ x
        v = jnp.asarray(slopes, x.dtype) @ x / step
        at = t + step * jnp.asarray(used.nodes, x.dtype)
        found = jax.vmap(lambda a, b, s: self.lagrangian(self.unravel(a), self.unravel(b), s))(
            q, v, at
        )
        return step * jnp.dot(jnp.asarray(used.weights, x.dtype), found)


def flat_points(path: Any) -> tuple[Float[Array, "n d"], Callable[[Array], Any]]:
    """A path as a matrix, a row a time, and the way back for one row."""
    path = tree.as_float(path, "path")
    count = jax.tree.leaves(path)[0].shape[0]
    _, unravel = ravel_pytree(jax.tree.map(lambda x: x[0], path))
    rows = [x.reshape(count, -1) for x in jax.tree.leaves(path)]
    return jnp.concatenate(rows, axis=1), unravel


def _check_times(times: Any) -> None:
    if times.ndim != 1 or len(times) < 2:
        raise ArgumentError("times", f"shape {times.shape}", "at least two numbers")
    if isinstance(times, Tracer):
        return
    if not np.all(np.diff(np.asarray(times, float)) > 0):
        raise ArgumentError("times", "numbers that do not increase", "increasing times")
