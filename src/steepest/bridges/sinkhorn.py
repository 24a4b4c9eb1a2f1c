"""Entropic optimal transport between weighted points, in the logarithmic domain and O(n) memory.

With shares a, b that sum to one, masses m, n of the two laws, r = (m n)^{1/2} and the cost
C = |u - v|^2/2 (white coordinates),
    pi_ij = r a_i b_j exp(f_i + g_j - C_ij)
has the marginals m a and n b; or, where mass may change at a price p (in nats for each nat),
    pi_1 = m a exp(-f/p),   pi_2 = n b exp(-g/p),
of which the former is p = infinity. One pass over blocks of rows is a whole iteration: the
exponentials that give f for a g also give the sums of columns, which correct g. The corrections are
extrapolated (Anderson's acceleration), and given up for plain ones where that does not help.
Sources: Cuturi, NeurIPS 2013; Schmitzer, SIAM J. Sci. Comput. 41 (2019) A1443 (epsilon scaling);
Chizat, Peyre, Schmitzer and Vialard, Math. Comp. 87 (2018) 2563 (mass at a price); Sejourne,
Vialard and Peyre, AISTATS 2022 (the shift of constants).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float

from ..kernels import pairs
from .anderson import Memory, extrapolated, remembered

COARSE = 0.02
"""Where a problem of less cost, which only gives the next its start, is left."""
ROUGH = 0.5
"""An error beyond which corrections are not extrapolated: they are not yet linear."""
SKETCH = 1024
"""Points of the source that those problems see at least; of more, one in eight."""
EXP2 = (
    1.000000071654605, 0.6931469670622938, 0.24022119724098584, 0.05550713277527218,
    0.009675541324066898, 0.0013276470690016574,
)  # fmt: skip
"""2^f for |f| <= 1/2 to 7.5e-8, our own minimax fit."""
NEAR = 20.0
"""How far g may move, in nats, for the f before to keep the exponentials in range."""


class Potentials(NamedTuple):
    """f (n,), g (m,), and pi_2 as a share of n, whose error is a share too; iterations in all.

    The rows are those of f exactly. `value`: a f + b g, what the dual has where mass is kept.
    """

    f: Array
    g: Array
    columns: Array
    error: Array
    value: Array
    iterations: Array


class Stage(NamedTuple):
    """What a problem of one cost carries from pass to pass; `far`: how far g moved last."""

    g: Array
    f: Array
    columns: Array
    error: Array
    far: Array
    memory: Memory
    iterations: Array


def block_rows(n: int, m: int) -> int:
    """Rows of one block."""
    return max(1, min(n, pairs.ENTRIES // 4 // max(m, 1)))


@jax.jit
def sinkhorn(
    u: Float[Array, "n d"],
    a: Float[Array, " n"],
    v: Float[Array, "m d"],
    b: Float[Array, " m"],
    tolerance: float = 1e-4,
    most: int = 5000,
    masses: Float[Array, "2"] | None = None,
    rate: Any = 0.0,
) -> Potentials:
    """The potentials, until the columns are off by less than `tolerance` of the mass (L1).

    `rate`: 1/p, what KL costs. The cost is first divided by powers of 4 until it is of order one,
    on some of the points, and each problem starts from the one before. `most`: of each of them.
    """
    centre = 0.5 * (a @ u + b @ v)
    u, v = u - centre, v - centre
    masses = jnp.ones(2, u.dtype) if masses is None else masses
    rate = jnp.asarray(rate, u.dtype)
    reach = 0.5 * jnp.maximum(jnp.max(jnp.sum(u**2, 1)), jnp.max(jnp.sum(v**2, 1)))
    stages = jnp.maximum(jnp.ceil(jnp.log(jnp.maximum(reach, 1.0)) / jnp.log(4.0)), 0.0)
    last = stages.astype(int)
    fixed = (stages, masses, rate, tolerance, most)
    if len(u) <= SKETCH:
        whole = _stages(u, a, v, b, jnp.zeros_like(b), 0, last + 1, *fixed)
    else:
        # No weight is zero here: it is a start, and some of the points may carry nothing.
        some = _some(len(u))
        few = a[some] + 1e-3 / len(u)
        begun = _stages(u[some], few / jnp.sum(few), v, b, jnp.zeros_like(b), 0, last, *fixed)
        whole = _stages(u, a, v, b, begun.g, last, last + 1, *fixed)
        whole = whole._replace(iterations=begun.iterations + whole.iterations)
    value = a @ whole.f + b @ whole.g
    return Potentials(whole.f, whole.g, whole.columns, whole.error, value, whole.iterations)


def _some(n: int) -> np.ndarray:
    """Rows spread evenly over all, without a period (multiples of the golden ratio)."""
    count = max(SKETCH, n // 8)
    return np.unique((np.arange(count) * (0.5 * (5.0**0.5 - 1.0)) % 1.0 * n).astype(int))


def _stages(
    u: Any, a: Any, v: Any, b: Any, g: Any, first: Any, end: Any, stages: Any, masses: Any,
    rate: Any, tolerance: Any, most: int,
) -> Stage:  # fmt: skip
    """The problems of cost 4^(i - stages), first <= i < end, each from four times the g before."""
    tolerance = jnp.asarray(tolerance, g.dtype)
    much = jnp.asarray(jnp.inf, g.dtype)

    def one(i: Any, now: Stage) -> Stage:
        start = now._replace(g=4.0 * now.g, error=much, far=much, memory=Memory.empty(g))
        most_now = now.iterations + most
        wanted = jnp.where(i == stages, tolerance, jnp.maximum(tolerance, COARSE))
        return _solved(u, a, v, b, start, 4.0 ** (i - stages), masses, rate, wanted, most_now)

    start = Stage(g, jnp.zeros_like(a), b, much, much, Memory.empty(g), jnp.asarray(0))
    return jax.lax.fori_loop(first, end, one, start)


def _solved(
    u: Any, a: Any, v: Any, b: Any, start: Stage, scale: Any, masses: Any, rate: Any,
    tolerance: Any, most: Any,
) -> Stage:  # fmt: skip
    """The problem at the cost times `scale`, until `most` iterations in all."""
    rate = rate / scale  # prices are in units of the cost
    soft, tiny = 1.0 / (1.0 + rate), jnp.finfo(b.dtype).tiny * 1e6
    log_b, half_v = jnp.log(jnp.maximum(b, tiny)), 0.5 * scale * jnp.sum(v**2, 1)

    def step(now: Stage) -> Stage:
        tilt = now.g + log_b - half_v
        near = now.far < NEAR
        f, columns = _sweep(u * scale**0.5, a, v * scale**0.5, tilt, now.f, near, masses, rate)
        # The constant that is best moved from g to f; none where all mass is kept.
        kept = masses[0] * jnp.sum(a * jnp.exp(-rate * f))
        wanted = masses[1] * jnp.sum(b * jnp.exp(-rate * now.g))
        safe = jnp.where(rate > 0, rate, 1.0)
        shift = jnp.where(rate > 0, 0.5 * jnp.log(kept / wanted) / safe, 0.0)
        gaps = jnp.abs(columns - b * jnp.exp(-rate * (now.g - shift)))
        error = jnp.sum(gaps) / jnp.sum(columns)
        change = soft * (log_b - jnp.log(jnp.maximum(columns, tiny)) - shift)
        memory = remembered(now.memory, now.g, change - (1.0 - soft) * now.g, error)
        k = now.iterations + 1
        moved = jnp.where(error < ROUGH, extrapolated(memory, b), now.g + memory.residual)
        g = jnp.where((error > tolerance) & (k < most), moved, now.g)
        return Stage(g, f, columns, error, jnp.max(jnp.abs(g - now.g)), memory, k)

    def going(now: Stage) -> Array:
        return (now.error > tolerance) & (now.iterations < most)

    return jax.lax.while_loop(going, step, start)


def _sweep(
    u: Any, a: Any, v: Any, tilt: Any, before: Any, near: Any, masses: Any, rate: Any
) -> tuple[Array, Array]:
    """(f, pi_2 as a share of its mass). `before`: an f that is close, if `near`."""
    n, m = len(u), len(v)
    block = block_rows(n, m)
    count = -(-n // block)
    half, log_r = 0.5 * jnp.sum(u**2, 1), 0.5 * jnp.log(masses[1] / masses[0])
    guess = (1.0 + rate) * before - half + log_r
    after = count * block - n
    edge = [
        jnp.pad(part, ((0, after), *((0, 0),) * (part.ndim - 1)), "edge")
        for part in (u, half, guess)
    ]
    parts = (*edge, jnp.pad(masses[0] / masses[1] * a, (0, after)))
    rows = tuple(part.reshape(count, block, *part.shape[1:]) for part in parts)

    def one(total: Array, now: tuple[Array, ...]) -> tuple[Array, Array]:
        x, half, guess, w = now
        products = _dot(x, v.T)
        # Minus the logarithm of a row's sum, nearly: what it was, or what the largest term says.
        base = jax.lax.cond(near, lambda: guess, lambda: -jnp.max(products + tilt, axis=1))
        plan = _exp(products + tilt + base[:, None])
        row = _dot(plan, jnp.ones(m, plan.dtype))  # a sum would have XLA make the plan twice
        f = (half + base - jnp.log(row) - log_r) / (1.0 + rate)
        return total + _dot(w * jnp.exp(-rate * f) / row, plan), f

    total, f = jax.lax.scan(one, jnp.zeros(m, v.dtype), rows)
    return f.reshape(-1)[:n], total


def _dot(a: Array, b: Array) -> Array:
    """No product of fewer digits, which accelerators may take otherwise."""
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


def _exp(x: Array) -> Array:
    """exp x of single precision to 3e-7 by 2^n 2^f, |f| <= 1/2; 3/4 of the time of XLA's own.

    Far below -1, where |x| times the rounding is added, entries weigh nothing; none exceeds NEAR.
    """
    if x.dtype != jnp.float32 or jax.default_backend() != "cpu":
        return jnp.exp(x)
    power = jnp.maximum(x * np.float32(1.4426950408889634), np.float32(-126.0))
    whole = jnp.round(power)
    part, value = power - whole, jnp.full_like(x, EXP2[-1])
    for coefficient in EXP2[-2::-1]:
        value = value * part + np.float32(coefficient)
    bits = jax.lax.bitcast_convert_type(value, jnp.int32) + (whole.astype(jnp.int32) << 23)
    return jax.lax.bitcast_convert_type(bits, jnp.float32)


@jax.jit
def transform(
    x: Float[Array, "n d"], y: Float[Array, "m d"], w: Float[Array, " m"], g: Float[Array, " m"]
) -> Float[Array, " n"]:
    """-log sum_j w_j exp(g_j - |x_i - y_j|^2/2): the best f for a g, at any points."""

    def rows(x: Array, y: Array, w: Array, g: Array) -> Array:
        centre = jnp.mean(y, axis=0)
        x, y = x - centre, y - centre
        logs = x @ y.T + (g + jnp.log(w) - 0.5 * jnp.sum(y**2, 1))
        return 0.5 * jnp.sum(x**2, 1) - logsumexp(logs, axis=1)

    return pairs.reduced(rows, (x,), (y, w, g))
