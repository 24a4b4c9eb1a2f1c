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
    def tangent(self, point: Array, ambient: Array) -> Array:
        """The projection of an ambient vector onto the tangent space."""

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
    def defect(self, point: Array) -> tuple[float, str, str]:
        """How far off the manifold a concrete point is, that in words, and the remedy."""

    def project(self, state: Any, ambient: Any) -> Any:
        """The tangent nearest to an ambient vector with the structure of the state."""
        return jax.tree.map(self.tangent, state, ambient)

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
            if isinstance(leaf, Tracer):
                continue
            argument = "state" + jax.tree_util.keystr(path)
            if not (hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating)):
                raise ArgumentError(argument, type(leaf).__name__, "an array of floats")
            with jax.ensure_compile_time_eval():  # of a constant also where a program is traced
                size, what, remedy = self.defect(leaf)
                scale = max(1.0, float(abs(leaf).max()) ** 2)
            if not size <= 100 * jnp.finfo(leaf.dtype).eps * scale:
                raise ArgumentError(argument, what, remedy)

    @property
    def curved(self):
        return True


def require(condition: bool, given: Any, remedy: str) -> None:
    """Raises ArgumentError for a leaf of the wrong shape."""
    if not condition:
        raise ArgumentError("state", given, remedy)


def circular(square: Array) -> tuple[Array, Array]:
    """cos r and sin(r)/r as smooth functions of r^2, differentiable at 0."""
    near = square < 1.0
    cosine, ratio = _series(jnp.where(near, square, 0.0))
    r = jnp.sqrt(jnp.where(near, 1.0, square))
    return jnp.where(near, cosine, jnp.cos(r)), jnp.where(near, ratio, jnp.sin(r) / r)


def hyperbolic(square: Array) -> tuple[Array, Array]:
    """cosh r and sinh(r)/r as smooth functions of r^2, differentiable at 0."""
    near = square < 1.0
    cosine, ratio = _series(jnp.where(near, -square, 0.0))
    r = jnp.sqrt(jnp.where(near, 1.0, square))
    return jnp.where(near, cosine, jnp.cosh(r)), jnp.where(near, ratio, jnp.sinh(r) / r)


def _series(x: Array) -> tuple[Array, Array]:
    """sum (-x)^k / (2k)! and sum (-x)^k / (2k+1)!, to round-off for |x| < 1 (1/20! is 4e-19)."""
    cosine = ratio = jnp.ones_like(x)
    for k in range(9, 0, -1):
        cosine = 1.0 - x * cosine / ((2 * k - 1) * (2 * k))
        ratio = 1.0 - x * ratio / ((2 * k) * (2 * k + 1))
    return cosine, ratio
