"""Noether's theorem: what a symmetry of the Lagrangian keeps (eq. 13, 29).

A one-parameter group s -> g_s of configurations with L(g_s q, T g_s v) = L(q, v) keeps
J = <p, xi(q)>,  xi = d/ds g_s q at s = 0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .. import tree
from ..errors import ArgumentError
from ..states import Phase
from .lagrangian import Lagrangian


class MomentumMap(eqx.Module):
    """J(q, p) = <p, xi(q)>, on a `Phase`; see `momentum_map`."""

    symmetry: Callable[[Any, Any], Any]

    def __call__(self, state: Phase) -> Float[Array, ""]:
        if not isinstance(state, Phase):
            raise ArgumentError("state", type(state).__name__, "a momentum map is of a Phase")
        return tree.dot(state.momentum, self.generator(state.position))

    def generator(self, q: Any) -> Any:
        """xi(q), the velocity of q under the symmetry."""
        zero = jnp.zeros((), tree.dtype(q))
        return jax.jvp(lambda s: self.symmetry(s, q), (zero,), (jnp.ones_like(zero),))[1]

    def of(self, lagrangian: Lagrangian, q: Any, v: Any, t: Any = 0.0) -> Float[Array, ""]:
        """<dL/dv, xi(q)>."""
        return tree.dot(lagrangian.momentum(q, v, t), self.generator(q))

    def change(self, lagrangian: Lagrangian, q: Any, v: Any, t: Any = 0.0) -> Float[Array, ""]:
        """d/ds L(g_s q, T g_s v, t) at s = 0: zero where the Lagrangian has the symmetry."""

        def moved(s: Array) -> Array:
            at, speed = jax.jvp(lambda x: self.symmetry(s, x), (q,), (v,))
            return lagrangian(at, speed, t)

        return jax.grad(moved)(jnp.zeros((), tree.dtype(q)))


def momentum_map(symmetry: Callable[[Any, Any], Any]) -> MomentumMap:
    """The momentum map of `symmetry(s, q) -> q`, the identity at s = 0.

    `flow.conserving({"angular momentum": momentum_map(rotation)})` puts it in the ledger, and the
    audit checks that the flow has the symmetry and that the run kept J.
    """
    if not callable(symmetry):
        raise ArgumentError("symmetry", type(symmetry).__name__, "a function (s, q) -> q")
    return MomentumMap(symmetry)
