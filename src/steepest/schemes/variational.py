"""Variational integrators: the stationary points of a discrete action (eq. 12-15, 22).

Paths are polynomials of degree order/2 on each step, the action is integrated by Gauss or Lobatto
points (see `collocation`). In phase space that is a symplectic Runge-Kutta pair, which needs no
Lagrangian: any H(q, p) will do.
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from .. import tree
from ..errors import ArgumentError
from ..roots import root
from ..states import Phase
from ..states.points import points
from .collocation import QUADRATURES, table
from .pointwise import Pointwise


class Variational(Pointwise):
    """The variational integrator of `order` 2, 4 or 6: implicit, symplectic (eq. 15, 22).

    `quadrature`: "gauss" (order 2 is the midpoint rule) or "lobatto" (order 2 is Verlet; needs a
    `Phase`). Keeps linear and quadratic invariants; "gauss" is also a stable scheme for any flow
    without noise. The equations of a step are solved to round-off; where Newton's method does not
    find them the run stops as diverged. For H = E(q) + |p|^2/2m, `Leapfrog`, `Yoshida` and
    `McLachlan` are explicit.
    """

    accuracy: int = eqx.field(static=True, default=2)
    quadrature: str = eqx.field(static=True, default="gauss")

    def __check_init__(self):
        if self.accuracy not in (2, 4, 6):
            raise ArgumentError("accuracy", self.accuracy, "2, 4 or 6")
        if self.quadrature not in QUADRATURES:
            raise ArgumentError("quadrature", repr(self.quadrature), f"one of {QUADRATURES}")

    def one(self, flow: Any, x: Any, time: Any, step: Any) -> tuple[Any, Any]:
        """Z_i = x_i - x solves Z = step A f(x + Z); then x+ = x + step sum b_i f(x + Z_i)."""
        flat, unravel = ravel_pytree(x)
        dtype = flat.dtype
        used = table(self.quadrature, self.accuracy)
        stages = len(used.nodes)
        times = time + step * jnp.asarray(used.nodes, dtype)
        matrix = jnp.asarray(used.matrix, dtype)[:, :, None]
        if isinstance(x, Phase):
            mark = ravel_pytree(Phase(tree.zeros_like(x.position), _ones(x.momentum)))[0]
            dual = jnp.asarray(used.dual, dtype)[:, :, None]
            matrix = matrix + (dual - matrix) * mark

        def field(z: Any) -> tuple[Any, Any]:
            def at(offset: Any, t: Any) -> tuple[Any, Any]:
                covector, velocity = flow.slope(unravel(flat + offset), t)
                return ravel_pytree(velocity)[0], -tree.dot(covector, velocity)

            return jax.vmap(at)(z, times)

        def residual(z: Any) -> Any:
            z = z.reshape(stages, -1)
            velocity, _ = field(z)
            return (z - step * jnp.einsum("ijd,jd->id", matrix, velocity)).ravel()

        guess = step * jnp.outer(jnp.asarray(used.nodes, dtype), _flat_velocity(flow, x, time))
        scale = jnp.max(jnp.abs(flat)) + jnp.max(jnp.abs(guess))
        z = root(residual, guess.ravel(), jax.lax.stop_gradient(scale)).reshape(stages, -1)
        velocity, rate = field(z)
        weights = jnp.asarray(used.weights, dtype)
        return unravel(flat + step * (weights @ velocity)), step * (weights @ rate)

    def check(self, flow, state):
        super().check(flow, state)
        if self.quadrature == "lobatto" and not isinstance(points(state), Phase):
            raise ArgumentError("quadrature", "'lobatto'", "it needs a Phase; use 'gauss'")

    @property
    def order(self):
        return self.accuracy

    @property
    def symplectic(self):
        return True

    @property
    def name(self):
        return f"Variational({self.step:g}, order={self.accuracy}, {self.quadrature})"


def _flat_velocity(flow: Any, x: Any, time: Any) -> Any:
    return ravel_pytree(flow.slope(x, time)[1])[0]


def _ones(x: Any) -> Any:
    return jax.tree.map(jnp.ones_like, x)
