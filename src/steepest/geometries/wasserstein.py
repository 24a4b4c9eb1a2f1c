"""Transport geometry: the tangent of a measure is mass that moves (eq. 54, 56-58)."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.core import Tracer

from .. import tree
from ..errors import ArgumentError
from ..states import Density, Grid, Particles
from ..states.points import pairing
from .base import AbstractGeometry
from .cone import Sum
from .flat import Euclidean


class Wasserstein(AbstractGeometry):
    """K(rho) psi = -div(rho K grad psi): mass moves along its ground geometry (eq. 54, 58).

    psi = dF/drho is the first variation (eq. 57); particles follow x_i' = -K(x_i) grad psi(x_i).
    With `ground=Symplectic() + Friction(gamma)` it is the transport of kinetic (phase-space)
    dynamics.
    """

    ground: AbstractGeometry = Euclidean()

    def __check_init__(self):
        if not isinstance(self.ground, AbstractGeometry) or self.ground.on_measures:
            raise ArgumentError("ground", self.ground, "a geometry of one point, e.g. Euclidean()")
        if self.ground.adaptive:
            name = self.ground.name
            raise ArgumentError("ground", name, "a law has no moments of its own gradient")

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
        if not isinstance(state, Particles):
            return tree.add(state, tangent)
        moved = state.vmap(self.ground.retract)(state.positions, tangent.positions)
        return Particles(moved, state.log_weights, state.axis)

    def rate(self, state, covector, own, temperature=None):
        if own is covector and isinstance(state, Particles) and state.log_weights is None:
            # What conserves does no work: it is left out, and with it the force on a Phase.
            lossy = [term for term in self.ground.terms if term.dissipative]
            if not lossy:
                return jnp.zeros(state.count, tree.dtype(state.positions))
            if len(lossy) < len(self.ground.terms):
                ground = lossy[0] if len(lossy) == 1 else Sum(tuple(lossy))
                return pairing(state, covector, Wasserstein(ground).sharp(state, covector))
        return super().rate(state, covector, own, temperature)

    def length_sq(self, state, tangent):
        return state.average(state.vmap(self.ground.length_sq)(state.positions, tangent.positions))

    def log_volume(self, state):
        return state.vmap(self.ground.log_volume)(state.positions)

    def check(self, state):
        if not hasattr(state, "transport"):
            raise ArgumentError(
                "state", type(state).__name__, "Wasserstein moves measures; try Particles(...)"
            )
        if isinstance(state, Density):
            _check_on_grid(self.ground, state.grid)
        if not isinstance(state, Particles):
            return
        positions = state.turned(0).positions
        self.ground.check(jax.tree.map(lambda x: x[0], positions))
        if self.ground.curved and self.ground.follows_volume:
            self.ground.check(_furthest_off(self.ground, positions))

    def full_rate(self, state, variation):
        """integral rho <grad psi, K grad psi>, at which F falls (eq. 49)."""
        return state.expect(lambda x: self.ground.norm_sq(x, jax.grad(variation)(x)))

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
    def isothermal(self):
        return self.ground.isothermal

    @property
    def on_measures(self):
        return True

    @property
    def constant(self):
        return self.ground.constant

    @property
    def linear(self):
        return self.ground.linear

    @property
    def curved(self):
        return self.ground.curved

    @property
    def follows_volume(self):
        return self.ground.follows_volume

    @property
    def name(self):
        ground = "" if isinstance(self.ground, Euclidean) else self.ground.name
        return f"Wasserstein({ground})"


def _check_on_grid(ground: AbstractGeometry, grid: Grid) -> None:
    """Phase space where the ground is kinetic, and K without entries off the diagonal."""
    if ground.kinetic != grid.phase:
        remedy = "Grid(..., phase=True) has points (q, p)" if ground.kinetic else "phase=False"
        raise ArgumentError("grid", f"phase={grid.phase} under {ground.name}", remedy)
    if ground.curved:
        raise ArgumentError("ground", ground.name, "a grid is a flat box; use particles")
    if ground.kinetic or isinstance(ground, Euclidean):
        return
    centre = jnp.asarray([0.5 * (a + b) for a, b in zip(grid.lower, grid.upper, strict=True)])
    ground.check(centre)
    if grid.dimension == 1:
        return
    off = grid.evaluate(lambda x: jnp.max(jnp.abs(_off_diagonal(ground, x))))
    if not isinstance(off, Tracer) and float(jnp.max(off)) > 0:
        raise ArgumentError(
            "ground",
            f"{ground.name} with entries off the diagonal up to {float(jnp.max(off)):.3g}",
            "faces of a grid see the diagonal of K only: rotate the coordinates, or use particles",
        )


def _off_diagonal(ground: AbstractGeometry, x: Any) -> Any:
    matrix = jax.vmap(lambda unit: ground.sharp(x, unit))(jnp.eye(x.size, dtype=x.dtype))
    return matrix - jnp.diag(jnp.diagonal(matrix))


@eqx.filter_jit
def _furthest_off(ground: AbstractGeometry, positions: Any) -> Any:
    """The point that a step of length zero along a manifold moves most."""
    moved = jax.vmap(ground.retract)(positions, tree.zeros_like(positions))
    gap = tree.norm_sq(tree.sub(moved, positions), batch=0)
    worst = jnp.argmax(gap)  # NaN counts as the largest
    return jax.tree.map(lambda x: x[worst], positions)
