"""Every solver of bridges on two Gaussians, whose bridge is known in closed form.

Source and target have random covariances W W'/d + 0.3 (different ones) and means a distance of
about 1 apart in every coordinate. The closed form itself is held against proportional fitting of
dense Gaussians in double precision. The other solvers see 20,000 draws of each law, sinkhorn 2000;
each says, in percent,
    map         100 E|E[Y|x] - E*[Y|x]|^2 / tr Cov Y, over fresh x
    cBW2-UVP    100 E BW2^2(Y|x, Y*|x) / (tr Cov Y/2), where conditional laws are known
Grids are for d <= 3: at d = 1 and 2 here, h^2 at work.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg

from .harness import chosen

DRAWS, POINTS, STARTS = 20_000, 2000, 300
CELLS = [(kind, T, d) for kind in ("brownian", "ou") for T in (0.1, 1.0, 10.0) for d in (2, 16, 64)]
CASES = {f"{kind} T={T:g} d={d}": (kind, T, d) for kind, T, d in CELLS}
NETWORK = {
    "width": 96, "rounds": 3, "steps": 600, "pairs": 32768,
    "mixture": {"components": 5, "steps": 1000},
}  # fmt: skip
FULL = {"components": 1, "covariance": "full", "steps": 2000}


def tables(rounds: int, case: str | None) -> Iterator[str]:
    """One row for each solver of each cell; `case` picks those whose name contains it."""
    del rounds
    yield "| case | solver | map, % | cBW2-UVP, % | seconds |\n|---|---|---|---|---|"
    for name in chosen(CASES, case):
        for row in rows(*CASES[name]):
            yield f"| {name} | {row}"


def rows(kind: str, temperature: float, d: int) -> Iterator[str]:
    """The solvers one after the other."""
    from steepest.bridges import SchrodingerBridge

    flow = reference(kind, temperature)
    with jax.enable_x64(True):
        source, target = laws(d)
        whole = SchrodingerBridge(reference(kind, temperature), source, target).solve()
        want = proportional_fitting(kind, temperature, source, target)
        gap = float(np.abs(np.asarray(whole.coupling()[1]) - want).max() / np.abs(want).max())
    yield f"closed form against proportional fitting | largest entry off by {gap:.1e} | | |"
    source, target = laws(d)
    exact = SchrodingerBridge(flow, source, target).solve()
    one, two, three = jax.random.split(jax.random.key(d), 3)
    problem = SchrodingerBridge(flow, source.sample(one, DRAWS), target.sample(two, DRAWS))
    few = SchrodingerBridge(flow, source.sample(one, POINTS), target.sample(two, POINTS))
    x = source.sample(three, STARTS)
    for label, what, method, options in (
        ("gaussian, from moments of draws", problem, "gaussian", {}),
        ("mixture, full covariance", problem, "mixture", FULL),
        ("network, from a diagonal mixture", problem, "network", NETWORK),
        (f"sinkhorn, {POINTS} points", few, "sinkhorn", {"tolerance": 1e-3}),
    ):
        yield f"{label} | {row(what, exact, method, options, x, target)}"
    if d == 2:
        yield f"grid | {on_grid(flow, exact, source, target, x)}"


def row(problem: Any, exact: Any, method: str, options: Any, x: Any, target: Any) -> str:
    """Both numbers and the seconds, compilation included."""
    from steepest.bridges import LinearBridge, unexplained

    began = time.perf_counter()
    found = problem.solve(method, jax.random.key(3), **options)
    ends = jax.block_until_ready(found.expected_end(x))
    seconds = time.perf_counter() - began
    variance = jnp.trace(target.covariance)
    plain = 100.0 * jnp.mean(jnp.sum((ends - exact.expected_end(x)) ** 2, 1)) / variance
    metric = ""
    if isinstance(found, LinearBridge) and method != "sinkhorn":
        metric = f"{float(unexplained(found, exact, x, variance).value):.4f}"
    return f"{float(plain):.4f} | {metric} | {seconds:.1f} |"


def on_grid(flow: Any, exact: Any, source: Any, target: Any, x: Any) -> str:
    """The map of a grid bridge is the mean of its own plan: here from its drift at the start.

    b(x, 0) = -P x + p + 2 T grad log phi_0, and in white coordinates E[v | u] = u + the slope.
    """
    from steepest import Density, Grid
    from steepest.bridges import SchrodingerBridge
    from steepest.errors import ArgumentError

    def law(gaussian: Any) -> Any:
        back = jnp.linalg.inv(gaussian.covariance)
        return Density.from_log(
            grid, lambda y: -0.5 * (y - gaussian.mean) @ back @ (y - gaussian.mean)
        )

    began = time.perf_counter()
    with jax.enable_x64(True):
        # The walls send back what reaches them: out of reach of what is warm. Where it is cold,
        # v h/2T is to be small.
        warm = float(exact.reference.temperature)
        half, cells = (5.0, 128) if warm < 0.5 else (6.5, 64) if warm < 5.0 else (12.0, 96)
        grid = Grid((0.5 - half,) * 2, (0.5 + half,) * 2, (cells, cells))
        problem = SchrodingerBridge(flow, law(source), law(target))
        try:
            found = problem.solve("grid", tolerance=1e-6)
        except ArgumentError as error:
            return f"refused: {error} | | |"
        white = exact.reference
        z = white.turned(x)
        factor = white.coming(z, 0.0)[2]
        pull = (found.drift(x, 0.0) - white.along(white.drift(z))) / (2.0 * white.temperature)
        ends = white.from_white_target(
            white.white_source(x) + white.turned(pull + white.origin) / factor
        )
        seconds = time.perf_counter() - began
    gap = jnp.mean(jnp.sum((ends - exact.expected_end(x)) ** 2, 1)) / jnp.trace(target.covariance)
    return f"{100.0 * float(gap):.4f} | | {seconds:.1f} |"


def reference(kind: str, temperature: float) -> Any:
    """Brownian motion, or an Ornstein-Uhlenbeck process with a centre of its own."""
    from steepest.bridges import brownian, ornstein_uhlenbeck

    return (
        brownian(temperature) if kind == "brownian" else ornstein_uhlenbeck(temperature, 0.7, 0.3)
    )


def laws(d: int) -> tuple[Any, Any]:
    """Two Gaussians, the same in both precisions."""
    from steepest import Gaussian

    rng, found = np.random.default_rng(d), []
    for shift in (0.0, 1.0):
        root = rng.normal(size=(d, d)) / np.sqrt(d)
        mean, spread = shift + 0.3 * rng.normal(size=d), root @ root.T + 0.3 * np.eye(d)
        found.append(Gaussian.from_moments(jnp.asarray(mean), jnp.asarray(spread)))
    return found[0], found[1]


def proportional_fitting(kind: str, temperature: float, source: Any, target: Any) -> np.ndarray:
    """Cov(X_0, X_1) by scaling both ends in turn until nothing moves, from dense matrices."""
    d = source.dimension
    A, B = (np.asarray(law.covariance, float) for law in (source, target))
    rate = 0.0 if kind == "brownian" else 0.7
    step = np.exp(-rate)
    q = 2 * temperature if rate == 0 else temperature * (1 - step**2) / rate
    eye = np.eye(d)
    M11, M12, M22 = step**2 / q * eye, -step / q * eye, eye / q
    F, G = np.zeros((d, d)), np.zeros((d, d))
    for _ in range(5000):
        before = G
        F = np.linalg.inv(A) - M11 + M12 @ np.linalg.solve(G + M22, M12.T)
        G = np.linalg.inv(B) - M22 + M12.T @ np.linalg.solve(F + M11, M12)
        if np.abs(G - before).max() < 1e-14 * np.abs(G).max():
            break
    return scipy.linalg.inv(np.block([[F + M11, M12], [M12.T, G + M22]]))
