"""Symmetric block-tridiagonal systems: elimination in O(blocks), and the inertia on the way.

The pivots D_k = A_k - B_{k-1}^T D_{k-1}^{-1} B_{k-1} have together as many negative eigenvalues as
the whole matrix (Sylvester's law of inertia), and the first k of them as its leading part.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def solve_blocks(
    diagonal: Float[Array, "n d d"], upper: Float[Array, "m d d"], right: Float[Array, "n d k"]
) -> tuple[Float[Array, "n d k"], Float[Array, "n d d"]]:
    """(x, pivots) with upper_{i-1}^T x_{i-1} + diagonal_i x_i + upper_i x_{i+1} = right_i.

    `upper` has n - 1 blocks. No pivoting: where a pivot is singular the numbers are not finite.
    """
    d, k = right.shape[1:]
    if d == 1:
        inverse: Any = lambda a: 1.0 / a  # noqa: E731
    else:
        inverse = jnp.linalg.inv

    def forward(carry: tuple[Array, Array], row: tuple[Array, ...]) -> Any:
        before, r = carry  # B_{i-1}^T D_{i-1}^{-1} B_{i-1} and B_{i-1}^T D_{i-1}^{-1} r_{i-1}
        a, b, y = row
        pivot = a - before
        pivot = 0.5 * (pivot + pivot.T)
        own = inverse(pivot)
        y = y - r
        share = b.T @ own
        return (share @ b, share @ y), (pivot, own, y)

    padded = jnp.concatenate([upper, jnp.zeros((1, d, d), upper.dtype)])
    start = (jnp.zeros((d, d), diagonal.dtype), jnp.zeros((d, k), right.dtype))
    _, (pivots, inverses, reduced) = jax.lax.scan(forward, start, (diagonal, padded, right))

    def backward(x: Array, row: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        own, b, y = row
        x = own @ (y - b @ x)
        return x, x

    _, x = jax.lax.scan(backward, start[1], (inverses, padded, reduced), reverse=True)
    return x, pivots
