"""Priors as terms of an energy: -log density up to a constant, and that constant.

A positive quantity x is a parameter log x on the whole line; its term has the Jacobian, -log x.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from ..errors import ArgumentError
from .generalised_linear import softplus

LOG_2PI = math.log(2.0 * math.pi)


def normal(x: Float[Array, "..."], scale: Any) -> Float[Array, ""]:
    """N(0, scale^2) on every entry; an infinite scale is a flat prior."""
    return 0.5 * jnp.sum((x / scale) ** 2)


def normal_constant(count: int, scale: float) -> float | None:
    """What `normal` leaves out of -log density; None where the prior is flat."""
    return None if math.isinf(scale) else count * (math.log(scale) + 0.5 * LOG_2PI)


def half_normal(log_x: Float[Array, "..."], scale: Any) -> Float[Array, ""]:
    """|N(0, scale^2)| on every x."""
    return jnp.sum(0.5 * (jnp.exp(log_x) / scale) ** 2 - log_x)


def half_cauchy(log_x: Float[Array, "..."], scale: Any) -> Float[Array, ""]:
    """Density 2 / (pi scale (1 + (x / scale)^2)) on every x."""
    return jnp.sum(softplus(2.0 * (log_x - jnp.log(scale))) - log_x)


def gamma(log_x: Float[Array, ""], shape: float, rate: float) -> Float[Array, ""]:
    """Density rate^shape x^(shape - 1) exp(-rate x) / Gamma(shape)."""
    return rate * jnp.exp(log_x) - shape * log_x


def gamma_constant(shape: float, rate: float) -> float:
    """What `gamma` leaves out of -log density."""
    return math.lgamma(shape) - shape * math.log(rate)


# name -> (term, what it leaves out of -log density for one x with a given scale)
POSITIVE: dict[str, tuple[Callable[..., Any], Callable[[float], float]]] = {
    "half-normal": (half_normal, lambda scale: math.log(scale) + 0.5 * math.log(0.5 * math.pi)),
    "half-cauchy": (half_cauchy, lambda scale: math.log(scale) + math.log(0.5 * math.pi)),
}


def positive(theta: dict[str, Array]) -> dict[str, Array]:
    """Parameters `log_x` as x; the others as they are."""
    return {
        name.removeprefix("log_"): jnp.exp(leaf) if name.startswith("log_") else leaf
        for name, leaf in theta.items()
    }


def logarithms(values: dict[str, Array], like: dict[str, Array]) -> dict[str, Array]:
    """The inverse of `positive`: parameters named as in `like`, from quantities by their names."""
    return {
        name: jnp.log(values[name.removeprefix("log_")])
        if name.startswith("log_")
        else values[name]
        for name in like
    }


def check_scale(name: str, value: float, *, flat: bool = False) -> None:
    """Raises ArgumentError unless `value` is positive, and finite where `flat` is False."""
    if not (value > 0 and (flat or math.isfinite(value))):
        allowed = "a positive number, or inf for a flat prior" if flat else "a positive number"
        raise ArgumentError(name, value, allowed)
