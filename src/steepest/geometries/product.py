"""One geometry for each part of the state, by pytree prefix (section 7.1)."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from ..errors import ArgumentError
from .base import AbstractGeometry


class Product(AbstractGeometry):
    """`{"w": Stiefel(), "rest": Euclidean()}`: each part of the state has its own K.

    `parts`: a pytree of geometries that is a prefix of the state. Squared lengths, rates and noises
    of the parts add up. Raises ArgumentError where the prefix does not fit the state.
    """

    parts: Any

    def __check_init__(self):
        leaves = self.geometries
        if not leaves or not all(isinstance(g, AbstractGeometry) for g in leaves):
            raise ArgumentError("parts", self.parts, "a pytree of geometries")
        if any(g.kinetic or g.on_measures for g in leaves):
            names = ", ".join(g.name for g in leaves)
            raise ArgumentError("parts", names, "geometries of parameters")

    @property
    def geometries(self) -> list[AbstractGeometry]:
        """The leaves of the prefix."""
        return jax.tree.leaves(self.parts, is_leaf=_is_geometry)

    def _each(self, method: str, *trees: Any) -> list[Any]:
        """[part.method(sub-trees ...)] over the parts."""
        leaves, shape = jax.tree.flatten(self.parts, is_leaf=_is_geometry)
        columns = [shape.flatten_up_to(x) for x in trees]
        return [getattr(g, method)(*args) for g, *args in zip(leaves, *columns, strict=True)]

    def _joined(self, values: list[Any]) -> Any:
        shape = jax.tree.structure(self.parts, is_leaf=_is_geometry)
        return shape.unflatten(values)

    def sharp(self, state, covector):
        return self._joined(self._each("sharp", state, covector))

    def norm_sq(self, state, covector):
        return jnp.sum(jnp.stack(self._each("norm_sq", state, covector)))

    def sqrt(self, state, white):
        leaves, shape = jax.tree.flatten(self.parts, is_leaf=_is_geometry)
        states, noises = shape.flatten_up_to(state), [shape.flatten_up_to(w) for w in white]
        kicks = []
        for i, (geometry, x) in enumerate(zip(leaves, states, strict=True)):
            own = tuple(noise[i] for noise in noises[: geometry.noise_terms])
            kicks.append(geometry.sqrt(x, own))
        return self._joined(kicks)

    def divergence(self, state):
        found = self._each("divergence", state)
        if all(part is None for part in found):
            return None
        leaves, shape = jax.tree.flatten(self.parts, is_leaf=_is_geometry)
        del leaves
        zeros = [jax.tree.map(lambda u: 0.0 * u, x) for x in shape.flatten_up_to(state)]
        return self._joined([z if f is None else f for f, z in zip(found, zeros, strict=True)])

    def retract(self, state, tangent):
        return self._joined(self._each("retract", state, tangent))

    def length_sq(self, state, tangent):
        return jnp.sum(jnp.stack(self._each("length_sq", state, tangent)))

    def log_volume(self, state):
        return jnp.sum(jnp.stack(self._each("log_volume", state)))

    def check(self, state):
        try:
            self._each("check", state)
        except ArgumentError:
            raise
        except ValueError as error:
            shape = jax.tree.structure(self.parts, is_leaf=_is_geometry)
            raise ArgumentError("geometry", shape, "a prefix of the state's pytree") from error

    def at(self, time):
        return Product(self._joined([g.at(time) for g in self.geometries]))

    @property
    def noise_terms(self):
        counts = {g.noise_terms for g in self.geometries}
        return max(counts) if min(counts) else 0

    @property
    def linear(self):
        return all(g.linear for g in self.geometries)

    @property
    def constant(self):
        return all(g.constant for g in self.geometries)

    @property
    def curved(self):
        return any(g.curved for g in self.geometries)

    @property
    def follows_volume(self):
        return any(g.follows_volume for g in self.geometries)

    @property
    def name(self):
        named = jax.tree_util.tree_flatten_with_path(self.parts, is_leaf=_is_geometry)[0]
        said = [f"{jax.tree_util.keystr(path, simple=True)}: {g.name}" for path, g in named]
        return f"Product({', '.join(said)})"


def _is_geometry(x: Any) -> bool:
    return isinstance(x, AbstractGeometry)
