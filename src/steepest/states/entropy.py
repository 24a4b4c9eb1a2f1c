"""Entropy of the law behind a sample of n points in d dimensions."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.scipy.special import digamma, gammaln
from jaxtyping import Array, Float

_BLOCK = 256


def nearest_neighbour_entropy(x: Float[Array, "n d"]) -> Float[Array, " n"]:
    """Terms log(n-1) - psi(1) + log V_d + d log r_i, r_i the distance to the nearest neighbour.

    Their mean is the Kozachenko-Leonenko estimate of the entropy. Memory O(n * 256).
    Source: Kozachenko and Leonenko, Probl. Inf. Transm. 23 (1987) 9.
    """
    n, d = x.shape
    pad = -n % _BLOCK
    rows = jnp.concatenate([x, jnp.zeros((pad, d), x.dtype)]).reshape(-1, _BLOCK, d)
    index = jnp.arange(n + pad).reshape(-1, _BLOCK)
    columns = jnp.arange(n)

    def block(args: tuple[Array, Array]) -> Array:
        y, i = args
        square = jnp.sum((y[:, None, :] - x[None, :, :]) ** 2, axis=-1)
        return jnp.min(jnp.where(i[:, None] == columns[None, :], jnp.inf, square), axis=1)

    square = jax.lax.map(block, (rows, index)).reshape(-1)[:n]
    log_ball = 0.5 * d * jnp.log(jnp.pi) - gammaln(0.5 * d + 1.0)
    tiny = jnp.finfo(x.dtype).tiny  # coinciding points: a large negative term, not -inf
    return jnp.log(n - 1.0) - digamma(1.0) + log_ball + 0.5 * d * jnp.log(jnp.maximum(square, tiny))


def gaussian_entropy(x: Float[Array, "n d"], w: Float[Array, " n"]) -> Float[Array, " n"]:
    """Terms d/2 log 2 pi + 1/2 log|C| + 1/2 q_i, whose mean is unbiased for a Gaussian law.

    C is the covariance under the weights w and q_i the squared Mahalanobis distance; the mean of
    log|C| under a Wishart law of 1 / sum w^2 points is corrected by digammas. For other laws it is
    an upper bound in the limit. Needs more than d + 1 effective points, else NaN.
    Source: Misra, Singh and Demchuk, J. Multivar. Anal. 92 (2005) 324.
    """
    n, d = x.shape
    if n <= d + 1:
        return jnp.full((n,), jnp.nan, x.dtype)
    size = 1.0 / jnp.sum(w**2)
    centred = x - w @ x
    cholesky = jnp.linalg.cholesky((centred * w[:, None]).T @ centred * size / (size - 1.0))
    log_det = 2.0 * jnp.sum(jnp.log(jnp.diagonal(cholesky)))
    k = jnp.arange(1, d + 1)
    freedom = jnp.where(size > d + 1.0, size - k, jnp.nan)
    bias = jnp.sum(digamma(freedom / 2.0)) + d * jnp.log(2.0) - d * jnp.log(size - 1.0)
    white = jax.scipy.linalg.solve_triangular(cholesky, centred.T, lower=True)
    mahalanobis = jnp.sum(white**2, axis=0) * d / jnp.sum(w * white**2)
    constant = 0.5 * d * jnp.log(2.0 * jnp.pi)
    return constant + 0.5 * (log_det - bias) + 0.5 * mahalanobis
