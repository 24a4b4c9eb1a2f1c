"""What a run keeps of its saves: a known number of equal records, in memory or in a file.

A file, `saves.npy`, is a NumPy array of records, one for each save, that is filled as the run goes
on; the memory of a run does then not grow with the number of its saves. It is written, not mapped,
while it grows: a full disk is an error then and no fault of the memory.
"""

from __future__ import annotations

import io
import os
import zlib
from pathlib import Path
from typing import Any

import jax
import numpy as np

from . import devices
from .errors import ArgumentError

PIECE = 64 * 2**20


class Saves:
    """Room for `count` records like `example`, a tree of arrays with a leading axis of records."""

    def __init__(self, count: int, example: Any):
        self.count, self.done = count, 0
        leaves, self.structure = jax.tree.flatten(example)
        self.shapes = [(np.dtype(x.dtype), x.shape[1:]) for x in leaves]
        self.open()

    def open(self) -> None:
        """Make the room."""
        self.arrays = [np.empty((self.count, *shape), dtype) for dtype, shape in self.shapes]

    def add(self, records: Any, number: int) -> None:
        """The first `number` of `records` go behind those that are there."""
        self.put([devices.whole(x)[:number] for x in jax.tree.leaves(records)])
        self.done += number

    def put(self, leaves: list[Any]) -> None:
        """Copy: the buffers belong to the device."""
        for array, leaf in zip(self.arrays, leaves, strict=True):
            array[self.done : self.done + len(leaf)] = leaf

    def back(self, done: int) -> None:
        """Forget what came after the first `done` records."""
        self.done = done

    def taken(self) -> Any:
        """All records so far, as a tree of arrays."""
        return jax.tree.unflatten(self.structure, [array[: self.done] for array in self.arrays])


class SavesInFile(Saves):
    """The same in a file; `taken` maps it into memory."""

    def __init__(self, count: int, example: Any, path: Path):
        self.path, self.crc = path, 0
        super().__init__(count, example)

    def open(self) -> None:
        fields = [(f"f{i}", dtype, shape) for i, (dtype, shape) in enumerate(self.shapes)]
        self.record = np.dtype(fields)
        head = io.BytesIO()
        described = np.lib.format.dtype_to_descr(self.record)
        header = {"descr": described, "fortran_order": False, "shape": (self.count,)}
        np.lib.format.write_array_header_2_0(head, header)
        self.head = head.getvalue()

    def start(self) -> None:
        """An empty file of the final size."""
        if jax.process_index():
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.path, "wb") as file:
                file.write(self.head)
                file.truncate(len(self.head) + self.count * self.record.itemsize)
        except OSError as error:
            raise _unwritable(self.path, error) from None

    def put(self, leaves: list[Any]) -> None:
        if jax.process_index():  # the first process writes for all
            return
        rows = np.empty(len(leaves[0]), self.record)
        for i, leaf in enumerate(leaves):
            rows[f"f{i}"] = leaf
        content = rows.view(np.uint8).data
        try:
            with open(self.path, "r+b") as file:
                file.seek(len(self.head) + self.done * self.record.itemsize)
                file.write(content)
        except OSError as error:
            raise _unwritable(self.path, error) from None
        self.crc = zlib.crc32(content, self.crc)

    def flush(self) -> None:
        """What was written is on the disk."""
        if self.count and jax.process_index() == 0:
            with open(self.path, "rb") as file:
                os.fsync(file.fileno())

    def holds(self, done: int, crc: int) -> bool:
        """Whether the first `done` records in the file are those that had this checksum.

        If so the next ones go behind them.
        """
        if self.checksum(done) != crc:
            return False
        self.done, self.crc = done, crc
        return True

    def checksum(self, done: int) -> int | None:
        """Of the first records in the file; None if they are not there."""
        found, left = 0, done * self.record.itemsize
        try:
            with open(self.path, "rb") as file:
                if file.read(len(self.head)) != self.head:
                    return None
                while left and (piece := file.read(min(PIECE, left))):
                    found, left = zlib.crc32(piece, found), left - len(piece)
        except OSError:
            return None
        return None if left else found

    def back(self, done: int) -> None:
        self.done, self.crc = done, self.checksum(done) or 0

    def taken(self) -> Any:
        devices.together("saves")
        rows = np.memmap(self.path, self.record, "r", len(self.head), (self.done,))
        # Columns of numbers are copied, so that they do not hold on to the states beside them.
        columns = enumerate(self.shapes)
        leaves = [rows[f"f{i}"] if shape else np.array(rows[f"f{i}"]) for i, (_, shape) in columns]
        return jax.tree.unflatten(self.structure, leaves)


def _unwritable(path: Path, error: OSError) -> ArgumentError:
    return ArgumentError("checkpoint", path, f"cannot be written: {error.strerror}")
