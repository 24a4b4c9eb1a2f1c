"""Bregman geometry: the Hessian of a convex potential is the metric (eq. 62 and section 7.1).

    K(x) = Hess phi(x)^{-1},    the flow in mirror coordinates: d/dt grad phi(x) = -dF

Euler's step along it is the mirror step grad phi(x+) = grad phi(x) - step dF, that is mirror
descent: it never leaves the domain of phi. With thermal noise it is mirror Langevin dynamics, whose
stationary law is exp(-F/T) dx. Source: Nemirovsky and Yudin, 1983; Zhang, Peyre, Fadili and
Pereyra, COLT 2020 (with noise).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer

from ..errors import ArgumentError
from .base import AbstractGeometry
from .potentials import AbstractPotential, Entropy, HyperbolicEntropy, Potential, SimplexEntropy

NAMES = {
    "simplex": SimplexEntropy,
    "entropy": Entropy,
    "hyperbolic": HyperbolicEntropy,
}


class Bregman(AbstractGeometry):
    """Of a potential: `"simplex"`, `"entropy"`, `"hyperbolic"`, `PNorm(p)`, or a convex function.

    Every leaf of the state is one argument of the potential (on the simplex, its last axis).
    Raises ArgumentError for a state outside the domain, or a potential that is not convex there.
    """

    potential: AbstractPotential

    def __init__(self, potential: Any = "simplex"):
        if isinstance(potential, str):
            if potential not in NAMES:
                raise ArgumentError("potential", repr(potential), f"one of {sorted(NAMES)}")
            potential = NAMES[potential]()
        if not isinstance(potential, AbstractPotential):
            potential = Potential(potential)
        self.potential = potential

    def sharp(self, state, covector):
        return jax.tree.map(self.potential.metric_inverse, state, covector)

    def sqrt(self, state, white):
        return jax.tree.map(self.potential.root, state, white[0])

    def retract(self, state, tangent):
        return jax.tree.map(self.potential.move, state, tangent)

    def length_sq(self, state, tangent):
        leaf = lambda x, v: jnp.vdot(v, self.potential.metric(x, v))  # noqa: E731
        return jnp.sum(jnp.stack(jax.tree.leaves(jax.tree.map(leaf, state, tangent))))

    def check(self, state):
        for path, leaf in jax.tree_util.tree_flatten_with_path(state)[0]:
            if not isinstance(leaf, Tracer):
                self.potential.check(leaf, "state" + jax.tree_util.keystr(path))

    @property
    def curved(self):
        # The mirror step, not the straight one, brings the Ito drift T div K.
        return True

    @property
    def follows_volume(self):
        return False

    @property
    def name(self):
        return f"Bregman({self.potential.name})"
