"""Closed systems that make entropy: an energy that is kept, and its friction (eq. 29, 40).

Each is a `Metriplectic` flow of (positions, momenta, entropies), its generators by hand. Source:
Öttinger, Beyond Equilibrium Thermodynamics (2005), section 1.2.2 for the two containers.
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from .mechanics import _positive
from .problem import Problem


class _Bath(eqx.Module):
    """A body on a spring that rubs against a bath of heat capacity C: temperature exp(s/C)."""

    mass: Float[Array, ""]
    stiffness: Float[Array, ""]
    rubbing: Float[Array, ""]
    capacity: Float[Array, ""]

    def energy(self, x: Any) -> Any:
        q, p, s = x["state"]
        heat = self.capacity * jnp.exp(s / self.capacity)
        return p**2 / (2 * self.mass) + 0.5 * self.stiffness * q**2 + heat

    def entropy(self, x: Any) -> Any:
        return x["state"][2]

    def friction(self, x: Any) -> Any:
        # What the body loses by rubbing, p/m a unit of momentum, the bath gains as heat.
        _, p, s = x["state"]
        warm = jnp.exp(s / self.capacity)
        w = jnp.stack([jnp.zeros_like(p), jnp.ones_like(p), -p / (self.mass * warm)])
        return self.rubbing * warm * jnp.outer(w, w)


class _Gases(eqx.Module):
    """A piston between two ideal gases that share a volume of 2; U = V^(-2/3) exp(2 s/3)."""

    leak: Float[Array, ""]

    def heats(self, x: Any) -> tuple[Any, Any]:
        q, _, left, right = x["state"]
        of = lambda s, volume: volume ** (-2 / 3) * jnp.exp(2 * s / 3)  # noqa: E731
        return of(left, q), of(right, 2.0 - q)

    def energy(self, x: Any) -> Any:
        left, right = self.heats(x)
        return 0.5 * x["state"][1] ** 2 + left + right

    def entropy(self, x: Any) -> Any:
        return x["state"][2] + x["state"][3]

    def friction(self, x: Any) -> Any:
        # 1/T = 3/(2 U) of each: heat flows, the momentum feels nothing.
        left, right = self.heats(x)
        w = jnp.stack([jnp.zeros_like(left), jnp.zeros_like(left), 1.5 / left, -1.5 / right])
        return self.leak * jnp.outer(w, w)


def _turning(x: Any) -> Any:
    """Hamilton's equations of the first two coordinates."""
    zero = jnp.zeros((x["state"].size,) * 2, x["state"].dtype)
    return zero.at[0, 1].set(1.0).at[1, 0].set(-1.0)


def heat_bath(
    position: float = 1.0,
    mass: float = 1.0,
    stiffness: float = 2.0,
    rubbing: float = 0.4,
    capacity: float = 3.0,
    *,
    dtype: Any = jnp.float32,
) -> Problem:
    """A body on a spring that warms what it rubs against, from rest; all its energy ends as heat.

    dq = p/m, dp = -k q - r p/m, ds = r (p/m)^2 / temperature, for a bath of temperature exp(s/C).
    """
    _positive(mass=mass, stiffness=stiffness, rubbing=rubbing, capacity=capacity)
    system = _Bath(*(jnp.asarray(a, dtype) for a in (mass, stiffness, rubbing, capacity)))
    start = jnp.asarray([position, 0.0, 0.0], dtype)
    return _closed(system, start, ("position", "momentum", "entropy of the bath"))


def gas_containers(
    momentum: float = 2.0, leak: float = 0.5, *, dtype: Any = jnp.float32
) -> Problem:
    """A piston of mass 1, pushed, between two gases that exchange heat through it.

    `leak`: the heat that flows, in units of the difference of 1/temperature.
    """
    _positive(leak=leak)
    system = _Gases(jnp.asarray(leak, dtype))
    start = jnp.asarray([1.0, momentum, 0.1, 0.9], dtype)
    return _closed(system, start, ("position", "momentum", "left entropy", "right entropy"))


def _closed(system: Any, start: Any, names: tuple[str, ...]) -> Problem:
    from ..mechanics import Metriplectic

    flow = Metriplectic(system.energy, system.entropy, _turning, system.friction)
    coords = {"part": names}
    return Problem(flow.functional, {"state": start}, {"state": ("part",)}, coords, flow=flow)
