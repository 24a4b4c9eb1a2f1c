"""Arrays of an .npz file from anywhere: nothing is executed, and what they unpack to is bounded."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np


def read_arrays(path: Path, most_bytes: int | None = None) -> dict[str, np.ndarray]:
    """Every array by name.

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
