"""Symmetric positive definite matrices with the affine-invariant metric (eq. 38-40)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, Float

from .manifold import Manifold, require


class SymmetricPositiveDefinite(Manifold):
    """<U, V>_P = tr(P^-1 U P^-1 V): the gradient is P sym(C) P, the same under P -> A P A^T.

    Exp_P(V) = L exp(L^-1 V L^-T) L^T with P = L L^T, positive definite by construction; noise is
    L sym(xi) L^T. The Gibbs law exp(-E/T) is with respect to the Riemannian volume, which is
    |P|^{-(d+1)/2} dP up to a constant (eq. 44).
    Source: Pennec, Fillard and Ayache, Int. J. Comput. Vision 66 (2006) 41.
    """

    def tangent(self, point, ambient):
        return symmetric(ambient)

    def gradient(self, point, covector):
        return symmetric(point @ symmetric(covector) @ point)

    def move(self, point, tangent):
        lower, inside = whitened(point, tangent)
        # exp(M) = exp(M/2) exp(M/2)^T is symmetric and positive definite in rounding, too.
        root = lower @ exponential(0.5 * inside)
        return symmetric(root @ root.T)

    def white(self, point, noise):
        lower = jnp.linalg.cholesky(point)
        return symmetric(lower @ symmetric(noise) @ lower.T)

    def inner(self, point, tangent):
        _, inside = whitened(point, tangent)
        return jnp.vdot(inside, inside)

    def defect(self, point):
        square = point.ndim == 2 and point.shape[0] == point.shape[1]
        require(square, f"shape {point.shape}", "a square matrix")
        asymmetry = float(abs(point - point.T).max())
        lowest = float(jnp.linalg.eigvalsh(symmetric(point))[0])
        if not lowest > 0:
            what = f"smallest eigenvalue {lowest:.3g}"
            return float("inf"), what, "positive definite; add a multiple of the identity"
        return asymmetry, f"max |P - P^T| = {asymmetry:.3g}", "symmetric: 0.5 * (P + P^T)"


def symmetric(matrix: Float[Array, "d d"]) -> Float[Array, "d d"]:
    """The symmetric part."""
    return 0.5 * (matrix + matrix.T)


def whitened(
    point: Float[Array, "d d"], tangent: Float[Array, "d d"]
) -> tuple[Float[Array, "d d"], Float[Array, "d d"]]:
    """L and L^-1 V L^-T for P = L L^T: the tangent seen from the identity."""
    lower = jnp.linalg.cholesky(point)
    half = solve_triangular(lower, symmetric(tangent), lower=True)
    return lower, symmetric(solve_triangular(lower, half.T, lower=True))


def exponential(matrix: Float[Array, "d d"]) -> Float[Array, "d d"]:
    """exp(M) of a symmetric matrix with |M| < 300: Taylor, scaling and squaring.

    Products only, so that it is differentiable where eigenvalues coincide.
    """
    identity = jnp.eye(matrix.shape[0], dtype=matrix.dtype)
    norm = jax.lax.stop_gradient(jnp.sqrt(jnp.vdot(matrix, matrix)))
    halvings = jnp.ceil(jnp.log2(jnp.maximum(norm, 0.3) / 0.3)).astype(jnp.int32)
    small = jnp.ldexp(matrix, -halvings)
    # 13 terms: the remainder is below 0.3^13/13! = 3e-17.
    result = jax.lax.fori_loop(0, 12, lambda k, x: identity + small @ x / (12 - k), identity)
    return jax.lax.fori_loop(0, 10, lambda k, x: jnp.where(k < halvings, x @ x, x), result)
