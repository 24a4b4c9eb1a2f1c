"""What a run compiles: the first save, and any number of saves of any length.

A flow and its scheme are split into arrays, which are traced, and the rest, by which programs are
told apart: two runs of like flows share one program, whatever their numbers are.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from . import devices, tree
from .errors import ArgumentError
from .identity import remembered
from .kernels import pairs
from .ledger import Rows, Totals, record, work_of_step
from .random import Randomness
from .states.points import is_ensemble, turned

DIALS = ("temperature", "gamma", "step", "factor", "mass", "time", "leaps")
"""Python floats under these names are traced, so that turning a dial does not compile again."""


class Static:
    """What a program is compiled for: structure, functions, sizes. Compared first by identity."""

    __slots__ = ("hash", "leaves", "structure")

    def __init__(self, structure: Any, leaves: tuple[Any, ...]):
        self.structure, self.leaves = structure, leaves
        self.hash = hash((structure, leaves))

    def __hash__(self) -> int:
        return self.hash

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, Static) or self.hash != other.hash:
            return False
        # Types are told apart: 1, 1.0 and True are equal.
        kinds = [type(leaf) for leaf in self.leaves] == [type(leaf) for leaf in other.leaves]
        return kinds and self.structure == other.structure and self.leaves == other.leaves

    def filled(self, arrays: list[Any]) -> Any:
        """The whole again."""
        pairs_ = zip(self.leaves, arrays, strict=True)
        leaves = [leaf if array is None else array for leaf, array in pairs_]
        return jax.tree.unflatten(self.structure, leaves)


@remembered
def split(flow: Any, scheme: Any) -> tuple[list[Any], Static]:
    """(arrays, Static) of flow and scheme; dials become weakly typed arrays."""

    def leaf(path: Any, value: Any) -> Any:
        if isinstance(value, float) and getattr(path[-1], "name", None) in DIALS:
            return jnp.asarray(value)
        return value

    both = jax.tree_util.tree_map_with_path(leaf, (flow, scheme))
    leaves, structure = jax.tree.flatten(both)
    traced = [isinstance(leaf, (jax.Array, np.ndarray, np.generic)) for leaf in leaves]
    arrays = [leaf if t else None for leaf, t in zip(leaves, traced, strict=True)]
    static = [None if t else leaf for leaf, t in zip(leaves, traced, strict=True)]
    return arrays, Static(structure, tuple(static))


@functools.partial(jax.jit, static_argnames=("static", "mesh"))
def compiled_begin(arrays: Any, state: Any, words: Any, start: Any, static: Static, mesh: Any):
    """`begin` for what `split` returned; `words`: the two of the key; `start`: traced."""
    flow, scheme = static.filled(arrays)
    return begin(flow, scheme, state, Randomness(*words), start, mesh)


@functools.partial(jax.jit, static_argnames=("static", "capacity", "options"))
def compiled_advance(
    arrays: Any,
    carry: Any,
    words: Any,
    bounds: Any,
    start: Any,
    static: Static,
    capacity: int,
    options: Any,
):
    """`advance` for what `split` returned."""
    flow, scheme = static.filled(arrays)
    return advance(flow, scheme, Randomness(*words), carry, bounds, capacity, start, options)


@functools.partial(jax.jit, static_argnames=("static",))
def compiled_halved(arrays: Any, carry: Any, words: Any, start: Any, static: Static):
    """The carry where the step of what `split` returned is half of what it was.

    The index of this time is twice what it was, and the scheme remembers nothing of longer steps.
    """
    flow, scheme = static.filled(arrays)
    state, memory, index, *totals = carry
    index = index + index
    time = start + index.astype(tree.dtype(state)) * scheme.step
    new = scheme.init(flow, state, time, Randomness(*words).at(index - jnp.uint32(1)))
    return (state, _cast(new, memory), index, *totals)


def begin(
    flow: Any, scheme: Any, state: Any, randomness: Any, start: Any, mesh: Any
) -> tuple[Any, Any, Any]:
    """The first save, the carry (state, memory, step index, totals), and what the scheme found."""
    with _shared(state, mesh):
        value = flow.value(state, start)
        if value.ndim != 0:
            raise ArgumentError("functional", f"shape {value.shape}", "its value must be a scalar")
        return _first(flow, scheme, state, randomness, start)


@contextlib.contextmanager
def _shared(state: Any, mesh: Any) -> Iterator[None]:
    """Pairs of particles go round the mesh; for one point, rows of data are shared out."""
    with pairs.on(mesh), devices.rows_over(None if is_ensemble(state) else mesh):
        yield


def _first(flow: Any, scheme: Any, state: Any, randomness: Any, start: Any) -> Any:
    # The memory of step k is made by the randomness of step k - 1, on a resumed run too.
    add_axis = lambda x: jnp.asarray(x)[None]  # noqa: E731
    saved = jax.tree.map(add_axis, state)
    state = turned(state, -1)
    memory = scheme.init(flow, state, start, randomness.at(jnp.uint32(2**32 - 1)))
    totals = Totals.start(flow, scheme, state, start)
    row = Rows.of(record(flow, state, start, totals, 0))
    first = (jnp.asarray(start)[None], saved, jax.tree.map(add_axis, row))
    carry = (state, memory, jnp.uint32(0), totals, totals.restart(), jnp.uint32(0))
    # No weak types: a carry that comes from a file has none.
    carry = jax.tree.map(lambda x: jax.lax.convert_element_type(x, jnp.asarray(x).dtype), carry)
    return first, carry, scheme.examine(flow, turned(state, 0))


def advance(
    flow: Any,
    scheme: Any,
    randomness: Any,
    carry: Any,
    size: Any,
    capacity: int,
    start: Any,
    options: Any,
) -> tuple[Any, Any, Any]:
    """`size[0]` saves after `size[1]` steps each; returns the carry and `capacity` slots of saves.

    `size` = (saves, steps before each, steps of a whole interval); traced, so one compilation
    serves every chunk. `options` = (ledger, paired, mesh).
    """
    saves, inner, every = size
    ledger, paired, mesh = options
    step = scheme.step

    def one(index: Any, source: Any, carry: tuple[Any, ...]) -> tuple[Any, ...]:
        state, memory, interval = carry
        time = start + index.astype(tree.dtype(state)) * step
        new, memory_, entry = scheme.advance(flow, state, memory, time, step, source)
        entry = jax.tree.map(lambda x: flow.account(new, x), entry)
        if ledger == "steps":
            work = work_of_step(flow, state, new, time, step) if entry.work is None else entry.work
            interval = interval.add(entry, work)
        return _cast(new, state), _cast(memory_, memory), interval

    def interval(first: Any, carry: tuple[Any, ...]) -> tuple[Any, ...]:
        # The index is that of the loop, which costs no addition where nothing depends on it.
        def pair(i: Any, carry: tuple[Any, ...]) -> tuple[Any, ...]:
            index = first + 2 * jnp.asarray(i, jnp.uint32)
            even, odd = randomness.pair(index)
            return one(index + jnp.uint32(1), odd, one(index, even, carry))

        def single(i: Any, carry: tuple[Any, ...]) -> tuple[Any, ...]:
            index = first + jnp.asarray(i, jnp.uint32)
            return one(index, randomness.at(index), carry)

        if paired:
            return jax.lax.fori_loop(0, inner // 2, pair, carry)
        return jax.lax.fori_loop(0, inner, single, carry)

    def save(slot: Any, loop: Any) -> Any:
        (state, memory, index, totals, partial, counted), states, rows = loop
        # An interval that a chunk border cut in two goes on; a whole one is added to the totals.
        fresh = index % every == 0
        whole, zero = totals.merge(partial), partial.restart()
        totals, partial, counted = jax.tree.map(
            lambda a, b: jnp.where(fresh, a, b),
            (whole, zero, jnp.uint32(0)),
            (totals, partial, counted),
        )
        state, memory, partial = interval(index, (state, memory, partial))
        index, counted = (x + jnp.asarray(inner, jnp.uint32) for x in (index, counted))
        time = start + index.astype(tree.dtype(state)) * step
        merged = totals.merge(partial)
        row = Rows.of(record(flow, state, time, merged, counted.astype(merged.first.dtype)))
        put = lambda buffer, x: buffer.at[slot].set(x)  # noqa: E731
        states = jax.tree.map(put, states, turned(state, 0))
        rows = jax.tree.map(put, rows, row)
        return (state, memory, index, totals, partial, counted), states, rows

    # What is not finite does not become so again: the first such save is the last.
    def one_more(loop: Any) -> Any:
        slot, _, inside = loop
        inside = save(slot, inside)
        return slot + 1, inside[2].others["finite"][slot], inside

    going = lambda loop: (loop[0] < saves) & loop[1]  # noqa: E731
    empty = lambda x: jnp.zeros((capacity, *x.shape), x.dtype)  # noqa: E731
    with _shared(carry[0], mesh):
        shape = jax.eval_shape(lambda c: Rows.of(record(flow, c[0], start, c[3], 1.0)), carry)
        kept = jax.eval_shape(lambda c: turned(c[0], 0), carry)
        buffers = jax.tree.map(empty, kept), jax.tree.map(empty, shape)
        if isinstance(saves, int):
            return jax.lax.fori_loop(0, saves, save, (carry, *buffers))
        return jax.lax.while_loop(going, one_more, (jnp.int32(0), True, (carry, *buffers)))[2]


def _cast(new: Any, old: Any) -> Any:
    return jax.tree.map(lambda a, b: a.astype(b.dtype), new, old)
