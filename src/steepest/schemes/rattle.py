"""RATTLE, the leapfrog of mechanics on a surface.

Source: Andersen, J. Comput. Phys. 52 (1983) 24.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from .. import tree
from ..errors import ArgumentError
from ..functionals import Hamiltonian
from ..geometries.holonomic import Holonomic
from ..roots import root
from ..states import Phase
from ..states.points import is_ensemble
from .pointwise import Pointwise


class Rattle(Pointwise):
    """Kick and drift with multipliers that end on g(q) = 0, then on G M^-1 p = 0, to round-off.

    For `Flow(Hamiltonian(E, mass), Holonomic(constraint, mass))`. Symplectic on the surface,
    reversible, order 2.
    """

    def one(self, flow: Any, x: Phase, time: Any, step: Any) -> tuple[Phase, Any]:
        part = flow.parts[0]
        surface, q, p = part.geometry, x.position, x.momentum
        force = lambda at, t: part.functional.at(t).potential.differential(at)  # noqa: E731
        kicked = tree.axpy(-0.5 * step, force(q, time), p)

        def pushed(multipliers: Any) -> tuple[Any, Any]:
            half = tree.add(kicked, surface.normal(q, multipliers))
            return tree.axpy(step, surface.lighten(q, half), q), half

        start = jnp.zeros_like(surface.level(q))
        # The size of a multiplier; round-off in g/step must not keep `root` from its end.
        noise = 100.0 * jnp.sqrt(jnp.finfo(start.dtype).eps * tree.norm_sq(q)) / step
        scale = jax.lax.stop_gradient(jnp.sqrt(tree.norm_sq(kicked)) + noise) + step
        found = root(lambda m: surface.level(pushed(m)[0]) / step, start, scale)
        q, half = pushed(found)
        p = tree.axpy(-0.5 * step, force(q, time + step), half)
        gram = jax.vmap(lambda e: surface.slide(Phase(q, surface.normal(q, e))), out_axes=1)(
            jnp.eye(start.size, dtype=start.dtype)
        )
        share = jnp.linalg.solve(gram, surface.slide(Phase(q, p)))
        p = tree.sub(p, surface.normal(q, share))
        return Phase(q, p), jnp.zeros((), tree.dtype(q))

    def check(self, flow, state):
        super().check(flow, state)
        geometry, functional = flow.parts[0].geometry, flow.parts[0].functional
        if is_ensemble(state):
            geometry, functional = geometry.ground, functional.energy
        if len(flow.parts) > 1 or not isinstance(geometry, Holonomic):
            raise ArgumentError("geometry", geometry.name, "Rattle needs Holonomic(constraint)")
        if not isinstance(functional, Hamiltonian):
            raise ArgumentError("functional", functional.name, "Rattle needs H = E(q) + |p|²/2m")

    @property
    def order(self):
        return 2
