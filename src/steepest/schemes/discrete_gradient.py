"""Steps that keep the balance of F exactly, whatever their size (eq. 29, 31, 35, 40)."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from .. import tree
from ..errors import ArgumentError
from ..functionals.discrete import discrete_gradient
from ..roots import root
from .pointwise import Pointwise


class DiscreteGradient(Pointwise):
    """x+ - x = -step K(middle) dF(x, x+) with a discrete gradient: second order, implicit.

    Since <dF, x+ - x> = F(x+) - F(x), a conservative flow keeps F and a dissipative one lowers it
    by exactly step <dF, K dF>, to round-off; a metriplectic flow keeps its energy and raises its
    entropy. Not symplectic. Source: McLachlan, Quispel and Robidoux, Phil. Trans. R. Soc. A 357
    (1999) 1021.
    """

    def one(self, flow: Any, x: Any, time: Any, step: Any) -> tuple[Any, Any]:
        part = flow.parts[0]
        now = time + 0.5 * step
        functional, geometry = part.functional.at(now), part.geometry.at(now)
        flat, unravel = ravel_pytree(x)

        def velocity(moved: Any) -> tuple[Any, Any]:
            end, middle = unravel(flat + moved), unravel(flat + 0.5 * moved)
            covector = discrete_gradient(functional, x, end)
            tangent = tree.scale(-1.0, geometry.between(x, end).sharp(middle, covector))
            return ravel_pytree(tangent)[0], -tree.dot(covector, tangent)

        guess = step * ravel_pytree(flow.slope(x, time)[1])[0]
        scale = jax.lax.stop_gradient(jnp.max(jnp.abs(flat)) + jnp.max(jnp.abs(guess)))
        moved = root(lambda m: m - step * velocity(m)[0], guess, scale)
        tangent, rate = velocity(moved)
        # Once more by the equation itself: what Newton's method left is multiplied by the step.
        return unravel(flat + step * tangent), step * rate

    def check(self, flow, state):
        super().check(flow, state)
        if len(flow.parts) > 1:
            raise ArgumentError("flow", str(flow), f"{self.name} advances a single flow")

    @property
    def order(self):
        return 2

    def monotone(self, flow):
        return True
