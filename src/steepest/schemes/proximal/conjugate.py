"""Symmetric positive systems by conjugate gradients, preconditioned by their diagonal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Field = Float[Array, "..."]


def solve(
    apply: Callable[[Field], Field],
    diagonal: Field,
    right: Field,
    reduction: float,
    max_iterations: int = 500,
) -> Field:
    """x with apply(x) = right, until <r, r/diagonal> has fallen by `reduction` squared.

    That norm, unlike |r|, does not depend on how the unknowns are scaled: cells with hardly any
    mass count as much as the others. Stops where the form is not positive.
    """

    def unfinished(carry: Any) -> Any:
        _, _, _, size, count = carry
        return (size > goal) & (count < max_iterations)

    def again(carry: Any) -> Any:
        x, rest, direction, size, count = carry
        image = apply(direction)
        curvature = jnp.sum(direction * image)
        length = jnp.where(curvature > 0, size / curvature, 0.0)
        x, rest = x + length * direction, rest - length * image
        scaled = rest / diagonal
        new = jnp.where(curvature > 0, jnp.sum(rest * scaled), 0.0)
        return x, rest, scaled + (new / size) * direction, new, count + 1

    start = right / diagonal
    size = jnp.sum(right * start)
    goal = reduction**2 * size
    return jax.lax.while_loop(unfinished, again, (jnp.zeros_like(right), right, start, size, 0))[0]
