"""Isokinetic dynamics: the force is projected so that the speed stays what it is.

    dq/dt = p,    dp/dt = -(1 - p p^T/|p|^2) grad E,        |p|^2 = (d - 1) temperature

Gauss's thermostat takes the power -p . grad E out of H = E + |p|^2/2, so H plus what it took is
conserved, not H. The law exp(-E/temperature) dq times the uniform one on the sphere of momenta is
invariant: the divergence on the sphere, (d - 1) p . grad E / |p|^2, is p . grad E / temperature.
Sources: Evans, Hoover, Failor, Moran and Ladd, Phys. Rev. A 28 (1983) 1016; Tuckerman, Mundy and
Martyna, Europhys. Lett. 45 (1999) 149; Robnik, De Luca, Silverstein and Seljak, JMLR 24 (2023) 311.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from .. import tree
from ..errors import ArgumentError
from ..states import Phase
from .kinetic import Symplectic


class Isokinetic(Symplectic):
    """Newton's equations on the sphere of momenta of the state that they start from.

    `Isokinetic.start` draws such a momentum. The temperature that its size stands for must be that
    of the noise, if there is any: `Isokinetic() + Friction(gamma)` turns the momentum at random.
    """

    def sharp(self, state, covector):
        p = state.momentum
        along = tree.dot(p, covector.position) / tree.norm_sq(p)
        force = tree.axpy(-along, p, covector.position)
        return Phase(tree.scale(-1.0, covector.momentum), force)

    def kick(self, momentum: Any, force: Any, duration: Any, batch: int | None) -> tuple[Any, Any]:
        """(momentum, energy taken by the thermostat) after `duration` under a constant force.

        With u = p/|p|, e = force/|force| and x = duration |force|/|p|:
        u+ ~ u + e (sinh x + (cosh x - 1) e.u), and the energy is |p|^2 log(cosh x + e.u sinh x).
        """
        size_sq = tree.norm_sq(momentum, batch)
        size, strength = jnp.sqrt(size_sq), jnp.sqrt(tree.norm_sq(force, batch))
        safe = jnp.where(strength > 0, strength, 1.0)
        along = tree.dot(momentum, force, batch) / (size * safe)
        x = duration * strength / size
        # All divided by e^x: cosh and sinh alone would overflow.
        small = jnp.exp(-2.0 * x)
        cosh, sinh = 0.5 * (1.0 + small), 0.5 * (1.0 - small)
        stretch = cosh + along * sinh
        gain = size / safe * (sinh + along * 0.5 * (1.0 - jnp.exp(-x)) ** 2) / stretch
        keep = jnp.exp(-x) / stretch

        def leaf(p: Any, f: Any) -> Any:
            wide = lambda v: _along(v, p, batch)  # noqa: E731
            return wide(keep) * p + wide(gain) * f

        new = jax.tree.map(leaf, momentum, force)
        # On the sphere again, against rounding.
        back = size / jnp.sqrt(tree.norm_sq(new, batch))
        new = jax.tree.map(lambda p: _along(back, p, batch) * p, new)
        return new, size_sq * (x + jnp.log(stretch))

    def settle_momentum(self, momentum: Any, old: Any, batch: int | None) -> Any:
        """`momentum` with the size of `old`."""
        ratio = jnp.sqrt(tree.norm_sq(old, batch) / tree.norm_sq(momentum, batch))
        return jax.tree.map(lambda p: _along(ratio, p, batch) * p, momentum)

    def check(self, state):
        super().check(state)
        d = tree.size(state.momentum)
        if d < 2:
            raise ArgumentError("state", f"dimension {d}", "isokinetic dynamics needs d >= 2")
        size = tree.norm_sq(state.momentum)
        if not isinstance(size, Tracer) and not float(size) > 0:
            raise ArgumentError("momentum", 0.0, "a momentum of size sqrt((d - 1) temperature)")

    @staticmethod
    def start(key: Any, position: Any, temperature: float = 1.0) -> Phase:
        """(q, p), p uniform on the sphere |p|^2 = (d - 1) temperature, for one position."""
        phase = Phase.thermal(key, position)
        size = np.sqrt((tree.size(phase.momentum) - 1) * temperature)
        scale = size / jnp.sqrt(tree.norm_sq(phase.momentum))
        return Phase(phase.position, tree.scale(scale, phase.momentum))

    @property
    def isothermal(self):
        return True

    @property
    def dissipative(self):
        return True

    @property
    def constant(self):
        return False


def _along(values: Any, leaf: Any, batch: int | None) -> Any:
    """A number per point, shaped to multiply a leaf."""
    if batch == 0:
        return values.reshape((-1,) + (1,) * (leaf.ndim - 1))
    return values
