"""Mechanics on a surface g(q) = 0: the Dirac bracket of its constraints (eq. 29).

Source: Dirac, Lectures on Quantum Mechanics (1964); Leimkuhler and Reich, Simulating Hamiltonian
Dynamics, chapter 7.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from .. import tree
from ..errors import ArgumentError
from ..states import Phase
from .kinetic import Symplectic


class Holonomic(Symplectic):
    """K of dq/dt = dH/dp, dp/dt = -dH/dq + G^T lambda, which keeps g(q) = 0 and G M^-1 p = 0.

    `constraint`: q -> array of m numbers, whose derivative G has full rank; `mass` as in the
    `Hamiltonian`: a number, or arrays that broadcast against q. The scheme `Rattle` stays on the
    surface to round-off. Raises ArgumentError for a start that is not on it.
    """

    constraint: Callable[[Any], Any]
    mass: Any = 1.0

    def level(self, q: Any) -> Float[Array, " m"]:
        """g(q), as a vector."""
        return jnp.ravel(jnp.asarray(self.constraint(q)))

    def lighten(self, q: Any, p: Any) -> Any:
        """M^-1 p."""
        mass = self.mass
        if jax.tree.structure(mass) == jax.tree.structure(0):
            mass = jax.tree.map(lambda _: self.mass, q)
        return jax.tree.map(lambda x, m: x / jnp.asarray(m, x.dtype), p, mass)

    def slide(self, state: Phase) -> Float[Array, " m"]:
        """G M^-1 p, the rate at which g changes."""
        q, p = state.position, state.momentum
        return jax.jvp(self.level, (q,), (self.lighten(q, p),))[1]

    def normal(self, q: Any, multipliers: Float[Array, " m"]) -> Any:
        """G(q)^T lambda."""
        return jax.vjp(self.level, q)[1](multipliers)[0]

    def sharp(self, state, covector):
        free = super().sharp(state, covector)
        flat, unravel = ravel_pytree(state)
        both = lambda x: jnp.concatenate(  # noqa: E731
            [self.level(unravel(x).position), self.slide(unravel(x))]
        )
        rows = jax.jacrev(both)(flat)
        # Columns J^T dphi, the motions that the constraints as Hamiltonians would make.
        turned = jax.vmap(
            lambda row: ravel_pytree(Symplectic.sharp(self, state, unravel(row)))[0], out_axes=1
        )(rows)
        share = jnp.linalg.solve(rows @ turned, rows @ ravel_pytree(free)[0])
        return tree.sub(free, unravel(turned @ share))

    def check(self, state):
        super().check(state)
        off = jnp.concatenate([self.level(state.position), self.slide(state)])
        if isinstance(off, Tracer):
            return
        size = float(jnp.max(jnp.abs(ravel_pytree(state)[0])))
        if not float(jnp.max(jnp.abs(off))) <= 1e4 * float(jnp.finfo(off.dtype).eps) * max(size, 1):
            raise ArgumentError(
                "state",
                f"constraint and its rate {[float(x) for x in off]}",
                "start on the surface, with a momentum along it",
            )

    @property
    def constant(self):
        return False
