"""Arrays in .npz files, by themselves or with a JSON header: no pickle, whole or not at all.

Reading executes nothing, and what is unpacked is bounded.
"""

from __future__ import annotations

import contextlib
import json
import os
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from .errors import ArgumentError


@contextlib.contextmanager
def new_file(path: Path, argument: str = "path") -> Iterator[IO[bytes]]:
    """A file to write to; it is on the disk before its name points to it.

    Raises ArgumentError, of that argument, where nothing can be written.
    """
    scratch = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(scratch, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(scratch, path)
    except OSError as error:
        raise ArgumentError(argument, path, f"cannot be written: {error.strerror}") from None
    finally:
        with contextlib.suppress(OSError):  # there is no such folder
            scratch.unlink(missing_ok=True)


def write_arrays(path: Path, arrays: Mapping[str, Any], argument: str = "path") -> None:
    """An .npz file of arrays by name. Raises ArgumentError where nothing can be written."""
    with new_file(path, argument) as file:
        np.savez(file, allow_pickle=False, **arrays)


def read_arrays(path: Path, most_bytes: int | None = None) -> dict[str, np.ndarray]:
    """Every array by name; the archive's checksums are held.

    Raises OSError, zipfile.BadZipFile, or ValueError: also where the arrays take more than
    `most_bytes` unpacked, which a small file can claim; by default more than the file itself, as
    the library writes what it does not compress.
    """
    most_bytes = path.stat().st_size if most_bytes is None else most_bytes
    with zipfile.ZipFile(path) as archive:
        size = sum(member.file_size for member in archive.infolist())
    if size > most_bytes:
        raise ValueError(f"{size / 2**20:.0f} MiB unpacked, the bound is {most_bytes / 2**20:.0f}")
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def write(path: Path, arrays: Mapping[str, Any], header: Mapping[str, Any]) -> None:
    """Arrays and a header of plain data. Raises ArgumentError where nothing can be written."""
    text = np.frombuffer(json.dumps(header).encode(), np.uint8)
    write_arrays(path, {**arrays, "header": text})


def read(path: Path, form: int, what: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """(arrays, header) of a file that `write` wrote with header["format"] == form.

    Raises ArgumentError, which says that the file is not `what`.
    """
    try:
        arrays = read_arrays(path)
        header = json.loads(bytes(arrays.pop("header")))
        found = header["format"]
    except FileNotFoundError:
        raise ArgumentError("path", path, "the file does not exist") from None
    except Exception as error:
        raise ArgumentError("path", path, f"not {what} ({error})") from None
    if found != form:
        raise ArgumentError("path", path, f"format {found}, wanted {form}")
    return arrays, header
