"""Mixture bridges on pairs whose bridge is known: cBW2-UVP in percent, beside what is published.

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

from steepest.bridges import SchrodingerBridge, brownian, known_pair, unexplained
from steepest.bridges.known import sampling_floor

from .harness import chosen

PUBLISHED = {
    (0.1, 2): 0.03, (0.1, 16): 0.08, (0.1, 64): 0.28, (0.1, 128): 0.60,
    (1.0, 2): 0.05, (1.0, 16): 0.09, (1.0, 64): 0.24, (1.0, 128): 0.62,
    (10.0, 2): 0.07, (10.0, 16): 0.11, (10.0, 64): 0.21, (10.0, 128): 0.37,
}  # fmt: skip
CASES = {f"epsilon={epsilon:g} d={d}": (epsilon, d) for epsilon, d in PUBLISHED}
STARTS, FLOOR_STARTS = 500, 20
OPTIONS = {"components": 20, "batch": 1024, "steps": 5000}


def tables(rounds: int, case: str | None) -> Iterator[str]:
    """One row for each cell; `case` picks those whose name contains it."""
    del rounds
    yield "| case | cBW2-UVP % | ± s.e. | floor | published | seconds |\n|---|---|---|---|---|---|"
    for name in chosen(CASES, case):
        yield f"| {name} | " + _row(*CASES[name], PUBLISHED[CASES[name]])


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
