"""Mechanical systems: an energy on phase space, a start, what is kept, how it looks (eq. 29)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..errors import ArgumentError
from ..flow import Flow
from ..functionals import Energy, Hamiltonian, PhaseEnergy
from ..geometries import Holonomic
from .problem import Problem


class _Pendulum(eqx.Module):
    """V = m g l (1 - cos angle)."""

    weight: Float[Array, ""]

    def __call__(self, q: Any) -> Any:
        return self.weight * (1.0 - jnp.cos(q["angle"][0]))


class _DoublePendulum(eqx.Module):
    """H of two bobs, the kinetic energy p . M(angles)^-1 p / 2 by hand."""

    masses: Float[Array, "2"]
    lengths: Float[Array, "2"]
    gravity: Float[Array, ""]

    def __call__(self, q: Any, p: Any) -> Any:
        (a, b), (u, w) = q["angle"], p["angle"]
        (m1, m2), (l1, l2), g = self.masses, self.lengths, self.gravity
        c, s = jnp.cos(a - b), jnp.sin(a - b)
        top = m2 * (l2 * u) ** 2 + (m1 + m2) * (l1 * w) ** 2 - 2.0 * m2 * l1 * l2 * u * w * c
        kinetic = 0.5 * top / (m2 * (l1 * l2) ** 2 * (m1 + m2 * s**2))
        height = (m1 + m2) * l1 * (1.0 - jnp.cos(a)) + m2 * l2 * (1.0 - jnp.cos(b))
        return kinetic + g * height


class _Kepler(eqx.Module):
    """V = -1/|q|, undefined within the radius at which bodies collide."""

    radius: Float[Array, ""]

    def __call__(self, q: Any) -> Any:
        square = jnp.sum(q["q"] ** 2)
        # NaN, not infinity: the run then stops there, with the time and the last good state.
        return jnp.where(square > self.radius**2, -1.0 / jnp.sqrt(square), jnp.nan)


class _Height(eqx.Module):
    """V = m g z."""

    weight: Float[Array, ""]

    def __call__(self, q: Any) -> Any:
        return self.weight * q["q"][2]


class _Rod(eqx.Module):
    """(|q|^2 - length^2)/2, zero on the sphere."""

    length: Float[Array, ""]

    def __call__(self, q: Any) -> Any:
        return 0.5 * (jnp.sum(q["q"] ** 2) - self.length**2)


def _henon_heiles(q: Any) -> Any:
    x, y = q["q"]
    return 0.5 * (x**2 + y**2) + x**2 * y - y**3 / 3.0


class _Chain(eqx.Module):
    """V = sum over springs of k d^2/2 + alpha d^3/3, d their extensions; the ends are free."""

    stiffness: Float[Array, ""]
    cubic: Float[Array, ""]

    def __call__(self, q: Any) -> Any:
        d = q["q"][1:] - q["q"][:-1]
        return jnp.sum(0.5 * self.stiffness * d**2 + self.cubic * d**3 / 3.0)


def pendulum(
    angle: float = 2.0,
    speed: float = 0.0,
    length: float = 1.0,
    mass: float = 1.0,
    gravity: float = 9.81,
    *,
    dtype: Any = jnp.float32,
) -> Problem:
    """One bob on a rod, H = p^2 / (2 m l^2) + m g l (1 - cos angle)."""
    _positive(length=length, mass=mass, gravity=gravity)
    inertia = mass * length**2
    energy = Energy(_Pendulum(jnp.asarray(mass * gravity * length, dtype)))

    def look(q: Any) -> Array:
        a = q["angle"][0]
        return jnp.stack([jnp.zeros(2, dtype), length * jnp.stack([jnp.sin(a), -jnp.cos(a)])])

    return Problem(
        Hamiltonian(energy, inertia),
        {"angle": jnp.asarray([angle], dtype)},
        {"angle": ("bob",)},
        {"bob": ("angle",)},
        momentum={"angle": jnp.asarray([inertia * speed], dtype)},
        look=look,
    )


def double_pendulum(
    angles: Sequence[float] = (2.0, 2.5),
    lengths: Sequence[float] = (1.0, 1.0),
    masses: Sequence[float] = (1.0, 1.0),
    gravity: float = 9.81,
    *,
    dtype: Any = jnp.float32,
) -> Problem:
    """Two bobs, one hanging from the other, from rest: chaotic at large angles."""
    for name, values in (("angles", angles), ("lengths", lengths), ("masses", masses)):
        if len(values) != 2 or (name != "angles" and min(values) <= 0):
            raise ArgumentError(name, list(values), "two numbers, lengths and masses positive")
    _positive(gravity=gravity)
    l1, l2 = lengths
    energy = _DoublePendulum(
        jnp.asarray(masses, dtype), jnp.asarray(lengths, dtype), jnp.asarray(gravity, dtype)
    )

    def look(q: Any) -> Array:
        a, b = q["angle"]
        elbow = l1 * jnp.stack([jnp.sin(a), -jnp.cos(a)])
        hand = elbow + l2 * jnp.stack([jnp.sin(b), -jnp.cos(b)])
        return jnp.stack([jnp.zeros(2, dtype), elbow, hand])

    return Problem(
        PhaseEnergy(energy),
        {"angle": jnp.asarray(angles, dtype)},
        {"angle": ("bob",)},
        {"bob": ("angle 1", "angle 2")},
        momentum={"angle": jnp.zeros(2, dtype)},
        look=look,
    )


def spherical_pendulum(
    angle: float = 1.0,
    speed: float = 2.0,
    length: float = 1.0,
    mass: float = 1.0,
    gravity: float = 9.81,
    *,
    dtype: Any = jnp.float32,
) -> Problem:
    """One bob on a rod that may swing in all directions, in x, y, z under |q| = length (eq. 29).

    It starts at `angle` from the lowest point, moving sideways. Its flow is that of `Holonomic`, to
    be run by `Rattle`; the ledger follows the vertical angular momentum.
    """
    _positive(length=length, mass=mass, gravity=gravity)
    start = length * jnp.asarray([math.sin(angle), 0.0, -math.cos(angle)], dtype)
    rod = _Rod(jnp.asarray(length, dtype))
    energy = Hamiltonian(Energy(_Height(jnp.asarray(mass * gravity, dtype))), mass)
    return Problem(
        energy,
        {"q": start},
        {"q": ("axis",)},
        {"axis": ("x", "y", "z")},
        momentum={"q": jnp.asarray([0.0, mass * speed, 0.0], dtype)},
        invariants={"vertical angular momentum": _turning},
        look=lambda q: jnp.stack([jnp.zeros(2, dtype), q["q"][:2]]),
        flow=Flow(energy, Holonomic(rod, mass)),
    )


def kepler(
    eccentricity: float = 0.6, collision: float = 1e-3, *, dtype: Any = jnp.float32
) -> Problem:
    """A planet of semi-axis 1 and period 2 pi about a fixed sun, from its perihelion.

    Within `collision` of the sun the energy is not a number, so that a run stops there. The ledger
    follows the angular momentum.
    """
    if not 0 <= eccentricity < 1:
        raise ArgumentError("eccentricity", eccentricity, "0 <= eccentricity < 1")
    _positive(collision=collision)
    e = eccentricity
    return Problem(
        Energy(_Kepler(jnp.asarray(collision, dtype))),
        {"q": jnp.asarray([1.0 - e, 0.0], dtype)},
        {"q": ("axis",)},
        {"axis": ("x", "y")},
        momentum={"q": jnp.asarray([0.0, ((1.0 + e) / (1.0 - e)) ** 0.5], dtype)},
        invariants={"angular momentum": _turning},
        look=lambda q: jnp.stack([jnp.zeros(2, dtype), q["q"]]),
    )


def henon_heiles(energy: float = 0.125, *, dtype: Any = jnp.float32) -> Problem:
    """A star in a galaxy: two oscillators coupled by x^2 y - y^3/3, at an energy below 1/6.

    It starts at x = 0, y = 0.1, moving along x. Source: Hénon and Heiles, Astron. J. 69 (1964) 73.
    """
    if not 0.005 <= energy < 1 / 6:
        raise ArgumentError("energy", energy, "0.005 <= energy < 1/6, inside the escape energy")
    y = 0.1
    speed = (2.0 * (energy - 0.5 * y**2 + y**3 / 3.0)) ** 0.5
    return Problem(
        Energy(_henon_heiles),
        {"q": jnp.asarray([0.0, y], dtype)},
        {"q": ("axis",)},
        {"axis": ("x", "y")},
        momentum={"q": jnp.asarray([speed, 0.0], dtype)},
    )


def spring_chain(
    count: int = 16, stiffness: float = 1.0, cubic: float = 0.25, *, dtype: Any = jnp.float32
) -> Problem:
    """Unit masses in a row, springs between neighbours, the first mass kicked.

    `cubic` makes the springs stiffer where they are stretched (Fermi, Pasta, Ulam, Tsingou). The
    ends are free, so that the ledger follows the total momentum.
    """
    if count < 2:
        raise ArgumentError("count", count, "an integer >= 2")
    _positive(stiffness=stiffness)
    zero = jnp.zeros(count, dtype)
    names = tuple(f"mass {i + 1}" for i in range(count))
    return Problem(
        Energy(_Chain(jnp.asarray(stiffness, dtype), jnp.asarray(cubic, dtype))),
        {"q": zero},
        {"q": ("mass",)},
        {"mass": names},
        momentum={"q": zero.at[0].set(1.0)},
        invariants={"total momentum": _total},
        look=lambda q: jnp.stack([jnp.arange(count, dtype=dtype) + q["q"], zero], axis=1),
    )


def _turning(state: Any) -> Any:
    """Angular momentum about the axis of x and y."""
    q, p = state.position["q"], state.momentum["q"]
    return q[0] * p[1] - q[1] * p[0]


def _total(state: Any) -> Any:
    """Momentum of all masses together."""
    return jnp.sum(state.momentum["q"])


def _positive(**values: float) -> None:
    for name, value in values.items():
        if not value > 0:
            raise ArgumentError(name, value, "a positive number")
