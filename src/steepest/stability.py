"""Is the step small enough? The fastest rate of the linearised flow against what a scheme bears.

An explicit scheme follows dy/dt = -rate y, or the oscillation d^2y/dt^2 = -rate^2 y of a kinetic
flow, without blowing up while step * rate stays below a limit of its own (2 for Euler's method and
for leapfrog). The fastest rate is the spectral radius of the Jacobian of the velocity -K dF, which
is K times the curvature of F where K is constant; a few products with a vector find it (power
iteration), and no matrix is built.
Source: Hairer and Wanner, Solving Ordinary Differential Equations II, sections IV.2-3.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp

from . import tree
from .compiled import split
from .random import Randomness
from .states.points import is_ensemble, points, with_points

ITERATIONS = 16
STREAM = 21


@dataclasses.dataclass(frozen=True)
class Stiffness:
    """`rate`: the fastest one at a state, in 1/time, from below. `limit`: of step * rate.

    Power iteration from a random direction errs by a factor of about (d / 2)^(1 / 2 ITERATIONS) at
    most on d degrees of freedom, 1.1 for d = 100.
    """

    step: float
    rate: float
    limit: float

    @property
    def longest(self) -> float:
        """The longest step that is stable at this rate."""
        return self.limit / self.rate if self.rate > 0 else math.inf

    @property
    def ratio(self) -> float:
        """step * rate / limit: above 1 a small error grows."""
        return self.step * self.rate / self.limit

    def __str__(self) -> str:
        return (
            f"step {self.step:.3g}, the longest stable one is about {self.longest:.3g} "
            f"(fastest rate {self.rate:.3g})"
        )


def stiffness(flow: Any, state: Any, scheme: Any, time: float = 0.0) -> Stiffness | None:
    """Of the linearised flow at `state`; None where the scheme has no such limit.

    That is where it is implicit, adaptive or exact, and where nothing oscillates or decays alone.
    """
    state = tree.as_float(state)
    bound = flow.bind(state)
    step, limit = scheme.step, scheme.stability(bound)
    if step is None or limit is None:
        return None
    arrays, static = split(bound, scheme)
    rate = float(_fastest(arrays, state, jnp.asarray(time, tree.dtype(state)), static))
    return Stiffness(float(step), rate, limit) if math.isfinite(rate) else None


def _fastest_rate(arrays: Any, state: Any, time: Any, static: Any) -> Any:
    flow, _ = static.filled(arrays)
    oscillates = any(part.geometry.kinetic for part in flow.parts)
    product = _stiffness_product if oscillates else _jacobian_product
    zero = jnp.zeros((), jnp.uint32)
    start = Randomness(zero, zero).like(_moved(state, oscillates), "normal", STREAM, 0)

    def once(_: Any, found: tuple[Any, Any]) -> tuple[Any, Any]:
        direction, _ = found
        new = product(flow, state, time, direction)
        size = jnp.sqrt(tree.dot(new, new))
        return tree.scale(1.0 / jnp.maximum(size, jnp.finfo(size.dtype).tiny), new), size

    unit = tree.scale(1.0 / jnp.sqrt(tree.dot(start, start)), start)
    size = jax.lax.fori_loop(0, ITERATIONS, once, (unit, jnp.zeros((), tree.dtype(state))))[1]
    return jnp.sqrt(size) if oscillates else size


_fastest = jax.jit(_fastest_rate, static_argnames="static")


def _moved(state: Any, oscillates: bool) -> Any:
    """What the directions are like: positions alone where momenta follow."""
    inner = points(state) if is_ensemble(state) else state
    return inner.position if oscillates else inner


def _jacobian_product(flow: Any, state: Any, time: Any, direction: Any) -> Any:
    """D(velocity) direction, of points."""
    inner = points(state) if is_ensemble(state) else state
    whole = lambda x: with_points(state, x) if is_ensemble(state) else x  # noqa: E731
    velocity = lambda x: _moved(flow.slope(whole(x), time)[1], False)  # noqa: E731
    return jax.jvp(velocity, (inner,), (direction,))[1]


def _stiffness_product(flow: Any, state: Any, time: Any, direction: Any) -> Any:
    """M^-1 (curvature of E) direction: what a shift of q does to p, and that in turn to q.

    Friction acts on momenta alone and stays out of both.
    """
    phase = points(state)
    still = jax.tree.map(jnp.zeros_like, phase)
    pushed = dataclasses.replace(still, position=direction)
    force = _jacobian_product(flow, state, time, pushed)
    kicked = dataclasses.replace(still, momentum=force.momentum)
    return _jacobian_product(flow, state, time, kicked).position
