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
from ..bridges import (
    BridgeChain,
    GrowthBridge,
    SchrodingerBridge,
    SchrodingerChain,
    SmoothChain,
)
from ..bridges.store import save
from ..report import Picture, Record
from .bridge import MODEL, write_points
from .pages import write_page
from .shared import check_rows

Bridge = Any
"""Whatever a solver returned: see `AbstractBridge`."""

MOST_STARTS = 1000
TIMES = 33
SNAPSHOTS = 5


@dataclasses.dataclass(frozen=True)
class Drawn:
    """Paths from points of the first cloud: `times` (k,), `paths` (k, n, d), the clouds, the names.

    `clouds`: the snapshots given, at `given` times. `picked`: the rows of `times` that are shown,
    and the `mass` (picked, n) of each path at them, None where mass is kept.
    """

    times: np.ndarray
    paths: np.ndarray
    picked: tuple[int, ...]
    mass: np.ndarray | None
    given: tuple[float, ...]
    clouds: tuple[np.ndarray, ...]
    names: tuple[str, ...]

    @classmethod
    def of(cls, bridge: Bridge, given: Any, clouds: Any, names: Any, key: Any) -> Drawn:
        """Drawn from at most `MOST_STARTS` starts, in the order of their rows."""
        x = clouds[0]
        keep = np.unique(np.linspace(0, len(x) - 1, min(len(x), MOST_STARTS)).astype(int))
        times = np.union1d(np.linspace(given[0], given[-1], TIMES), given)
        start = 0.0 if isinstance(bridge, BridgeChain | SmoothChain) else given[0]
        found = bridge.sample_paths(jnp.asarray(x[keep]), jnp.asarray(times[1:] - start), key)
        paths = np.concatenate([x[keep][None], np.asarray(found)])
        # Evenly in time, or at the times that were given where there are more than two.
        wanted = np.linspace(times[0], times[-1], SNAPSHOTS) if len(given) == 2 else given
        picked = tuple(int(np.argmin(np.abs(times - time))) for time in wanted)
        mass = _mass(bridge, paths, times, picked)
        return cls(times, paths, picked, mass, tuple(given), tuple(clouds), tuple(names))

    def plane(self) -> tuple[np.ndarray, list[np.ndarray], tuple[str, ...]]:
        """Paths and clouds in a plane: the coordinates, or the principal axes of all clouds."""
        d = self.paths.shape[2]
        if d <= 2:
            return self.paths, list(self.clouds), self.names
        pool = np.concatenate(self.clouds)
        middle = pool.mean(axis=0)
        axes = np.linalg.svd(pool - middle, full_matrices=False)[2][:2].T
        flat = [(a - middle) @ axes for a in (self.paths, *self.clouds)]
        return flat[0], flat[1:], ("principal axis 1", "principal axis 2")


def _legs(bridge: Any) -> tuple[Any, ...]:
    """The bridges from snapshot to snapshot."""
    chain = getattr(bridge, "joined", bridge)
    return chain.legs if isinstance(chain, BridgeChain) else (chain,)


def _mass(bridge: Any, paths: Any, times: Any, picked: Any) -> np.ndarray | None:
    """What the paths carry, which start with equal shares of the first mass."""
    x, legs = jnp.asarray(paths[0]), _legs(bridge)
    first, many = legs[0], len(legs) > 1
    if not isinstance(first, GrowthBridge):
        return None
    if many:
        later = bridge.log_growth_along(x, jnp.asarray(paths[list(picked[1:])]))
    else:
        at = times[list(picked[1:])] - times[0]
        end = jnp.asarray(paths[-1])
        later = jnp.stack([bridge.log_growth(x, end, time) for time in at])
    logs = np.concatenate([np.zeros((1, len(x))), np.asarray(later)])
    return float(first.masses[0]) / len(x) * np.exp(logs)


def record(
    title: str,
    problem: SchrodingerBridge | SchrodingerChain,
    bridge: Bridge,
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
        facts=tuple(_facts(problem, bridge, drawn)),
        notes=(f"{bridge.method}: {bridge.why}", *bridge.notes),
        warnings=tuple(
            f"{c.name}: {c.residual:.3g}, where {c.tolerance:.3g} is allowed" for c in failed
        ),
        checks=check_rows(audit),
        pictures=tuple(_pictures(drawn, "smooth" if isinstance(bridge, SmoothChain) else "rough")),
        spec=settings,
        provenance=provenance,
        command="steepest bridge",
    )


def write(place: Path, record: Record, bridge: Bridge, drawn: Drawn) -> None:
    """The saved model, snapshots.csv (time, then the coordinates), the pictures and the report."""
    save(bridge, place / MODEL, columns=list(drawn.names))
    extra = ["time"] if drawn.mass is None else ["time", "mass"]
    rows = []
    for i, k in enumerate(drawn.picked):
        more = [] if drawn.mass is None else [drawn.mass[i]]
        rows.append(_table(drawn.times[k], more, drawn.paths[k]))
    write_points(place / "snapshots.csv", _heads(extra, drawn), np.concatenate(rows))
    if drawn.mass is not None:
        legs = _legs(bridge)
        rows = [
            _table(time, [np.asarray(leg.growth(jnp.asarray(cloud)))], cloud)
            for time, leg, cloud in zip(drawn.given[:-1], legs, drawn.clouds[:-1], strict=True)
        ]
        write_points(place / "growth.csv", _heads(["time", "growth"], drawn), np.concatenate(rows))
    write_page(place, record)


def _heads(extra: list[str], drawn: Drawn) -> list[str]:
    """Names of columns, ours before the data's; one that the data has too says whose it is."""
    ours = [name if name not in drawn.names else f"bridge_{name}" for name in extra]
    return [*ours, *drawn.names]


def _table(time: float, more: list[Any], points: Any) -> np.ndarray:
    return np.column_stack([np.full(len(points), time), *more, points])


def _facts(problem: Any, bridge: Bridge, drawn: Drawn) -> Iterator[tuple[str, str]]:
    yield "method", bridge.method
    yield "temperature", f"{problem.temperature:.4g}"
    yield "points", ", ".join(f"{len(cloud):,}" for cloud in drawn.clouds)
    yield "times", ", ".join(f"{time:g}" for time in drawn.given)
    yield "dimensions", f"{bridge.dimension:,}"
    if problem.growth is not None:
        yield "price of growth", f"{problem.growth:.4g} nats"
        yield "masses", ", ".join(f"{mass:.4g}" for mass in problem.masses)
    elif isinstance(bridge, SmoothChain):
        yield "temperature of velocities", f"{float(bridge.temperature):.4g}"
    elif "sinkhorn" not in bridge.method:
        divergence = bridge.path_kl(jax.random.key(0))
        yield "path KL, ± s.e.", f"{float(divergence.value):.4g} ± {float(divergence.error):.2g}"


def _pictures(drawn: Drawn, kind: str) -> Iterator[Picture]:
    paths, clouds, names = drawn.plane()
    flat = "" if drawn.paths.shape[2] <= 2 else " Projected on the principal axes of all clouds."
    yield Picture(
        "trajectories",
        f"Paths from {min(paths.shape[1], 60)} points of the first cloud to the last.",
        f"Paths drawn from the bridge; each is continuous and {kind}." + flat,
        lambda theme: figures.bridge_figure(
            drawn.times, paths, drawn.given, clouds, names, theme=theme
        ),
    )
    if paths.shape[2] == 2:
        every = list(drawn.picked)
        yield Picture(
            "snapshots",
            f"The moving cloud at {len(every)} times; the last cloud given behind it.",
            "The cloud on its way; the last one given is orange." + flat,
            lambda theme: figures.cloud_figure(
                drawn.times[every], paths[every], drawn.mass, clouds[-1], names, theme=theme
            ),
            wide=True,
        )
