"""Euler's method, and Euler-Maruyama with noise (eq. 33, 43, 51).

x+ = retract(x, -step K dF + temperature step div K + sqrt(2 temperature step) S xi)
"""

from __future__ import annotations

import jax.numpy as jnp

from .. import tree
from ..errors import ArgumentError
from ..states.points import is_ensemble, pairing, points
from .base import AbstractScheme, Entry, check_step


class Euler(AbstractScheme):
    """Explicit Euler, order 1; weak order 1 with noise (eq. 33, 43, 51, 64, 65).

    The ledger's dissipation is the trapezoidal integral of the rate <dF, K dF>; with noise it is
    Sekimoto's heat, the Stratonovich integral -sum <(dF_k + dF_{k+1})/2, x_{k+1} - x_k>.
    """

    step: float

    def __check_init__(self):
        check_step(self.step)

    def init(self, flow, state, time, randomness):
        covector, velocity = flow.slope(state, time, randomness)
        return covector, None if _cheap(flow) else velocity

    def slope(self, flow, state, memory, time):
        """(covector, velocity) at a state, from the memory."""
        covector, velocity = memory
        if velocity is None:
            velocity = flow.velocity_along(state, covector, time)
        return covector, velocity

    def advance(self, flow, state, memory, time, step, randomness):
        covector, velocity = self.slope(flow, state, memory, time)
        geometry = flow.parts[0].geometry.at(time)
        tangent = tree.scale(step, velocity)
        kick = flow.fluctuation(state, time, step, randomness) if flow.noisy else None
        if kick is not None:
            tangent = tree.add(tangent, kick)
        new = geometry.retract(state, tangent)
        memory = self.init(flow, new, time + step, randomness)
        if flow.noisy:
            moved = displacement(state, new)
            mean = tree.scale(0.5, tree.add(covector, memory[0]))
            dissipated = -pairing(state, mean, moved)
        else:
            before = pairing(state, covector, velocity)
            after = pairing(new, *self.slope(flow, new, memory, time + step))
            dissipated = -0.5 * jnp.asarray(step, before.dtype) * (before + after)
        return new, memory, Entry(dissipated)

    def stability(self, flow):
        # |1 - step rate| <= 1; what oscillates grows at any step.
        decays = all(p.geometry.dissipative and not p.geometry.kinetic for p in flow.parts)
        return 2.0 if decays else None

    def check(self, flow, state):
        if len({part.geometry.curved for part in flow.parts}) > 1:
            raise ArgumentError("flow", flow, "the parts of a sum must share one manifold")


def _cheap(flow):
    """Whether K is constant, so that the velocity need not be carried beside the covector."""
    return len(flow.parts) == 1 and flow.parts[0].geometry.constant


def displacement(state, new):
    """x_new - x at the points, as a tangent of the state."""
    moved = tree.sub(points(new), points(state))
    return state.tangent(moved) if is_ensemble(state) else moved
