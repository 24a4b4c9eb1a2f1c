"""One problem at several levels, held against each other: paths, particles, Gaussians, densities.

`cross_check` runs a flow and its lift in every representation asked for and compares moments and
marginals at a stated confidence. Errors are told apart: Monte-Carlo error by the spread of the
sample (marginals: the bound of Dvoretzky, Kiefer, Wolfowitz and Massart, which holds for every law
and every N), the error of grid and time step by runs on coarser grids with larger steps.
Source of the constant: Massart, Ann. Probab. 18 (1990) 1269.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import norm

from .driver import solve
from .errors import ArgumentError
from .flow import Flow
from .schemes import BAOAB, Euler, FiniteVolume, RungeKutta
from .states import Density, Gaussian, Grid, Particles

NAMES = ("paths", "particles", "gaussian", "density")
LEVELS = 3
"""Grids for the order in space and time: h, 2h, 4h with steps tau, 2 tau, 4 tau."""


@dataclasses.dataclass(frozen=True)
class Disagreement:
    """One quantity of one representation against the reference.

    `value`: the largest disagreement over saves and coordinates, at the save where it is largest
    relative to its tolerance; `passed`: None where theory promises no agreement.
    """

    representation: str
    reference: str
    quantity: str
    value: float
    tolerance: float
    passed: bool | None


@dataclasses.dataclass(frozen=True)
class CrossCheck:
    """What several representations of one problem say of each other.

    `rows`: disagreements; `sample_slope`: exponent of N in the error of particle means (theory
    -1/2); `grid_order`: exponent of the cell size in the error of the density (theory 2); None
    where not measured. `runs`: the trajectories by name.
    """

    rows: tuple[Disagreement, ...]
    confidence: float
    sample_slope: float | None
    grid_order: float | None
    runs: dict[str, Any]

    @property
    def passed(self) -> bool:
        """Whether nothing that should agree disagrees, and something was judged."""
        judged = [row.passed for row in self.rows if row.passed is not None]
        return bool(judged) and all(judged)

    def __str__(self) -> str:
        lines = [
            f"{'representation':<14}  {'against':<9}  {'quantity':<12}  {'differs by':>10}  "
            f"{'allowed':>10}  verdict"
        ]
        words = {True: "agrees", False: "DISAGREES", None: "not judged: a closure"}
        for row in self.rows:
            lines.append(
                f"{row.representation:<14}  {row.reference:<9}  {row.quantity:<12}  "
                f"{row.value:>10.3g}  {row.tolerance:>10.3g}  {words[row.passed]}"
            )
        if self.sample_slope is not None:
            lines.append(f"error of means ~ N^{self.sample_slope:.2f} (theory -0.5)")
        if self.grid_order is not None:
            lines.append(f"error of the density ~ h^{self.grid_order:.2f} (theory 2)")
        verdict = "agree" if self.passed else "DISAGREE"
        lines.append(f"representations {verdict} at {self.confidence:.3%} confidence")
        return "\n".join(lines)


@dataclasses.dataclass(frozen=True)
class _Law:
    """Moments and marginal distribution functions at the saves, with their errors."""

    mean: np.ndarray  # (saves, d)
    mean_error: np.ndarray
    covariance: np.ndarray  # (saves, d, d)
    covariance_error: np.ndarray
    cumulative: np.ndarray | None  # (saves, d, points)
    cumulative_error: np.ndarray | None  # (saves, d)


def cross_check(
    flow: Flow,
    state: Any,
    representations: Sequence[str] = ("paths", "particles", "density"),
    *,
    time: float,
    key: Any,
    particles: int = 4096,
    grid: Grid | None = None,
    steps: int = 400,
    saves: int = 4,
    confidence: float = 0.999,
) -> CrossCheck:
    """Run `flow` from the law `state` in several representations and compare (eq. 42-46, 60-63).

    `flow`: a flow of parameters with thermal noise (or its lift, for which `paths` are refused).
    `state`: the initial law, a measure with `sample` (`Density`, `Gaussian`, `GaussianMixture`,
    `Particles`). `representations`: of "paths" (independent copies of the noisy flow), "particles"
    (the lifted flow on an empirical measure), "gaussian" (the Gaussian closure, exact for quadratic
    energies and not judged elsewhere), "density" (finite volumes). `grid`: for the density; by
    default the box that the samples visit, with a margin. `steps` of the samples over `time`; the
    density takes half as many of order 2. `confidence` is that of the whole table (Bonferroni).
    The reference is the density where there is one, else the Gaussian, else the first.
    Raises ArgumentError for unknown or impossible representations.
    """
    names = _checked(flow, state, representations)
    if steps % (4 * saves) or steps <= 0:
        raise ArgumentError("steps", steps, f"a multiple of 4 * saves = {4 * saves}")
    start, runs = jax.random.split(key, 2)
    sampled = _sampled(state, start, particles)
    trajectories: dict[str, Any] = {}
    for index, name in enumerate(names):
        if name in ("paths", "particles"):
            own = flow if name == "paths" else flow.lift()
            scheme = (BAOAB if flow.geometry.kinetic else Euler)(time / steps)
            trajectories[name] = solve(
                own,
                sampled,
                scheme=scheme,
                time=time,
                save_every=steps // saves,
                key=jax.random.fold_in(runs, index),
            )
    if "gaussian" in names:
        trajectories["gaussian"] = solve(
            flow.lift(),
            state if isinstance(state, Gaussian) else Gaussian.fit(sampled),
            scheme=RungeKutta(rtol=1e-8, atol=1e-10),
            time=time,
            steps=saves,
        )
    grids: list[Any] = []
    if "density" in names:
        grid = grid or _box(state, trajectories)
        for level in range(LEVELS):
            coarse = Grid(
                grid.lower,
                grid.upper,
                [n // 2**level for n in grid.shape],
                grid.boundary,
                grid.phase,
            )
            count = steps // 2 // 2**level
            count -= count % saves
            initial = _on_grid(state, sampled, coarse)
            grids.append(
                solve(
                    flow.lift(),
                    initial,
                    scheme=FiniteVolume(time / count, order=2),
                    time=time,
                    save_every=count // saves,
                )
            )
        trajectories["density"] = grids[0]
    return _compare(flow, names, trajectories, grids, confidence)


def _checked(flow: Flow, state: Any, representations: Sequence[str]) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(representations))
    unknown = [name for name in names if name not in NAMES]
    if unknown or len(names) < 2:
        raise ArgumentError("representations", list(representations), f"two or more of {NAMES}")
    if not hasattr(state, "sample"):
        raise ArgumentError("state", type(state).__name__, "an initial law, e.g. Gaussian(...)")
    if not isinstance(flow, Flow):
        raise ArgumentError("flow", type(flow).__name__, "a single Flow")
    if "paths" in names and flow.geometry.on_measures:
        raise ArgumentError("representations", "paths", "give the flow of parameters, not its lift")
    return names


def _sampled(state: Any, key: Any, count: int) -> Particles:
    return state if isinstance(state, Particles) else Particles(state.sample(key, count))


def _box(state: Any, trajectories: dict[str, Any]) -> Grid:
    """What the samples visit and a fifth on either side; 256 cells in 1-D, 96 an axis in 2-D."""
    if isinstance(state, Density):
        return state.grid
    runs = [run for name, run in trajectories.items() if name in ("paths", "particles")]
    if not runs:
        raise ArgumentError("grid", None, "give one, or ask for paths or particles beside it")
    visited = np.concatenate(
        [np.asarray(run.at(i).flat()) for run in runs for i in range(len(run))], axis=0
    )
    if visited.shape[1] > 3:
        raise ArgumentError(
            "representations", "density", f"a grid has at most 3 axes, not {visited.shape[1]}"
        )
    low, high = visited.min(axis=0), visited.max(axis=0)
    margin = 0.2 * (high - low)
    cells = {1: 256, 2: 96, 3: 32}[visited.shape[1]]
    lower, upper = (low - margin).tolist(), (high + margin).tolist()
    kinetic = len(jax.tree.leaves(runs[0].at(0).positions)) > 1
    return Grid(lower, upper, [cells] * len(low), phase=kinetic)


def _on_grid(state: Any, sampled: Particles, grid: Grid) -> Density:
    if isinstance(state, Density):
        return state.to_grid(grid)
    if isinstance(state, Particles):
        x = sampled.flat()
        width = float(jnp.max(jnp.std(x, axis=0))) * len(x) ** (-1 / (grid.dimension + 4))
        return Density.from_particles(sampled, grid, bandwidth=width)
    return Density.from_log(grid, state.log_prob)


def _compare(
    flow: Flow,
    names: tuple[str, ...],
    trajectories: dict[str, Any],
    grids: list[Any],
    confidence: float,
) -> CrossCheck:
    reference = next((n for n in ("density", "gaussian") if n in names), names[0])
    edges = None
    if grids:
        coarsest = grids[-1].at(0).grid
        edges = [
            np.linspace(low, high, n + 1)[1:-1]
            for low, high, n in zip(coarsest.lower, coarsest.upper, coarsest.shape, strict=True)
        ]
    others = [name for name in names if name != reference]
    dimension = _flat_dimension(trajectories[reference])
    saves = len(trajectories[reference]) - 1
    marginals = dimension if edges is not None else 0
    count = len(others) * saves * (dimension + dimension**2 + marginals)
    alpha = (1.0 - confidence) / max(count, 1)
    laws = {
        name: _of_grids(grids, edges, alpha)
        if name == "density"
        else _of_run(trajectories[name], edges, alpha)
        for name in names
    }
    exact = reference != "gaussian" or _quadratic(flow, trajectories["gaussian"])
    rows = []
    for name in others:
        judged = exact and (name != "gaussian" or _quadratic(flow, trajectories["gaussian"]))
        rows += _rows(name, reference, laws[name], laws[reference], judged)
    sample = next((name for name in ("paths", "particles") if name in others), None)
    slope = None if sample is None else _sample_slope(trajectories[sample], laws[reference].mean)
    order = _grid_order(grids) if grids else None
    return CrossCheck(tuple(rows), confidence, slope, order, trajectories)


def _rows(name: str, reference: str, law: _Law, other: _Law, judged: bool) -> list[Disagreement]:
    rows = []
    for quantity in ("mean", "covariance", "cumulative"):
        a, b = getattr(law, quantity), getattr(other, quantity)
        if a is None or b is None:
            continue
        gap = np.abs(a - b)
        if quantity == "cumulative":
            gap = gap.max(axis=-1)
        allowed = getattr(law, quantity + "_error") + getattr(other, quantity + "_error")
        worst = np.unravel_index(np.argmax(gap / allowed), gap.shape)
        value, tolerance = float(gap[worst]), float(allowed[worst])
        label = "marginals" if quantity == "cumulative" else quantity
        passed = value <= tolerance if judged else None
        rows.append(Disagreement(name, reference, label, value, tolerance, passed))
    return rows


def _flat_dimension(run: Any) -> int:
    state = run.at(0)
    if isinstance(state, Density):
        return state.grid.dimension
    return state.flat().shape[1] if isinstance(state, Particles) else state.mean.shape[0]


def _of_run(run: Any, edges: Any, alpha: float) -> _Law:
    """Of a sample or a Gaussian, at every save but the first."""
    states = [run.at(index) for index in range(1, len(run))]
    if isinstance(states[0], Gaussian):
        mean = np.stack([np.asarray(s.mean) for s in states])
        covariance = np.stack([np.asarray(s.covariance) for s in states])
        tiny = 1e-6 * (1.0 + np.abs(covariance).max())  # of the solver's tolerance
        cumulative = error = None
        if edges is not None:
            spread = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))
            columns = [
                norm.cdf((e[None, :] - mean[:, [k]]) / spread[:, [k]]) for k, e in enumerate(edges)
            ]
            cumulative, error = _stacked(columns), np.full(mean.shape, 1e-6)
        return _Law(mean, 0 * mean + tiny, covariance, 0 * covariance + tiny, cumulative, error)
    x = np.stack([np.asarray(s.flat(), float) for s in states])  # (saves, n, d)
    n = x.shape[1]
    sigmas = norm.isf(alpha / 2)
    mean = x.mean(axis=1)
    centred = x - mean[:, None, :]
    products = centred[..., :, None] * centred[..., None, :]
    covariance = products.sum(axis=1) / (n - 1)
    cumulative = error = None
    if edges is not None:
        columns = [
            np.stack([np.searchsorted(np.sort(row[:, k]), e) / n for row in x])
            for k, e in enumerate(edges)
        ]
        cumulative = _stacked(columns)
        error = np.full(mean.shape, math.sqrt(math.log(2 / alpha) / (2 * n)))
    return _Law(
        mean,
        sigmas * x.std(axis=1, ddof=1) / math.sqrt(n),
        covariance,
        sigmas * products.std(axis=1, ddof=1) / math.sqrt(n),
        cumulative,
        error,
    )


def _of_grids(grids: list[Any], edges: Any, alpha: float) -> _Law:
    """Of the finest grid; its error is bounded by its distance to the next coarser one."""
    del alpha

    def of(run: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        states = [run.at(index) for index in range(1, len(run))]
        columns = []
        for axis, points in enumerate(edges):
            grid = states[0].grid
            ends = np.linspace(grid.lower[axis], grid.upper[axis], grid.shape[axis] + 1)
            rows = []
            for state in states:
                masses = np.asarray(state.marginal(axis).masses, float)
                rows.append(np.interp(points, ends, np.append(0.0, np.cumsum(masses))))
            columns.append(np.stack(rows))
        mean = np.stack([np.asarray(s.mean()) for s in states])
        return mean, np.stack([np.asarray(s.covariance()) for s in states]), _stacked(columns)

    fine, coarse = of(grids[0]), of(grids[1])
    errors = [np.abs(a - b) + 1e-12 for a, b in zip(fine, coarse, strict=True)]
    return _Law(fine[0], errors[0], fine[1], errors[1], fine[2], errors[2].max(axis=-1))


def _stacked(columns: list[np.ndarray]) -> np.ndarray:
    """(saves, d, points), short axes repeated at their end so that grids may be oblong."""
    longest = max(column.shape[1] for column in columns)
    padded = [
        np.pad(column, ((0, 0), (0, longest - column.shape[1])), mode="edge") for column in columns
    ]
    return np.stack(padded, axis=1)


def _sample_slope(run: Any, reference: np.ndarray) -> float:
    """Exponent of N in the root mean square error of block means, over disjoint blocks."""
    x = np.stack([np.asarray(run.at(i).flat(), float) for i in range(1, len(run))])
    n = x.shape[1]
    sizes = [2**k for k in range(3, 20) if n // 2**k >= 16]
    errors = []
    for size in sizes:
        blocks = x[:, : n // size * size].reshape(x.shape[0], n // size, size, -1).mean(axis=2)
        errors.append(np.sqrt(np.mean((blocks - reference[:, None, :]) ** 2)))
    return float(np.polyfit(np.log(sizes), np.log(errors), 1)[0])


def _grid_order(grids: list[Any]) -> float | None:
    """From the L1 distances of three nested grids with steps in proportion, at the end."""
    finals = [run.final for run in grids]
    grid = finals[-1].grid
    onto = [np.asarray(state.to_grid(grid).values) for state in finals]
    fine, coarse = np.abs(onto[0] - onto[1]).sum(), np.abs(onto[1] - onto[2]).sum()
    return float(np.log2(coarse / fine)) if fine > 0 else None


def _quadratic(flow: Flow, run: Any) -> bool:
    """Whether the potential has the same Hessian at draws of the final law."""
    potential = flow.lift().functional.resolve().potential
    if potential is None:
        return True
    draws = run.final.sample(jax.random.key(0), 5)
    hessians = jax.vmap(jax.hessian(lambda x: jnp.asarray(potential(x))))(draws)
    leaves = jax.tree.leaves(hessians)
    return all(bool(jnp.allclose(h, h[:1], rtol=1e-6, atol=1e-8)) for h in leaves)
