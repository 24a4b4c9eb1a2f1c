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
    """Explicit Euler, order 1; weak order 1 with noise.

    The ledger's dissipation is the trapezoidal integral of the rate <dF, K dF>; with noise it is
    Sekimoto's heat, the Stratonovich integral -sum <(dF_k + dF_{k+1})/2, x_{k+1} - x_k>.
    """

    step: float

    def __check_init__(self):
        check_step(self.step)

    def init(self, flow, state, time, randomness):
        return flow.slope(state, time, randomness)

    def advance(self, flow, state, memory, time, step, randomness):
        covector, velocity = memory
        geometry = flow.parts[0].geometry.at(time)
        tangent = tree.scale(step, velocity)
        kick = flow.fluctuation(state, time, step, randomness) if flow.noisy else None
        if kick is not None:
            tangent = tree.add(tangent, kick)
        new = geometry.retract(state, tangent)
        memory = flow.slope(new, time + step, randomness)
        if flow.noisy:
            moved = displacement(state, new)
            mean = tree.scale(0.5, tree.add(covector, memory[0]))
            dissipated = -pairing(state, mean, moved)
        else:
            before, after = pairing(state, covector, velocity), pairing(new, *memory)
            dissipated = -0.5 * jnp.asarray(step, before.dtype) * (before + after)
        return new, memory, Entry(dissipated)

    def check(self, flow, state):
        if len({part.geometry.curved for part in flow.parts}) > 1:
            raise ArgumentError("flow", flow, "the parts of a sum must share one manifold")


def displacement(state, new):
    """x_new - x at the points, as a tangent of the state."""
    moved = tree.sub(points(new), points(state))
    return state.tangent(moved) if is_ensemble(state) else moved
