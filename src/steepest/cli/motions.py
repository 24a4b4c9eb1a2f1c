"""The pictures of a run in phase space without noise."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from .. import figures
from ..naming import flatten, named_leaves
from ..report import Picture
from .build import Job

FRAMES, TRAIL = 16, 400


def is_motion(job: Job, trajectory: Any) -> bool:
    """Whether one point moves in phase space, without noise."""
    return job.flow.geometry.kinetic and not job.flow.noisy and trajectory.chains == 1


def pictures(job: Job, trajectory: Any, names: list[str], draws: np.ndarray) -> Iterator[Picture]:
    """Phase portrait, what is kept, and the bodies on their way."""
    momenta = {name: np.asarray(x)[None] for name, x in named_leaves(trajectory.states.momentum)}
    _, moving = flatten(momenta, job.problem.dims, job.problem.coords)
    yield Picture(
        "phase",
        "Momentum over position.",
        "Closed curves repeat; an open circle is the start.",
        lambda theme: figures.phase_figure(names, draws[0], moving[0], theme=theme),
    )
    yield from kept(trajectory)
    if job.problem.look is not None:
        bodies = _bodies(job, trajectory)
        trail = len(bodies)
        yield Picture(
            "bodies",
            "The system at the end, and the way of its last body.",
            "The whole way of the last body.",
            lambda theme: figures.bodies_figure(bodies, len(bodies) - 1, trail, theme=theme),
        )


def kept(trajectory: Any) -> Iterator[Picture]:
    """What the ledger says of what should not move."""
    conserved = {k: np.asarray(v, float) for k, v in trajectory.ledger.conserved.items()}
    if conserved:
        worst = ", ".join(f"{k} by {np.abs(v - v[0]).max():.1e}" for k, v in conserved.items())
        yield Picture(
            "conserved",
            f"The change of what the flow conserves: {worst}.",
            "Symplectic schemes let the energy swing at a fixed size, and keep momenta.",
            lambda theme: figures.invariants_figure(
                np.asarray(trajectory.times), conserved, theme=theme
            ),
        )


def frames(job: Job, trajectory: Any) -> tuple[Picture, ...]:
    """The system at equal times."""
    if job.problem.look is None:
        return ()
    bodies, times = _bodies(job, trajectory), np.asarray(trajectory.times)
    # The first part of a long run, so that neighbouring frames show one motion.
    last = min(len(bodies) - 1, TRAIL)
    chosen = np.unique(np.linspace(0, last, FRAMES).astype(int))

    def frame(k: int) -> Picture:
        i = int(chosen[k])
        return Picture(
            f"frame_{k:02d}",
            f"The system at time {times[i]:.4g}.",
            f"{times[i]:.3g}",
            lambda theme: figures.bodies_figure(bodies[: last + 1], i, last // 8, theme=theme),
        )

    return tuple(frame(k) for k in range(len(chosen)))


def _bodies(job: Job, trajectory: Any) -> np.ndarray:
    look = job.problem.look
    assert look is not None
    return np.asarray(jax.vmap(look)(trajectory.states.position), float)
