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

CHUNK_SECONDS = 0.5
CHUNK_BYTES, SHORT_CHUNK_BYTES = 16 * 2**20, 2**20
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
        arrays, static = split(self.flow, self.scheme)
        row, carry, found = compiled_begin(
            arrays, state, self.words, static=static, start=self.start, mesh=self.mesh
        )
        # A tracer may hide in a closure of the flow: then what it computed is one.
        if any(isinstance(x, Tracer) for x in jax.tree.leaves((row, found))):
            return None
        self.scheme.judge(self.flow, state, found)
        value = float(devices.whole(row[2]["functional"])[0])
        if not math.isfinite(value):
            raise ArgumentError(
                "functional", f"value {value} at the initial state", "start where F is finite"
            )
        return row, carry

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
            (self.start, self.ledger, self.paired, self.mesh),
        )
        times = self.start + jnp.arange(1, saves + 1) * self.save_every * self.scheme.step
        return jax.tree.map(lambda *x: jnp.concatenate(x), first, (times, states, rows))

    def host(
        self,
        state: Any,
        first: Any,
        steps: int,
        progress: bool,
        checkpoint: Checkpoint | None,
        halve: bool,
    ) -> tuple[Any, str]:
        """(times, states, rows) of the good saves, and why they end early ("" if they do not).

        Raises Terminated after SIGTERM, ProcessLost where there were several processes.
        """
        (_, states, rows), carry = first
        saves, done, chunk = steps // self.save_every, 0, min(steps, 128)
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
                    finite = devices.whole(rows["finite"])[: size[0]]
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
                    chunk = int(min(4 * chunk, max(1.0, CHUNK_SECONDS * rate), 2**30))
                    chunk, due, asked = devices.agreed(chunk, kept.due, termination.asked())
                    if not (halve and pending):
                        words = {"done": done, "halvings": points.words()}
                        kept.keep(done, carry, words, due, asked)
                    bar.update(done >> self.halvings)
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
            static=static,
            capacity=self.capacity,
            options=(self.start, self.ledger, self.paired, self.mesh),
        )

    def _records(self, states: Any, rows: Any, times: Any, halve: bool) -> Any:
        times = np.asarray(times)
        step = {"step": np.full(len(times), float(self.scheme.step))} if halve else {}
        return times, states, rows | step

    @staticmethod
    def slots(state: Any, saves: int) -> int:
        """How many saves a chunk can hold: one of two numbers for a state, so that a run of another
        length seldom compiles again; the smaller is cheap to clear."""
        a_save = sum(x.nbytes for x in jax.tree.leaves(state)) + 128
        short, long = (
            2 ** math.floor(math.log2(max(1, min(size // a_save, MOST_SAVES))))
            for size in (SHORT_CHUNK_BYTES, CHUNK_BYTES)
        )
        return short if saves <= short else long

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
        return compiled_halved(arrays, carry, self.words, static=static, start=self.start)

    def to(self, halvings: int) -> None:
        """The step halved so often: half of it, twice as many, and saves stay in place."""
        times = halvings - self.halvings

        def leaf(path: Any, value: Any) -> Any:
            return value * 0.5**times if getattr(path[-1], "name", None) == "step" else value

        if times:
            self.scheme = jax.tree_util.tree_map_with_path(leaf, self.scheme)
            self.save_every = round(self.save_every * 2.0**times)
            self.halvings = halvings
