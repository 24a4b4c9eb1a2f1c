"""The bridge between two Gaussians in closed form.

In white coordinates (cost |u - v|^2/2, weight 1) between N(a, A) and N(b, B), A = L L', the
cross-covariance is C = h(A B) with h(s) = sqrt(s + 1/4) - 1/2 = s/(sqrt(s + 1/4) + 1/2), and
v | u ~ N(b + S (u - a), S) with S = A^{-1} C = L^{-T} h(L'B L) L^{-1}.
Sources: Janati, Muzellec, Peyre and Cuturi, NeurIPS 2020; Mallasto, Gerolin and Minh, Inf. Geom. 5
(2022) 289; Bunne, Hsieh, Cuturi and Krause, AISTATS 2023 (the bridge).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, Float

from ..states import Gaussian, GaussianMixture
from ..states.factors import triangular_root
from .reference import LinearReference


def gaussian_potential(
    reference: LinearReference, source: Gaussian, target: Gaussian
) -> GaussianMixture:
    """w of the bridge: one component N(b - S a, S) in white coordinates."""
    (a, L), (b, M) = whitened(reference, source, target)
    # h(L'B L) from the singular values of M'L: squaring them would lose half of the digits.
    _, values, right = jnp.linalg.svd(M.T @ L)
    h = values**2 / (jnp.sqrt(values**2 + 0.25) + 0.5)
    root = solve_triangular(L.T, right.T * jnp.sqrt(h), lower=False)
    S = root @ root.T
    return GaussianMixture(jnp.zeros(1, a.dtype), (b - S @ a)[None], triangular_root(root)[None])


def whitened(
    reference: LinearReference, source: Gaussian, target: Gaussian
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """(mean, lower factor) of both laws in white coordinates."""
    factor, _, variance = reference.transition(reference.horizon)
    scale = jnp.sqrt(variance)
    R = reference.rotation
    turn = lambda lower: lower if R is None else R.T @ lower  # noqa: E731
    L = triangular_root((factor / scale)[:, None] * turn(source.lower))
    M = triangular_root(turn(target.lower) / scale[:, None])
    return (reference.white_source(source.mean), L), (reference.white_target(target.mean), M)


@jax.jit
def diagonal_start(
    u: Float[Array, "n d"], v: Float[Array, "m d"]
) -> tuple[Float[Array, " d"], Float[Array, " d"], Float[Array, " d"]]:
    """(S, a, c/B): the closed form coordinate by coordinate, from moments of points."""
    A, B = jnp.var(u, axis=0), jnp.var(v, axis=0)
    A = jnp.maximum(A, 1e-6 * jnp.mean(A) + jnp.finfo(A.dtype).tiny)
    B = jnp.maximum(B, 1e-6 * jnp.mean(B) + jnp.finfo(B.dtype).tiny)
    c = A * B / (jnp.sqrt(A * B + 0.25) + 0.5)
    return c / A, jnp.mean(u, axis=0), c / B
