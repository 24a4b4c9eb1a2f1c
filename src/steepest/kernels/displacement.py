"""A kernel from a user's function of the displacement, W(x - y) with W(z) = W(-z)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from .base import AbstractKernel


class Displacement(AbstractKernel):
    """k(x, y) = function(unravel(x - y)).

    A pair at displacement 0, a particle with itself too, counts with its value where that is finite
    and exerts no force: so functions that are not differentiable, or infinite, at 0 are fine.
    """

    function: Callable[[Any], Any]
    unravel: Callable[[Any], Any] = eqx.field(static=True, default=lambda z: z)

    def block(self, x, y):
        return jax.vmap(lambda a: jax.vmap(lambda b: self.pair(a, b))(y))(x)

    def pair(self, x, y):
        z = x - y
        apart = jnp.any(z != 0)
        value = self.function(self.unravel(jnp.where(apart, z, 1.0)))
        here = jax.lax.stop_gradient(self.function(self.unravel(jnp.zeros_like(z))))
        return jnp.where(apart, value, jnp.where(jnp.isfinite(here), here, 0.0))

    def rows(self, x, y, values, weights):
        kernel, pull = jax.vjp(lambda rows: self.block(rows, y), x)
        (slope,) = pull(jnp.broadcast_to(weights, kernel.shape))
        return jnp.matmul(kernel, values), -slope
