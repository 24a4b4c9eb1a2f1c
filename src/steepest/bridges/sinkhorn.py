"""Entropic optimal transport between weighted points, in the logarithmic domain and O(n) memory.

    pi_ij = a_i b_j exp(f_i + g_j - |u_i - v_j|^2/2)
One pass over blocks of rows is a whole iteration: the exponentials that make the rows of the plan
sum to a also give the sums of its columns, which then correct g.
Sources: Cuturi, NeurIPS 2013; Schmitzer, SIAM J. Sci. Comput. 41 (2019) A1443 (epsilon scaling);
Thibault et al., Algorithms 14 (2021) 143 (over-relaxation).
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float

from ..kernels import pairs

RELAXED = 1.5


class Potentials(NamedTuple):
    """f (n,), g (m,), the L1 error of the columns, the dual value, iterations in all."""

    f: Array
    g: Array
    error: Array
    value: Array
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
) -> Potentials:
    """The potentials, until the columns miss b by less than `tolerance` in all.

    The cost is first divided by powers of 4 until it is of order one, and each problem starts from
    the one before. `most`: iterations of each stage.
    """
    (n, d), m = u.shape, v.shape[0]
    centre = 0.5 * (a @ u + b @ v)
    u, v = u - centre, v - centre
    log_a, log_b = jnp.log(a), jnp.log(b)
    half_u, half_v = 0.5 * jnp.sum(u**2, 1), 0.5 * jnp.sum(v**2, 1)
    block = block_rows(n, m)
    count = -(-n // block)
    pad = count * block - n
    rows = jnp.concatenate([u, jnp.zeros((pad, d), u.dtype)]).reshape(count, block, d)
    mass = jnp.concatenate([a, jnp.zeros(pad, a.dtype)]).reshape(count, block)

    def sweep(g: Array, scale: Array) -> tuple[Array, Array]:
        """(f + |u|^2/2 scale, sums of columns) at the cost times `scale`."""
        tilt = g + log_b - scale * half_v

        def one(total: Array, now: tuple[Array, Array]) -> tuple[Array, Array]:
            x, w = now
            logits = (scale * x) @ v.T + tilt
            top = jnp.max(logits, axis=1)
            plan = jnp.exp(logits - top[:, None])
            row = jnp.sum(plan, axis=1)
            return total + (w / row) @ plan, -(top + jnp.log(row))

        if count == 1:
            total, f = one(jnp.zeros(m, v.dtype), (rows[0], mass[0]))
            return f, total
        total, f = jax.lax.scan(one, jnp.zeros(m, v.dtype), (rows, mass))
        return f.reshape(-1)[:n], total

    tiny = jnp.finfo(v.dtype).tiny * 1e6

    def stage(g: Array, scale: Array, tolerance: Array) -> tuple[Array, Array, Array]:
        def step(carry: tuple) -> tuple:
            g, error, relax, k = carry
            _, total = sweep(g, scale)
            new = jnp.sum(jnp.abs(total - b))
            # Over-relaxation converges once near; where it does not help it is given up.
            relax = jnp.where(new > error, 1.0, jnp.where((new < 0.3) & (k > 5), relax, 1.0))
            relax = jnp.where((k % 50 == 10) & (new < 0.3), RELAXED, relax)
            change = log_b - jnp.log(jnp.maximum(total, tiny))
            return g + jnp.where(new > tolerance, relax, 0.0) * change, new, relax, k + 1

        def going(carry: tuple) -> Array:
            return (carry[1] > tolerance) & (carry[3] < most)

        start = (g, jnp.asarray(jnp.inf, v.dtype), jnp.ones((), v.dtype), jnp.asarray(0))
        g, error, _, k = jax.lax.while_loop(going, step, start)
        return g, error, k

    reach = jnp.maximum(jnp.max(half_u), jnp.max(half_v))
    stages = jnp.maximum(jnp.ceil(jnp.log(jnp.maximum(reach, 1.0)) / jnp.log(4.0)), 0.0)

    def coarse(i: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        g, k = carry
        scale = 4.0 ** (i - stages)
        g, _, more = stage(g * jnp.where(i > 0, 4.0, 1.0), scale, jnp.asarray(0.02, v.dtype))
        return g, k + more

    start = (jnp.zeros(m, v.dtype), jnp.asarray(0))
    g, k = jax.lax.fori_loop(0, stages.astype(int), coarse, start)
    g = g * jnp.where(stages > 0, 4.0, 1.0)
    g, error, more = stage(g, jnp.ones((), v.dtype), jnp.asarray(tolerance, v.dtype))
    f, _ = sweep(g, jnp.ones((), v.dtype))
    f = f + half_u
    del log_a
    return Potentials(f, g, error, a @ f + b @ g, k + more)


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
