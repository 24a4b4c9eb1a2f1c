"""Minimizing movements, the variational step (eq. 36-37; on measures eq. 50, 59):

    x+ = argmin_x F(x) + cost(x, x_k) / step

The unknown is the covector c of the displacement, x = retract(x_k, -step K c), whose cost is
step/2 <c, K c>: half the squared length over the step, exactly where `retract` is the exponential
map. At the minimum c = dF(x+), so the step is implicit Euler.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optimistix as optx
from jax.flatten_util import ravel_pytree

from .. import tree
from ..errors import ArgumentError
from ..functionals import ExpectedEnergy
from ..geometries import Wasserstein
from ..states.points import is_ensemble, pairing, points
from .base import AbstractScheme, Entry, check_step

DENSE = 128  # up to this many unknowns a dense quasi-Newton matrix and a Newton polish are used


class MinimizingMovement(AbstractScheme):
    """The minimizing-movement (proximal, implicit) step, order 1, monotone at every step size.

    The inner problem is solved by optimistix until |K (dF(x+) - c)|, the residual of its optimality
    condition, is below `tolerance` (1 + |K dF(x_k)|); `tolerance` defaults to 1e-8 in float64 and
    2e-4 in float32. The residual and De Giorgi's inequality F(x+) + cost/step <= F(x_k) are checked
    at every step; a missed tolerance stops the run with NotConverged.
    Source: Ambrosio, Gigli and Savare, Gradient Flows, 2nd ed., section 3.1.
    """

    step: float
    tolerance: float | None = None
    max_iterations: int = 500

    def __check_init__(self):
        check_step(self.step)
        if self.tolerance is not None:
            check_step(self.tolerance, "tolerance")

    def init(self, flow, state, time, randomness):
        return flow.slope(state, time)

    def advance(self, flow, state, memory, time, step, randomness):
        covector, velocity = memory
        part = flow.parts[0]
        functional, geometry = part.functional.at(time + step), part.geometry.at(time)
        if _separable(part, state):
            energy, ground = functional.energy, geometry.ground
            start = state.potential_gradient(covector)
            solve = state.vmap(lambda x, c: self._minimise(energy, ground, x, c, step))
            moved, drop, residual = solve(points(state), start)
            new = type(state)(moved, state.log_weights, state.axis)
            violation, residual = jnp.max(drop), jnp.max(residual)
        else:
            new, violation, residual = self._minimise(functional, geometry, state, covector, step)
        memory = flow.slope(new, time + step)
        before, after = pairing(state, covector, velocity), pairing(new, *memory)
        dissipated = -0.5 * jnp.asarray(step, before.dtype) * (before + after)
        return new, memory, Entry(dissipated, violation=violation, residual=residual)

    def _minimise(self, functional: Any, geometry: Any, state: Any, start: Any, step: Any) -> Any:
        """(x+, F(x+) + cost/step - F(x_k), residual relative to the tolerance)."""
        flat, unravel = ravel_pytree(start)
        step = jnp.asarray(step, flat.dtype)
        tolerance = self.tolerance or (1e-8 if flat.dtype == jnp.float64 else 2e-4)
        value = functional(state)

        def land(c: Any) -> Any:
            return geometry.retract(state, tree.scale(-step, geometry.sharp(state, unravel(c))))

        def increase(c: Any, _: Any = None) -> Any:
            cost = 0.5 * step * geometry.norm_sq(state, unravel(c))
            return functional(land(c)) - value + cost

        def mismatch(c: Any, _: Any = None) -> Any:
            # d(increase)/dc = step K (c - dF(x+)) on a flat space; autodiff knows the curved ones.
            return jax.grad(increase)(c) / step

        dense = flat.size <= DENSE
        kind = optx.BFGS if dense else optx.LBFGS
        best = optx.minimise(
            increase,
            kind(rtol=tolerance, atol=0.1 * tolerance),
            flat,
            max_steps=self.max_iterations,
            throw=False,
        ).value
        scale = 1.0 + jnp.linalg.norm(ravel_pytree(geometry.sharp(state, start))[0])
        if dense and not geometry.curved:
            root = optx.root_find(
                mismatch,
                optx.Newton(rtol=0.1 * tolerance, atol=0.1 * tolerance),
                best,
                max_steps=8,
                throw=False,
            ).value
            better = jnp.linalg.norm(mismatch(root)) < jnp.linalg.norm(mismatch(best))
            lower = increase(root) <= increase(best) + tolerance * scale
            best = jnp.where(better & lower, root, best)
        residual = jnp.linalg.norm(mismatch(best)) / (tolerance * scale)
        return land(best), increase(best), residual

    def check(self, flow, state):
        part = flow.parts[0]
        if flow.noisy or len(flow.parts) != 1:
            raise ArgumentError("scheme", self.name, "it minimises: a single flow without noise")
        if part.geometry.conservative or not part.geometry.dissipative:
            raise ArgumentError(
                "geometry", part.geometry.name, "a conservative part has no minimizing movement"
            )

    @property
    def monotone(self):
        return True


def _separable(part: Any, state: Any) -> bool:
    """Whether every particle minimises by itself."""
    return (
        is_ensemble(state)
        and isinstance(part.functional, ExpectedEnergy)
        and isinstance(part.geometry, Wasserstein)
    )
