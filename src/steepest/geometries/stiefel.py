"""The Stiefel manifold: n x p matrices with orthonormal columns, X^T X = 1."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from .manifold import Manifold, require


class Stiefel(Manifold):
    """Orthonormal frames with the metric of the surrounding space.

    gradient: C - X sym(X^T C). Retraction: the polar factor of X + V, the nearest frame, which is
    of second order, so that noise on it follows the Riemannian volume.
    Source: Absil, Mahony and Sepulchre, Optimization Algorithms on Matrix Manifolds, 2008, ch. 3-4;
    Absil and Malick, SIAM J. Optim. 22 (2012) 135 for the order.
    """

    def gradient(self, point, covector):
        inner = point.T @ covector
        return covector - point @ (0.5 * (inner + inner.T))

    def move(self, point, tangent):
        moved = point + self.gradient(point, tangent)
        moved = moved @ inverse_sqrt(moved.T @ moved)
        # One Newton-Schulz step takes the rounding of the eigensolver out.
        return moved @ (1.5 * jnp.eye(point.shape[1], dtype=point.dtype) - 0.5 * moved.T @ moved)

    def white(self, point, noise):
        return self.gradient(point, noise)

    def inner(self, point, tangent):
        return jnp.vdot(tangent, tangent)

    def defect(self, point):
        require(
            point.ndim == 2 and point.shape[0] >= point.shape[1],
            f"shape {point.shape}",
            "an n x p matrix with n >= p",
        )
        error = point.T @ point - jnp.eye(point.shape[1], dtype=point.dtype)
        return jnp.max(jnp.abs(error)), "orthonormalise its columns, e.g. by jnp.linalg.qr"

    def random(self, key: Key[Array, ""], n: int, p: int) -> Array:
        """A uniform frame."""
        x = jax.random.normal(key, (n, p))
        return x @ inverse_sqrt(x.T @ x)


def inverse_sqrt(matrix: Array) -> Array:
    """A^{-1/2} of a symmetric positive definite matrix by the coupled Newton-Schulz iteration.

    Products only: differentiable where eigenvalues coincide, as they do near a frame.
    """
    size = jnp.trace(matrix) / matrix.shape[0]
    identity = jnp.eye(matrix.shape[0], dtype=matrix.dtype)

    def body(_: int, pair: tuple[Array, Array]) -> tuple[Array, Array]:
        y, z = pair
        inner = 0.5 * (3.0 * identity - z @ y)
        return y @ inner, inner @ z

    # Newton-Schulz needs |1 - A| < 1: scale by the trace, which bounds the largest eigenvalue.
    scale = size * matrix.shape[0]
    _, root = jax.lax.fori_loop(0, 40, body, (matrix / scale, identity))
    return root / jnp.sqrt(scale)
