"""From a finished run to its record, its pictures and its files."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from .. import figures
from ..naming import flatten
from ..report import Picture, Record
from ..report.page import number
from ..states.points import is_law
from ..summary import summarise, warn
from . import clouds, laws, motions
from .build import Job
from .execute import Outcome
from .ingredients import LAW_STATES
from .pages import write_page
from .shared import balanced, check_rows, columns_of, ledger_pictures
from .spec import Spec

GRID = 140


def record(spec: Spec, job: Job, outcome: Outcome, resolved: str, provenance: Any) -> Record:
    """Everything that the report says."""
    trajectory, audit = outcome.trajectory, outcome.audit
    if clouds.is_cloud(job):
        return clouds.record(spec, job, outcome, resolved, provenance)
    if spec.state.kind in LAW_STATES:
        return laws.record(spec, job, outcome, resolved, provenance)
    names, draws = flatten(trajectory.variables(), job.problem.dims, job.problem.coords)
    summary = summarise(names, draws) if _samples(job) else []
    said = warn(summary)
    return Record(
        title=Path(spec.name).stem,
        passed=outcome.passed,
        verdict=outcome.verdict,
        facts=tuple(_facts(outcome, draws, summary)),
        notes=job.problem.notes,
        warnings=(*outcome.warnings, *said),
        row=job.row,
        checks=check_rows(audit),
        summary=tuple(summary),
        ledger=columns_of(trajectory),
        pictures=tuple(_pictures(job, outcome, names, draws, summary)),
        spec=resolved,
        provenance=provenance,
        frames=motions.frames(job, trajectory) if motions.is_motion(job, trajectory) else (),
    )


def write(place: Path, record: Record, job: Job, outcome: Outcome) -> None:
    """The files of the run folder."""
    if clouds.is_cloud(job):
        clouds.write_states(place, job, outcome.trajectory)
    elif is_law(outcome.trajectory.states):
        laws.write_states(place, outcome.trajectory)
    else:
        _write_samples(place, job, outcome)
    write_page(place, record)


def _write_samples(place: Path, job: Job, outcome: Outcome) -> None:
    """samples.nc, an ArviZ InferenceData."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ArviZ announces its next version on import
        dims = {name: list(axes) for name, axes in job.problem.dims.items()}
        coords = {name: list(labels) for name, labels in job.problem.coords.items()}
        data = outcome.trajectory.to_arviz(coords=coords, dims=dims)
        data.to_netcdf(str(place / "samples.nc"), engine="h5netcdf")


def _samples(job: Job) -> bool:
    """Whether the run draws from a law: a bath at a fixed temperature."""
    thermal = job.flow.thermal
    return thermal is not None and not callable(thermal.temperature)


def _facts(
    outcome: Outcome, draws: np.ndarray, summary: list[dict[str, Any]]
) -> Iterator[tuple[str, str]]:
    """The numbers at the head of the page."""
    trajectory = outcome.trajectory
    chains, saves, _ = draws.shape
    ledger = trajectory.ledger
    if summary:
        yield "chains", f"{chains:,}"
        yield "draws", f"{chains * saves:,}"
        yield "largest R-hat", f"{max(row['r_hat'] for row in summary):.4f}"
        yield "least ESS", f"{min(row['ess_bulk'] for row in summary):,.0f}"
    else:
        yield "functional at the start", number(float(ledger.functional[0]))
        yield "at the end", number(float(ledger.functional[-1]))
        if balanced(outcome):
            yield "largest gap in the balance", number(float(np.abs(ledger.closure).max()))
    yield "steps", f"{(len(trajectory) - 1) * trajectory.save_every:,}"
    yield "seconds", f"{sum(outcome.seconds.values()):.1f}"


def _pictures(
    job: Job,
    outcome: Outcome,
    names: list[str],
    draws: np.ndarray,
    summary: list[dict[str, Any]],
) -> Iterator[Picture]:
    trajectory = outcome.trajectory
    chains, _, size = draws.shape
    if _samples(job) and size > 2:
        flat = draws.reshape(-1, size)
        yield Picture(
            "estimates",
            f"Intervals of {size} parameters, sorted by median.",
            "Coloured where the 94 % interval excludes zero.",
            lambda theme: figures.estimates_figure(names, flat, theme=theme),
            wide=True,
        )
    if size == 2 and not job.problem.functional.of_phase:
        yield _plane(job, names, draws)
    if chains == 1 and not _samples(job):
        times = np.asarray(trajectory.times)
        yield Picture(
            "paths",
            f"{size} parameters over flow time.",
            "Every parameter over time; those that moved most are named.",
            lambda theme: figures.paths_figure(times, names, draws[0], theme=theme),
        )
    if motions.is_motion(job, trajectory):
        yield from motions.pictures(job, trajectory, names, draws)
    else:
        yield from motions.kept(trajectory)
    yield from ledger_pictures(outcome)
    if "free energy descent" in outcome.audit and (
        outcome.audit["free energy descent"].passed is not None
    ):
        series = trajectory.free_energy()
        yield Picture(
            "free_energy",
            f"The free energy over time, from {series.value[0]:.4g} to {series.value[-1]:.4g}.",
            "The second law for the ensemble; the bars are two standard errors.",
            lambda theme: figures.free_energy_figure(*series, theme=theme),
        )
    if summary:
        r_hat = np.array([row["r_hat"] for row in summary])
        ess = np.array([row["ess_bulk"] for row in summary])
        yield Picture(
            "mixing",
            f"R-hat of each parameter, at most {np.max(r_hat):.4f}.",
            "Chains that agree have an R-hat below 1.01.",
            lambda theme: figures.mixing_figure(names, r_hat, ess, theme=theme),
        )
        yield Picture(
            "traces",
            "Traces of the parameters with the smallest effective sample size.",
            "The chains should look alike; one of them is in orange."
            if chains > 1
            else "The chain should look the same all along.",
            lambda theme: figures.traces_figure(names, draws, ess, theme=theme),
        )


def _plane(job: Job, names: list[str], draws: np.ndarray) -> Picture:
    """The energy of two coordinates around where the run went."""
    one_path = draws.shape[0] == 1 and not _samples(job)
    points = (
        draws[0] if one_path else draws[:, -1] if draws.shape[0] > 100 else draws.reshape(-1, 2)
    )
    low, high = points.min(axis=0), points.max(axis=0)
    room = 0.25 * np.maximum(high - low, 1e-3 + 0.05 * np.abs(high))
    x, y = (np.linspace(low[i] - room[i], high[i] + room[i], GRID) for i in (0, 1))
    flat, unravel = ravel_pytree(job.problem.start)
    grid = jnp.stack(jnp.meshgrid(jnp.asarray(x), jnp.asarray(y)), axis=-1).astype(flat.dtype)
    values = jax.jit(jax.vmap(jax.vmap(lambda p: job.problem.functional(unravel(p)))))(grid)
    path = draws[0] if one_path else None
    what = "One path" if one_path else f"{len(points)} points"
    return Picture(
        "plane",
        f"{what} over the contours of the energy.",
        "Contours of the energy (logarithmic heights).",
        lambda theme: figures.plane_figure(
            names, (x, y, np.asarray(values, float)), points, path, theme=theme
        ),
    )
