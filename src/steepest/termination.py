"""SIGTERM: noticed, so that a run ends between two chunks with what it has done kept."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from .errors import Terminated

_asked = threading.Event()
_running = 0


def asked() -> bool:
    """Whether the process was asked to end."""
    return _asked.is_set()


@contextlib.contextmanager
def noticed(running: bool = True) -> Iterator[None]:
    """Within, SIGTERM is noticed: by `asked` where a run polls it, as an error elsewhere.

    A handler that somebody else has set stays, and so does the default away from the main thread.
    """
    global _running
    ours = threading.current_thread() is threading.main_thread() and (
        signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    )
    if ours:
        _asked.clear()
        signal.signal(signal.SIGTERM, _handle)
    _running += running
    try:
        yield
    finally:
        _running -= running
        if ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _handle(number: int, frame: FrameType | None) -> None:
    del number, frame
    _asked.set()
    if not _running:
        raise Terminated("stopped by SIGTERM")
