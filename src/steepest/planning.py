"""What a run will take, told by its compiled program before it runs: memory, saves, time a step.

The program is the one that `solve` compiles (see `compiled`), so that its memory is exact, as XLA
has laid it out, and a short burst of it gives the time of a step. Nothing is allocated but the
state, the data and what the burst needs; a program that does not fit is not run.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import os
import time as clock
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from . import tree
from .compiled import compiled_advance, compiled_begin, split
from .driver import prepared
from .functionals import EmpiricalRisk
from .random import Randomness
from .stability import Stiffness, stiffness
from .states.points import is_ensemble

BURST_SECONDS = 0.2
SPARE = 0.9
"""Of the free memory: what a run may take of it."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """Bytes on one device, bytes of saves on the host, seconds a step.

    `parameters`: numbers in one state, and `copies` of it side by side. `arguments`, `outputs`,
    `temporaries`: of the compiled program, in bytes on one device; the state and the data of the
    flow are among the arguments. `saved`: the bytes of all saved states, `ledger`: those of its
    columns. `operations`, `traffic`: floating-point operations and bytes read and written of one
    step by itself, as XLA counts them (a loop inside it once). `available`: bytes that are free for
    the program, `room`: for the saves; None: unknown. `together`: both are the host's memory.
    `rows`: bytes of the data of empirical risks. `seconds_per_step`: measured; None where nothing
    was run.
    """

    parameters: int
    copies: int
    steps: int
    saves: int
    devices: int
    precision: str
    arguments: int
    outputs: int
    temporaries: int
    saved: int
    ledger: int
    operations: float
    traffic: float
    compile_seconds: float
    seconds_per_step: float | None
    available: int | None
    room: int | None
    together: bool
    rows: int
    stiffness: Stiffness | None

    @property
    def peak(self) -> int:
        """Bytes of the program on one device."""
        return self.arguments + self.outputs + self.temporaries

    @property
    def kept(self) -> int:
        """Bytes of everything that is saved."""
        return self.saved + self.ledger

    @property
    def seconds(self) -> float | None:
        """Of all steps, compilation apart."""
        return None if self.seconds_per_step is None else self.steps * self.seconds_per_step

    @property
    def fits(self) -> bool:
        """Whether memory is enough, as far as it is known."""
        return not (self._program_over or self._saves_over)

    @property
    def _program_over(self) -> bool:
        needed = self.peak * (self.devices if self.together else 1)
        return self.available is not None and needed > self.available

    @property
    def _saves_over(self) -> bool:
        if self.room is None:
            return False
        shared = self.peak * self.devices if self.together else 0
        return self.kept > max(0, self.room - shared)

    @property
    def advice(self) -> tuple[str, ...]:
        """What to change, where it does not fit or a step is too long; else nothing."""
        found = []
        if self._saves_over:
            assert self.room is not None
            found.append(self._fewer_saves(self.room))
            if self.together:
                found.append("a checkpoint keeps the saves in a file, and memory stays flat")
        if self._program_over:
            if self.precision == "float64":
                found.append("precision float32 halves the program and the saves")
            if self.rows > self.peak // 4:
                found.append("the data are most of it: a batch_size, or rows streamed from a file")
            if self.copies > 1:
                assert self.available is not None
                fewer = max(1, int(self.copies * self.available / max(self.peak, 1)))
                more = math.ceil(self.peak * self.devices / max(self.available, 1))
                found.append(
                    f"about {fewer} particles, or {more} devices among which to share them"
                )
        if self.stiffness is not None and self.stiffness.ratio > 1.0:
            found.append(
                f"a step below {self.stiffness.longest:.3g}, unless the run soon leaves its start"
            )
        return tuple(found)

    def _fewer_saves(self, room: int) -> str:
        """The shortest interval between saves that fits."""
        one = self.kept / (self.saves + 1)
        most = max(1, int(room / one) - 1)
        counts = (n for n in range(min(most, self.steps), 0, -1) if self.steps % n == 0)
        every = self.steps // next(counts)
        return f"save every {every} steps: {_bytes(one * (self.steps // every + 1))} of saves"

    def words(self) -> dict[str, str]:
        """The plan in words, for a table."""
        share = "" if self.devices == 1 else f" on each of {self.devices} devices"
        said = {
            "parameters": f"{self.parameters:,}" + (f" x {self.copies:,}" * (self.copies > 1)),
            "steps": f"{self.steps:,}, saved {self.saves:,} times and at the start",
            "program": (
                f"{_bytes(self.peak)}{share}: {_bytes(self.arguments)} of state and data, "
                f"{_bytes(self.outputs)} returned, {_bytes(self.temporaries)} in between"
            ),
            "saves": f"{_bytes(self.saved)} of states, {_bytes(self.ledger)} of ledger",
            "a step": f"{_count(self.operations)}flop, {_bytes(self.traffic)} of memory traffic",
            "compilation": f"{self.compile_seconds:.2g} s",
        }
        if self.seconds_per_step is not None and self.seconds is not None:
            said["time"] = f"{_count(self.seconds_per_step)}s a step, {self.seconds:.3g} s in all"
        if self.stiffness is not None:
            said["at the start"] = str(self.stiffness)
        if self.available is not None:
            said["memory"] = f"{_bytes(self.available)} may be used"
        return said

    def __str__(self) -> str:
        rows = self.words()
        lines = [f"{name:<12} {text}" for name, text in rows.items()]
        return "\n".join([*lines, *(f"change: {text}" for text in self.advice)])


def plan(
    flow: Any,
    state: Any,
    *,
    scheme: Any,
    time: float | None = None,
    steps: int | None = None,
    key: Any = None,
    save_every: int = 1,
    ledger: str = "steps",
    start: float = 0.0,
    mesh: Any = None,
    available: int | None = None,
    room: int | None = None,
    measure: bool = True,
) -> Plan:
    """What `solve` would take with these arguments; see `Plan`. Raises what `solve` raises at once.

    `available`: bytes for the program (default: nine tenths of what the device has free). `room`:
    bytes for the saves where they go to a file; by default they share the host's memory.
    `measure`: without it no step is run, and no time is told.
    """
    length = (time, steps, save_every)
    run, state, steps, _ = prepared(flow, state, scheme, length, key, ledger, start, mesh)
    arrays, static = split(run.flow, run.scheme)
    words, began = run.words, clock.perf_counter()
    lowered = compiled_begin.lower(arrays, state, words, start, static=static, mesh=run.mesh)
    opening = lowered.compile()
    first, carry, _ = _shapes(lowered, opening)
    saves = steps // save_every
    slots = run.slots(state, saves)
    sizes = (np.int32(1), np.int32(1), np.uint32(save_every))
    options = (ledger, run.paired, run.mesh)
    lowered = compiled_advance.lower(
        arrays, carry, words, sizes, start, static=static, capacity=slots, options=options
    )
    program = lowered.compile()
    seconds = clock.perf_counter() - began
    sizes_of: Any = program.memory_analysis()
    needed = sum(
        getattr(sizes_of, f"{kind}_size_in_bytes", 0) for kind in ("argument", "output", "temp")
    )
    count = 1 if run.mesh is None else run.mesh.devices.size
    together = jax.default_backend() == "cpu"
    free = free_memory() if available is None else available
    fits = free is None or needed * (count if together else 1) <= free
    per_step = None
    if measure and fits:
        _, carry, _ = opening(arrays, state, words, start)
        per_step = _seconds_per_step(
            lambda n: program(arrays, carry, words, _burst(n, save_every), start)
        )
    fixed = dict(time=start, words=words, static=static)
    cost = _costs(_one_step.lower(arrays, *carry[:2], **fixed).compile())
    _, states, row = first
    leaves = jax.tree.leaves(state.positions if is_ensemble(state) else state)
    points = state.count if is_ensemble(state) else 1
    return Plan(
        parameters=sum(int(np.size(x)) for x in leaves) // points,
        copies=points,
        steps=steps,
        saves=saves,
        devices=count,
        precision=str(jnp.dtype(tree.dtype(state))),
        arguments=int(sizes_of.argument_size_in_bytes),
        outputs=int(sizes_of.output_size_in_bytes),
        temporaries=int(sizes_of.temp_size_in_bytes),
        saved=(saves + 1) * _nbytes(states),
        ledger=(saves + 1) * (_nbytes(row) + np.dtype(float).itemsize),
        operations=cost.get("flops", 0.0),
        traffic=cost.get("bytes accessed", 0.0),
        compile_seconds=seconds,
        seconds_per_step=per_step,
        available=free,
        room=room if room is not None else (available if together else None) or host_memory(),
        together=together and room is None,
        rows=_data(run.flow),
        stiffness=stiffness(flow, state, run.scheme, start) if measure and fits else None,
    )


def _shapes(lowered: Any, program: Any) -> Any:
    """What a program returns: shapes, kinds, and on which devices."""
    place = lambda x, where: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where)  # noqa: E731
    return jax.tree.map(place, lowered.out_info, program.output_shardings)


def _burst(steps: int, every: int) -> Any:
    return np.int32(1), np.int32(steps), np.uint32(every)


def _seconds_per_step(advance: Any) -> float:
    """Of a burst that is long enough to be timed; an even number, as steps may come in pairs."""
    steps, seconds = 2, 0.0
    jax.block_until_ready(advance(steps))
    while True:
        before = clock.perf_counter()
        jax.block_until_ready(advance(steps))
        seconds = clock.perf_counter() - before
        if seconds > BURST_SECONDS / 4 or steps > 2**24:
            return seconds / steps
        steps *= 2 * max(1, min(64, int(BURST_SECONDS / 2 / max(seconds, 1e-6)) // 2))


@functools.partial(jax.jit, static_argnames=("static", "time"))
def _one_step(arrays: Any, state: Any, memory: Any, time: Any, words: Any, static: Any) -> Any:
    """A step by itself: what XLA counts of a loop is not told apart from what is around it."""
    flow, scheme = static.filled(arrays)
    source = Randomness(*words).at(jnp.uint32(0))
    return scheme.advance(flow, state, memory, time, scheme.step, source)


def _costs(program: Any) -> dict[str, float]:
    found = program.cost_analysis()
    return dict(found[0] if isinstance(found, (list, tuple)) else found or {})


def _nbytes(shapes: Any) -> int:
    """Of one save: the leading axis counts saves."""
    leaves = jax.tree.leaves(shapes)
    return sum(math.prod(x.shape[1:]) * np.dtype(x.dtype).itemsize for x in leaves)


def _data(flow: Any) -> int:
    """Bytes of the rows of empirical risks."""
    is_risk = lambda x: isinstance(x, EmpiricalRisk)  # noqa: E731
    risks = [x for x in jax.tree.leaves(flow, is_leaf=is_risk) if is_risk(x)]
    held = [risk.data for risk in risks if risk.has_rows]
    return sum(x.nbytes for x in jax.tree.leaves(held))


def free_memory() -> int | None:
    """Bytes that a program may take on one device: nine tenths of what is free; None: unknown."""
    found = jax.local_devices()[0].memory_stats() or {}
    if "bytes_limit" in found:
        return int(SPARE * (found["bytes_limit"] - found.get("bytes_in_use", 0)))
    return host_memory()


def host_memory() -> int | None:
    """Nine tenths of what is free on the host, or in its control group; None: unknown."""
    free = []
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                free.append(1024 * int(line.split()[1]))
        group = Path("/sys/fs/cgroup")
        limit = (group / "memory.max").read_text().strip()
        if limit.isdecimal():
            free.append(int(limit) - int((group / "memory.current").read_text()))
    except (OSError, ValueError):
        pass
    if not free and hasattr(os, "sysconf") and "SC_AVPHYS_PAGES" in os.sysconf_names:
        free.append(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return int(SPARE * min(free)) if free else None


def _bytes(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            return f"{count:.3g} {unit}"
        count /= 1024
    raise AssertionError


def _count(value: float) -> str:
    """With a prefix of the SI, and a space before the unit."""
    if not value > 0:
        return "0 "
    power = max(-3, min(4, math.floor(math.log10(value) / 3)))
    prefix = {-3: "n", -2: "µ", -1: "m", 0: "", 1: "k", 2: "M", 3: "G", 4: "T"}[power]
    return f"{value / 1000.0**power:.3g} {prefix}"
