"""What the manifolds share: states live on them, inside flat coordinates (eq. 38-40).

Each leaf of the state is one point of the manifold. The covector is the ambient `jax.grad`; `sharp`
maps it to the Riemannian gradient, `retract` moves along a tangent and stays on the manifold to
round-off. Thermal noise follows the Riemannian volume: the Gibbs law is exp(-E/T) dvol (eq. 44).
"""

from __future__ import annotations

import abc
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Float

from ..errors import ArgumentError
from .base import AbstractGeometry


class Manifold(AbstractGeometry):
    """A Riemannian manifold, leaf by leaf: a subclass writes the maps of one point."""

    @abc.abstractmethod
    def gradient(self, point: Array, covector: Array) -> Array:
        """The tangent K covector; symmetric and positive semi-definite in the covector."""

    @abc.abstractmethod
    def move(self, point: Array, tangent: Array) -> Array:
        """Exponential map, or a retraction of second order; lands on the manifold to round-off."""

    @abc.abstractmethod
    def white(self, point: Array, noise: Array) -> Array:
        """S noise, a tangent, with S S^T = K."""

    @abc.abstractmethod
    def inner(self, point: Array, tangent: Array) -> Float[Array, ""]:
        """The squared length of a tangent."""

    @abc.abstractmethod
    def defect(self, point: Array) -> tuple[Float[Array, ""], str]:
        """How far a point is from the manifold, and the remedy in words."""

    def sharp(self, state, covector):
        return jax.tree.map(self.gradient, state, covector)

    def sqrt(self, state, white):
        return jax.tree.map(self.white, state, white[0])

    def retract(self, state, tangent):
        return jax.tree.map(self.move, state, tangent)

    def length_sq(self, state, tangent):
        return jnp.sum(jnp.stack(jax.tree.leaves(jax.tree.map(self.inner, state, tangent))))

    def check(self, state):
        for path, leaf in jax.tree_util.tree_flatten_with_path(state)[0]:
            name = "state" + jax.tree_util.keystr(path)
            size, remedy = self.defect(leaf)
            if isinstance(size, Tracer):
                return
            slack = 100 * jnp.finfo(leaf.dtype).eps * max(1.0, float(jnp.max(jnp.abs(leaf))) ** 2)
            if not float(size) <= float(slack):
                raise ArgumentError(name, f"a point {float(size):.3g} off the manifold", remedy)

    @property
    def curved(self):
        return True


def require(condition: bool, given: Any, remedy: str) -> None:
    """Raises ArgumentError for a leaf of the wrong shape."""
    if not condition:
        raise ArgumentError("state", given, remedy)


def sine_ratio(square: Array) -> Array:
    """sin(r)/r as a smooth function of r^2, with finite derivatives at 0."""
    small = square < 1e-6
    r = jnp.sqrt(jnp.where(small, 1.0, square))
    return jnp.where(small, 1.0 - square / 6.0, jnp.sin(r) / r)


def cosine(square: Array) -> Array:
    """cos(r) as a smooth function of r^2."""
    small = square < 1e-6
    r = jnp.sqrt(jnp.where(small, 1.0, square))
    return jnp.where(small, 1.0 - square / 2.0 + square**2 / 24.0, jnp.cos(r))
