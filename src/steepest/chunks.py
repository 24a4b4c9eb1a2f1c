"""A run on the host: compiled chunks of about half a second, and what happens between two.

Between chunks the saves are put away, a checkpoint is written if it is time, and a state that is no
longer finite is found: within a chunk the first such save ends it. What is returned depends on
(seed, step) alone and not on the chunks.
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

from . import devices, termination
from .checkpoint import Checkpoint, Kept
from .compiled import advance, begin, compiled_advance, compiled_begin, compiled_halved, split
from .described import describe
from .errors import ArgumentError, ProcessLost
from .flow import AbstractFlow
from .halving import MOST_HALVINGS, Halvings, last_fall
from .progress import Progress
from .random import Randomness
from .schemes import AbstractScheme
from .schemes.base import scaled

CHUNK_SECONDS = 0.5
CHUNK_BYTES = 2**17, 2**20, 2**24
MOST_SAVES = 4096


@dataclasses.dataclass
class Run:
    """What stays fixed during one solve; `halvings` of the step apart."""

    flow: AbstractFlow
    scheme: AbstractScheme
    randomness: Randomness
    start: float
    save_every: int
    ledger: str
    mesh: Any = None
    halvings: int = 0
    capacity: int = 1

    @property
    def paired(self) -> bool:  # two steps share random words; without noise single ones are faster
        return self.save_every % 2 == 0 and self.flow.noisy

    @property
    def words(self) -> tuple[Any, Any]:
        """The two of the key."""
        return self.randomness.key0, self.randomness.key1

    def begin(self, state: Any) -> tuple[Any, Any] | None:
        """The first save and the carry; None inside a trace. Raises where no run can start."""
        (times, states, rows), carry, found = self._begin(state)
        # A tracer may hide in a closure of the flow: then what it computed is one.
        if any(isinstance(x, Tracer) for x in jax.tree.leaves((states, rows, found))):
            return None
        self.scheme.judge(self.flow, state, jax.tree.map(devices.whole, found))
        rows = rows.columns(devices.whole)
        value = float(rows["functional"][0])
        if not math.isfinite(value):
            raise ArgumentError(
                "functional", f"value {value} at the initial state", "start where F is finite"
            )
        return (times, states, rows), carry

    def _begin(self, state: Any) -> Any:
        arrays, static = split(self.flow, self.scheme)
        return compiled_begin(arrays, state, self.words, self.start, static=static, mesh=self.mesh)

    def trace(self, state: Any, steps: int) -> Any:
        """(times, states, rows) of the whole run inside somebody else's trace."""
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
            self.start,
            (self.ledger, self.paired, self.mesh),
        )
        times = self.start + jnp.arange(1, saves + 1) * self.save_every * self.scheme.step
        both = jax.tree.map(lambda *x: jnp.concatenate(x), first, (times, states, rows))
        return *both[:2], both[2].columns()

    def host(
        self,
        state: Any,
        first: Any,
        steps: int,
        progress: bool,
        checkpoint: Checkpoint | None,
        halve: bool,
        deadline: float = math.inf,
    ) -> tuple[Any, str]:
        """(times, states, rows) of the good saves, and why they end early ("" if they do not).

        `deadline`: of the monotonic clock; chunks are sized to end by it, and none begins after.
        Raises Terminated after SIGTERM, ProcessLost where there were several processes.
        """
        (_, states, rows), carry = first
        saves, done = steps // self.save_every, 0
        chunk = min(steps, 128) if math.isinf(deadline) else 1
        self.capacity = capacity = self.slots(state, saves)
        example = self._records(states, rows, [self.start], halve)
        kept = Kept(checkpoint, self._card(state, steps, checkpoint), saves + 1, example)
        found, points = kept.restore(carry), Halvings(self, carry)
        if found is None:
            kept.saves.add(example, 1)
        else:
            carry, words = found
            done = int(words["done"])
            points.restore(words["halvings"])
            self.to(max(points.points.values()))
        noticing = termination.noticed(running=checkpoint is not None)
        with noticing, Progress(progress, steps) as bar:
            try:
                while done < steps << self.halvings:
                    size = self._size(done, steps << self.halvings, chunk, capacity)
                    before = clock.perf_counter()
                    new, states, rows = self._advance(carry, size)
                    rows = rows.columns(devices.whole)
                    finite = rows["finite"][: size[0]]
                    seconds = clock.perf_counter() - before
                    good = size[0] if finite.all() else int(np.argmin(finite))
                    taken = size[0] * size[1]
                    if (done + taken) % self.save_every == 0:
                        number = done // self.save_every + np.arange(1, size[0] + 1)
                        times = self.start + number * self.save_every * float(self.scheme.step)
                        kept.saves.add(self._records(states, rows, times, halve), good)
                    if good < size[0]:
                        if not halve or self.halvings == MOST_HALVINGS:
                            return kept.saves.taken(), "diverged"
                        last = last_fall(kept.saves.taken()[2]["functional"])
                        kept.saves.back(last + 1)
                        carry, chunk = points.back(last), min(steps, 128)
                        done = last * self.save_every
                        continue
                    carry, done = new, done + taken
                    save, pending = divmod(done, self.save_every)
                    if halve and not pending:
                        points.hold(save, carry)
                    rate = taken / max(seconds, 1e-6)
                    left = deadline - clock.monotonic()
                    chunk = int(min(16 * chunk, max(1.0, min(CHUNK_SECONDS, left) * rate), 2**30))
                    chunk *= left > 0
                    chunk, due, asked = devices.agreed(chunk, kept.due, termination.asked())
                    over = chunk == 0 and done < steps << self.halvings
                    if not (halve and pending):
                        words = {"done": done, "halvings": points.words()}
                        kept.keep(done, carry, words, due or over, asked)
                    bar.update(done >> self.halvings)
                    if over:
                        return kept.saves.taken(), "out of time"
            except KeyboardInterrupt:
                return kept.saves.taken(), "interrupted"
            except jax.errors.JaxRuntimeError as error:
                if jax.process_count() == 1:
                    raise
                where = "" if checkpoint is None else f"; {checkpoint.folder} has what was kept"
                raise ProcessLost(f"another process of this run has ended{where}") from error
            kept.keep(done, carry, {"done": done, "halvings": points.words()}, due=True)
        return kept.saves.taken(), ""

    def _card(self, state: Any, steps: int, checkpoint: Checkpoint | None) -> dict[str, str]:
        """What the numbers of the run depend on."""
        if checkpoint is None:
            return {}
        return describe(
            flow=self.flow,
            scheme=self.scheme,
            state=state,
            steps=steps,
            save_every=self.save_every,
            key=self.words,
            start=self.start,
            ledger=self.ledger,
        )

    def _size(self, done: int, total: int, chunk: int, capacity: int) -> tuple[int, int]:
        """(saves, steps before each) of the next chunk of about `chunk` steps."""
        pending = done % self.save_every
        if pending or chunk < self.save_every:
            inner = max(2, chunk - chunk % 2) if self.paired else chunk
            return 1, min(self.save_every - pending, inner)
        saves = min(chunk // self.save_every, capacity, (total - done) // self.save_every)
        return saves, self.save_every

    def _advance(self, carry: Any, size: tuple[int, int]) -> Any:
        arrays, static = split(self.flow, self.scheme)
        return compiled_advance(
            arrays,
            carry,
            self.words,
            (*(np.int32(n) for n in size), np.uint32(self.save_every)),
            self.start,
            static=static,
            capacity=self.capacity,
            options=(self.ledger, self.paired, self.mesh),
        )

    def _records(self, states: Any, rows: Any, times: Any, halve: bool) -> Any:
        times = np.asarray(times)
        step = {"step": np.full(len(times), float(self.scheme.step))} if halve else {}
        return times, states, rows | step

    @staticmethod
    def slots(state: Any, saves: int) -> int:
        """How many saves a chunk can hold: one of three numbers for a state, so that a run of
        another length seldom compiles again; the smaller ones are cheap to clear."""
        a_save = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state)) + 128
        rooms = [
            2 ** math.floor(math.log2(max(1, min(size // a_save, MOST_SAVES))))
            for size in CHUNK_BYTES
        ]
        return next((room for room in rooms if saves <= room), rooms[-1])

    def forward(self, carry: Any, saves: int) -> Any:
        """The carry that many saves later."""
        while saves:
            some = min(saves, self.capacity)
            carry, saves = self._advance(carry, (some, self.save_every))[0], saves - some
        return carry

    def halved(self, carry: Any) -> Any:
        """The carry for half the step."""
        self.to(self.halvings + 1)
        arrays, static = split(self.flow, self.scheme)
        return compiled_halved(arrays, carry, self.words, self.start, static=static)

    def to(self, halvings: int) -> None:
        """The step halved so often: half of it, twice as many, and saves stay in place."""
        times = halvings - self.halvings
        if times:
            self.scheme = scaled(self.scheme, 0.5**times)
            self.save_every = round(self.save_every * 2.0**times)
            self.halvings = halvings


def single_step(
    flow: AbstractFlow,
    scheme: AbstractScheme,
    state: Any,
    randomness: Randomness,
    time: float,
    like: int,
    ledger: str = "steps",
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The rows of the ledger before and after one step, by the programs of a run of `like` saves.

    `flow` is bound to the state; the rows are those of `ledger.record`, with an axis of one save.
    """
    run = Run(flow, scheme, randomness, time, 1, ledger, capacity=Run.slots(state, like))
    first, carry, _ = run._begin(state)
    after = run._advance(carry, (1, 1))[2]
    return first[2].columns(np.asarray), jax.tree.map(lambda x: x[:1], after).columns(np.asarray)
