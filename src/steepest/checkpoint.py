"""Checkpoints: an unfinished run on disk, from which the same call goes on to the same bits.

A checkpoint is `NUMBER.npz`, the named arrays that the next step needs with a JSON header, written
whole or not at all (and `NUMBER-PROCESS.npz` with the shares of other processes). Beside it
`saves.npy` has the saves so far; the header says how many and their checksum. The header also says
what the run is made of: another run is refused. The last ones are kept, so that one that was
damaged costs only what came after the one before.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import itertools
import json
import time as clock
import warnings
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from . import devices, store
from .described import differences
from .errors import ArgumentError, Terminated
from .saves import Saves, SavesInFile

FORMAT = 1


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """Where a run keeps what it has done, so that it can be killed and go on.

    `folder`: of this run alone. `every`: seconds between checkpoints, 0 for one after each chunk of
    steps (about half a second). `keep`: how many of the last ones stay. The same call goes on from
    the newest that is whole; after its end it gives the finished run at once. SIGTERM writes a
    checkpoint and raises `Terminated`.
    """

    folder: Path
    every: float = 60.0
    keep: int = 2

    def __init__(self, folder: str | Path, every: float = 60.0, keep: int = 2):
        if not (isinstance(every, (int, float)) and every >= 0):
            raise ArgumentError("every", every, "seconds, a number >= 0")
        if not (isinstance(keep, int) and keep >= 1):
            raise ArgumentError("keep", keep, "an integer >= 1")
        object.__setattr__(self, "folder", Path(folder).absolute())
        object.__setattr__(self, "every", float(every))
        object.__setattr__(self, "keep", keep)

    def part(self, name: str) -> Checkpoint:
        """The checkpoint of a part of a larger piece of work."""
        return dataclasses.replace(self, folder=self.folder / name)

    @contextlib.contextmanager
    def of_every_solve(self) -> Iterator[None]:
        """Within, each `solve` has a checkpoint of its own, by its number.

        Work that is a function of its inputs then goes on after a kill: done again, it takes the
        runs that were finished from here.
        """
        numbers = itertools.count()
        token = _OUTER.set(lambda: self.part(f"{next(numbers):05d}"))
        try:
            yield
        finally:
            _OUTER.reset(token)

    def files(self) -> list[Path]:
        """The checkpoints that are there, the newest first."""
        found = self.folder.glob("[0-9]*.npz")
        return sorted((path for path in found if path.stem.isdecimal()), reverse=True)

    def discard(self) -> None:
        """Remove what runs have written here, and nothing else."""
        if not self.folder.is_dir():
            return
        for inner in [path for path in self.folder.iterdir() if path.is_dir()]:
            self.part(inner.name).discard()
        for kind in ("[0-9]*.npz", SAVES, "*.partial"):
            for path in self.folder.glob(kind):
                path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # something else is there
            self.folder.rmdir()


SAVES = "saves.npy"
_OUTER: ContextVar[Any] = ContextVar("outer checkpoint", default=None)


def current() -> Checkpoint | None:
    """The checkpoint of the next `solve` under `of_every_solve`; None outside."""
    outer = _OUTER.get()
    return None if outer is None else outer()


class Kept:
    """A checkpoint in use: `restore` once, then `keep` now and then.

    `card`: what the run is made of, as `describe` tells it. `count` saves like `example` are kept
    in `saves`; in memory where there is no checkpoint.
    """

    def __init__(
        self, place: Checkpoint | None, card: Mapping[str, str], count: int = 0, example: Any = ()
    ):
        self.place, self.card, self.written = place, dict(card), clock.monotonic()
        if place is None:
            self.saves = Saves(count, example)
        else:
            self.saves = SavesInFile(count, example, place.folder / SAVES)

    def restore(self, like: Any) -> tuple[Any, dict[str, Any]] | None:
        """(carry, words) of the newest checkpoint that is whole; None where there is none.

        `like`: a carry of the same structure. Warns of each that is damaged. Raises ArgumentError
        if it is another run's.
        """
        if self.place is None:
            return None
        for path in self.place.files():
            try:
                arrays, header = store.read(path, FORMAT, "a checkpoint")
                for process in range(1, int(header["processes"])):
                    arrays |= store.read(_share(path, process), FORMAT, "a checkpoint")[0]
                other = differences(header["card"], self.card)
                if not other:
                    carry = filled(like, arrays, path)
                    if not self._resume_saves(header):
                        raise ArgumentError("checkpoint", path, f"{SAVES} does not belong to it")
                    return carry, header["words"]
            except (ArgumentError, KeyError, TypeError) as error:
                warnings.warn(f"a damaged checkpoint is passed over: {error}", stacklevel=4)
                continue
            raise ArgumentError(
                "checkpoint",
                self.place.folder,
                "it belongs to another run; take another folder, or delete it to begin anew\n  "
                + "\n  ".join(other),
            )
        if isinstance(self.saves, SavesInFile) and self.saves.count:
            self.saves.start()
        return None

    def _resume_saves(self, header: Any) -> bool:
        if not isinstance(self.saves, SavesInFile) or not self.saves.count:
            return True
        return self.saves.holds(int(header["saves"]), int(header["crc"]))

    @property
    def due(self) -> bool:
        """Whether it is time for the next one."""
        if self.place is None:
            return False
        return clock.monotonic() - self.written >= self.place.every

    def keep(
        self, number: int, carry: Any, words: Mapping[str, Any], due: bool, asked: bool = False
    ) -> None:
        """Write a checkpoint if it is `due`, or if the run was `asked` to end, and end it.

        `number` grows; `words` are plain data. Raises Terminated.
        """
        if self.place is None:
            return
        if due or asked:
            self._write(number, carry, words)
        if asked:
            raise Terminated(f"stopped by SIGTERM; {self.place.folder} has what was done")

    def _write(self, number: int, carry: Any, words: Mapping[str, Any]) -> None:
        assert self.place is not None
        header: dict[str, Any] = {"format": FORMAT, "card": self.card, "words": dict(words)}
        header["hash"] = hashlib.sha256(json.dumps(self.card).encode()).hexdigest()
        header["processes"] = jax.process_count()
        if isinstance(self.saves, SavesInFile):
            self.saves.flush()
            header |= {"saves": self.saves.done, "crc": self.saves.crc}
        new = self.place.folder / f"{number:012d}.npz"
        store.write(_share(new, jax.process_index()), named(carry), header)
        devices.together("checkpoint")
        self.written = clock.monotonic()
        if jax.process_index():
            return
        older = [path for path in self.place.files() if path < new]
        later = [path for path in self.place.files() if path > new]  # damaged ones
        for path in [*later, *older[self.place.keep - 1 :]]:
            for share in path.parent.glob(f"{path.stem}*.npz"):
                share.unlink(missing_ok=True)


def _share(path: Path, process: int) -> Path:
    """The file of one process."""
    return path.with_name(f"{path.stem}-{process}.npz") if process else path


def named(carry: Any) -> dict[str, np.ndarray]:
    """The leaves of a carry by their paths; of several processes what this one has to write."""
    leaves = jax.tree_util.tree_flatten_with_path(carry)[0]
    keyed = [(jax.tree_util.keystr(path), leaf) for path, leaf in leaves]
    return {name + part: x for name, leaf in keyed for part, x in devices.shares(leaf).items()}


def filled(like: Any, arrays: Mapping[str, np.ndarray], path: Path) -> Any:
    """A carry like `like`, on its devices, of what `named` gave. Raises ArgumentError."""

    def leaf(where: Any, old: Any) -> Any:
        found = devices.joined(name := jax.tree_util.keystr(where), old, arrays)
        if found is None or found.shape != old.shape or found.dtype != old.dtype:
            raise ArgumentError("checkpoint", path, f"its array {name} does not fit this run")
        several = len(old.devices()) > 1 if isinstance(old, jax.Array) else False
        return devices.placed(found, old.sharding) if several else jnp.asarray(found)

    return jax.tree_util.tree_map_with_path(leaf, like)
