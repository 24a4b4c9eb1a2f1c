"""Symmetric positive definite matrices with the affine-invariant metric."""

from __future__ import annotations

import jax.numpy as jnp
import jax.scipy.linalg
from jaxtyping import Array

from .manifold import Manifold, require


class SymmetricPositiveDefinite(Manifold):
    """<U, V>_P = tr(P^-1 U P^-1 V): the gradient is P sym(C) P, the same under P -> A P A^T.

    Exp_P(V) = L exp(L^-1 V L^-T) L^T with P = L L^T, positive definite by construction; noise is
    L sym(xi) L^T. Volume: |P|^{-(d+1)/2} dP up to a constant.
    Source: Pennec, Fillard and Ayache, Int. J. Comput. Vision 66 (2006) 41.
    """

    def gradient(self, point, covector):
        return point @ _symmetric(covector) @ point

    def move(self, point, tangent):
        lower = jnp.linalg.cholesky(_symmetric(point))
        half = jax.scipy.linalg.solve_triangular(lower, _symmetric(tangent), lower=True)
        inside = jax.scipy.linalg.solve_triangular(lower, half.T, lower=True)
        # exp(M) = exp(M/2) exp(M/2)^T is symmetric and positive definite in rounding, too.
        root = lower @ jax.scipy.linalg.expm(0.5 * _symmetric(inside))
        return root @ root.T

    def white(self, point, noise):
        lower = jnp.linalg.cholesky(_symmetric(point))
        return lower @ _symmetric(noise) @ lower.T

    def inner(self, point, tangent):
        lower = jnp.linalg.cholesky(_symmetric(point))
        half = jax.scipy.linalg.solve_triangular(lower, _symmetric(tangent), lower=True)
        inside = jax.scipy.linalg.solve_triangular(lower, half.T, lower=True)
        return jnp.vdot(inside, inside)

    def defect(self, point):
        require(
            point.ndim == 2 and point.shape[0] == point.shape[1],
            f"shape {point.shape}",
            "a square matrix",
        )
        asymmetry = jnp.max(jnp.abs(point - point.T))
        lowest = jnp.linalg.eigvalsh(_symmetric(point))[0]
        size = jnp.where(lowest > 0, asymmetry, jnp.abs(lowest) + jnp.max(jnp.abs(point)) + 1.0)
        return size, "it must be symmetric with positive eigenvalues; add a multiple of identity"


def _symmetric(matrix: Array) -> Array:
    return 0.5 * (matrix + matrix.T)
