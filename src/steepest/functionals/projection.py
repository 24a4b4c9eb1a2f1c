"""What one particle carries of a functional that is no mean over particles."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..states import Particles


def projection(functional: Any, state: Particles) -> Float[Array, " n"]:
    """F(rho) + psi(x_i) - <psi>, with psi the first variation at the particles.

    Its mean is F, and its spread over sqrt(n) the standard error of F for independent particles, to
    first order (Hajek's projection).
    """
    weighted = state.weighted()
    value, covector = jax.value_and_grad(functional)(weighted)
    assert covector.log_weights is not None
    return value + covector.log_weights / jnp.maximum(weighted.weights, 1e-30)
