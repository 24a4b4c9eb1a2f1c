"""The flow map phi_t of a vector field, its derivative and its Lyapunov exponents (eq. 1-6)."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from .. import tree
from ..errors import ArgumentError
from ..flow import AbstractFlow
from ..schemes.base import check_step


class FlowMap(eqx.Module):
    """phi_{t, t0}: x(t0) -> x(t) for dx/dt = vector_field(x, t), or vector_field(x) (eq. 1-3).

    `vector_field`: a function on any pytree of float arrays, or a `Flow`, whose velocity it then
    is. Adaptive, by diffrax: `rtol`, `atol` bound the error of a step. Raises ArgumentError
    for what is no vector field.
    """

    vector_field: Callable[..., Any]
    solver: Any
    rtol: float
    atol: float
    max_steps: int = eqx.field(static=True)
    autonomous: bool = eqx.field(static=True)

    def __init__(
        self,
        vector_field: Callable[..., Any] | AbstractFlow,
        solver: Any = None,
        rtol: float = 1e-10,
        atol: float = 1e-12,
        max_steps: int = 100_000,
    ):
        if isinstance(vector_field, AbstractFlow):
            if vector_field.noisy:
                raise ArgumentError("vector_field", str(vector_field), "a noisy flow has no map")
            vector_field = vector_field.velocity
        if not callable(vector_field):
            given = type(vector_field).__name__
            raise ArgumentError("vector_field", given, "a function (x, t) -> dx/dt, or a Flow")
        check_step(rtol, "rtol")
        check_step(atol, "atol")
        wanted = [
            p
            for p in inspect.signature(vector_field).parameters.values()
            if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        ]
        if len(wanted) not in (1, 2):
            given = f"a function of {len(wanted)} arguments"
            raise ArgumentError("vector_field", given, "(x, t) or (x)")
        self.vector_field, self.autonomous = vector_field, len(wanted) == 1
        self.solver = diffrax.Dopri8() if solver is None else solver
        self.rtol, self.atol, self.max_steps = rtol, atol, max_steps

    def velocity(self, x: Any, t: Any) -> Any:
        """dx/dt at (x, t) (eq. 1, 6)."""
        return self.vector_field(x) if self.autonomous else self.vector_field(x, t)

    def __call__(self, x: Any, time: Any, start: Any = 0.0) -> Any:
        """phi(x), the state at `time` of the motion that is at x at `start`; either may be earlier.

        Raises what diffrax raises where the motion does not last so long.
        """
        x = tree.as_float(x, "x")
        return _end(self, x, *_times(x, time, start))

    def path(self, x: Any, times: Float[Array, " n"]) -> Any:
        """The states at increasing `times`, from x at the first of them: leading axis n (eq. 5)."""
        x = tree.as_float(x, "x")
        return _along(self, x, jnp.asarray(times, tree.dtype(x)))

    def group_defect(self, x: Any, first: Any, second: Any, start: Any = 0.0) -> Float[Array, ""]:
        """max |phi_second(phi_first(x)) - phi_{first + second}(x)|: zero for a flow (eq. 3)."""
        middle = self(x, start + first, start)
        gap = tree.sub(
            self(middle, start + first + second, start + first),
            self(x, start + first + second, start),
        )
        return jnp.max(jnp.abs(ravel_pytree(gap)[0]))

    def tangent(self, x: Any, time: Any, start: Any = 0.0) -> Float[Array, "d d"]:
        """D phi(x), over the raveled state: it moves with the vector field's derivative."""
        return self.with_tangent(x, time, start)[1]

    def with_tangent(self, x: Any, time: Any, start: Any = 0.0) -> tuple[Any, Float[Array, "d d"]]:
        """(phi(x), D phi(x))."""
        x = tree.as_float(x, "x")
        return _end_with_tangent(self, x, *_times(x, time, start))

    def lyapunov_exponents(
        self, x: Any, time: float, intervals: int = 100, transient: float = 0.0
    ) -> Float[Array, " d"]:
        """The mean rates at which a frame stretches, largest first, over `time`.

        The frame is made orthogonal after each of `intervals` (Benettin's method); `transient` is
        run before. They add up to the mean divergence of the field.
        """
        if not (isinstance(intervals, int) and intervals >= 1):
            raise ArgumentError("intervals", intervals, "an integer >= 1")
        x = tree.as_float(x, "x")
        whole, before = _times(x, time, transient)
        return _exponents(self, x, whole, before, intervals)

    def _with_frame(self, flat: Any, frame: Any, unravel: Any, time: Any, start: Any) -> Any:
        """(x, columns of a frame) moved together."""

        def flattened(x: Any, t: Any) -> Any:
            return ravel_pytree(self.velocity(unravel(x), t))[0]

        def field(t: Any, y: Any, args: Any) -> Any:
            x, columns = y
            velocity, push = jax.linearize(lambda z: flattened(z, t), x)
            return velocity, jax.vmap(push, 1, 1)(columns)

        moved = self._integrate(field, (flat, frame), time, start, diffrax.SaveAt(t1=True))
        return jax.tree.map(lambda y: y[-1], moved)

    def _integrate(self, field: Any, y: Any, time: Any, start: Any, saveat: Any) -> Any:
        dtype = tree.dtype(y)
        return diffrax.diffeqsolve(
            diffrax.ODETerm(field),
            self.solver,
            jnp.asarray(start, dtype),
            jnp.asarray(time, dtype),
            None,
            y,
            saveat=saveat,
            stepsize_controller=diffrax.PIDController(rtol=self.rtol, atol=self.atol),
            max_steps=self.max_steps,
        ).ys


def _times(x: Any, *times: Any) -> tuple[Any, ...]:
    """Times as arrays, so that another time does not compile again."""
    return tuple(jnp.asarray(t, tree.dtype(x)) for t in times)


@eqx.filter_jit
def _end(flow_map: FlowMap, x: Any, time: Any, start: Any) -> Any:
    field = lambda t, y, args: flow_map.velocity(y, t)  # noqa: E731
    moved = flow_map._integrate(field, x, time, start, diffrax.SaveAt(t1=True))
    return jax.tree.map(lambda y: y[-1], moved)


@eqx.filter_jit
def _along(flow_map: FlowMap, x: Any, times: Any) -> Any:
    field = lambda t, y, args: flow_map.velocity(y, t)  # noqa: E731
    return flow_map._integrate(field, x, times[-1], times[0], diffrax.SaveAt(ts=times))


@eqx.filter_jit
def _end_with_tangent(flow_map: FlowMap, x: Any, time: Any, start: Any) -> Any:
    flat, unravel = ravel_pytree(x)
    frame = jnp.eye(flat.size, dtype=flat.dtype)
    end, tangent = flow_map._with_frame(flat, frame, unravel, time, start)
    return unravel(end), tangent


@eqx.filter_jit
def _exponents(flow_map: FlowMap, x: Any, time: Any, transient: Any, intervals: int) -> Any:
    flat, unravel = ravel_pytree(x)
    zero = jnp.zeros((flat.size, 0), flat.dtype)
    flat, _ = flow_map._with_frame(flat, zero, unravel, transient, 0.0)
    length = time / intervals

    def one(carry: Any, k: Any) -> Any:
        at, frame, logs = carry
        begin = transient + k * length
        at, frame = flow_map._with_frame(at, frame, unravel, begin + length, begin)
        frame, upper = jnp.linalg.qr(frame)
        return (at, frame, logs + jnp.log(jnp.abs(jnp.diagonal(upper)))), None

    start = (flat, jnp.eye(flat.size, dtype=flat.dtype), jnp.zeros_like(flat))
    (_, _, logs), _ = jax.lax.scan(one, start, jnp.arange(intervals, dtype=flat.dtype))
    return jnp.sort(logs / time)[::-1]
