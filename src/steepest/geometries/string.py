"""Curves of images: each moves across the curve, and the curve keeps them evenly apart.

Source: E, Ren and Vanden-Eijnden, Phys. Rev. B 66 (2002) 052301; J. Chem. Phys. 126 (2007) 164103.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .. import tree
from ..errors import ArgumentError
from .base import AbstractGeometry


class Strings(AbstractGeometry):
    """K = the projection across the curve, of a state (images, d); the ends stay (eq. 38-40).

    The flow of sum_i E(x_i) then stops where dE is along the curve: on a minimum energy path.
    `retract` puts the images back at equal distances.
    """

    def sharp(self, state, covector):
        along = tangents(state)
        across = covector - jnp.sum(covector * along, axis=1, keepdims=True) * along
        return across.at[0].set(0.0).at[-1].set(0.0)

    def retract(self, state, tangent):
        return evenly(state + tangent)

    def check(self, state):
        if not hasattr(state, "shape") or state.ndim != 2 or state.shape[0] < 3:
            raise ArgumentError("state", type(state).__name__, "an array (images, d) of 3 or more")

    @property
    def noise_terms(self):
        return 0

    @property
    def curved(self):
        return True


def tangents(images: Float[Array, "n d"]) -> Float[Array, "n d"]:
    """Unit vectors along the curve, by central differences."""
    step = jnp.zeros_like(images).at[1:-1].set(images[2:] - images[:-2])
    step = step.at[0].set(images[1] - images[0]).at[-1].set(images[-1] - images[-2])
    length = jnp.sqrt(jnp.sum(step**2, axis=1, keepdims=True))
    return step / jnp.where(length > 0, length, 1.0)


def arc_length(images: Float[Array, "n d"]) -> Float[Array, " n"]:
    """The length of the polygon up to each image, from 0."""
    steps = jnp.sqrt(jnp.sum((images[1:] - images[:-1]) ** 2, axis=1))
    return jnp.concatenate([jnp.zeros((1,), steps.dtype), jnp.cumsum(steps)])


def evenly(images: Float[Array, "n d"], count: int | None = None) -> Float[Array, "m d"]:
    """The polygon through the images with its points at equal distances."""
    length = arc_length(images)
    at = length[-1] * jnp.linspace(0.0, 1.0, count or len(images), dtype=tree.dtype(images))
    along = lambda x: jnp.interp(at, length, x)  # noqa: E731
    return jax.vmap(along, 1, 1)(images)
