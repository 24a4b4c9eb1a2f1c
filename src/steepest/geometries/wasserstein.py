"""Transport geometry: the tangent of a measure is mass that moves (eq. 54, 56-58)."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from .. import tree
from ..errors import ArgumentError
from ..states import Particles
from .base import AbstractGeometry
from .flat import Euclidean


class Wasserstein(AbstractGeometry):
    """Each particle moves along its ground geometry: x_i' = -K(x_i) grad psi(x_i) (eq. 58).

    psi = dF/drho is the first variation (eq. 57). With `ground=Symplectic() + Friction(gamma)` it
    is the transport of kinetic (phase-space) dynamics.
    """

    ground: AbstractGeometry = Euclidean()

    def __check_init__(self):
        if not isinstance(self.ground, AbstractGeometry) or self.ground.on_measures:
            raise ArgumentError("ground", self.ground, "a geometry of one point, e.g. Euclidean()")

    def sharp(self, state: Any, covector: Any) -> Any:
        return state.transport(covector, self.ground)

    def sqrt(self, state, white):
        inner = tuple(w.positions for w in white)
        return state.tangent(state.vmap(self.ground.sqrt)(state.positions, inner))

    def divergence(self, state):
        one = jax.tree.map(lambda x: x[0], state.turned(0).positions)
        if jax.eval_shape(self.ground.divergence, one) is None:
            return None
        return state.tangent(state.vmap(self.ground.divergence)(state.positions))

    def retract(self, state, tangent):
        moved = state.vmap(self.ground.retract)(state.positions, tangent.positions)
        return Particles(moved, state.log_weights, state.axis)

    def length_sq(self, state, tangent):
        return state.average(state.vmap(self.ground.length_sq)(state.positions, tangent.positions))

    def log_volume(self, state):
        return state.vmap(self.ground.log_volume)(state.positions)

    def check(self, state):
        if not hasattr(state, "transport"):
            raise ArgumentError(
                "state", type(state).__name__, "Wasserstein moves measures; try Particles(...)"
            )
        if not isinstance(state, Particles):
            return
        positions = state.turned(0).positions
        self.ground.check(jax.tree.map(lambda x: x[0], positions))
        if self.ground.curved:
            self.ground.check(_furthest_off(self.ground, positions))

    def at(self, time):
        return Wasserstein(self.ground.at(time))

    @property
    def noise_terms(self):
        return self.ground.noise_terms

    @property
    def dissipative(self):
        return self.ground.dissipative

    @property
    def conservative(self):
        return self.ground.conservative

    @property
    def kinetic(self):
        return self.ground.kinetic

    @property
    def on_measures(self):
        return True

    @property
    def constant(self):
        return self.ground.constant

    @property
    def curved(self):
        return self.ground.curved

    @property
    def name(self):
        ground = "" if isinstance(self.ground, Euclidean) else self.ground.name
        return f"Wasserstein({ground})"


@eqx.filter_jit
def _furthest_off(ground: AbstractGeometry, positions: Any) -> Any:
    """The point that a step of length zero along a manifold moves most."""
    moved = jax.vmap(ground.retract)(positions, tree.zeros_like(positions))
    gap = tree.norm_sq(tree.sub(moved, positions), batch=0)
    worst = jnp.argmax(gap)  # NaN counts as the largest
    return jax.tree.map(lambda x: x[worst], positions)
