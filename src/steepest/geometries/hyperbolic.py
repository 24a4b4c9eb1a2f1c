"""Hyperbolic space: the sheet -x_0^2 + |x_1..d|^2 = -1, x_0 > 0, of Minkowski space (eq. 38-40)."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from .manifold import Manifold, hyperbolic, require


class Hyperbolic(Manifold):
    """The hyperboloid model of curvature -1; each leaf is one vector (x_0, ..., x_d).

    With x = (x_0, y), the boost from the apex (1, 0) carries a flat vector u to the tangent
    S u = (<y, u>, u + <y, u> y / (1 + x_0)), an isometry. Gradient: S S^T c, which is
    J c + <x, J c>_M x with J = diag(-1, 1, ..., 1). Exp_x(v) = cosh|v| x + sinh|v| v/|v|.
    The Gibbs law exp(-E/T) is with respect to the hyperbolic volume dy / x_0 (eq. 44).
    Coordinates grow like exp(distance from the apex), and rounding errors of lengths with them.
    Source: Ratcliffe, Foundations of Hyperbolic Manifolds, 2nd ed., ch. 3.
    """

    def tangent(self, point, ambient):
        return ambient + minkowski(point, ambient) * point

    def gradient(self, point, covector):
        y = point[1:]
        raised = covector[1:] + (covector[0] + jnp.vdot(y, covector[1:]) / (1.0 + point[0])) * y
        return boost(point, raised)

    def move(self, point, tangent):
        flat = unboost(point, tangent)
        cosine, ratio = hyperbolic(jnp.vdot(flat, flat))
        return lift(cosine * point[1:] + ratio * tangent[1:])

    def white(self, point, noise):
        return boost(point, noise[1:])

    def inner(self, point, tangent):
        flat = unboost(point, tangent)
        return jnp.vdot(flat, flat)

    def defect(self, point):
        vector = point.ndim == 1 and point.size >= 2
        require(vector, f"shape {point.shape}", "a vector (x_0, ..., x_d)")
        size = float(abs(point[0] - lift(point[1:])[0]))
        what = f"x_0 = {float(point[0]):.6g}, <x, x>_M = {float(minkowski(point, point)):.6g}"
        return size, what, "<x, x>_M = -1 with x_0 > 0; Hyperbolic().lift(y) gives (x_0, y)"

    def lift(self, flat: Float[Array, " d"]) -> Float[Array, " d+1"]:
        """The point of the hyperboloid above `flat`."""
        return lift(flat)


def minkowski(u: Float[Array, " d+1"], v: Float[Array, " d+1"]) -> Float[Array, ""]:
    """-u_0 v_0 + u_1 v_1 + ..."""
    return jnp.vdot(u[1:], v[1:]) - u[0] * v[0]


def lift(flat: Float[Array, " d"]) -> Float[Array, " d+1"]:
    """(sqrt(1 + |y|^2), y)."""
    return jnp.concatenate([jnp.sqrt(1.0 + jnp.vdot(flat, flat))[None], flat])


def boost(point: Array, flat: Float[Array, " d"]) -> Float[Array, " d+1"]:
    """S u: the flat vector u at the apex, carried to the tangent space of the point."""
    y = point[1:]
    time = jnp.vdot(y, flat)
    return jnp.concatenate([time[None], flat + time / (1.0 + point[0]) * y])


def unboost(point: Array, tangent: Float[Array, " d+1"]) -> Float[Array, " d"]:
    """The u with S u = tangent, from its space part; |u| is the length, free of cancellation."""
    y, space = point[1:], tangent[1:]
    return space - jnp.vdot(y, space) / (point[0] * (1.0 + point[0])) * y
