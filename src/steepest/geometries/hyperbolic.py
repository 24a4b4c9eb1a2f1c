"""Hyperbolic space: the sheet -x_0^2 + |x_1..d|^2 = -1, x_0 > 0, of Minkowski space."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array

from .manifold import Manifold, require


class Hyperbolic(Manifold):
    """The hyperboloid model of curvature -1; each leaf is one vector (x_0, ..., x_d).

    gradient: J c + <x, J c>_M x with J = diag(-1, 1, ...), the tangent projection of the raised
    covector. Coordinates grow like exp(distance): float32 is good to a distance of about 7 from the
    apex (1, 0), float64 to 17. Exp_x(v) = cosh|v| x + sinh|v| v/|v|. `lift(y)` puts a flat point on
    it. Source: Ratcliffe, Foundations of Hyperbolic Manifolds, 2nd ed., ch. 3.
    """

    def gradient(self, point, covector):
        return _project(point, covector.at[0].multiply(-1.0))

    def move(self, point, tangent):
        tangent = _project(point, tangent)
        square = minkowski(tangent, tangent)
        small = square < 1e-6
        r = jnp.sqrt(jnp.where(small, 1.0, square))
        cosh = jnp.where(small, 1.0 + square / 2.0 + square**2 / 24.0, jnp.cosh(r))
        sinh = jnp.where(small, 1.0 + square / 6.0, jnp.sinh(r) / r)
        return lift((cosh * point + sinh * tangent)[1:])

    def white(self, point, noise):
        # Parallel transport of (0, xi) from the apex (1, 0): an isometry of tangent spaces.
        inner = jnp.vdot(point[1:], noise[1:])
        shift = inner / (1.0 + point[0])
        return jnp.concatenate([inner[None], noise[1:] + shift * point[1:]])

    def inner(self, point, tangent):
        return minkowski(tangent, tangent)

    def defect(self, point):
        require(
            point.ndim == 1 and point.size >= 2, f"shape {point.shape}", "a vector (x_0, ..., x_d)"
        )
        size = jnp.abs(point[0] - jnp.sqrt(1.0 + jnp.vdot(point[1:], point[1:])))
        return size, "x_0 must be sqrt(1 + |x_1..d|^2): use steepest.geometries.hyperbolic.lift"


def minkowski(u: Array, v: Array) -> Array:
    """-u_0 v_0 + u_1 v_1 + ..."""
    return jnp.vdot(u[1:], v[1:]) - u[0] * v[0]


def lift(flat: Array) -> Array:
    """The point of the hyperboloid above `flat`, shape (d,) -> (d + 1,)."""
    return jnp.concatenate([jnp.sqrt(1.0 + jnp.vdot(flat, flat))[None], flat])


def _project(point: Array, ambient: Array) -> Array:
    return ambient + minkowski(point, ambient) * point
