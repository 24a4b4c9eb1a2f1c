"""Parameters with the memory of their squared gradients: where a metric moves with the flow."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .. import tree


class Adaptive(eqx.Module):
    """A point theta with second moments of the gradient, the state of RMSProp's flow.

    `moment`: an average of dF^2, like theta. `weight`: the total weight of that average, 1 in the
    long run; moment / weight is unbiased (Kingma and Ba, ICLR 2015, section 3).
    """

    position: Any
    moment: Any
    weight: Float[Array, ""]

    @classmethod
    def start(cls, position: Any, gradient: Any, weight: float = 1.0) -> Adaptive:
        """As if `gradient` had been seen with this weight before the start."""
        position = tree.as_float(position, "position")
        moment = jax.tree.map(lambda g: weight * g * g, gradient)
        return cls(position, moment, jnp.asarray(weight, tree.dtype(position)))
