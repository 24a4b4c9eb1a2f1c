"""Discrete gradients: covectors with <dF, y - x> = F(y) - F(x) exactly, and dF(x) where y = x.

Source: Gonzalez, J. Nonlinear Sci. 6 (1996) 449.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from .. import tree


def discrete_gradient(functional: Any, start: Any, end: Any) -> Any:
    """Gonzalez's midpoint discrete gradient of F between two states, second order.

    dF(middle) + (F(end) - F(start) - <dF(middle), end - start>) (end - start) / |end - start|^2.
    """
    moved = tree.sub(end, start)
    middle = functional.differential(tree.axpy(0.5, moved, start))
    length = tree.norm_sq(moved)
    before, after = functional(start), functional(end)
    gap = after - before - tree.dot(middle, moved)
    # Below the rounding of F the gap is noise, which the division would raise without bound.
    noise = 8 * jnp.finfo(length.dtype).eps * (jnp.abs(before) + jnp.abs(after))
    still = (jnp.abs(gap) <= noise) | (length <= jnp.finfo(length.dtype).tiny ** 0.5)
    share = jnp.where(still, 0.0, gap / jnp.where(still, 1.0, length))
    return tree.axpy(share, moved, middle)
