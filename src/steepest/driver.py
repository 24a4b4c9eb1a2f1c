"""The driver: compiled chunks of steps, the host in between.

One compiled function advances any number of saves of any length (the loop bounds are traced, see
`compiled`), so a run compiles once, however it is cut into chunks; random numbers depend on (seed,
step) alone. Where an argument is being differentiated the same function is traced whole.
"""

from __future__ import annotations

import dataclasses
import math
import time as clock
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from . import tree
from .compiled import advance, begin, compiled_advance, compiled_begin, split
from .errors import ArgumentError, Diverged, NotConverged
from .flow import AbstractFlow
from .identity import remembered
from .ledger import Ledger
from .progress import Progress
from .random import Randomness
from .schemes import AbstractScheme
from .states.points import is_ensemble
from .trajectory import Trajectory

CHUNK_SECONDS = 0.5
CHUNK_BYTES, SHORT_CHUNK_BYTES = 16 * 2**20, 2**20
MOST_SAVES = 4096


def solve(
    flow: AbstractFlow,
    state: Any,
    *,
    scheme: AbstractScheme,
    time: float | None = None,
    steps: int | None = None,
    key: Any = None,
    save_every: int = 1,
    progress: bool = False,
    ledger: str = "steps",
    start: float = 0.0,
    mesh: Any = None,
) -> Trajectory:
    """Run `flow` from `state` by `scheme`; returns the Trajectory with its ledger.

    Exactly one of `time` (a multiple of the step) and `steps` says how far; an adaptive scheme
    needs `time`, and `steps` then counts ledger intervals (default 100). Every `save_every` steps
    the state and the ledger are kept, beginning with the initial state. `key` is needed by noisy
    flows. `ledger="steps"` accumulates heat and dissipation at every step, `"saves"` only looks at
    F at saves (the balance is then not judged). `progress` shows a bar; Ctrl-C returns what is
    done. `start` is the initial time of schedules. `mesh`: a `jax.sharding.Mesh` with one axis,
    among whose devices the particles are shared out; where they interact they travel round. The
    numbers are those of one device, to round-off. (Devices made of one processor need threads to
    spare: set NPROC=32 in the environment, or XLA's collectives may wait for ever.)

    A `Particles` state under a flow of parameters is an ensemble of independent copies.
    Differentiable in the arrays inside `flow` and `state`. Raises ArgumentError before anything
    runs, Diverged (with what is still good) when numbers stop being finite, NotConverged when an
    inner problem misses its tolerance.
    """
    if not isinstance(flow, AbstractFlow):
        raise ArgumentError("flow", type(flow).__name__, "a Flow(functional, geometry, noise)")
    if not isinstance(scheme, AbstractScheme):
        raise ArgumentError("scheme", type(scheme).__name__, "e.g. Euler(0.1)")
    if ledger not in ("steps", "saves"):
        raise ArgumentError("ledger", repr(ledger), "'steps' or 'saves'")
    state, bound, traced = _fitted(flow, scheme, state)
    bound = flow if bound is None else bound
    scheme, steps = _plan(scheme, time, steps)
    if not isinstance(save_every, int) or not 1 <= save_every <= steps:
        raise ArgumentError("save_every", save_every, f"an integer between 1 and steps = {steps}")
    if steps % save_every:
        raise ArgumentError(
            "save_every", save_every, f"it must divide steps = {steps}, so that the end is saved"
        )
    if bound.noisy and key is None:
        raise ArgumentError("key", None, "this flow is noisy: pass key=jax.random.key(seed)")
    zero: Any = np.zeros((), np.uint32)
    randomness = Randomness(zero, zero) if key is None else Randomness.from_key(key)
    state = _shared_out(state, mesh)
    run = _Run(bound, scheme, randomness, start, save_every, ledger, mesh)
    first = None if traced else run.begin(state)
    traced = first is None
    if traced:
        pieces, interrupted = run.trace(state, steps), False
    else:
        pieces, interrupted = run.host(state, first, steps, progress)
    times, states, rows = _stack(pieces, traced)
    book = Ledger.assemble(bound, scheme, times, rows)
    trajectory = Trajectory(
        times, states, book, flow, scheme, save_every, ledger == "steps", interrupted
    )
    if not traced:
        _check_rows(trajectory, rows, save_every)
    return trajectory


@remembered
def _fitted(flow: Any, scheme: Any, state: Any) -> tuple[Any, Any, bool]:
    """The state as floats, the flow bound to it (None: itself), whether any is traced; checked."""
    state = tree.as_float(state)
    traced = any(isinstance(x, Tracer) for x in jax.tree.leaves((flow, scheme, state)))
    if not traced:
        _check_finite(state)
    bound = flow.bind(state)
    scheme.check(bound, state)
    return state, None if bound is flow else bound, traced


@dataclasses.dataclass
class _Run:
    """What stays fixed during one solve."""

    flow: AbstractFlow
    scheme: AbstractScheme
    randomness: Randomness
    start: float
    save_every: int
    ledger: str
    mesh: Any = None

    @property
    def paired(self) -> bool:  # two steps share random words; without noise single ones are faster
        return self.save_every % 2 == 0 and self.flow.noisy

    def begin(self, state: Any) -> tuple[Any, Any] | None:
        """The first save and the carry; None inside a trace. Raises where no run can start."""
        arrays, static = split(self.flow, self.scheme)
        row, carry, found = compiled_begin(
            arrays, state, self.words, static=static, start=self.start, mesh=self.mesh
        )
        # A tracer may hide in a closure of the flow: then what it computed is one.
        if any(isinstance(x, Tracer) for x in jax.tree.leaves((row, found))):
            return None
        self.scheme.judge(self.flow, state, found)
        value = float(np.asarray(row[2]["functional"])[0])
        if not math.isfinite(value):
            raise ArgumentError(
                "functional", f"value {value} at the initial state", "start where F is finite"
            )
        return row, carry

    @property
    def words(self) -> tuple[Any, Any]:
        """The two of the key."""
        return self.randomness.key0, self.randomness.key1

    def trace(self, state: Any, steps: int) -> list[Any]:
        """The whole run inside somebody else's trace."""
        saves = steps // self.save_every
        first, carry, _ = begin(
            self.flow, self.scheme, state, self.randomness, self.start, self.mesh
        )
        _, states, rows = advance(
            self.flow,
            self.scheme,
            self.randomness,
            carry,
            (saves, self.save_every, self.save_every),
            saves,
            (self.start, self.ledger, self.paired, self.mesh),
        )
        times = self.start + jnp.arange(1, saves + 1) * self.save_every * self.scheme.step
        return [first, (times, states, rows)]

    def host(self, state: Any, first: Any, steps: int, progress: bool) -> tuple[list[Any], bool]:
        """Chunk by chunk, growing to about half a second each."""
        arrays, static = split(self.flow, self.scheme)
        row, carry = first
        pieces = [(np.asarray([self.start]), *jax.tree.map(np.asarray, row[1:]))]
        total, done, chunk, pending = steps, 0, min(steps, 128), 0
        capacity = _slots(state, steps // self.save_every)
        paired = self.paired
        options = (self.start, self.ledger, paired, self.mesh)
        with Progress(progress, total) as bar:
            try:
                while done < total:
                    left = self.save_every - pending
                    if pending or chunk < self.save_every:
                        inner = min(left, max(2, chunk - chunk % 2) if paired else chunk)
                        size = (1, inner)
                    else:
                        saves = min(chunk // self.save_every, capacity)
                        saves = min(saves, (total - done) // self.save_every)
                        size = (saves, self.save_every)
                    before = clock.perf_counter()
                    bounds = (*(np.int32(n) for n in size), np.uint32(self.save_every))
                    carry, states, rows = compiled_advance(
                        arrays,
                        carry,
                        self.words,
                        bounds,
                        static=static,
                        capacity=capacity,
                        options=options,
                    )
                    taken = size[0] * size[1]
                    finite = np.asarray(rows["finite"])[: size[0]]
                    seconds = clock.perf_counter() - before
                    done += taken
                    pending = (pending + taken) % self.save_every if size[0] == 1 else 0
                    if pending == 0 or not finite.all():
                        pieces.append(self._piece(states, rows, size[0], done))
                    bar.update(done)
                    if not finite.all():
                        break
                    rate = taken / max(seconds, 1e-6)
                    chunk = int(min(4 * chunk, max(1.0, CHUNK_SECONDS * rate), 2**30))
            except KeyboardInterrupt:
                return pieces, True
        return pieces, False

    def _piece(self, states: Any, rows: Any, saves: int, done: int) -> Any:
        last = done // self.save_every if done % self.save_every == 0 else done / self.save_every
        index = np.arange(saves) - (saves - 1) + last
        times = self.start + index * self.save_every * float(self.scheme.step)
        # A copy: the buffers belong to the device, and most of a short chunk's are empty.
        take = lambda leaf: np.asarray(leaf)[:saves].copy()  # noqa: E731
        return times, jax.tree.map(take, states), jax.tree.map(take, rows)


def _slots(state: Any, saves: int) -> int:
    """How many saves a chunk can hold: one of two numbers for a state, so that a run of another
    length seldom compiles again; the smaller is cheap to clear."""
    a_save = sum(x.nbytes for x in jax.tree.leaves(state)) + 128
    short, long = (
        2 ** math.floor(math.log2(max(1, min(size // a_save, MOST_SAVES))))
        for size in (SHORT_CHUNK_BYTES, CHUNK_BYTES)
    )
    return short if saves <= short else long


def _plan(scheme: Any, time: float | None, steps: int | None) -> tuple[Any, int]:
    """The scheme with its step, and the number of steps."""
    if steps is not None and not (isinstance(steps, (int, np.integer)) and 1 <= steps < 2**32):
        raise ArgumentError("steps", steps, "an integer between 1 and 2^32 - 1")
    if time is not None and not (math.isfinite(time) and time > 0):
        raise ArgumentError("time", time, "a positive finite number")
    if scheme.step is None:
        if time is None:
            raise ArgumentError("time", None, f"{scheme.name} chooses its own steps: give time=")
        steps = 100 if steps is None else int(steps)
        return dataclasses.replace(scheme, step=time / steps), steps
    if (time is None) == (steps is None):
        raise ArgumentError("time, steps", (time, steps), "give exactly one of them")
    if steps is None:
        assert time is not None
        count = time / float(scheme.step)
        steps = round(count)
        if steps < 1 or abs(count - steps) > 1e-6 * count:
            near = time / max(1, math.ceil(count))
            raise ArgumentError(
                "time", time, f"not a multiple of step = {scheme.step:g}; try step = {near:.6g}"
            )
    return scheme, int(steps)


def _check_finite(state: Any) -> None:
    if bool(tree.all_finite(state)):
        return
    if is_ensemble(state) and bool(tree.all_finite(state.positions)):
        lost = int(jnp.sum(~jnp.isfinite(state.log_weights)))
        given = f"log_weights that are NaN or infinite, {lost} of {state.count}"
        raise ArgumentError("state", given, "leave out particles without mass: none can gain any")
    raise ArgumentError("state", "NaN or infinite values", "start from finite numbers")


def _shared_out(state: Any, mesh: Any) -> Any:
    """The particles over the devices of a mesh."""
    if mesh is None:
        return state
    if not isinstance(mesh, Mesh) or len(mesh.axis_names) != 1:
        raise ArgumentError("mesh", mesh, "a jax.sharding.Mesh with one axis")
    if not is_ensemble(state):
        raise ArgumentError("mesh", type(state).__name__, "a mesh shares out Particles")
    if state.count % mesh.devices.size:
        given = f"{state.count} particles on {mesh.devices.size} devices"
        raise ArgumentError("mesh", given, "a number of particles that the devices divide")
    return jax.device_put(state, NamedSharding(mesh, PartitionSpec(*mesh.axis_names)))


def _stack(pieces: list[Any], traced: bool) -> tuple[Any, Any, Any]:
    join = jnp.concatenate if traced else np.concatenate
    return tuple(
        jax.tree.map(lambda *leaves: join(leaves), *[piece[i] for piece in pieces])
        for i in range(3)
    )


def _check_rows(trajectory: Trajectory, rows: Any, save_every: int) -> None:
    """Raises Diverged or NotConverged, with what is good of the trajectory."""
    finite = rows["finite"] & np.isfinite(rows["functional"])
    if not finite.all():
        good = int(np.argmin(finite))
        kept = trajectory.head(good)
        raise Diverged(
            "the state or its functional is not finite",
            float(kept.times[-1]),
            (good - 1) * save_every,
            "take a smaller step",
            kept,
        )
    residual = trajectory.ledger.residual
    if residual is not None and np.nanmax(residual) > 1.0:
        where = int(np.argmax(residual > 1.0))
        when = f"before time {trajectory.times[where]:.6g}"
        problem = f"minimizing movement: the inner problem {when}"
        if np.isinf(residual[where]):
            raise NotConverged(
                f"{problem} was not solved: its iteration came to rest elsewhere, or the map that "
                "it found is not optimal; take another step size, a finer grid or a smoother "
                "start, or FiniteVolume(step), which runs the same flow from any density"
            )
        raise NotConverged(
            f"{problem} missed its tolerance by a factor {residual[where]:.3g}; "
            "raise max_iterations or tolerance, or take a smaller step"
        )
