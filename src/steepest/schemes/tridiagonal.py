"""Tridiagonal systems along one axis of an array, all lines at once.

Gaussian elimination without pivoting is stable for the M-matrices of this package, whose columns
are dominant, and then makes no cancellation: a nonnegative right-hand side gives a nonnegative
solution (Thomas's algorithm; a periodic line by the Sherman-Morrison formula).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Shaped

Lines = Shaped[Array, "n ..."]


def solve_lines(
    lower: Lines, diagonal: Lines, upper: Lines, right: Lines, periodic: bool = False
) -> Lines:
    """x with lower_i x_{i-1} + diagonal_i x_i + upper_i x_{i+1} = right_i along axis 0.

    lower_0 and upper_{n-1} couple the ends of a periodic line, and are ignored otherwise. The
    coefficients broadcast against `right` over further trailing axes.
    """
    if not periodic:
        return _thomas(lower, diagonal, upper, right)
    # A = B + u v^T with u = (gamma, 0, ..., 0, c) and v = (1, 0, ..., 0, a / gamma).
    first, last = upper[-1], lower[0]
    gamma = -diagonal[0]
    bent = diagonal.at[0].add(-gamma).at[-1].add(-first * last / gamma)
    column = jnp.zeros_like(diagonal).at[0].set(gamma).at[-1].set(first)
    both = jnp.stack(jnp.broadcast_arrays(right, column), axis=-1)
    expand = lambda c: c[..., None]  # noqa: E731
    found = _thomas(expand(lower), expand(bent), expand(upper), both)
    x, q = found[..., 0], found[..., 1]
    ratio = last / gamma
    return x - q * ((x[0] + ratio * x[-1]) / (1.0 + q[0] + ratio * q[-1]))


def _thomas(lower: Lines, diagonal: Lines, upper: Lines, right: Lines) -> Lines:
    dtype = jnp.result_type(lower, diagonal, upper, right)

    def forward(carry: tuple[Array, Array], row: tuple[Array, ...]) -> Any:
        c, r = carry
        a, b, u, y = row
        scale = 1.0 / (b - a * c)
        new = (u * scale, (y - a * r) * scale)
        return new, new

    def backward(x: Array, row: tuple[Array, Array]) -> tuple[Array, Array]:
        c, r = row
        x = r - c * x
        return x, x

    start = jnp.zeros(jnp.broadcast_shapes(diagonal.shape, right.shape)[1:], dtype)
    coefficient = jnp.zeros(diagonal.shape[1:], dtype)
    rows = tuple(x.astype(dtype) for x in (lower, diagonal, upper, right))
    _, (c, r) = jax.lax.scan(forward, (coefficient, start), rows)
    _, x = jax.lax.scan(backward, start, (c, r), reverse=True)
    return x
