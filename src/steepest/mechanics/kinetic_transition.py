"""How an underdamped flow crosses: the least action of its fluctuations, which act on p alone.

    dq = v dt,  m dv = -(dE + gamma v) dt + sqrt(2 gamma T) dW,
    S = integral of |m a + dE + gamma v|^2 / (4 gamma)

over paths q(t) with a = d^2q/dt^2, their position and momentum given at both ends (eq. 42, 53). The
paths are cubic Hermite splines, so that v has no jumps; neighbouring intervals share (q, v) and the
second variation is block-tridiagonal as ever. Order 4.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from ..errors import ArgumentError, NotConverged
from ..flow import Flow
from ..schemes.collocation import table
from ..schemes.splitting import friction_of, hamiltonian
from ..states import Phase
from .action import flat_points
from .discrete_action import DiscreteAction, Found, newton
from .stationary import StationaryPath, answer

CALMER = (64.0, 16.0, 4.0, 1.0)


class _Splines(eqx.Module):
    """(x, t, step) -> S of one interval; x (2, 2 d): positions beside velocities times `unit`."""

    energy: Any
    mass: Float[Array, " d"]
    friction: Any
    unit: Any
    unravel: Callable[[Array], Any] = eqx.field(static=True)

    def __call__(self, x: Float[Array, "2 k"], t: Any, step: Any) -> Float[Array, ""]:
        d = x.shape[1] // 2
        used = table("gauss", 8)
        s = jnp.asarray(used.nodes, x.dtype)[:, None]
        q0, rise = x[0, :d], x[1, :d] - x[0, :d]
        v0, v1 = x[:, d:] * (step / self.unit)
        # q = q0 + s v0 + s^2 b + s^3 c with the slopes v0 and v1 at the ends.
        b, c = 3.0 * rise - 2.0 * v0 - v1, v0 + v1 - 2.0 * rise
        q = q0 + s * (v0 + s * (b + s * c))
        v = (v0 + s * (2.0 * b + 3.0 * s * c)) / step
        a = (2.0 * b + 6.0 * s * c) / step**2
        force = jax.vmap(lambda y: ravel_pytree(self.energy.differential(self.unravel(y)))[0])(q)
        push = self.mass * a + force + self.friction * v
        size = jnp.sum(push**2, axis=1)
        return step * jnp.dot(jnp.asarray(used.weights, x.dtype), size) / (4.0 * self.friction)


def positive_friction(flow: Flow) -> float:
    """gamma; raises ArgumentError where it is none or a schedule."""
    friction = friction_of(flow.geometry)
    if friction is None or callable(friction) or not float(friction) > 0:
        raise ArgumentError("flow", flow.geometry.name, "a friction that is a number > 0")
    return float(friction)


def kinetic_path(
    flow: Flow, start: Any, end: Any, time: float, nodes: int, curve: Any
) -> StationaryPath:
    """The path of least S from `start` to `end`, each a `Phase` or a position at rest.

    `curve`: positions with an axis of `nodes` first, at equal times, to begin from. The `path` is a
    `Phase`. Raises ArgumentError for a flow without friction, NotConverged where no path is found,
    also where `time` is so long that round-off alone decides when the path leaves. `momenta`:
    -dS/dx at the start and dS/dx at the end, x = (q, p).
    """
    start, end = (x if isinstance(x, Phase) else Phase.at_rest(x) for x in (start, end))
    bound = flow.bind(start)
    whole = hamiltonian(bound.functional)
    friction = positive_friction(flow)
    rows, unravel = flat_points(curve)
    dtype = rows.dtype
    weights = jax.tree.map(
        lambda m, p: jnp.broadcast_to(m, p.shape), whole.masses(start.momentum), start.momentum
    )
    mass = ravel_pytree(weights)[0]
    step = time / (nodes - 1)
    speed = jnp.asarray(jnp.gradient(rows, step, axis=0))
    unit = jnp.max(jnp.abs(rows)) / jnp.max(jnp.abs(speed))
    points = jnp.concatenate([rows, unit * speed], axis=1)
    for place, phase in ((0, start), (-1, end)):
        fixed = [ravel_pytree(phase.position)[0], unit * ravel_pytree(phase.momentum)[0] / mass]
        points = points.at[place].set(jnp.concatenate(fixed))
    x = jnp.stack([points[:-1], points[1:]], axis=1)
    steps = jnp.full((nodes - 1,), step, dtype)
    begins = step * jnp.arange(nodes - 1, dtype=dtype)

    def relaxed(x: Array, friction: Any) -> tuple[Array, Found]:
        element = _Splines(whole.potential, mass, jnp.asarray(friction, dtype), unit, unravel)
        return newton(DiscreteAction(element, begins, steps), x)

    try:
        x, found = relaxed(x, friction)
    except NotConverged:
        for factor in CALMER:  # from a thicker fluid, where the path is that of descent
            x, found = relaxed(x, factor * friction)
    d = rows.shape[1]
    ends = found.ends  # pyright: ignore[reportPossiblyUnboundVariable]
    back = lambda y: Phase(unravel(y[:d]), unravel(mass * y[d:] / unit))  # noqa: E731
    slope = lambda g: Phase(unravel(g[:d]), unravel(unit * g[d:] / mass))  # noqa: E731
    found = answer(np.linspace(0.0, time, nodes), x, found, back)  # pyright: ignore[reportPossiblyUnboundVariable]
    return dataclasses.replace(found, momenta=(slope(-ends[0]), slope(ends[1])))
