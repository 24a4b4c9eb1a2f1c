"""What bounds a flow: random numbers, traffic or arithmetic.

A step's operations and traffic are XLA's count (`steepest.plan`), its time is measured; both are
held against what this machine does in the same process: a product of matrices for arithmetic, and
for traffic a sweep over an array as large as the state, so that what fits into a cache is held
against the cache. The share of random numbers is what a step gains without noise; being measured,
it is what bounds where it is more than half. XLA counts the whole of an array from which a
minibatch gathers rows, and a loop inside a step once: a share above 150 % is such a count, and
judges nothing.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

from .harness import chosen

HEAD = (
    "| flow | a step | Mflop | MiB | of the peak arithmetic | of the bandwidth at its size"
    " | noise | bound by |\n" + "|---" * 8 + "|"
)


def _langevin(n: int, d: int):
    import jax
    import jax.numpy as jnp

    import steepest as st

    energy = st.Energy(lambda x: 0.25 * jnp.sum((x * x - 1.0) ** 2))
    x = st.Particles(jax.random.normal(jax.random.key(0), (n, d), jnp.float32))
    return (
        st.Flow(energy, st.Euclidean(), st.Thermal(1.0)), st.Flow(energy, st.Euclidean()),
        x, st.Euler(0.01),
    )  # fmt: skip


def _kinetic():
    import jax
    import jax.numpy as jnp

    import steepest as st

    energy = st.Energy(lambda x: 0.25 * jnp.sum((x * x - 1.0) ** 2))
    x = jax.random.normal(jax.random.key(0), (10_000, 2), jnp.float32)
    geometry = st.Symplectic() + st.Friction(1.0)
    return (
        st.Flow(energy, geometry, st.Thermal(1.0)), st.Flow(energy, geometry),
        st.Particles(st.Phase.at_rest(x)), st.BAOAB(0.01),
    )  # fmt: skip


def _density(cells: int, dimension: int):
    import jax.numpy as jnp

    import steepest as st

    grid = st.Grid([-3.0] * dimension, [3.0] * dimension, [cells] * dimension)
    start = st.Density.from_log(grid, lambda x: -2.0 * jnp.sum((x - 1.0) ** 2))
    flow = st.Flow(st.FreeEnergy(lambda x: 0.5 * jnp.sum(x**2), 0.5), st.Wasserstein())
    return flow, None, start, st.FiniteVolume(0.01, order=2)


def _pairs():
    import jax
    import jax.numpy as jnp

    import steepest as st

    x = st.Particles(jax.random.normal(jax.random.key(0), (4000, 2), jnp.float32))
    flow = st.Flow(st.KL(lambda y: -0.5 * jnp.sum(y**2)), st.Stein())
    return flow, None, x, st.Euler(0.05)


def _risk():
    import jax
    import jax.numpy as jnp

    import steepest as st

    x = jax.random.normal(jax.random.key(0), (20_000, 64), jnp.float32)
    loss = lambda theta, row: jax.nn.softplus(-row @ theta)  # noqa: E731
    risk = st.EmpiricalRisk(loss, x, 256)
    flow = st.Flow(risk, st.Euclidean(), st.Minibatch())
    return flow, None, jnp.zeros(64, jnp.float32), st.Euler(0.05)


CASES: dict[str, Callable[[], Any]] = {
    "Langevin, 10,000 x 2": lambda: _langevin(10_000, 2),
    "Langevin, 1,000 x 100": lambda: _langevin(1_000, 100),
    "kinetic Langevin, 10,000 x 2": _kinetic,
    "density, 4,000 cells": lambda: _density(4000, 1),
    "density, 256 x 256 cells": lambda: _density(256, 2),
    "Stein, 4,000 particles": _pairs,
    "minibatches of 256 x 64": _risk,
}

# What a count of operations does not show.
LATENCY = {
    "density, 4,000 cells": "sweeps along the line, one cell after the other",
    "Stein, 4,000 particles": "exponentials of all pairs, block by block (XLA counts one block)",
    "minibatches of 256 x 64": "kernels of a few µs each",
}


def tables(rounds: int, only: str | None) -> Iterator[str]:
    """A row for each flow, under what the machine reaches."""
    arithmetic, memory = products(rounds), sweeps(2**27, rounds)
    yield (
        f"A product of matrices: {arithmetic / 1e9:.3g} Gflop/s. A sweep over 128 MiB: "
        f"{memory / 2**30:.3g} GiB/s (float32).\n"
    )
    yield HEAD
    for name in chosen(CASES, only):
        yield _row(name, rounds, arithmetic)


def _row(name: str, rounds: int, arithmetic: float) -> str:
    flow, quiet, state, scheme = CASES[name]()
    found, seconds = _planned(flow, state, scheme, rounds)
    noise = 0.0
    if quiet is not None:
        noise = max(0.0, 1.0 - _planned(quiet, state, scheme, rounds)[1] / seconds)
    held = sum(x.nbytes for x in _arrays(state))
    bandwidth = sweeps(held, rounds)
    busy, moving = found.operations / seconds / arithmetic, found.traffic / seconds / bandwidth
    shares = {"random numbers": noise, "arithmetic": busy, f"traffic at {_size(held)}": moving}
    known = {key: share for key, share in shares.items() if share < 1.5}
    bound = max(known, key=lambda key: known[key])
    if noise > 0.5:
        bound = "random numbers"
    elif known[bound] < 0.2:
        bound = LATENCY.get(name, "latency: small kernels, or loops that XLA counts once")
    return (
        f"| {name} | {1e6 * seconds:.4g} µs | {found.operations / 1e6:.3g} "
        f"| {found.traffic / 2**20:.3g} | {100 * busy:.0f} % | {100 * moving:.0f} % "
        f"| {100 * noise:.0f} % | {bound} |"
    )


def _planned(flow: Any, state: Any, scheme: Any, rounds: int):
    """(plan, the median of its times)."""
    import jax

    import steepest as st

    options = dict(scheme=scheme, steps=1000, save_every=500, key=jax.random.key(0))
    plans = [st.plan(flow, state, **options) for _ in range(max(1, rounds // 3))]
    return plans[0], statistics.median(plan.seconds_per_step or 0.0 for plan in plans)


def _arrays(state: Any) -> list[Any]:
    import jax

    return jax.tree.leaves(state)


def _size(held: int) -> str:
    return f"{held / 2**10:.0f} KiB" if held < 2**20 else f"{held / 2**20:.0f} MiB"


def products(rounds: int) -> float:
    """Operations per second of a product of matrices."""
    import jax
    import jax.numpy as jnp

    n = 1500
    return 2.0 * n**3 / _least(jax.jit(lambda a: a @ a), jnp.ones((n, n), jnp.float32), rounds)


def sweeps(held: int, rounds: int) -> float:
    """Bytes per second, read and written, of y -> y/2 + 1 again and again over `held` bytes."""
    import jax
    import jax.numpy as jnp

    length = max(256, held // 4)
    times = max(2, 2**26 // length)
    sweep = jax.jit(lambda x: jax.lax.fori_loop(0, times, lambda i, y: 0.5 * y + 1.0, x))
    return 2.0 * 4 * length * times / _least(sweep, jnp.ones(length, jnp.float32), rounds)


def _least(compiled: Any, x: Any, rounds: int) -> float:
    import jax

    jax.block_until_ready(compiled(x))
    times = []
    for _ in range(max(3, rounds)):
        before = time.perf_counter()
        jax.block_until_ready(compiled(x))
        times.append(time.perf_counter() - before)
    return min(times)
