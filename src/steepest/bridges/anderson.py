"""Anderson's acceleration of a fixed-point iteration x -> x + R(x), with a way back.

The last differences dx_j of points and dR_j of residuals say how R changes:
    c = argmin |R - sum_j c_j dR_j|,   x+ = x + R - sum_j c_j (dx_j + dR_j)
Where the error grew after such a step all is forgotten, and plain steps are taken instead: one the
first time, then twice as many each time, so that an iteration that converges by itself still does.
Source: Walker and Ni, SIAM J. Numer. Anal. 49 (2011) 1715.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

DEPTH = 3
SMALL = 100.0
"""Differences of residuals that lie in the span of others to this many roundings are left out."""


class Memory(NamedTuple):
    """dx and dR (DEPTH, n), newest first, of which `held` hold; the last x, R and error.

    `plain`: steps still to be taken plainly; `patience`: how many there will be the next time.
    """

    moves: Float[Array, "k n"]
    turns: Float[Array, "k n"]
    held: Array
    x: Float[Array, " n"]
    residual: Float[Array, " n"]
    error: Array
    plain: Array
    patience: Array

    @classmethod
    def empty(cls, x: Float[Array, " n"]) -> Memory:
        """Before the first step."""
        table, zero = jnp.zeros((DEPTH, len(x)), x.dtype), jnp.zeros_like(x)
        none, one = jnp.asarray(-1), jnp.asarray(1)
        return cls(table, table, none, zero, zero, jnp.asarray(jnp.inf, x.dtype), one * 0, one)


def remembered(
    memory: Memory, x: Float[Array, " n"], residual: Float[Array, " n"], error: Array
) -> Memory:
    """With x, R(x) and the error there; `error` is what may not grow."""
    worse = (error > memory.error) & (memory.plain == 0)
    moves = jnp.concatenate([(x - memory.x)[None], memory.moves[:-1]])
    turns = jnp.concatenate([(residual - memory.residual)[None], memory.turns[:-1]])
    held = jnp.where(worse, 0, jnp.minimum(memory.held + 1, DEPTH))
    plain = jnp.where(worse, memory.patience, jnp.maximum(memory.plain - 1, 0))
    patience = jnp.where(worse, 2 * memory.patience, memory.patience)
    return Memory(moves, turns, held, x, residual, error, plain, patience)


def extrapolated(memory: Memory, weights: Float[Array, " n"]) -> Float[Array, " n"]:
    """The next x; `weights` of the coordinates in |.|."""
    x, residual = memory.x, memory.residual
    holds = jnp.arange(DEPTH) < jnp.where(memory.plain > 0, 0, memory.held)
    turns = jnp.where(holds[:, None], memory.turns, 0.0)
    # Gram and Schmidt, twice for each: small matrices cost more to compile than they save.
    moves, basis = jnp.where(holds[:, None], memory.moves, 0.0), []
    step = residual
    for turn, move in zip(turns, moves, strict=True):
        size = weights @ turn**2
        for _ in range(2):
            for other, both in basis:
                share = weights @ (turn * other)
                turn, move = turn - share * other, move - share * both
        left = weights @ turn**2
        length = jnp.where(left > SMALL * jnp.finfo(x.dtype).eps * size, jnp.sqrt(left), jnp.inf)
        basis.append((turn / length, move / length))
    for turn, move in basis:
        step = step - (weights @ (turn * residual)) * (turn + move)
    return x + step
