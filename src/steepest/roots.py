"""Roots of small dense systems to round-off, by Newton's method."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import optimistix as optx
from jaxtyping import Array, Float


def root(
    fn: Callable[[Array], Array], start: Float[Array, " n"], scale: Any = 1.0, most: int = 32
) -> Float[Array, " n"]:
    """x with fn(x) = 0 near `start`; NaN where it is not found within `most` steps.

    `scale`: the size of x, of which sqrt(eps)/100 is where the iteration stops: what is then left
    is about the square of that, which is below round-off. Differentiable, by the implicit function
    theorem.
    """
    small = 0.01 * float(np.sqrt(np.finfo(start.dtype).eps))
    size = jnp.maximum(jnp.asarray(scale, start.dtype), jnp.finfo(start.dtype).tiny)
    solver = optx.Newton(rtol=small, atol=small)
    scaled = lambda y, args: fn(y * args) / args  # noqa: E731
    found = optx.root_find(scaled, solver, start / size, args=size, max_steps=most, throw=False)
    good = found.result == optx.RESULTS.successful
    return jnp.where(good, found.value * size, jnp.nan)
