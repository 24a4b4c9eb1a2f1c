"""The record, the pictures and the files of a run whose state is a law."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import figures
from ..report import Picture, Record
from ..report.page import number
from ..states import Categorical, Density, Gaussian, GaussianMixture, Grid
from .build import Job
from .execute import Outcome
from .shared import balanced, check_rows, columns_of, ledger_pictures

FRAMES = 12
PANELS = 8
CELLS = 120


def record(title: str, job: Job, outcome: Outcome, resolved: str, provenance: Any) -> Record:
    """Everything that the report says."""
    trajectory, audit = outcome.trajectory, outcome.audit
    pictures, frames = _law_pictures(job, outcome)
    return Record(
        title=title,
        passed=outcome.passed,
        verdict=outcome.verdict,
        facts=tuple(_facts(job, outcome)),
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


def write_states(place: Path, trajectory: Any) -> None:
    """trajectory.npz with every save; of a density also density.csv, the last one."""
    trajectory.save(place / "trajectory.npz")
    final = trajectory.final
    if not isinstance(final, Density):
        return
    points = np.asarray(final.grid.points()).reshape(-1, final.grid.dimension)
    rows = np.column_stack([points, np.asarray(final.values).reshape(-1)])
    names = [f"x{i + 1}" for i in range(final.grid.dimension)]
    header = ",".join([*names, "density"])
    np.savetxt(place / "density.csv", rows, "%.10g", ",", header=header, comments="")


def _facts(job: Job, outcome: Outcome) -> Iterator[tuple[str, str]]:
    """The numbers at the head of the page."""
    trajectory = outcome.trajectory
    ledger = trajectory.ledger
    yield "functional at the start", number(float(ledger.functional[0]))
    yield "at the end", number(float(ledger.functional[-1]))
    distance = _distance(job, trajectory.final)
    if distance is not None:
        yield "KL to the Gibbs law", number(distance)
    if "mass" in ledger.conserved:
        drift = float(np.abs(ledger.conserved["mass"] - 1.0).max())
        yield "error of the mass", number(drift)
    if ledger.minimum is not None:
        yield "smallest value", number(float(ledger.minimum.min()))
    if balanced(outcome):
        yield "largest gap in the balance", number(float(np.abs(ledger.closure).max()))
    yield "steps", f"{(len(trajectory) - 1) * trajectory.save_every:,}"
    yield "seconds", f"{sum(outcome.seconds.values()):.1f}"


def _distance(job: Job, final: Any) -> float | None:
    law = job.flow.equilibrium()
    if law.kind != "gibbs" or law.log_density is None or not isinstance(final, Density):
        return None
    return float(final.kl(Density.from_log(final.grid, law.log_density)))


def _law_pictures(job: Job, outcome: Outcome) -> tuple[list[Picture], tuple[Picture, ...]]:
    """The law at several times at once, and one picture for each frame."""
    trajectory = outcome.trajectory
    few = picked(trajectory, PANELS)
    times = np.asarray(trajectory.times)[few]
    if isinstance(trajectory.final, Categorical):
        bars = np.stack([np.asarray(trajectory.at(i).probabilities) for i in few])
        return [
            Picture(
                "law",
                f"Probabilities of {bars.shape[1]} elements at {len(times)} times.",
                "Darker is later.",
                lambda theme: figures.bars_figure(times, bars, theme=theme),
                wide=True,
            )
        ], ()
    grid = _grid(trajectory)
    target = _target(job, trajectory, grid)
    axes = grid.axes
    shown = np.stack([_on(trajectory.at(i), grid) for i in few])
    names = ("q", "p") if job.flow.geometry.kinetic else ("x1", "x2")
    gibbs = "; the Gibbs law is dashed" if grid.dimension == 1 else "; contours: the Gibbs law"
    law = Picture(
        "law",
        f"The law at {len(times)} times, from {times[0]:.3g} to {times[-1]:.3g}.",
        "Later is stronger" + (gibbs if target is not None else "") + "."
        if grid.dimension == 1
        else "One colour scale" + (gibbs if target is not None else "") + ".",
        lambda theme: figures.law_figure(times, axes, shown, target, names, theme=theme),
        wide=True,
    )
    many = picked(trajectory, FRAMES)
    moments = np.asarray(trajectory.times)[many]
    values = np.stack([_on(trajectory.at(i), grid) for i in many])

    def frame(k: int) -> Picture:
        return Picture(
            f"frame_{k:02d}",
            f"The law at time {moments[k]:.4g}.",
            f"{moments[k]:.3g}",
            lambda theme: figures.frame_figure(
                float(moments[k]), axes, values[k], values, target, names, theme=theme
            ),
        )

    return [law], tuple(frame(k) for k in range(len(many)))


def picked(trajectory: Any, count: int) -> list[int]:
    """Saves at which the functional has fallen by equal parts, so that the frames show motion."""
    fallen = np.abs(np.diff(np.asarray(trajectory.ledger.functional, float)))
    share = np.append(0.0, np.cumsum(fallen))
    steady = np.arange(len(share)) / max(len(share) - 1, 1)
    pace = 0.5 * (share / share[-1] if share[-1] > 0 else steady) + 0.5 * steady
    found = np.searchsorted(pace, np.linspace(0, 1, count) * pace[-1])
    return sorted({int(min(i, len(share) - 1)) for i in found})


def _grid(trajectory: Any) -> Grid:
    """One or two axes that hold the law at every save."""
    state = trajectory.final
    if isinstance(state, Density):
        return state.grid if state.grid.dimension <= 2 else state.marginal(0, 1).grid
    low, high = [], []
    for i in range(0, len(trajectory), max(1, len(trajectory) // 16)):
        mean, spread = _moments(trajectory.at(i))
        low.append(mean - 3.5 * spread)
        high.append(mean + 3.5 * spread)
    lower, upper = np.min(low, axis=0), np.max(high, axis=0)
    return Grid(lower.tolist(), upper.tolist(), [CELLS] * len(lower))


def _moments(state: Any) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviations of the first two coordinates."""
    mean = state.mean() if callable(state.mean) else state.mean
    covariance = state.covariance() if callable(state.covariance) else state.covariance
    spread = np.sqrt(np.diagonal(np.asarray(covariance)))
    return np.asarray(mean)[:2], spread[:2]


def _on(state: Any, grid: Grid) -> np.ndarray:
    """The density of a law, or of its first two coordinates, at the cells of a grid."""
    if isinstance(state, Density):
        return np.asarray(state.values if state.grid == grid else state.marginal(0, 1).values)
    return np.exp(np.asarray(jax.vmap(_first_two(state).log_prob)(_rows(grid)))).reshape(grid.shape)


def _first_two(state: Any) -> Any:
    if isinstance(state, Gaussian):
        return Gaussian.from_moments(state.mean[:2], state.covariance[:2, :2])
    assert isinstance(state, GaussianMixture)
    covariances = jnp.stack([state.component(i).covariance for i in range(state.means.shape[0])])
    roots = jnp.linalg.cholesky(covariances[:, :2, :2])
    return GaussianMixture(state.log_weights, state.means[:, :2], roots)


def _rows(grid: Grid) -> Any:
    return grid.points().reshape(-1, grid.dimension)


def _target(job: Job, trajectory: Any, grid: Grid) -> np.ndarray | None:
    """The Gibbs law on the grid, where all of space is on it."""
    law = job.flow.equilibrium()
    state = trajectory.final
    size = state.grid.dimension if isinstance(state, Density) else len(_flat_mean(state))
    if law.kind != "gibbs" or law.log_density is None or size != grid.dimension:
        return None
    return np.asarray(Density.from_log(grid, law.log_density).values)


def _flat_mean(state: Any) -> np.ndarray:
    return np.asarray(state.mean() if callable(state.mean) else state.mean)
