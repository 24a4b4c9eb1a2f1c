"""JKO for a density on a line: argmin F(rho) + W2^2(rho, rho_k)/(2 step) (eq. 50, 59).

The unknown is the mass N_f that has crossed each face. By the layer-cake formula

    W2^2/2 = sum over faces h integral_0^{N_f} (Q_k(M_f + n) - x_f) dn,

Q_k the quantile function of rho_k, exact for its piecewise constant density; so the cost is
separable and convex, its Hessian diagonal, and Newton's system tridiagonal: at the minimum

    psi_i - psi_{i+1} + h (Q_k(M_f + N_f) - x_f)/step = 0,

which says that the optimal map is x + step grad psi. Nothing is interpolated between steps.
`order=2` puts 2 Q_k - Q_{k-1}/2 - 3/2 x_f in place of Q_k - x_f (BDF2).
Sources: Kinderlehrer and Walkington, M2AN 33 (1999) 837; Matthes and Plazotta, Numer. Math. 142
(2019) 439 (BDF2).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from ...states import Density
from ...states.monotone import quantile_shift, wasserstein_squared
from ..tridiagonal import solve_lines
from .pressure import Pressure
from .problem import Movement, Problem

BARRIER = 1e-12
"""Height of the barrier -log rho where F has no entropy, relative to psi and the mean density."""
CUT = 1e-9
"""What the barrier leaves in empty cells, relative to the largest value: set to zero."""


EMPTY = 1e-16
"""Mass of a cell that has none, where F has no entropy."""


def minimise(problem: Problem, previous: Any = None) -> tuple[Movement, Any]:
    """The step by damped Newton; `previous` = (masses, crossed) of the step before, for order 2.

    Returns the movement and (masses of the start, mass crossed), the memory of order 2.
    """
    state: Density = problem.state
    grid, h = state.grid, state.grid.spacing[0]
    clock, tolerance = problem.clock(), problem.accuracy()
    pressure = Pressure(problem.functional, state)
    psi_of, linear, heat = pressure.psi, pressure.linear, pressure.heat
    # Where F has no entropy cells may be empty: they start from next to nothing.
    tiny = jnp.finfo(state.values.dtype).tiny
    start = jnp.maximum(state.masses, jnp.where(heat > 0, 1e10 * tiny, EMPTY))
    start = start / jnp.sum(start)
    # Without entropy a barrier keeps the values positive (an interior-point method).
    barrier: Any = 0.0
    if pressure.internal or pressure.others or not pressure.warm:
        size = jnp.ptp(psi_of(start / h)[0] - heat * jnp.log(start / h) + linear(start / h))
        mean = 1.0 / (h * grid.shape[0])
        barrier = jnp.where(heat > 0, 0.0, BARRIER * mean * (size + 1e-12))

    def shift(crossed: Any) -> tuple[Any, Any]:
        """(Q - x)/step and its slope; for order 2 the combination of two old laws."""
        gap, slope = quantile_shift(start, crossed, h)
        if previous is None:
            return gap / clock, slope / clock
        masses, before = previous
        older, steep = quantile_shift(masses, before + crossed, h)
        return (2.0 * gap - 0.5 * older) / clock, (2.0 * slope - 0.5 * steep) / clock

    def both(crossed: Any) -> tuple[Any, Any]:
        """The masses and their round-off: where a tail empties they are small differences."""
        walls = jnp.zeros(1, crossed.dtype)
        full = jnp.concatenate([walls, crossed, walls])
        noise = jnp.abs(full[1:]) + jnp.abs(full[:-1]) + start
        return start + full[1:] - full[:-1], 4.0 * jnp.finfo(start.dtype).eps * noise

    def masses_at(crossed: Any) -> Any:
        masses, noise = both(crossed)
        return jnp.where(heat > 0, jnp.maximum(masses, noise), masses)

    def equations(crossed: Any, potential: Any, hot: Any = 0.0) -> tuple[Any, Any, Any, Any]:
        masses = masses_at(crossed)
        rho = masses / h
        psi, bend = psi_of(rho)
        psi, bend = psi + potential - (barrier + hot) / rho, bend + (barrier + hot) / rho**2
        gap, slope = shift(crossed)
        force = (psi[:-1] - psi[1:]) / h + gap
        return force, bend, slope, masses

    def size_of(force: Any, masses: Any) -> Any:
        weight = 0.5 * (masses[1:] + masses[:-1])
        return jnp.sqrt(jnp.sum(weight * force**2))

    def newton(carry: Any) -> Any:
        crossed, potential, _, count = carry
        # The barrier sinks from a tenth of psi to its last height, as in interior-point methods.
        hot = jnp.where(barrier > 0, 0.1 * barrier / BARRIER * 0.2**count, 0.0)
        force, bend, slope, masses = equations(crossed, potential, hot)
        slope = jnp.maximum(slope, 0.0)
        diagonal = (bend[:-1] + bend[1:]) / h**2 + slope
        off = -bend / h**2
        move = -solve_lines(off[:-1], diagonal, off[1:], force)
        walls = jnp.zeros(1, move.dtype)
        full = jnp.concatenate([walls, move, walls])
        change = full[1:] - full[:-1]
        # No cell may lose more than nine tenths of what it has, if that is more than round-off.
        known = (heat == 0) | (masses > 10.0 * both(crossed)[1])
        share = -0.9 * masses / jnp.minimum(change, -1e-300)
        room = jnp.min(jnp.where((change < 0) & known, share, jnp.inf))
        length = jnp.minimum(1.0, room)
        downhill = jnp.sum(force * move)

        def beyond(carry: Any) -> Any:
            # The problem is convex: past its least value along the move the slope is positive.
            length, tries = carry
            trial = equations(crossed + length * move, potential, hot)
            return (jnp.sum(trial[0] * move) > 0.3 * jnp.abs(downhill)) & (tries < 40)

        length, _ = jax.lax.while_loop(
            beyond, lambda c: (0.5 * c[0], c[1] + 1), (length, jnp.asarray(0))
        )
        crossed = crossed + length * move
        potential = linear(masses_at(crossed) / h) if pressure.others else potential
        force, _, _, masses = equations(crossed, potential)
        # Where a quantile jumps over an empty cell the force is set-valued; the Newton decrement,
        # as the velocity that the objective still misses, tells that the minimum is reached.
        decrement = jnp.sqrt(h * jnp.abs(downhill) / clock)
        decrement = jnp.where((hot <= barrier) & (length == 1.0), decrement, jnp.inf)
        residual = jnp.minimum(size_of(force, masses), decrement)
        return crossed, potential, residual, count + 1

    first = jnp.zeros(grid.shape[0] - 1, start.dtype)
    potential = linear(start / h)
    force, _, _, masses = equations(first, potential)
    initial = size_of(force, masses)
    scale = 1.0 + initial
    crossed, _, residual, _ = jax.lax.while_loop(
        lambda c: (c[2] > 0.1 * tolerance * scale) & (c[3] < problem.max_iterations),
        newton,
        (first, potential, initial + jnp.inf, jnp.asarray(0)),
    )
    masses = masses_at(crossed)
    kept = jnp.where((heat > 0) | (masses > CUT * jnp.max(masses)), masses, 0.0)
    masses = kept / jnp.sum(kept)
    new = state.tangent(masses / h)
    cost = 0.5 * wasserstein_squared(masses, start, grid.lower[0], h) / clock
    increase = problem.functional(new) - problem.functional(state) + cost
    # -<dF, displacement>, the mean of both ends: by dF itself at the start (without the barrier),
    # at the end by the velocity of the transport, which there is -grad psi.
    slope_before = jnp.diff(psi_of(start / h)[0] + linear(start / h))
    begin = jnp.sum(slope_before * crossed)
    dissipated = 0.5 * (begin + jnp.sum(h * shift(crossed)[0] * crossed))
    movement = Movement(new, increase, residual / (tolerance * scale), dissipated)
    return movement, (start, crossed)


def second_order(problem: Problem, history: Any) -> tuple[Movement, Any]:
    """One BDF2 step; `history` = (masses of the law before, mass crossed since, whether any).

    It minimises F + (W2^2(., rho_k) - W2^2(., rho_{k-1})/4)/step, so De Giorgi's inequality is that
    of this functional: its value at the minimum against that at rho_k,

        F+ + W2^2(rho+, rho_k)/step - W2^2(rho+, rho_{k-1})/(4 step)
            <= F_k - W2^2(rho_k, rho_{k-1})/(4 step).

    With d(+, k-1)^2 <= 2 d(+, k)^2 + 2 d(k, k-1)^2 it follows that F_k + d(k, k-1)^2/(4 step) falls;
    F itself may rise. The increase that is returned is the left side less the right.
    """
    masses, crossed, started = history
    plain = jax.tree.map(jnp.asarray, minimise(problem))
    better = minimise(problem, (masses, crossed))
    movement, (start, moved) = jax.tree.map(lambda a, b: jnp.where(started, a, b), better, plain)
    grid = problem.state.grid

    def square(a: Any, b: Any) -> Any:
        return wasserstein_squared(a, b, grid.lower[0], grid.spacing[0])

    after = movement.state.masses
    pull = square(after, start) - 0.25 * (square(after, masses) - square(start, masses))
    change = problem.functional(movement.state) - problem.functional(problem.state)
    increase = jnp.where(started, change + pull / problem.clock(), movement.increase)
    return movement._replace(increase=increase), (start, moved, jnp.ones((), bool))
