"""The unit sphere |x| = 1 in R^d, with the length of its arcs (eq. 38-40)."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from .manifold import Manifold, circular, require


class Sphere(Manifold):
    """Unit vectors; the gradient is the projection c - <x, c> x, the motion along great circles.

    Exp_x(v) = cos|v| x + sin|v| v/|v|. Each leaf, of any shape, is one unit vector.
    The Gibbs law exp(-E/T) is with respect to the area of the sphere (eq. 44).
    """

    def tangent(self, point, ambient):
        return ambient - jnp.vdot(point, ambient) * point

    def gradient(self, point, covector):
        return self.tangent(point, covector)

    def move(self, point, tangent):
        tangent = self.tangent(point, tangent)
        cosine, ratio = circular(jnp.vdot(tangent, tangent))
        moved = cosine * point + ratio * tangent
        return moved / jnp.sqrt(jnp.vdot(moved, moved))

    def white(self, point, noise):
        return self.tangent(point, noise)

    def inner(self, point, tangent):
        return jnp.vdot(tangent, tangent)

    def defect(self, point):
        require(point.size >= 2, f"shape {point.shape}", "a unit vector of at least two numbers")
        norm = float(jnp.sqrt(jnp.vdot(point, point)))
        return abs(norm - 1.0), f"|x| = {norm:.6g}", "normalise it: x / |x|"

    def random(
        self, key: Key[Array, ""], shape: tuple[int, ...], dtype: Any = float
    ) -> Float[Array, "..."]:
        """A uniform point."""
        x = jax.random.normal(key, shape, dtype)
        return x / jnp.sqrt(jnp.vdot(x, x))
