"""Rows of data that stay where they are, a file or a source, and come in as they are needed.

Which rows a step takes is drawn on the device from (seed, step); the host fetches those. A run is
then the same however it is chunked, killed and resumed, as with data in memory.
"""

from __future__ import annotations

import hashlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from ..errors import ArgumentError

SAMPLED = 64


class Streamed:
    """Data for `EmpiricalRisk` that need not fit into memory.

    `source`: a pytree of arrays on the host that NumPy indexes, e.g. `np.memmap`, whose leaves have
    leading axis n; or a random-access source as grain has them, `source[i]` being row i as a pytree
    of arrays and `len(source)` their number. `chunk`: how many rows at a time a pass over all data
    takes; the functional of a ledger is such a pass at every save.

    Checkpoints tell two sources apart by their shapes and 64 of their rows.
    Raises ArgumentError for what has no rows in random access, such as an iterator.
    """

    def __init__(self, source: Any, chunk: int = 4096):
        if not (isinstance(chunk, (int, np.integer)) and chunk >= 1):
            raise ArgumentError("chunk", chunk, "an integer >= 1")
        if hasattr(source, "__next__"):
            remedy = "arrays or a source with random access: what is read once cannot be resumed"
            raise ArgumentError("source", type(source).__name__, remedy)
        leaves = jax.tree.leaves(source)
        self.by_row = not all(hasattr(leaf, "shape") for leaf in leaves)
        if not self.by_row:
            sizes = {leaf.shape[0] if leaf.shape else 0 for leaf in leaves}
        elif hasattr(source, "__len__") and hasattr(source, "__getitem__"):
            sizes = {len(source)}
        else:
            raise ArgumentError("source", type(source).__name__, "arrays, or rows by source[i]")
        if len(sizes) != 1 or 0 in sizes:
            given = f"leading axes {sorted(sizes)}"
            raise ArgumentError("source", given, "every leaf needs the same n >= 1 rows")
        (self.count,) = sizes
        self.source, self.chunk = source, min(int(chunk), self.count)
        self.example = self._taken(np.zeros((), int))

    @property
    def row(self) -> Any:
        """The shape of a row, as JAX has it now: 64 bits may be enabled later."""
        return jax.tree.map(_shape_of, self.example)

    def fetch(self, index: Any) -> Any:
        """The rows of an index of any shape, on the host; leading axes as it has them."""
        return jax.tree.map(_canonical, self._taken(np.asarray(index)))

    def _taken(self, index: np.ndarray) -> Any:
        if not self.by_row:
            return jax.tree.map(lambda leaf: leaf[index], self.source)
        rows = [jax.tree.map(np.asarray, self.source[int(i)]) for i in index.ravel()]
        together = lambda *xs: np.stack(xs).reshape(index.shape + xs[0].shape)  # noqa: E731
        return jax.tree.map(together, *rows)

    def rows(self, index: Int[Array, "..."]) -> Any:
        """The same inside a compiled program."""
        shape = lambda row: jax.ShapeDtypeStruct((*index.shape, *row.shape), row.dtype)  # noqa: E731
        shapes = jax.tree.map(shape, self.row)
        return jax.pure_callback(self.fetch, shapes, index, vmap_method="broadcast_all")

    def total(self, value: Any, state: Any) -> Any:
        """The sum of `value(state, rows)` over all data, a chunk at a time.

        Differentiable in `state`; a derivative fetches the rows again and keeps none.
        """

        def part(state: Any, first: Any, size: int) -> Any:
            return value(state, self.rows(first + jnp.arange(size, dtype=jnp.int32)))

        one = jax.checkpoint(part, static_argnums=2)
        whole, rest = divmod(self.count, self.chunk)
        starts = jnp.arange(whole, dtype=jnp.int32) * self.chunk
        shape = jax.eval_shape(lambda: part(state, 0, self.chunk))
        add = lambda sum_, first: (sum_ + one(state, first, self.chunk), None)  # noqa: E731
        found = jax.lax.scan(add, jnp.zeros(shape.shape, shape.dtype), starts)[0]
        return found + one(state, whole * self.chunk, rest) if rest else found

    @property
    def nbytes(self) -> int:
        """Of all rows."""
        rows = jax.tree.leaves(self.row)
        return self.count * sum(int(np.prod(r.shape)) * r.dtype.itemsize for r in rows)

    def __repr__(self) -> str:
        some = np.unique(np.linspace(0, self.count - 1, SAMPLED).astype(np.int64))
        content = b"".join(x.tobytes() for x in jax.tree.leaves(self.fetch(some)))
        rows = [f"{row.dtype.name}{list(row.shape)}" for row in jax.tree.leaves(self.row)]
        digest = hashlib.sha256(content).hexdigest()[:16]
        return f"Streamed({self.count} rows of {', '.join(rows)}; {digest})"


def _canonical(array: Any) -> np.ndarray:
    """As JAX has it: 32 bits where 64 are not enabled."""
    array = np.asarray(array)
    return array.astype(jax.dtypes.canonicalize_dtype(array.dtype), copy=False)


def _shape_of(row: Any) -> jax.ShapeDtypeStruct:
    row = _canonical(row)
    return jax.ShapeDtypeStruct(row.shape, row.dtype)
