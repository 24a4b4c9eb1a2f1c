"""Where a command keeps what it has not finished: beside the place of its folder."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ArgumentError, Diverged, NotConverged

if TYPE_CHECKING:
    from ..checkpoint import Checkpoint

EVERY = 60.0


def kept(place: Path, resume: bool, every: float = EVERY) -> Checkpoint:
    """The checkpoint of a command that writes to `place`, for `resume` or for a new beginning.

    Raises ArgumentError where there is unfinished work and nobody asked to go on with it.
    """
    from ..checkpoint import Checkpoint  # it brings JAX, which the command has prepared

    found = Checkpoint(place.parent / f".{place.name}.checkpoint", every)
    if not resume and found.folder.is_dir() and any(found.folder.rglob("*.npz")):
        raise ArgumentError(
            "--out",
            place,
            f"an unfinished run of this place is in {found.folder}: --resume goes on with it; "
            "delete it to begin anew",
        )
    return found


@contextlib.contextmanager
def forgotten_if_it_fails(found: Checkpoint) -> Iterator[None]:
    """A run that diverged has nothing to go on from; one that was stopped or refused has."""
    try:
        yield
    except (Diverged, NotConverged):
        found.discard()
        raise


def words(resume: bool, every: float) -> list[str]:
    """The options as they were given."""
    found = ["--resume"] if resume else []
    return found if every == EVERY else [*found, "--checkpoint-every", f"{every:g}"]
