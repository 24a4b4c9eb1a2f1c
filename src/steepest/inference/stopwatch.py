"""Seconds of a piece of work, with the seconds that XLA spent compiling taken out."""

from __future__ import annotations

import time
from types import TracebackType

import jax

_COMPILING = "/jax/core/compile/"
_spent = [0.0]


def _listen(event: str, duration_secs: float, **kwargs: str | int) -> None:
    del kwargs
    if event.startswith(_COMPILING):
        _spent[0] += duration_secs


jax.monitoring.register_event_duration_secs_listener(_listen)


class Stopwatch:
    """`with Stopwatch() as watch: ...` then `watch.compile` and `watch.run`, in seconds."""

    compile: float
    run: float

    def __enter__(self) -> Stopwatch:
        self._began, self._compiled = time.perf_counter(), _spent[0]
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        total = time.perf_counter() - self._began
        self.compile = min(_spent[0] - self._compiled, total)
        self.run = total - self.compile
