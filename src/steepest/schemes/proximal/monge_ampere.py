"""JKO for a density in a box, one to three axes: argmin F(rho) + W2^2(rho, rho_k)/(2 step).

At the minimum Kantorovich's potential is the first variation p = V + psi(rho) + ..., the optimal
map back to rho_k is S = id + step grad p (Brenier), and the dual problem

    max over p of  integral M p drho_k - F*(p)        (M p the Moreau envelope of p)

is stationary where rho = (rho_k o S) det DS: the Monge-Ampere equation of the step, which Newton's
method solves in rho, with p a function of rho, so rho >= 0 at every iterate. `Sweep` gives the
image in conservation form: mass is kept to round-off. Each system (1/psi' + A) dp = residual, A
symmetric, is solved by conjugate gradients. The start is an implicit finite-volume step; where
Newton's method fails from there, the same problem with shorter steps leads to it. The gap to the
minimum is <dp, residual>/2, and the objective is 1/step-convex along generalised geodesics, so the
velocity of what is left is (<dp, residual>/step)^(1/2): the residual that is reported. |x|^2/2 +
step p must be convex where there is mass, else S is not optimal and the residual is infinite.
Sources: eq. 50; Jacobs, Lee and Leger, ESAIM: COCV 27 (2021) 28 (the dual problem); Benamou,
Carlier, Merigot and Oudet, Numer. Math. 134 (2016) 637 (Monge-Ampere and JKO).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ...states import Density
from ..finite_volume import FiniteVolume
from . import conjugate, pushforward
from .pressure import Pressure
from .problem import Movement, Problem
from .swept import Field, Sweep, Swept

LINEAR = 3e-2
"""What is left of a Newton system's right-hand side; the linearisation is not much better."""
RESOLVED = 1.0
"""Under an entropy, the change of log rho_k from cell to cell, and along a mass's way, up to which
the grid knows the map; beyond twice as much (far tails, jumps) mass moves as in finite volumes."""
ACCURACY = 1e-5
"""The default tolerance: folds and fronts are known to the grid no better."""
FOLDED = 1e-6
"""Mass that may lie where |x|^2/2 + step p is not convex: tails and fronts below the grid."""
SHORTEST = 2.0**-10
"""The shortest fraction of a Newton step worth taking, and of the step to be worth solving."""


def minimise(problem: Problem) -> Movement:
    """The step by Newton's method; where it does not converge, by way of shorter steps."""
    state: Density = problem.state
    grid, dtype = state.grid, state.values.dtype
    clock = jnp.asarray(problem.clock(), dtype)
    pressure = Pressure(problem.functional, state)
    if not (pressure.warm or pressure.internal or pressure.others):
        return pushforward.minimise(problem, pressure.potential)
    tolerance, tiny = problem.accuracy(ACCURACY), jnp.finfo(dtype).tiny
    start = state.values / (jnp.sum(state.values) * grid.cell_volume)
    step: Any = jnp.asarray(problem.step, dtype)
    guess = FiniteVolume(step)._bent(problem, state, jnp.zeros_like(step), step, 1, True)
    trust = still = None
    if pressure.warm:
        # Entropy fills every cell: implicit finite volumes do so with slopes that are finite.
        guess = jnp.maximum(guess, 1e10 * tiny)
        bare, p = Sweep(grid, start, clock), pressure.psi(guess)[0] + pressure.linear(guess)
        trust = jnp.clip(2.0 - bare.resolution(p) / RESOLVED, 0.0, 1.0)
        trust = trust * jnp.clip(4.0 * bare.least_stretch(p) - 1.0, 0.0, 1.0)
        still = guess
    guess = guess / (jnp.sum(guess) * grid.cell_volume)

    def problem_at(share: Any) -> MongeAmpere:
        return MongeAmpere(pressure, Sweep(grid, start, share * clock, trust, still), start, clock)

    whole = problem_at(1.0)
    begun = whole.evaluate(guess)
    scale = 1.0 + jnp.sqrt(2.0 * begun.swept.cost / clock)
    goal = 0.1 * tolerance * scale

    def unfinished(carry: Any) -> Any:
        reached, tried, _, _, _, count = carry
        return (reached < 1.0) & (tried - reached > SHORTEST) & (count < problem.max_iterations)

    def again(carry: Any) -> Any:
        reached, tried, rho, _, _, count = carry
        least = jnp.where(tried < 1.0, 1e2 * goal, goal)
        found, iterate, residual, used = problem_at(tried).newton(
            rho, least, problem.max_iterations - count
        )
        good = residual <= least
        farther = jnp.minimum(1.0, 3.0 * tried)
        nearer = jnp.where(reached > 0, jnp.sqrt(reached * tried), 0.2 * tried)
        back = jnp.where(reached > 0, rho, guess if pressure.warm else start)
        return (
            jnp.where(good, tried, reached),
            jnp.where(good, farther, nearer),
            jnp.where(good, found, back),
            iterate,
            residual,
            count + used,
        )

    one = jnp.ones((), dtype)
    reached, _, rho, (p, swept, _), residual, _ = jax.lax.while_loop(
        unfinished, again, (0.0 * one, one, guess, begun, jnp.inf * one, 0)
    )
    residual = jnp.where(reached < 1.0, jnp.inf, residual)
    folded = jnp.sum(jnp.where(whole.sweep.least_stretch(p) > 0, 0.0, rho)) * grid.cell_volume
    residual = jnp.where(folded > FOLDED, jnp.inf, residual)
    new = state.tangent(rho / (jnp.sum(rho) * grid.cell_volume))
    increase = problem.functional(new) - problem.functional(state) + swept.cost
    before = pressure.psi(jnp.maximum(start, tiny))[0] + pressure.linear(start)
    dissipated = 0.5 * jnp.sum((before + p) * (state.values - new.values)) * grid.cell_volume
    return Movement(new, increase, residual / (tolerance * scale), dissipated)


class Iterate(NamedTuple):
    """p at rho, what it pulls back, and by how much rho misses that."""

    p: Field
    swept: Swept
    missing: Field


class MongeAmpere(NamedTuple):
    """rho = (rho_k o S) det DS, S = id + step grad p(rho), for the density `start` = rho_k."""

    pressure: Pressure
    sweep: Sweep
    start: Field
    clock: Any

    def evaluate(self, rho: Field) -> Iterate:
        tiny = jnp.finfo(rho.dtype).tiny
        p = self.pressure.psi(jnp.maximum(rho, tiny))[0] + self.pressure.linear(rho)
        swept = self.sweep(p)
        return Iterate(p, swept, self.start - rho + swept.gain)

    def newton(self, rho: Field, goal: Any, most: Any) -> tuple[Field, Iterate, Any, Any]:
        """(rho, all at rho, the velocity that is left, iterations); gives up where it stagnates."""
        volume = self.sweep.grid.cell_volume
        limits = jnp.finfo(rho.dtype)

        def unfinished(carry: Any) -> Any:
            _, _, residual, length, count = carry
            return (residual > goal) & (length > SHORTEST) & (count < most)

        def again(carry: Any) -> Any:
            rho, (p, swept, missing), _, _, count = carry
            apply, diagonal = self.sweep.linearised(p, swept.shares)
            # Of rho and what it should be the larger: cells that fill up are not held empty.
            wanted = jnp.maximum(jnp.maximum(rho, rho + missing), limits.tiny)
            inverse = 1.0 / jnp.maximum(self.pressure.psi(wanted)[1], limits.eps)
            both = inverse + diagonal + limits.tiny
            move = conjugate.solve(lambda x: inverse * x + apply(x), both, missing, LINEAR)
            change = inverse * move
            downhill, size = jnp.sum(move * missing), jnp.sum(missing**2 / both)

            def moved(length: Any) -> Any:
                step = length * change
                fallen = jnp.maximum(rho + step, 0.0)
                if self.pressure.warm:  # where p is a logarithm, a fall is taken in it
                    fallen = rho * jnp.exp(jnp.minimum(step, 0.0) / rho)
                return jnp.where(step > 0, rho + step, fallen)

            def beyond(carry: Any) -> Any:
                length, _, found = carry
                shrunk = jnp.sum(found.missing**2 / both) <= (1.0 - 0.1 * length) * size
                return (length > 1.0) | (~shrunk & (length > SHORTEST))

            def shorter(carry: Any) -> Any:
                trial = moved(0.5 * carry[0])
                return 0.5 * carry[0], trial, self.evaluate(trial)

            two = jnp.full((), 2.0, rho.dtype)
            length, rho, found = jax.lax.while_loop(
                beyond, shorter, (two, rho, Iterate(p, swept, missing))
            )
            velocity = jnp.sqrt(jnp.abs(downhill) * volume / self.clock)
            # What was left before this step; a step that stagnates shows nothing.
            velocity = jnp.where(length > SHORTEST, velocity, jnp.inf)
            return rho, found, velocity, length, count + 1

        one = jnp.ones((), rho.dtype)
        rho, found, residual, _, count = jax.lax.while_loop(
            unfinished, again, (rho, self.evaluate(rho), jnp.inf * one, one, 0)
        )
        return rho, found, residual, count
