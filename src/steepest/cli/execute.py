"""Warm up, run, audit."""

from __future__ import annotations

import contextlib
import dataclasses
import time as clock
from collections.abc import Iterator

import jax

from ..audit import Audit
from ..driver import solve
from ..errors import SteepestError
from ..trajectory import Trajectory
from .build import Job
from .spec import Spec


@dataclasses.dataclass(frozen=True)
class Outcome:
    """A finished run: the warm-up, the run itself, its audit, and the seconds they took."""

    warmup: Trajectory | None
    trajectory: Trajectory
    audit: Audit
    seconds: dict[str, float]


def execute(spec: Spec, job: Job, progress: bool = False) -> Outcome:
    """The warm-up's last state is where the run starts; its clock goes on."""
    run, state, start = spec.run, job.state, 0.0
    key_warmup, key_run = jax.random.split(job.key)
    seconds: dict[str, float] = {}
    warmup = None
    if run.warmup:
        with _timed(seconds, "warm-up"):
            warmup = solve(
                job.flow,
                state,
                scheme=job.scheme,
                steps=run.warmup,
                key=key_warmup,
                save_every=_interval(run.warmup),
                progress=progress,
            )
        if warmup.interrupted:
            raise SteepestError("interrupted during the warm-up; nothing was written")
        state, start = warmup.final, float(warmup.times[-1])
    with _timed(seconds, "run"):
        trajectory = solve(
            job.flow,
            state,
            scheme=job.scheme,
            time=run.time,
            steps=run.steps,
            key=key_run,
            save_every=run.save_every,
            progress=progress,
            start=start,
        )
    if len(trajectory) < 2:
        raise SteepestError("interrupted before the first save; nothing was written")
    with _timed(seconds, "audit"):
        audit = trajectory.audit()
    return Outcome(warmup, trajectory, audit, seconds)


def _interval(steps: int) -> int:
    """The steps between saves that divide `steps` into as many intervals as can be, up to 100."""
    return steps // max(count for count in range(1, 101) if steps % count == 0)


@contextlib.contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    before = clock.perf_counter()
    yield
    seconds[name] = clock.perf_counter() - before
