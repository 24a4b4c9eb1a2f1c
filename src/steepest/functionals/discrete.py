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
    gap = functional(end) - functional(start) - tree.dot(middle, moved)
    # Where nothing moves the correction is 0/0, and its limit is zero.
    still = length <= jnp.finfo(length.dtype).tiny ** 0.5
    share = jnp.where(still, 0.0, gap / jnp.where(still, 1.0, length))
    return tree.axpy(share, moved, middle)
