"""The entropic JKO step, for comparison: F(rho) + W2^2/(2 step) with the plan's entropy.

    min over plans, second marginal rho_k, of F(rho) + <c, plan>/step + blur^2/step KL(plan | 1),

c = |x - y|^2/2. The plan is diag(a) K diag(b) with the Gaussian kernel K of deviation `blur`,
applied axis by axis; b K a = rho_k, and rho = a K b minimises F(rho) + blur^2/step KL(rho | K b)
cell by cell. It is not the JKO step: each one spreads the law by about blur^2, so more steps blur
more. De Giorgi's inequality is judged with <c, plan>/step, and fails where the blur outweighs the
descent. Source: Peyre, SIAM J. Imaging Sci. 8 (2015) 2323.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from ...states import Density
from .pressure import Pressure
from .problem import Movement, Problem

CELLS = 2.0
"""The default blur in cells: a kernel below the grid cannot move mass."""


def minimise(problem: Problem, blur: float | None) -> Movement:
    """By alternating scaling; the residual is the mass by which the second marginal is missed."""
    state: Density = problem.state
    grid, dtype = state.grid, state.values.dtype
    clock, tolerance = jnp.asarray(problem.clock(), dtype), problem.accuracy()
    pressure = Pressure(problem.functional, state)
    tiny = jnp.finfo(dtype).tiny
    width = CELLS * max(grid.spacing) if blur is None else blur
    gaps = [jnp.asarray(0.5 * (x[:, None] - x[None, :]) ** 2, dtype) for x in grid.axes]
    kernels = [jnp.exp(-gap / width**2) for gap in gaps]
    heat = width**2 / clock

    def blurred(x: Any, matrices: Any) -> Any:
        for axis, matrix in enumerate(matrices):
            x = jnp.moveaxis(jnp.tensordot(matrix, x, axes=(1, axis)), 0, axis)
        return x

    def proximal(log_rho: Any, log_z: Any, potential: Any) -> Any:
        """log rho at the minimum of F + heat KL(. | z): convex in log rho, Newton's method."""

        def better(log_rho: Any, _: Any) -> Any:
            rho = jnp.exp(log_rho)
            psi, bend = pressure.psi(rho)
            force = heat * (log_rho - log_z) + potential + psi
            return log_rho - force / (heat + bend * rho), None

        return jax.lax.scan(better, log_rho, None, length=4)[0]

    masses = state.masses / jnp.sum(state.masses)

    def unfinished(carry: Any) -> Any:
        _, _, missed, count = carry
        return (missed > 0.1 * tolerance) & (count < problem.max_iterations)

    def again(carry: Any) -> Any:
        log_rho, b, _, count = carry
        z = jnp.maximum(blurred(b, kernels), tiny)
        log_z = jnp.log(z / grid.cell_volume)
        log_rho = proximal(log_rho, log_z, pressure.linear(jnp.exp(log_rho)))
        seen = blurred(jnp.exp(log_rho - log_z), kernels)
        missed = jnp.sum(jnp.abs(b * seen - masses))
        return log_rho, masses / jnp.maximum(seen, tiny), missed, count + 1

    start = jnp.log(jnp.maximum(masses / grid.cell_volume, 1e10 * tiny))
    log_rho, b, missed, _ = jax.lax.while_loop(
        unfinished, again, (start, masses, jnp.asarray(jnp.inf, dtype), 0)
    )
    z = jnp.maximum(blurred(b, kernels), tiny)
    rho = jnp.exp(log_rho)
    new = state.tangent(rho / (jnp.sum(rho) * grid.cell_volume))
    a = rho * grid.cell_volume / z
    cost = jnp.zeros((), dtype)
    for axis, gap in enumerate(gaps):
        weighted = [k * gap if i == axis else k for i, k in enumerate(kernels)]
        cost = cost + jnp.sum(a * blurred(b, weighted)) / clock
    drop = problem.functional(state) - problem.functional(new)
    return Movement(new, cost - drop, missed / tolerance, drop)
