"""Several devices, and several processes: what is shared out, and what is brought together again.

Particles are cut along their axis; of one point under an empirical risk it is the rows of the data
that are cut. Every process runs the same program in lock-step: what only one knows (its clock, a
signal) is agreed upon first.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from .errors import ArgumentError

_ROWS: ContextVar[Any] = ContextVar("mesh of the rows", default=None)


@contextlib.contextmanager
def rows_over(mesh: Any) -> Iterator[None]:
    """Within, `rows` are shared out over a mesh (None: they are not)."""
    token = _ROWS.set(mesh)
    try:
        yield
    finally:
        _ROWS.reset(token)


def rows(tree: Any) -> Any:
    """The same rows of data, a share on each device, where their number allows it."""
    mesh = _ROWS.get()
    leaves = jax.tree.leaves(tree)
    if mesh is None or any(leaf.shape[0] % mesh.devices.size for leaf in leaves):
        return tree
    place = NamedSharding(mesh, PartitionSpec(*mesh.axis_names))
    return jax.tree.map(lambda leaf: jax.lax.with_sharding_constraint(leaf, place), tree)


def shared_out(state: Any, mesh: Any, cut: bool) -> Any:
    """A state on the devices of a mesh: cut along its leading axis, or whole on each."""
    names = mesh.axis_names if cut else ()
    place = NamedSharding(mesh, PartitionSpec(*names))
    return jax.tree.map(lambda leaf: placed(np.asarray(leaf), place), state)


def placed(array: np.ndarray, place: Any) -> Any:
    """An array that every process has, as one over all their devices."""
    return jax.make_array_from_callback(array.shape, place, lambda index: array[index])


def line(mesh: Any) -> Mesh:
    """A mesh of one axis, along which the compiler may share out what it likes.

    (`jax.make_mesh` asks for every sharding to be written out.) Raises ArgumentError.
    """
    if not isinstance(mesh, Mesh) or len(mesh.axis_names) != 1:
        raise ArgumentError("mesh", mesh, "a jax.sharding.Mesh with one axis")
    return Mesh(mesh.devices, mesh.axis_names)


def whole(array: Any) -> np.ndarray:
    """An array of one or several processes on this host."""
    if getattr(array, "is_fully_addressable", True) or array.is_fully_replicated:
        return np.asarray(array)
    from jax.experimental import multihost_utils

    return multihost_utils.process_allgather(array, tiled=True)


def shares(array: Any) -> dict[str, np.ndarray]:
    """What this process writes of an array: {"": all of it} of process 0, or "@start,start" parts.

    Together those of all processes are the array, once.
    """
    if getattr(array, "is_fully_addressable", True) or array.is_fully_replicated:
        return {"": np.asarray(array)} if jax.process_index() == 0 else {}
    own = [shard for shard in array.addressable_shards if shard.replica_id == 0]
    starts = lambda shard: ",".join(str(part.start or 0) for part in shard.index)  # noqa: E731
    return {f"@{starts(shard)}": np.asarray(shard.data) for shard in own}


def joined(name: str, like: Any, arrays: Any) -> np.ndarray | None:
    """The array `name` of what `shares` gave of all processes; None if some of it is missing."""
    if name in arrays:
        return arrays[name]
    found, covered = np.empty(like.shape, like.dtype), 0
    for key, part in arrays.items():
        if key.startswith(name + "@"):
            starts = [int(start) for start in key[len(name) + 1 :].split(",")]
            ends = zip(starts, part.shape, strict=True)
            found[tuple(slice(start, start + size) for start, size in ends)] = part
            covered += part.size
    return found if covered == found.size else None


def agreed(chunk: int, due: bool, asked: bool) -> tuple[int, bool, bool]:
    """The same for all processes: the first one's clock decides, and anybody's signal."""
    if jax.process_count() == 1:
        return chunk, due, asked
    from jax.experimental import multihost_utils

    table = multihost_utils.process_allgather(np.array([chunk, due, asked], np.int32))
    return int(table[0, 0]), bool(table[0, 1]), bool(table[:, 2].any())


def together(what: str) -> None:
    """Wait until all processes are here."""
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(what)
