"""Linear algebra on pytrees of arrays: the tangent and cotangent spaces of every state.

`batch` names the axis that counts copies: None for one state, 0 (leading) or -1 (last) for an
ensemble; products then keep that axis.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .errors import ArgumentError


def add(x: Any, y: Any) -> Any:
    """x + y."""
    return jax.tree.map(jnp.add, x, y)


def sub(x: Any, y: Any) -> Any:
    """x - y."""
    return jax.tree.map(jnp.subtract, x, y)


def scale(a: Any, x: Any) -> Any:
    """a x for a scalar a."""
    return jax.tree.map(lambda leaf: jnp.asarray(a, leaf.dtype) * leaf, x)


def axpy(a: Any, x: Any, y: Any) -> Any:
    """a x + y for a scalar a."""
    return jax.tree.map(lambda u, v: jnp.asarray(a, v.dtype) * u + v, x, y)


def zeros_like(x: Any) -> Any:
    """The zero vector of the space of x."""
    return jax.tree.map(jnp.zeros_like, x)


def dot(x: Any, y: Any, batch: int | None = None) -> Float[Array, "..."]:
    """<x, y> = sum over leaves of sum x y; the `batch` axis is kept."""

    def leaf(u: Array, v: Array) -> Array:
        product = u * v
        if batch is None:
            return jnp.sum(product)
        if product.ndim == 1:
            return product
        # A short axis is unrolled, so that XLA keeps the sum inside an elementwise kernel (a
        # reduction would end it); long ones are reduced.
        other = -1 if batch == 0 else 0
        if product.ndim == 2 and product.shape[other] <= 8:
            rows = [
                jax.lax.index_in_dim(product, i, other, keepdims=False)
                for i in range(product.shape[other])
            ]
            return sum(rows[1:], rows[0])
        if batch == 0:
            return jnp.sum(product, axis=tuple(range(1, product.ndim)))
        # Columns are summed in a few unrolled blocks, then by a product with ones: XLA's own
        # reduction over rows is not vectorised.
        count, n = math.prod(product.shape[:-1]), product.shape[-1]
        blocks = next(k for k in (8, 7, 6, 5, 4, 3, 2, 1) if count % k == 0)
        split = product.reshape(blocks, count // blocks, n)
        rows = [jax.lax.index_in_dim(split, i, 0, keepdims=False) for i in range(blocks)]
        ones = jnp.ones((count // blocks,), product.dtype)
        return jnp.matmul(ones, sum(rows[1:], rows[0]), precision=jax.lax.Precision.HIGHEST)

    parts = [leaf(u, v) for u, v in zip(jax.tree.leaves(x), jax.tree.leaves(y), strict=True)]
    return sum(parts[1:], parts[0])


def norm_sq(x: Any, batch: int | None = None) -> Float[Array, "..."]:
    """<x, x>."""
    return dot(x, x, batch)


def size(x: Any) -> int:
    """The number of real coordinates."""
    return sum(math.prod(jnp.shape(leaf)) for leaf in jax.tree.leaves(x))


def dtype(x: Any) -> Any:
    """The common floating dtype of the leaves."""
    return jnp.result_type(*jax.tree.leaves(x))


def as_float(x: Any, argument: str = "state") -> Any:
    """Every leaf as a float array; raises ArgumentError for leaves that cannot be one."""

    def leaf(path: Any, value: Any) -> Array:
        try:
            array = jnp.asarray(value)
        except (TypeError, ValueError) as error:
            name = argument + jax.tree_util.keystr(path)
            raise ArgumentError(
                name, type(value).__name__, "every leaf must be an array"
            ) from error
        if jnp.issubdtype(array.dtype, jnp.complexfloating):
            name = argument + jax.tree_util.keystr(path)
            raise ArgumentError(name, array.dtype, "split it into real and imaginary parts")
        if not jnp.issubdtype(array.dtype, jnp.floating):
            array = array.astype(jnp.result_type(float))
        return array

    if not jax.tree.leaves(x):
        raise ArgumentError(argument, "no arrays", "give at least one float array")
    return jax.tree_util.tree_map_with_path(leaf, x)


def all_finite(x: Any) -> Array:
    """True where every number of every leaf is finite."""
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(x)]))


FEW_BYTES = 2**20


def is_finite(x: Any) -> bool:
    """`all_finite` of concrete arrays; the host looks at small ones, for which nothing compiles."""
    few = sum(jnp.size(leaf) for leaf in jax.tree.leaves(x)) * 8 <= FEW_BYTES
    whole = all(getattr(leaf, "is_fully_addressable", True) for leaf in jax.tree.leaves(x))
    if few and whole:
        return all(np.isfinite(np.asarray(leaf)).all() for leaf in jax.tree.leaves(x))
    return bool(all_finite(x))
