"""Sums over all pairs of particles in memory O(n block): the matrix k(x_i, y_j) is never whole.

    potential:  U_i = sum_j v_j k(x_i, y_j)
    energy:     sum_ij w_i w_j k(x_i, x_j)

Both know their derivatives, which are sums of the same kind, so that `jax.grad` of any function of
them costs one more pass and keeps nothing but vectors.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float

from .base import AbstractKernel

ENTRIES = 2**22
"""Pairs in one block: 16 MB in single precision, enough to keep every core at work."""


_RING: ContextVar[Any] = ContextVar("ring", default=None)


@contextlib.contextmanager
def on(mesh: Any) -> Iterator[None]:
    """Within, sums over pairs go round a ring of the mesh's devices (None: one device)."""
    token = _RING.set(mesh)
    try:
        yield
    finally:
        _RING.reset(token)


def reduced(fn: Callable[..., Any], rows: tuple[Any, ...], columns: tuple[Any, ...]) -> Any:
    """fn(blocks of rows, columns), a sum over columns, for all rows.

    On a mesh every device keeps its rows, and the columns travel from neighbour to neighbour.
    """
    mesh = _RING.get()
    if mesh is None or any(r.shape[0] % mesh.devices.size for r in rows):
        return _by_rows(fn, rows, columns)
    (axis,), count = mesh.axis_names, mesh.devices.size
    around = [(i, (i + 1) % count) for i in range(count)]
    # Columns that the devices cannot share evenly, as data of any length, every device has whole.
    shared = all(c.shape[0] % count == 0 for c in columns)

    def local(rows: Any, columns: Any) -> Any:
        total = _by_rows(fn, rows, columns)
        if not shared:
            return total

        def pass_on(_: Any, carry: Any) -> Any:
            total, columns = carry
            columns = jax.tree.map(lambda c: jax.lax.ppermute(c, axis, around), columns)
            return jax.tree.map(jnp.add, total, _by_rows(fn, rows, columns)), columns

        return jax.lax.fori_loop(0, count - 1, pass_on, (total, columns))[0]

    split = PartitionSpec(axis)
    places = (split, split if shared else PartitionSpec())
    return jax.shard_map(local, mesh=mesh, in_specs=places, out_specs=split, check_vma=False)(
        rows, columns
    )


def _by_rows(fn: Callable[..., Any], rows: tuple[Any, ...], columns: tuple[Any, ...]) -> Any:
    """fn on blocks of rows; the values' leading axes are joined again."""
    count, n = rows[0].shape[0], columns[0].shape[0]
    block = max(1, min(count, ENTRIES // max(n, 1)))
    block = -(-count // -(-count // block))  # blocks of equal size: little padding
    pad = -count % block
    # The padding repeats a row: zeros might be where a kernel is singular.
    filled = [jnp.concatenate([x, jnp.broadcast_to(x[:1], (pad, *x.shape[1:]))]) for x in rows]
    blocks = tuple(x.reshape(-1, block, *x.shape[1:]) for x in filled)
    if blocks[0].shape[0] == 1:
        return fn(*rows, *columns)
    found = jax.lax.map(lambda args: fn(*args, *columns), blocks)
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:count], found)


def sums(
    kernel: AbstractKernel,
    x: Float[Array, "m d"],
    y: Float[Array, "n d"],
    v: Float[Array, " n"],
) -> tuple[Float[Array, " m"], Float[Array, "m d"]]:
    """U_i = sum_j v_j k(x_i, y_j) and its gradient in x_i, in one pass."""

    return reduced(kernel.sums, (x,), (y, v))


@eqx.filter_custom_vjp
def _potential(points: tuple[Any, Any, Any], kernel: AbstractKernel) -> Any:
    x, y, v = points
    return reduced(kernel.potential, (x,), (y, v))


@_potential.def_fwd
def _potential_forward(perturbed: Any, points: Any, kernel: Any) -> Any:
    del perturbed
    value, slope = sums(kernel, *points)
    return value, slope


@_potential.def_bwd
def _potential_backward(
    slope: Any, cotangent: Any, perturbed: Any, points: Any, kernel: Any
) -> Any:
    x, y, v = points
    on_x, on_y, on_v = perturbed
    back, back_slope = None, None
    if on_y or on_v:
        back, slopes = sums(kernel, y, x, cotangent)  # the kernel is symmetric
        back_slope = v[:, None] * slopes
    return (
        cotangent[:, None] * slope if on_x else None,
        back_slope if on_y else None,
        back if on_v else None,
    )


def potential(
    kernel: AbstractKernel,
    x: Float[Array, "m d"],
    y: Float[Array, "n d"],
    v: Float[Array, " n"],
) -> Float[Array, " m"]:
    """U_i = sum_j v_j k(x_i, y_j), differentiable in x, y and v; not in the kernel."""
    return _potential((x, y, v), kernel)


@eqx.filter_custom_vjp
def _energy(points: tuple[Any, Any], kernel: AbstractKernel) -> Any:
    x, w = points
    return jnp.sum(w * reduced(kernel.potential, (x,), (x, w)))


@_energy.def_fwd
def _energy_forward(perturbed: Any, points: Any, kernel: Any) -> Any:
    del perturbed
    x, w = points
    value, slope = sums(kernel, x, x, w)
    return jnp.sum(w * value), (value, slope)


@_energy.def_bwd
def _energy_backward(kept: Any, cotangent: Any, perturbed: Any, points: Any, kernel: Any) -> Any:
    del kernel
    (value, slope), (_, w), (on_x, on_w) = kept, points, perturbed
    return (
        2.0 * cotangent * w[:, None] * slope if on_x else None,
        2.0 * cotangent * value if on_w else None,
    )


def energy(
    kernel: AbstractKernel, x: Float[Array, "n d"], w: Float[Array, " n"]
) -> Float[Array, ""]:
    """sum_ij w_i w_j k(x_i, x_j), self-pairs included; differentiable in x and w in one pass."""
    return _energy((x, w), kernel)


def apply(
    kernel: AbstractKernel,
    x: Float[Array, "m d"],
    y: Float[Array, "n d"],
    values: Float[Array, "n k"],
    weights: Float[Array, " n"],
) -> tuple[Float[Array, "m k"], Float[Array, "m d"]]:
    """sum_j k(x_i, y_j) values_j, and sum_j weights_j d/dy_j k(x_i, y_j)."""
    return reduced(kernel.rows, (x,), (y, values, weights))
