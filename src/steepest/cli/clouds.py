"""The record, the pictures and the files of a run whose particles make up one law."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .. import figures
from ..functionals import KL, FreeEnergy, SteinDiscrepancy
from ..functionals.base import parts, unscaled
from ..naming import flatten
from ..report import Picture, Record
from ..report.page import number
from ..states import Density, Grid, Particles
from ..states.points import coordinates, is_ensemble
from .build import Job
from .execute import Outcome
from .laws import CELLS, FRAMES, PANELS, picked
from .shared import balanced, check_rows, columns_of, ledger_pictures


def is_cloud(job: Job) -> bool:
    """Whether the particles are one law together rather than chains side by side."""
    return is_ensemble(job.state) and job.flow.geometry.on_measures


def record(title: str, job: Job, outcome: Outcome, resolved: str, provenance: Any) -> Record:
    """Everything that the report says."""
    trajectory, audit = outcome.trajectory, outcome.audit
    pictures, frames = _pictures(job, outcome)
    return Record(
        title=title,
        passed=outcome.passed,
        verdict=outcome.verdict,
        facts=tuple(_facts(outcome)),
        notes=job.problem.notes,
        warnings=outcome.warnings,
        row=job.row,
        checks=check_rows(audit),
        ledger=columns_of(trajectory),
        pictures=(*pictures, *ledger_pictures(outcome)),
        spec=resolved,
        provenance=provenance,
        frames=frames,
    )


def write_states(place: Path, job: Job, trajectory: Any) -> None:
    """trajectory.npz with every save, and particles.csv, the last one: coordinates and weights."""
    trajectory.save(place / "trajectory.npz")
    names, draws = _coordinates(job, trajectory)
    columns, header = [draws[-1]], list(names)
    if trajectory.final.log_weights is not None:
        columns.append(np.asarray(trajectory.final.weights)[:, None])
        header.append("weight")
    rows = np.column_stack(columns)
    header = [name.replace(",", " ").replace('"', "'") for name in header]
    np.savetxt(place / "particles.csv", rows, "%.10g", ",", header=",".join(header), comments="")


def _facts(outcome: Outcome) -> Iterator[tuple[str, str]]:
    """The numbers at the head of the page."""
    trajectory = outcome.trajectory
    ledger, final = trajectory.ledger, trajectory.final
    yield "particles", f"{final.count:,}"
    yield "functional at the start", number(float(ledger.functional[0]))
    yield "at the end", number(float(ledger.functional[-1]))
    if final.log_weights is not None:
        yield "effective particles", f"{float(final.effective_size):,.0f}"
    if balanced(outcome):
        yield "largest gap in the balance", number(float(np.abs(ledger.closure).max()))
    yield from _discrepancy(outcome)
    yield "steps", f"{(len(trajectory) - 1) * trajectory.save_every:,}"
    yield "seconds", f"{sum(outcome.seconds.values()):.1f}"


def _discrepancy(outcome: Outcome) -> Iterator[tuple[str, str]]:
    """Of particles under a Stein geometry: how far they are from their target."""
    trajectory, flow = outcome.trajectory, outcome.trajectory.flow
    functional = getattr(flow, "functional", None)
    if not isinstance(functional, (FreeEnergy, KL)) or not flow.geometry.repulsive:
        return
    resolved = functional.resolve()
    energy = SteinDiscrepancy(resolved.potential, temperature=resolved.temperature)
    found = energy.measure(trajectory.final)
    yield (
        "squared Stein discrepancy, ± its standard error",
        f"{number(float(found.value))} ± {number(float(found.error))}",
    )
    yield "of as many draws of the target", f"0 ± {number(float(found.null))}"


def _coordinates(job: Job, trajectory: Any) -> tuple[list[str], np.ndarray]:
    """Names of the coordinates, and (saves, particles, coordinates)."""
    problem = job.problem
    names, draws = flatten(trajectory.variables(), problem.dims, problem.coords)
    if not isinstance(trajectory.final.positions, dict):
        names = list(problem.coords.get("axis", _axes(job, draws.shape[2])))
    return names, np.swapaxes(draws, 0, 1)


def _axes(job: Job, size: int) -> list[str]:
    if job.flow.geometry.kinetic:
        return [f"{name}{i + 1}" for name in "qp" for i in range(size // 2)]
    return [f"x{i + 1}" for i in range(size)]


def _pictures(job: Job, outcome: Outcome) -> tuple[list[Picture], tuple[Picture, ...]]:
    """The cloud at several times at once, and one picture for each frame."""
    trajectory = outcome.trajectory
    names, clouds = _coordinates(job, trajectory)
    few, many = picked(trajectory, PANELS), picked(trajectory, FRAMES)
    if clouds.shape[2] == 1:
        return _on_a_line(job, trajectory, names, clouds[:, :, 0], few, many)
    times, weights = np.asarray(trajectory.times), _weights(trajectory)
    # In many dimensions the two coordinates that spread most at the end, in their order.
    two = np.sort(np.argsort(-np.std(clouds[-1], axis=0), kind="stable")[:2])
    plane, data, axes = clouds[:, :, two], _data(job, two), [names[i] for i in two]
    take = lambda indices: None if weights is None else weights[indices]  # noqa: E731
    beside = "" if data is None else "; the data are orange"
    every = (*few, *many)
    pictures = [
        Picture(
            "cloud",
            f"{clouds.shape[1]:,} particles at {len(few)} times, to {times[few[-1]]:.3g}.",
            f"The two coordinates that spread most{beside}."
            if clouds.shape[2] > 2
            else f"One scale{beside}.",
            lambda theme: figures.cloud_figure(
                times[few], plane[few], take(few), data, axes, theme=theme
            ),
            wide=True,
        )
    ]
    if clouds.shape[2] > 2:
        last = clouds[-1]
        of = "Posterior" if job.flow.equilibrium().kind == "gibbs" else "Particles:"
        pictures.append(
            Picture(
                "estimates",
                f"Intervals of {clouds.shape[2]} coordinates at the end, sorted by median.",
                "Coloured where the 94 % interval of the particles excludes zero.",
                lambda theme: figures.estimates_figure(names, last, of, theme=theme),
                wide=True,
            )
        )

    def frame(k: int) -> Picture:
        i = many[k]
        return Picture(
            f"frame_{k:02d}",
            f"The particles at time {times[i]:.4g}.",
            f"{times[i]:.3g}",
            lambda theme: figures.cloud_frame_figure(
                float(times[i]),
                plane[i],
                plane[list(every)],
                None if weights is None else weights[i],
                data,
                axes,
                theme=theme,
            ),
        )

    return pictures, tuple(frame(k) for k in range(len(many)))


def _on_a_line(
    job: Job, trajectory: Any, names: list[str], clouds: np.ndarray, few: Any, many: Any
) -> tuple[list[Picture], tuple[Picture, ...]]:
    """Smoothed histograms."""
    low, high = float(clouds.min()), float(clouds.max())
    room = 0.1 * max(high - low, 1e-6)
    grid = Grid(low - room, high + room, CELLS)
    times = np.asarray(trajectory.times)
    width = 1.06 * float(np.std(clouds[-1])) * clouds.shape[1] ** -0.2

    def density(i: int) -> np.ndarray:
        state = trajectory.at(i)
        line = Particles(coordinates(state)[:, :1], state.log_weights)
        return np.asarray(Density.from_particles(line, grid, width).values)

    law = job.flow.equilibrium()
    target = None
    if law.kind == "gibbs" and law.log_density is not None and not job.flow.geometry.kinetic:
        target = np.asarray(Density.from_log(grid, law.log_density).values)
    shown, film = np.stack([density(i) for i in few]), np.stack([density(i) for i in many])
    picture = Picture(
        "law",
        f"The law of {clouds.shape[1]:,} particles at {len(few)} times.",
        "Later is stronger" + ("; the Gibbs law is dashed." if target is not None else "."),
        lambda theme: figures.law_figure(times[few], grid.axes, shown, target, names, theme=theme),
        wide=True,
    )

    def frame(k: int) -> Picture:
        return Picture(
            f"frame_{k:02d}",
            f"The law at time {times[many[k]]:.4g}.",
            f"{times[many[k]]:.3g}",
            lambda theme: figures.frame_figure(
                float(times[many[k]]), grid.axes, film[k], film, target, names, theme=theme
            ),
        )

    return [picture], tuple(frame(k) for k in range(len(many)))


def _weights(trajectory: Any) -> np.ndarray | None:
    if trajectory.final.log_weights is None:
        return None
    return np.stack([np.asarray(trajectory.at(i).weights) for i in range(len(trajectory))])


def _data(job: Job, two: np.ndarray) -> np.ndarray | None:
    """Two coordinates of the data of a discrepancy."""
    for part in parts(job.flow.functional):
        data = getattr(unscaled(part)[1], "data", None)
        if isinstance(data, Particles):
            return np.asarray(coordinates(data))[:, two]
    return None
