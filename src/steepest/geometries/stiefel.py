"""The Stiefel manifold: n x p matrices with orthonormal columns, X^T X = 1 (eq. 38-40)."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from .manifold import Manifold, require


class Stiefel(Manifold):
    """Orthonormal frames with the metric of the surrounding space.

    gradient: C - X sym(X^T C). Retraction: the polar factor of X + V, the nearest frame, which is
    of second order, so that the Gibbs law exp(-E/T) is with respect to the Riemannian volume (eq.
    44), which is the uniform law of frames.
    Source: Absil, Mahony and Sepulchre, Optimization Algorithms on Matrix Manifolds, 2008, ch. 3-4;
    Absil and Malick, SIAM J. Optim. 22 (2012) 135 for the order.
    """

    def tangent(self, point, ambient):
        inner = point.T @ ambient
        return ambient - point @ (0.5 * (inner + inner.T))

    def gradient(self, point, covector):
        return self.tangent(point, covector)

    def move(self, point, tangent):
        moved = point + self.tangent(point, tangent)
        moved = moved @ inverse_sqrt(moved.T @ moved)
        # One Newton-Schulz step takes the rounding of the inverse root out.
        return moved @ (1.5 * jnp.eye(point.shape[1], dtype=point.dtype) - 0.5 * moved.T @ moved)

    def white(self, point, noise):
        return self.tangent(point, noise)

    def inner(self, point, tangent):
        return jnp.vdot(tangent, tangent)

    def defect(self, point):
        require(
            point.ndim == 2 and point.shape[0] >= point.shape[1],
            f"shape {point.shape}",
            "an n x p matrix with n >= p",
        )
        error = float(abs(point.T @ point - jnp.eye(point.shape[1])).max())
        what = f"max |X^T X - 1| = {error:.3g}"
        return error, what, "orthonormalise its columns, e.g. jnp.linalg.qr(x)[0]"

    def random(
        self, key: Key[Array, ""], shape: tuple[int, int], dtype: Any = float
    ) -> Float[Array, "n p"]:
        """A uniform frame."""
        q, r = jnp.linalg.qr(jax.random.normal(key, shape, dtype))
        # The signs of a Cholesky factor r make q uniform; LAPACK's own would not.
        return q * jnp.where(jnp.diagonal(r) < 0, -1.0, 1.0).astype(q.dtype)


def inverse_sqrt(matrix: Float[Array, "p p"]) -> Float[Array, "p p"]:
    """A^{-1/2} of a symmetric positive definite matrix by the coupled Newton-Schulz iteration.

    Products only: differentiable where eigenvalues coincide, as they do near a frame.
    Source: Higham, Functions of Matrices, 2008, section 6.3; 40 steps are enough for a condition
    number up to 1e12.
    """
    identity = jnp.eye(matrix.shape[0], dtype=matrix.dtype)

    def body(_: int, pair: tuple[Array, Array]) -> tuple[Array, Array]:
        y, z = pair
        inner = 1.5 * identity - 0.5 * z @ y
        return y @ inner, inner @ z

    # It converges for |1 - A| < 1: the Frobenius norm bounds the largest eigenvalue.
    scale = jnp.sqrt(jnp.vdot(matrix, matrix))
    _, root = jax.lax.fori_loop(0, 40, body, (matrix / scale, identity))
    return root / jnp.sqrt(scale)
