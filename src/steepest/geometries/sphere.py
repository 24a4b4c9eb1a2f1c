"""The unit sphere |x| = 1 in R^d, with the length of its arcs (eq. 40)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from .manifold import Manifold, cosine, require, sine_ratio


class Sphere(Manifold):
    """Unit vectors; the gradient is the projection c - <x, c> x, the motion along great circles.

    Exp_x(v) = cos|v| x + sin|v| v/|v|. Each leaf, of any shape, is one unit vector.
    """

    def gradient(self, point, covector):
        return covector - jnp.vdot(point, covector) * point

    def move(self, point, tangent):
        tangent = self.gradient(point, tangent)
        square = jnp.vdot(tangent, tangent)
        moved = cosine(square) * point + sine_ratio(square) * tangent
        return moved / jnp.sqrt(jnp.vdot(moved, moved))

    def white(self, point, noise):
        return self.gradient(point, noise)

    def inner(self, point, tangent):
        return jnp.vdot(tangent, tangent)

    def defect(self, point):
        require(point.size >= 2, f"shape {point.shape}", "a unit vector of at least two numbers")
        return jnp.abs(jnp.sqrt(jnp.vdot(point, point)) - 1.0), "divide it by its norm"

    def random(self, key: Key[Array, ""], shape: tuple[int, ...]) -> Array:
        """A uniform point."""
        x = jax.random.normal(key, shape)
        return x / jnp.linalg.norm(x)
