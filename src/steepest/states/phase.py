"""Phase space: position and momentum, the state of second-order dynamics (eq. 7, 53)."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from .. import tree
from ..errors import ArgumentError


class Phase(eqx.Module):
    """A point (q, p) of phase space (eq. 7).

    `position` is any pytree of float arrays; `momentum` has the same structure and shapes.
    Raises ArgumentError when the two differ.
    """

    position: Any
    momentum: Any

    def __check_init__(self):
        leaves = jax.tree.leaves((self.position, self.momentum))
        # Equinox and JAX rebuild modules with placeholders (specs, None) inside: not data.
        if all(hasattr(leaf, "shape") for leaf in leaves):
            q, p = jax.tree.structure(self.position), jax.tree.structure(self.momentum)
            if q != p:
                raise ArgumentError("momentum", f"structure {p}", f"position has structure {q}")
            for a, b in zip(
                jax.tree.leaves(self.position), jax.tree.leaves(self.momentum), strict=True
            ):
                if jnp.shape(a) != jnp.shape(b):
                    raise ArgumentError(
                        "momentum", f"shape {jnp.shape(b)}", f"position has shape {jnp.shape(a)}"
                    )

    @classmethod
    def at_rest(cls, position: Any) -> Phase:
        """(q, 0)."""
        return cls(position, tree.zeros_like(tree.as_float(position, "position")))

    @classmethod
    def thermal(cls, key: Key[Array, ""], position: Any, temperature: float = 1.0) -> Phase:
        """(q, p) with p drawn from N(0, temperature I), the Gibbs law of |p|^2 / 2."""
        leaves, structure = jax.tree.flatten(tree.as_float(position, "position"))
        keys = jax.random.split(key, len(leaves))
        momenta = [
            jnp.sqrt(jnp.asarray(temperature, x.dtype)) * jax.random.normal(k, x.shape, x.dtype)
            for k, x in zip(keys, leaves, strict=True)
        ]
        return cls(jax.tree.unflatten(structure, leaves), jax.tree.unflatten(structure, momenta))
