"""From a bridge to its record, its pictures and its files."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import figures
from ..audit.report import Audit
from ..bridges import LinearBridge, SchrodingerBridge
from ..bridges.store import save
from ..report import Picture, Record, paint, render
from . import folder
from .bridge import MODEL, SPEC, write_points
from .shared import check_rows

MOST_STARTS = 1000
TIMES = 33
SNAPSHOTS = 5


@dataclasses.dataclass(frozen=True)
class Drawn:
    """Paths from points of the source: `times` (k,), `paths` (k, n, d), the clouds, the names."""

    times: np.ndarray
    paths: np.ndarray
    source: np.ndarray
    target: np.ndarray
    names: tuple[str, ...]

    @classmethod
    def of(cls, bridge: LinearBridge, x: Any, y: Any, names: Any, key: Any) -> Drawn:
        """Drawn from at most `MOST_STARTS` starts, in the order of their rows."""
        keep = np.unique(np.linspace(0, len(x) - 1, min(len(x), MOST_STARTS)).astype(int))
        starts, times = jnp.asarray(x[keep]), jnp.linspace(0.0, 1.0, TIMES)[1:]
        found = bridge.sample_paths(starts, times * bridge.horizon, key)
        paths = np.concatenate([x[keep][None], np.asarray(found)])
        return cls(np.linspace(0.0, 1.0, TIMES), paths, x, y, tuple(names))

    def plane(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple[str, ...]]:
        """Paths and clouds in a plane: the coordinates, or the principal axes of both clouds."""
        d = self.paths.shape[2]
        if d <= 2:
            return self.paths, self.source, self.target, self.names
        both = np.concatenate([self.source, self.target])
        middle = both.mean(axis=0)
        axes = np.linalg.svd(both - middle, full_matrices=False)[2][:2].T
        flat = [(a - middle) @ axes for a in (self.paths, self.source, self.target)]
        return flat[0], flat[1], flat[2], ("principal axis 1", "principal axis 2")


def record(
    title: str,
    problem: SchrodingerBridge,
    bridge: LinearBridge,
    audit: Audit,
    drawn: Drawn,
    settings: str,
    provenance: Any,
) -> Record:
    """Everything that the report says."""
    failed = [check for check in audit.checks if check.passed is False]
    return Record(
        title=title,
        passed=audit.passed,
        verdict="audit passed" if audit.passed else "this bridge does not solve the stated problem",
        facts=tuple(_facts(problem, bridge)),
        notes=(f"{bridge.method}: {bridge.why}", *bridge.notes),
        warnings=tuple(
            f"{c.name}: {c.residual:.3g}, where {c.tolerance:.3g} is allowed" for c in failed
        ),
        row={},
        checks=check_rows(audit),
        summary=(),
        ledger={},
        pictures=tuple(_pictures(drawn)),
        spec=settings,
        provenance=provenance,
        command="steepest bridge",
    )


def write(place: Path, record: Record, bridge: LinearBridge, drawn: Drawn) -> None:
    """The saved model, snapshots.csv (time, then the coordinates), the pictures and the report."""
    save(bridge, place / MODEL, columns=list(drawn.names))
    picked = _snapshots(drawn)
    time = "time" if "time" not in drawn.names else "bridge_time"
    rows = [np.column_stack([np.full(len(p), drawn.times[k]), p]) for k, p in picked]
    write_points(place / "snapshots.csv", [time, *drawn.names], np.concatenate(rows))
    (place / SPEC).write_text(record.spec, encoding="utf-8")
    images = paint(record)
    for name, (light, _) in images.items():
        (place / f"{name}.png").write_bytes(light)
    (place / "report.html").write_text(render(record, images), encoding="utf-8")
    folder.write_mark(place, record.as_json())


def _snapshots(drawn: Drawn) -> list[tuple[int, np.ndarray]]:
    every = np.linspace(0, len(drawn.times) - 1, SNAPSHOTS).round().astype(int)
    return [(int(k), drawn.paths[k]) for k in every]


def _facts(problem: SchrodingerBridge, bridge: LinearBridge) -> Iterator[tuple[str, str]]:
    yield "method", bridge.method
    yield "temperature", f"{problem.temperature:.4g}"
    yield "source points", f"{problem.source.count:,}"
    yield "target points", f"{problem.target.count:,}"
    yield "dimensions", f"{bridge.dimension:,}"
    if bridge.method != "sinkhorn":
        divergence = bridge.path_kl(jax.random.key(0))
        yield "path KL, ± s.e.", f"{float(divergence.value):.4g} ± {float(divergence.error):.2g}"


def _pictures(drawn: Drawn) -> Iterator[Picture]:
    paths, source, target, names = drawn.plane()
    flat = "" if drawn.paths.shape[2] <= 2 else " Projected on the principal axes of both clouds."
    yield Picture(
        "trajectories",
        f"Paths from {min(paths.shape[1], 60)} points of the source to the target.",
        "Paths drawn from the bridge; each is continuous and rough." + flat,
        lambda theme: figures.bridge_figure(drawn.times, paths, source, target, names, theme=theme),
    )
    if paths.shape[2] == 2:
        every = [k for k, _ in _snapshots(drawn)]
        yield Picture(
            "snapshots",
            "The moving cloud at five times; the target behind it.",
            "The cloud on its way; the target is orange." + flat,
            lambda theme: figures.cloud_figure(
                drawn.times[every], paths[every], None, target, names, theme=theme
            ),
            wide=True,
        )
