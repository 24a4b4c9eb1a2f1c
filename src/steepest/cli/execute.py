"""Warm up, run, audit."""

from __future__ import annotations

import contextlib
import dataclasses
import time as clock
import warnings
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from ..audit import Audit
from ..checkpoint import Checkpoint
from ..driver import solve
from ..errors import SteepestError
from ..stability import stiffness
from ..trajectory import Trajectory
from .build import Job
from .spec import Spec

ENDINGS = {"interrupted": "was interrupted", "diverged": "diverged"}


@dataclasses.dataclass(frozen=True)
class Outcome:
    """A finished run: the warm-up, the run itself, its audit, and the seconds they took."""

    warmup: Trajectory | None
    trajectory: Trajectory
    audit: Audit
    seconds: dict[str, float]
    foreseen: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether the run came to its end and its audit passed."""
        return self.audit.passed and self.trajectory.ending != "diverged"

    @property
    def verdict(self) -> str:
        """In two words."""
        if self.trajectory.ending == "diverged":
            return "the run diverged"
        return "audit passed" if self.passed else "audit failed"

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader must know of how the run went."""
        found, run = list(self.foreseen), self.trajectory
        if run.ending:
            found.append(f"the run {ENDINGS[run.ending]}: this is what was done until then")
        steps = run.ledger.step
        if steps is not None and steps[-1] < steps[0]:
            where = float(run.times[int(np.argmax(steps < steps[0]))])
            found.append(
                f"the run diverged before time {where:.6g}: its step was halved from "
                f"{steps[0]:.3g} to {steps[-1]:.3g}"
            )
        return tuple(found)


def execute(
    spec: Spec,
    job: Job,
    progress: bool = False,
    checkpoint: Checkpoint | None = None,
    mesh: Any = None,
) -> Outcome:
    """The warm-up's last state is where the run starts; its clock goes on."""
    part = lambda name: None if checkpoint is None else checkpoint.part(name)  # noqa: E731
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
                mesh=mesh,
                checkpoint=part("warmup"),
                on_divergence=_halving(run.divergence),
            )
        if warmup.interrupted:
            raise SteepestError("interrupted during the warm-up; nothing was written")
        state, start = warmup.final, float(warmup.times[-1])
    foreseen = _foreseen(job, state, start)
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
            mesh=mesh,
            checkpoint=part("run"),
            on_divergence=run.divergence,
        )
    if len(trajectory) < 2:
        raise SteepestError("interrupted before the first save; nothing was written")
    with _timed(seconds, "audit"):
        audit = trajectory.audit()
    return Outcome(warmup, trajectory, audit, seconds, foreseen)


def _foreseen(job: Job, state: Any, start: float) -> tuple[str, ...]:
    """Warns where the step is beyond what is stable at the state from which the run goes on."""
    found = stiffness(job.flow, state, job.scheme, start)
    if found is None or not found.ratio > 1.0:
        return ()
    text = f"where the run begins, small errors grow from step to step: {found}"
    warnings.warn(text, stacklevel=3)
    return (text,)


def _halving(divergence: str) -> str:
    """A warm-up that ends early is none."""
    return divergence if divergence == "halve" else "raise"


def _interval(steps: int) -> int:
    """The steps between saves that divide `steps` into as many intervals as can be, up to 100."""
    return steps // max(count for count in range(1, 101) if steps % count == 0)


@contextlib.contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    before = clock.perf_counter()
    yield
    seconds[name] = clock.perf_counter() - before
