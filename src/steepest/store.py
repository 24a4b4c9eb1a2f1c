"""Named arrays and a JSON header in one .npz file: no pickle, written whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .archive import read_arrays
from .errors import ArgumentError


def write(path: Path, arrays: Mapping[str, Any], header: Mapping[str, Any]) -> None:
    """The file; it is on the disk before its name points to it.

    Raises ArgumentError where nothing can be written.
    """
    text = np.frombuffer(json.dumps(header).encode(), np.uint8)
    scratch = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(scratch, "wb") as file:
            np.savez(file, allow_pickle=False, **{**arrays, "header": text})
            file.flush()
            os.fsync(file.fileno())
        os.replace(scratch, path)
    except OSError as error:
        raise ArgumentError("path", path, f"cannot be written: {error.strerror}") from None
    finally:
        scratch.unlink(missing_ok=True)


def read(path: Path, form: int, what: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """(arrays, header) of a file that `write` wrote with header["format"] == form.

    Executes nothing. Raises ArgumentError, which says that the file is not `what`.
    """
    try:
        arrays = read_arrays(path)  # the archive's checksums are held
        header = json.loads(bytes(arrays.pop("header")))
        found = header["format"]
    except FileNotFoundError:
        raise ArgumentError("path", path, "the file does not exist") from None
    except Exception as error:
        raise ArgumentError("path", path, f"not {what} ({error})") from None
    if found != form:
        raise ArgumentError("path", path, f"format {found}, wanted {form}")
    return arrays, header
