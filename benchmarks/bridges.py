"""Mixture bridges on pairs whose bridge is known: cBW2-UVP in percent, beside what is published.

Two kinds of pairs. `epsilon=... d=...`: potentials are log-sums of quadratics, as published: a
mixture can be exact. `ring`, `waves`, `corner`: images of a potential that no mixture has, by
quadrature over 160 x 160 cells in a plane; nothing is published for them.
epsilon = 2 temperature is the weight of entropic transport with the cost |x - y|^2/2. The metric is
taken from closed-form conditional moments; its floor is what it would be for the truth itself with
1000 samples for each start, as published numbers are taken. Published: light bridges (Korotin,
Gushchin and Burnaev, ICLR 2024) on pairs of the same construction with their seeds; ours are drawn
here, so that the numbers compare by order and not pair by pair.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import jax
import jax.numpy as jnp

from steepest import Grid
from steepest.bridges import SchrodingerBridge, brownian, known_pair, tabled_pair, unexplained
from steepest.bridges.known import sampling_floor

from .harness import chosen

PUBLISHED = {
    (0.1, 2): 0.03, (0.1, 16): 0.08, (0.1, 64): 0.28, (0.1, 128): 0.60,
    (1.0, 2): 0.05, (1.0, 16): 0.09, (1.0, 64): 0.24, (1.0, 128): 0.62,
    (10.0, 2): 0.07, (10.0, 16): 0.11, (10.0, 64): 0.21, (10.0, 128): 0.37,
}  # fmt: skip
ALIGNED = {f"epsilon={epsilon:g} d={d}": (epsilon, d) for epsilon, d in PUBLISHED}
SHAPES = ("ring", "waves", "corner")
IMAGES = {f"{shape} epsilon={e:g}": (shape, e) for shape in SHAPES for e in (0.1, 1.0, 10.0)}
CASES = {**ALIGNED, **IMAGES}
NETWORK = {"mixture": {"components": 20, "steps": 2000}, "rounds": 2, "steps": 500}
STARTS, FLOOR_STARTS = 500, 20
OPTIONS = {"components": 20, "batch": 1024, "steps": 5000}


def tables(rounds: int, case: str | None) -> Iterator[str]:
    """One row for each cell; `case` picks those whose name contains it."""
    del rounds
    names = chosen(CASES, case)
    yield "| case | cBW2-UVP % | ± s.e. | floor | published | seconds |\n|---|---|---|---|---|---|"
    for name in names:
        if name in ALIGNED:
            yield f"| {name} | " + _row(*ALIGNED[name], PUBLISHED[ALIGNED[name]])
        else:
            for row in _images(*IMAGES[name]):
                yield f"| {name}, {row}"


def _row(epsilon: float, d: int, published: float) -> str:
    pair = known_pair(d, 0.5 * epsilon, jax.random.key(100 + d))
    one, two, three, four = jax.random.split(jax.random.key(7), 4)
    x = pair.source.sample(one, STARTS)
    variance = jnp.sum(jnp.var(pair.target.sample(two, 4000), axis=0))
    began = time.perf_counter()
    problem = SchrodingerBridge(brownian(0.5 * epsilon), pair.source, pair.target)
    found = problem.solve("mixture", three, **OPTIONS)
    jax.block_until_ready(found.potential.means)
    seconds = time.perf_counter() - began
    value, error = unexplained(found, pair.bridge, x, variance)
    floor = sampling_floor(pair.bridge, x[:FLOOR_STARTS], variance, four)
    return (
        f"{float(value):.4f} | {float(error):.4f} | {float(floor):.4f} | {published:.2f}"
        f" | {seconds:.1f} |"
    )


def log_potential(shape: str, y: jax.Array) -> jax.Array:
    """Functions of a plane that no sum of Gaussians is, falling fast enough at any temperature."""
    if shape == "ring":
        return -8.0 * (jnp.linalg.norm(y) - 2.0) ** 2
    if shape == "waves":
        return 2.0 * jnp.sin(3.0 * y[0] + y[1]) + 2.0 * jnp.cos(3.0 * y[1]) - 0.02 * jnp.sum(y**4)
    return -3.0 * jnp.abs(y[0] - y[1]) - jnp.abs(y[0] + y[1] - 1.0)


def _images(shape: str, epsilon: float) -> Iterator[str]:
    """A row for each solver; the network's is that of its map, mixtures and Sinkhorn have both."""
    grid = Grid((-5.0, -5.0), (5.0, 5.0), (160, 160))
    pair = tabled_pair(lambda y: log_potential(shape, y), 0.5 * epsilon, grid)
    one, two, three, four = jax.random.split(jax.random.key(7), 4)
    x, y = pair.source.sample(one, STARTS), pair.target.sample(two, 20_000)
    variance = jnp.sum(jnp.var(y, axis=0))
    floor = sampling_floor(pair.bridge, x[:FLOOR_STARTS], variance, four)
    points = pair.source.sample(four, len(y))
    problem = SchrodingerBridge(brownian(0.5 * epsilon), points, y)
    few = SchrodingerBridge(brownian(0.5 * epsilon), points[:4000], y[:4000])
    want = pair.bridge.conditional_moments(x)[0]
    for label, what, method, options in (
        ("mixture of 20", problem, "mixture", OPTIONS),
        ("mixture of 100", problem, "mixture", {**OPTIONS, "components": 100}),
        ("sinkhorn, 4000 points", few, "sinkhorn", {"tolerance": 1e-3}),
        ("network", problem, "network", NETWORK),
    ):
        began = time.perf_counter()
        found = what.solve(method, three, **options)
        ends = jax.block_until_ready(found.expected_end(x))
        seconds = time.perf_counter() - began
        gap = 100.0 * jnp.mean(jnp.sum((ends - want) ** 2, 1)) / variance
        text = f"of the map alone {float(gap):.4f} | "
        if method != "network":
            value, error = unexplained(found, pair.bridge, x, variance)
            text = f"{float(value):.4f} | {float(error):.4f}"
        yield f"{label} | {text} | {float(floor):.4f} | none | {seconds:.1f} |"
