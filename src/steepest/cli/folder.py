"""The run folder: whole or not at all.

It is written under another name beside its place and renamed at the end. What stands there already
is replaced only if it is a run folder with nothing else in it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import ArgumentError

MARK = "run.json"
FORMAT = 1
MOST_MARK_BYTES = 64 * 2**20


def check_place(out: Path) -> Path:
    """The absolute path of `out`. Raises ArgumentError if a run folder cannot be put there."""
    out = Path(os.path.abspath(out))
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise ArgumentError("--out", out, "this is not a folder; choose another place")
    if out.is_dir() and any(out.iterdir()):
        foreign = _foreign(out)
        if foreign is not None:
            raise ArgumentError(
                "--out", out, f"the folder holds {foreign}; choose a new or an earlier run folder"
            )
    parent = out.parent
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise ArgumentError("--out", out, f"{parent} cannot be written to")
    return out


def read_mark(run: Path) -> dict[str, Any]:
    """What `write_mark` wrote into a folder.

    Raises FileNotFoundError where nothing did, ValueError that says what is there instead.
    """
    mark = run / MARK
    foreign = f"a {MARK} that is no run's"
    try:
        if mark.stat().st_size > MOST_MARK_BYTES:
            raise ValueError(foreign)
        written = json.loads(mark.read_text(encoding="utf-8"))
        form, files = written["format"], [str(name) for name in written["files"]]
    except FileNotFoundError:
        raise
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise ValueError(foreign) from None
    if form != FORMAT:
        raise ValueError(f"a run of format {form}")
    return written | {"files": files}


def _foreign(out: Path) -> str | None:
    """What in the folder was not written by a run; None if nothing."""
    try:
        known = set(read_mark(out)["files"])
    except FileNotFoundError:
        return "files that are no run's"
    except ValueError as error:
        return str(error)
    strange = sorted(entry.name for entry in out.iterdir() if entry.name not in known)
    return f"{strange[0]!r}, which no run wrote" if strange else None


@contextlib.contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A scratch folder beside `out` that becomes `out` when the block ends without an error."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    except OSError as error:
        raise ArgumentError("--out", out, f"cannot be written: {error.strerror}") from None
    try:
        scratch.chmod(0o777 & ~_umask())
        yield scratch
        check_place(out)
        aside = None
        if out.exists():
            aside = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent)) / "old"
            os.rename(out, aside)
        try:
            os.rename(scratch, out)
        except OSError:
            if aside is not None:
                os.rename(aside, out)
            raise
        finally:
            if aside is not None:
                shutil.rmtree(aside.parent, ignore_errors=True)
    except OSError as error:
        raise ArgumentError("--out", out, f"cannot be written: {error}") from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def write_mark(folder: Path, content: dict[str, object]) -> None:
    """run.json: what the run was, and the list of files that it wrote."""
    files = sorted([*(entry.name for entry in folder.iterdir()), MARK])
    text = json.dumps({"format": FORMAT, "files": files, **content}, indent=1, allow_nan=False)
    (folder / MARK).write_text(text + "\n", encoding="utf-8")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
