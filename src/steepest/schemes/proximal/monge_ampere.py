"""JKO for a density in a box, one to three axes: argmin F(rho) + W2^2(rho, rho_k)/(2 step) (eq. 50).

At the minimum Kantorovich's potential is the first variation p = V + psi(rho) + ..., the optimal map
back to rho_k is S = id + step grad p (Brenier), and the dual problem

    max over p of  integral M p drho_k - F*(p)        (M p the Moreau envelope of p)

is stationary where rho = (rho_k o S) det DS: the Monge-Ampere equation of the step, which Newton's
method solves in rho, with p a function of rho, so rho >= 0 at every iterate. `Sweep` gives the image
in conservation form: mass is kept to round-off, and since F(rho_k) - F(rho) >= <p, rho_k - rho> =
integral B ds for a convex F, De Giorgi's inequality holds on the grid with integral s B ds as the
cost, to the accuracy of the solve. Each system (1/psi' + A) dp = residual, A symmetric, is solved by
conjugate gradients. The gap to the minimum is <dp, residual>/2, and the objective is 1/step-convex
along generalised geodesics, so the velocity of what is left is (<dp, residual>/step)^(1/2): the
residual that is reported. |x|^2/2 + step p must be convex where there is mass, else S is not
optimal and the residual is infinite.
Sources: Jacobs, Lee and Leger, ESAIM: COCV 27 (2021) 28 (the dual problem); Benamou, Carlier,
Merigot and Oudet, Numer. Math. 134 (2016) 637 (Monge-Ampere and JKO).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from ...states import Density
from ..finite_volume import FiniteVolume
from . import conjugate, pushforward
from .pressure import Pressure
from .problem import Movement, Problem
from .swept import Sweep

LINEAR = 3e-2
"""What is left of a Newton system's right-hand side; the linearisation is not much better."""
RESOLVED = 1.0
"""Under an entropy, the change of log rho_k from cell to cell, and along the way of a cell's mass, up
to which the grid knows the map; beyond twice as much (far tails, jumps) mass moves as in an implicit
finite volume."""
FOLDED = 1e-6
"""Mass that may lie where |x|^2/2 + step p is not convex: tails and fronts below the grid."""


def minimise(problem: Problem) -> Movement:
    """The step by Newton's method, damped where it overshoots."""
    state: Density = problem.state
    grid, dtype = state.grid, state.values.dtype
    clock, tolerance = jnp.asarray(problem.clock(), dtype), problem.accuracy()
    pressure = Pressure(problem.functional, state)
    if not (pressure.warm or pressure.internal or pressure.others):
        return pushforward.minimise(problem, pressure.potential)
    tiny = jnp.finfo(dtype).tiny
    start = state.values / (jnp.sum(state.values) * grid.cell_volume)
    first, trust = start, None
    if pressure.warm:
        # Entropy fills every cell: implicit finite volumes do so with slopes that are finite.
        first = FiniteVolume(problem.step)._bent(problem, state, 0.0, problem.step, 1, True)
        first = jnp.maximum(first, 1e10 * tiny)
        first = first / (jnp.sum(first) * grid.cell_volume)
        bare, guess = Sweep(grid, start, clock), pressure.psi(first)[0] + pressure.linear(first)
        trust = jnp.clip(2.0 - bare.resolution(guess) / RESOLVED, 0.0, 1.0)
        trust = trust * jnp.clip(4.0 * bare.least_stretch(guess) - 1.0, 0.0, 1.0)
    sweep = Sweep(grid, start, clock, trust, first)

    def evaluate(rho: Any) -> Any:
        """p at rho, what it pulls back, and by how much rho misses that."""
        p = pressure.psi(jnp.maximum(rho, tiny))[0] + pressure.linear(rho)
        swept = sweep(p)
        return p, swept, start - rho + swept.gain

    def newton(carry: Any) -> Any:
        rho, (p, _, missing), _, count = carry
        apply, diagonal = sweep.linearised(p)
        # Of rho and what it should be the larger: cells that fill up are not held empty.
        bend = pressure.psi(jnp.maximum(jnp.maximum(rho, rho + missing), tiny))[1]
        inverse = 1.0 / jnp.maximum(bend, jnp.finfo(dtype).eps)
        both = inverse + diagonal + tiny
        move = conjugate.solve(lambda x: inverse * x + apply(x), both, missing, LINEAR)
        change = inverse * move
        downhill, size = jnp.sum(move * missing), jnp.sum(missing**2 / both)

        def moved(length: Any) -> Any:
            step = length * change
            fallen = jnp.maximum(rho + step, 0.0)
            if pressure.warm:  # where p is a logarithm, a fall is taken in it
                fallen = rho * jnp.exp(jnp.minimum(step, 0.0) / rho)
            return jnp.where(step > 0, rho + step, fallen)

        def beyond(carry: Any) -> Any:
            length, _, (_, _, rest), tries = carry
            shrunk = jnp.sum(rest**2 / both) <= (1.0 - 0.1 * length) * size
            return ~shrunk & (tries < 30)

        def shorter(carry: Any) -> Any:
            length, _, _, tries = carry
            trial = moved(0.5 * length)
            return 0.5 * length, trial, evaluate(trial), tries + 1

        first = moved(jnp.ones((), dtype))
        length, rho, found, _ = jax.lax.while_loop(
            beyond, shorter, (jnp.ones((), dtype), first, evaluate(first), 0)
        )
        velocity = jnp.sqrt(jnp.abs(downhill) * grid.cell_volume / clock)
        jax.debug.print(
            "  it {} len {} vel {} miss {} tries {}",
            count,
            length,
            velocity,
            jnp.abs(found[2]).max(),
            _,
        )  # DBG
        return rho, found, jnp.where(length == 1.0, velocity, jnp.inf), count + 1

    found = evaluate(first)
    scale = 1.0 + jnp.sqrt(2.0 * found[1].cost / clock)
    rho, (p, swept, _), residual, _ = jax.lax.while_loop(
        lambda c: (c[2] > 0.1 * tolerance * scale) & (c[3] < problem.max_iterations),
        newton,
        (first, found, scale * jnp.inf, jnp.asarray(0)),
    )
    folded = jnp.sum(jnp.where(sweep.least_stretch(p) > 0, 0.0, rho)) * grid.cell_volume
    residual = jnp.where(folded > FOLDED, jnp.inf, residual)
    new = state.tangent(rho / (jnp.sum(rho) * grid.cell_volume))
    increase = problem.functional(new) - problem.functional(state) + swept.cost
    slope = (pressure.psi(jnp.maximum(start, tiny))[0] + pressure.linear(start) + p) * (
        state.values - new.values
    )
    dissipated = 0.5 * jnp.sum(slope) * grid.cell_volume
    return Movement(new, increase, residual / (tolerance * scale), dissipated)
