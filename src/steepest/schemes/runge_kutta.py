"""Adaptive Runge-Kutta methods for flows without noise, through diffrax."""

from __future__ import annotations

from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp

from .. import tree
from ..errors import ArgumentError
from ..states.points import pairing
from .base import AbstractScheme, Entry, check_step

SOLVERS = {
    "heun": diffrax.Heun,
    "bosh3": diffrax.Bosh3,
    "tsit5": diffrax.Tsit5,
    "dopri5": diffrax.Dopri5,
    "dopri8": diffrax.Dopri8,
    "kvaerno3": diffrax.Kvaerno3,
    "kvaerno5": diffrax.Kvaerno5,
}


class RungeKutta(AbstractScheme):
    """dx/dt = velocity(x) by an embedded pair with error control.

    `solver`: a name ("heun", "bosh3", "tsit5", "dopri5", "dopri8"; stiff: "kvaerno3", "kvaerno5")
    or a diffrax solver. `rtol`, `atol`: local error tolerances. `step`: the interval between ledger
    entries, which `solve(time=..., steps=...)` sets by itself. The dissipation integral is one more
    component of the equation, so it has the accuracy of the solution.
    """

    solver: Any
    rtol: float
    atol: float
    step: Any
    max_steps: int = eqx.field(static=True)

    def __init__(
        self,
        solver: str | Any = "tsit5",
        rtol: float = 1e-6,
        atol: float = 1e-9,
        step: float | None = None,
        max_steps: int = 4096,
    ):
        if isinstance(solver, str):
            if solver not in SOLVERS:
                raise ArgumentError("solver", repr(solver), f"one of {sorted(SOLVERS)}")
            solver = SOLVERS[solver]()
        check_step(rtol, "rtol")
        check_step(atol, "atol")
        if step is not None:
            check_step(step)
        self.solver, self.rtol, self.atol, self.step = solver, rtol, atol, step
        self.max_steps = max_steps

    def init(self, flow, state, time, randomness):
        return jnp.asarray(0.0, tree.dtype(state))  # the solver's last step size; 0: choose

    def advance(self, flow, state, memory, time, step, randomness):
        def field(t, y, _):
            covector, velocity = flow.slope(y[0], t)
            return velocity, -pairing(y[0], covector, velocity)

        dtype = tree.dtype(state)
        start = jnp.zeros_like(flow.per_point(state, time))
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(field),
            self.solver,
            jnp.asarray(time, dtype),
            jnp.asarray(time + step, dtype),
            jnp.where(memory > 0, jnp.minimum(memory, step), step / 16),
            (state, start),
            stepsize_controller=diffrax.PIDController(rtol=self.rtol, atol=self.atol),
            max_steps=self.max_steps,
            throw=False,
        )
        state, dissipated = _last(solution.ys)
        zero = tree.zeros_like(state)
        state = flow.parts[0].geometry.retract(state, zero)  # back onto a manifold, to round-off
        # A failed solve must not pass for a result: it becomes NaN, which the driver reports.
        good = solution.result == diffrax.RESULTS.successful
        dissipated = jnp.where(good, dissipated, jnp.nan)
        taken = step / jnp.maximum(solution.stats["num_accepted_steps"], 1)
        return state, jnp.asarray(taken, dtype), Entry(dissipated)

    def check(self, flow, state):
        if flow.noisy:
            raise ArgumentError(
                "scheme",
                self.name,
                "this flow is noisy: use Euler(step), BAOAB(step) or OBABO(step)",
            )

    @property
    def order(self):
        return int(self.solver.order(None) or 1)

    @property
    def name(self):
        return f"{type(self.solver).__name__}(rtol={self.rtol:g}, atol={self.atol:g})"


def _last(tree_of_saves: Any) -> Any:
    return jax.tree.map(lambda y: y[-1], tree_of_saves)
