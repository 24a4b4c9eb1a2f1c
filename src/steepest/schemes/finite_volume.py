"""Implicit finite volumes for the flow of a density (eq. 45, 55, 58, 61).

One step solves (1 - h A) rho+ = rho along each axis in turn, A the generator of Scharfetter-Gummel
rates. Each solve is a Markov kernel that leaves the Gibbs law of the grid in place, whatever h is:
mass and the Gibbs law are exact, rho+ >= 0, and a relative entropy cannot grow (Jensen).
"""

from __future__ import annotations

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from .. import tree
from ..errors import ArgumentError
from ..geometries import Symplectic, Wasserstein
from ..geometries.cone import unscaled
from ..states import Density
from .base import AbstractScheme, Entry, check_step
from .generator import Generator, assemble

MOST_PECLET = 10.0
GAMMA = 1.0 - math.sqrt(0.5)


class FiniteVolume(AbstractScheme):
    """Implicit steps of a `Density` under Wasserstein transport (eq. 45, 55, 61).

    `order=1`: implicit Euler, along the axes in turn. At every step size rho >= 0, mass is kept to
    round-off, the Gibbs law of the grid stays, and F does not increase.
    `order=2`: the L-stable two-stage method of Alexander, symmetric over the axes; mass and the
    Gibbs law are exact likewise, and a step that would make a value negative (beyond the round-off
    of the largest, which is set to zero) or raise F is taken again with order 1.
    Interactions and internal energies make the operator depend on rho: it is frozen at an iterate
    (`iterations` of them), at the end of the step for order 1 and half-way for order 2. Mass and
    sign then hold as before, descent is checked, not guaranteed.
    Raises ArgumentError where a cell is too coarse for the drift: |V_up - V|/T above 10 next to
    mass, where the scheme would be upwind and of order 1 in space without saying so.
    Source of order 2: Alexander, SIAM J. Numer. Anal. 14 (1977) 1006.
    """

    step: float
    order: int = eqx.field(static=True, default=1)  # pyright: ignore[reportIncompatibleMethodOverride]
    iterations: int = eqx.field(static=True, default=3)

    def __check_init__(self):
        check_step(self.step)
        if self.order not in (1, 2):
            raise ArgumentError("order", self.order, "1 or 2")
        if not isinstance(self.iterations, int) or self.iterations < 1:
            raise ArgumentError("iterations", self.iterations, "an integer >= 1")

    def init(self, flow, state, time, randomness):
        operator = assemble(flow.parts[0], state, state.values, time)
        return operator, *self._rates(flow, operator, state, time)

    def _rates(self, flow: Any, operator: Generator, state: Any, time: Any) -> tuple[Any, Any]:
        """(F, the rate at which the fluxes lower it)."""
        part = flow.parts[0]
        variation, upwind = operator.variation(state.values), self.order == 1
        resolved = part.functional.at(time).resolve()
        if not resolved.rest:
            value = jnp.sum(state.values * variation) * state.grid.cell_volume
            return value, operator.dissipation_rate(state.values, variation, upwind)
        covector = part.functional.at(time).differential(state)
        variation = covector.values / state.grid.cell_volume
        rate = operator.dissipation_rate(state.values, variation, upwind)
        return part.per_point(state, time), rate

    def advance(self, flow, state, memory, time, step, randomness):
        operator, value, rate = memory
        part = flow.parts[0]
        bent = bool(part.functional.at(time).resolve().rest)
        moving = bent or flow.time_dependent
        later = time + step

        def measured(order: int) -> Any:
            if moving:
                values = self._bent(part, state, time, step, order, bent)
            else:
                values = self._linear(operator, state.values, step, order)
            new = state.tangent(_repaired(values) if order == 2 else values)
            frozen = assemble(part, state, new.values, later) if moving else operator
            return new, frozen, self._rates(flow, frozen, new, later)

        new, frozen, (lower, after) = measured(self.order)
        if self.order == 2:
            slack = 10 * jnp.finfo(state.values.dtype).eps * jnp.abs(value)
            good = jnp.all(new.values >= 0)
            if not flow.time_dependent:
                good = good & (lower <= value + slack)
            new, frozen, (lower, after) = jax.lax.cond(
                good, lambda: (new, frozen, (lower, after)), lambda: measured(1)
            )
        dissipated = 0.5 * jnp.asarray(step, value.dtype) * (rate + after)
        return new, (frozen, lower, after), Entry(dissipated)

    def _linear(self, operator: Generator, values: Any, step: Any, order: int) -> Any:
        """rho after one step of a fixed operator."""
        axes = [a for a in range(operator.grid.dimension) if operator.up[a] is not None]
        once = _euler if order == 1 else _alexander
        drift = operator.current
        if order == 1:
            if drift is not None:
                values = drift.advance(values, step, upwind=True)
            for axis in axes:
                values = once(operator, values, step, axis)
            return values
        # Strang: halves on either side of the last axis, the current outermost.
        if drift is not None:
            values = drift.advance(values, 0.5 * step, upwind=False)
        for axis in axes[:-1]:
            values = once(operator, values, 0.5 * step, axis)
        values = once(operator, values, step, axes[-1])
        for axis in reversed(axes[:-1]):
            values = once(operator, values, 0.5 * step, axis)
        if drift is not None:
            values = drift.advance(values, 0.5 * step, upwind=False)
        return values

    def _bent(self, part: Any, state: Any, time: Any, step: Any, order: int, bent: bool) -> Any:
        """rho after one step of an operator that depends on rho or on time."""
        at = time + (step if order == 1 else 0.5 * step)

        def again(_: Any, guess: Any) -> Any:
            where = guess if order == 1 else 0.5 * (state.values + guess)
            operator = assemble(part, state, jnp.maximum(where, 0.0), at)
            return self._linear(operator, state.values, step, order).astype(state.values.dtype)

        # A loop, not a repetition: it is compiled once.
        return jax.lax.fori_loop(0, self.iterations if bent else 1, again, state.values)

    def check(self, flow, state):
        if flow.noisy or len(flow.parts) != 1:
            raise ArgumentError("scheme", self.name, "a single flow without noise; see Composition")
        if not isinstance(state, Density):
            raise ArgumentError("state", type(state).__name__, "a Density on a Grid")
        if not isinstance(unscaled(flow.parts[0].geometry)[1], Wasserstein):
            raise ArgumentError(
                "geometry",
                flow.parts[0].geometry.name,
                "FiniteVolume moves mass: Wasserstein(); sums by Composition(...)",
            )
        ground = unscaled(flow.parts[0].geometry)[1].ground
        for term in ground.terms:
            if term.conservative and type(unscaled(term)[1]) is not Symplectic:
                raise ArgumentError("ground", ground.name, "of what conserves: Symplectic() alone")

    def examine(self, flow, state):
        return fitness(flow.parts[0], state)

    def judge(self, flow, state, found):
        judge_fitness(state, found)

    def monotone(self, flow):
        return True

    @property
    def name(self):
        return f"FiniteVolume({self.step:g}, order={self.order})"


def fitness(part: Any, state: Density) -> tuple[Any, Any]:
    """(whether V is finite on the grid, the cell Peclet number) at the start of a run.

    The number is zero where it says nothing: at T = 0, and beside interactions.
    """
    operator = assemble(part, state, state.values, 0.0)
    number = jnp.zeros((), state.values.dtype)
    if not part.functional.resolve().rest:
        number = jnp.where(operator.temperature > 0, operator.worst_peclet(state.values), number)
    return tree.all_finite(operator.potential), number


def judge_fitness(state: Density, found: tuple[Any, Any]) -> None:
    """Raises ArgumentError for an infinite potential or a grid too coarse for the drift."""
    finite, number = bool(found[0]), float(found[1])
    if not finite:
        raise ArgumentError(
            "functional",
            "an energy that is infinite on the grid",
            "shrink the grid to where the target is positive",
        )
    if number > MOST_PECLET:
        cells = [math.ceil(n * number / MOST_PECLET) for n in state.grid.shape]
        raise ArgumentError(
            "grid",
            f"cell Peclet number {number:.3g}, the change of energy over T across a cell",
            f"at most {MOST_PECLET:g}; {cells} cells would do",
        )


def _repaired(values: Any) -> Any:
    """Negative values at the round-off of the largest become zero, the rest keeps the mass."""
    cut = jnp.where(values < -10 * jnp.finfo(values.dtype).eps * jnp.max(values), values, 0.0)
    kept = jnp.where(values < 0, cut, values)
    return kept * (jnp.sum(values) / jnp.sum(kept))


def _euler(operator: Generator, values: Any, step: Any, axis: int) -> Any:
    return operator.backward(values, step, axis)


def _alexander(operator: Generator, values: Any, step: Any, axis: int) -> Any:
    """(1 + (1 - 2g) z)/(1 - g z)^2 at z = step A, g = 1 - 1/sqrt(2): two solves, no product."""
    first = operator.backward(values, GAMMA * step, axis)
    second = operator.backward(first, GAMMA * step, axis)
    return second + (1.0 - 2.0 * GAMMA) / GAMMA * (second - first)
