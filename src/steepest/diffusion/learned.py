"""A network as a model: what it predicts, and how that becomes E[x_0 | x].

With y = x/alpha - mean, r = sigma/alpha and c the scale of the data,

    D = mean + skip y + out F(y / sqrt(c^2 + r^2), log(r/c)/4)

| parametrisation | skip | out | F is |
|---|---|---|---|
| "velocity" (the same as EDM's preconditioning) | c^2/(c^2 + r^2) | c r/sqrt(c^2 + r^2) | -v |
| "noise" | 1 | -r | the noise |
| "clean" | 0 | c | the clean point |

Source: Karras et al., NeurIPS 2022, table 1; Salimans and Ho, ICLR 2022 (v).
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..errors import ArgumentError
from .models import AbstractModel

PARAMETRISATIONS = ("velocity", "noise", "clean")


class Learned(AbstractModel):
    """A network with the moments of its data. `mean`, of the shape of a point; `covariance` (d, d).

    `classes`: how many labels there are; label None is the unconditional model.
    """

    network: Any
    mean: Float[Array, "..."]
    covariance: Float[Array, "d d"]
    parametrisation: str = eqx.field(static=True, default="velocity")
    classes: int = eqx.field(static=True, default=0)

    def __check_init__(self):
        if self.parametrisation not in PARAMETRISATIONS:
            given = repr(self.parametrisation)
            raise ArgumentError("parametrisation", given, f"one of {PARAMETRISATIONS}")

    @property
    def scale(self) -> Float[Array, ""]:
        """c, the root mean square of the data's standard deviations."""
        return jnp.sqrt(jnp.trace(self.covariance) / self.covariance.shape[0])

    def coefficients(self, r: Any) -> tuple[Any, Any, Any]:
        """(skip, out, scale of the input) at relative noise r."""
        c = self.scale.astype(jnp.result_type(r))
        length = jnp.sqrt(c**2 + r**2)
        if self.parametrisation == "velocity":
            return c**2 / length**2, c * r / length, 1.0 / length
        if self.parametrisation == "noise":
            return jnp.ones_like(r), -r, 1.0 / length
        return jnp.zeros_like(r), c * jnp.ones_like(r), 1.0 / length

    def output(self, y: Any, r: Any, label: Any = None) -> Any:
        """F at y = x/alpha - mean."""
        r = jnp.asarray(r)
        scale = self.coefficients(r)[2].astype(y.dtype)
        noise = (0.25 * jnp.log(r / self.scale.astype(r.dtype))).astype(y.dtype)
        return self.network(scale * y, noise, label)

    def denoise(self, x, alpha, sigma, label=None):
        r = jnp.asarray(sigma / alpha, x.dtype)
        mean = self.mean.astype(x.dtype)
        y = x / alpha - mean
        skip, out, _ = self.coefficients(r)
        return mean + skip * y + out * self.output(y, r, label)

    @property
    def shape(self):
        return self.mean.shape

    def moments(self):
        return self.mean.ravel(), self.covariance


def check_network(model: Learned, labelled: bool) -> None:
    """Raises ArgumentError unless the network returns the shape that it is given."""
    point = jax.ShapeDtypeStruct(model.shape, model.mean.dtype)
    number = jax.ShapeDtypeStruct((), model.mean.dtype)
    label = jax.ShapeDtypeStruct((), jnp.int32) if labelled else None
    try:
        out = eqx.filter_eval_shape(model.network, point, number, label)
    except (TypeError, ValueError) as error:
        raise ArgumentError(
            "network", f"{type(model.network).__name__}, which fails on {model.shape}: {error}",
            "a function (x, noise, label) -> array of the shape of x",
        ) from None  # fmt: skip
    found = getattr(out, "shape", None)
    if found != model.shape:
        raise ArgumentError(
            "network",
            f"an output of shape {found} for points of shape {model.shape}",
            "the output must have the shape of a point",
        )
