"""Splittings of kinetic flows, spelled as words over three half-steps, each an exact flow.

    A  drift     dq = dH/dp dt           (the conservative geometry, position part)
    B  kick      dp = -dH/dq dt          (the conservative geometry, momentum part; under
                                          `Isokinetic` the projected force, exactly as well)
    O  bath      dp = -gamma p/m dt + sqrt(2 gamma temperature) dW, solved exactly (eq. 53)

`Leapfrog` is BAB, `BAOAB` and `OBABO` are themselves; a letter that occurs k times takes step/k,
unless fractions of the step are given, as the schemes of order 4 and 6 do (`symplectic.py`).
Sources: Leimkuhler and Matthews, Appl. Math. Res. Express 2013, 34; Bussi and Parrinello, Phys.
Rev. E 75 (2007) 056707.
"""

from __future__ import annotations

import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from .. import tree
from ..errors import ArgumentError
from ..functionals import ExpectedEnergy, Hamiltonian
from ..geometries import Friction, Isokinetic, Wasserstein
from ..geometries.cone import Scaled, Sum
from ..noise import Diffusion
from ..states import Phase
from ..states.points import batch_axis, is_ensemble, is_law, points, with_points
from .base import AbstractScheme, Entry, check_step


class Splitting(AbstractScheme):
    """The splitting spelled by `word`, e.g. "BAOAB".

    Second order for palindromes. The ledger's dissipation is the kinetic energy that O gives to the
    bath, exactly; the residual of the balance is the shadow work of A and B, of order step^2.
    `fractions`: of the step, one for each letter; `accuracy`: the order that they reach.
    """

    step: float
    word: str = eqx.field(static=True)
    fractions: tuple[float, ...] | None = eqx.field(static=True, default=None)
    accuracy: int | None = eqx.field(static=True, default=None)

    def __check_init__(self):
        check_step(self.step)
        if not self.word or set(self.word) - set("ABO") or not {"A", "B"} <= set(self.word):
            raise ArgumentError("word", repr(self.word), "letters A, B, O with at least A and B")
        if self.fractions is None:
            return
        if len(self.fractions) != len(self.word):
            given = f"{len(self.fractions)} numbers"
            raise ArgumentError("fractions", given, f"one for each letter of {self.word}")
        for letter in set(self.word):
            whole = sum(
                f for f, other in zip(self.fractions, self.word, strict=True) if other == letter
            )
            if abs(whole - 1.0) > 1e-12:
                raise ArgumentError("fractions", self.fractions, f"those of {letter} add to 1")

    def init(self, flow, state, time, randomness):
        return _slope(flow, state, time, randomness) if self._kicks_first else None

    @property
    def _kicks_first(self) -> bool:
        """Whether the slope at the end of a step serves the next one."""
        return self.word.replace("O", "")[0] == "B"

    def advance(self, flow, state, memory, time, step, randomness):
        ensemble = is_ensemble(state)
        bath = Bath.of(flow, time)
        slope: Any = memory
        dissipated = jnp.zeros((state.count,) if ensemble else (), tree.dtype(points(state)))
        now = time
        for index, letter in enumerate(self.word):
            if self.fractions is None:
                duration = step / self.word.count(letter)
            else:
                duration = step * self.fractions[index]
            if letter == "A":
                state, slope = drift(flow, state, time, duration), None
                now = now + duration
            elif letter == "B":
                if slope is None:
                    slope = _slope(flow, state, now, randomness)
                state, taken = _kick(flow, state, slope, duration)
                dissipated = dissipated + taken
            else:
                state, heat = bath.relax(state, duration, randomness, stream=index)
                dissipated = dissipated + heat
        if not self._kicks_first:
            slope = None
        elif slope is None:
            slope = _slope(flow, state, time + step, randomness)
        return state, slope, Entry(dissipated)

    def check(self, flow, state):
        check_kinetic(self, flow, state)
        part = flow.parts[0]
        _check_speed(part, state)
        friction = friction_of(part.geometry.at(0.0))
        if "O" not in self.word and (friction is not None or part.thermal is not None):
            raise ArgumentError(
                "scheme", self.name, "this flow has friction: use BAOAB(step) or OBABO(step)"
            )

    def stability(self, flow):
        del flow
        return _oscillator_limit(self.word, self.fractions)

    @property
    def order(self):
        if self.accuracy is not None:
            return self.accuracy
        return 2 if self.word == self.word[::-1] else 1

    @property
    def symplectic(self):
        return True

    @property
    def name(self):
        order = "" if self.accuracy is None else f" of order {self.accuracy}"
        return f"{self.word}({self.step:g}){order}"


@functools.cache
def _oscillator_limit(word: str, fractions: tuple[float, ...] | None) -> float:
    """The step * frequency from which a harmonic oscillator grows under A and B.

    A word's map has determinant 1, so that it is stable while its trace is between -2 and 2.
    """
    if fractions is None:
        fractions = tuple(1.0 / word.count(letter) for letter in word)
    moves = [(x, f) for x, f in zip(word, fractions, strict=True) if x != "O"]

    def excess(step: float) -> float:
        total = np.eye(2)
        for letter, fraction in moves:
            here = np.eye(2)
            here[(0, 1) if letter == "A" else (1, 0)] = (
                step * fraction * (1 if letter == "A" else -1)
            )
            total = here @ total
        return abs(float(np.trace(total))) - 2.0

    steps = np.arange(1, 2001) * 0.005
    first = next((float(s) for s in steps if excess(float(s)) > 1e-9), float("inf"))
    low, high = first - 0.005, first
    for _ in range(40 if first < float("inf") else 0):
        middle = 0.5 * (low + high)
        low, high = (low, middle) if excess(middle) > 1e-12 else (middle, high)
    return high


def Leapfrog(step: float) -> Splitting:  # noqa: N802
    """BAB (velocity Verlet) for conservative kinetic flows: symplectic, reversible, order 2."""
    return Splitting(step, "BAB")


def BAOAB(step: float) -> Splitting:  # noqa: N802
    """BAOAB for kinetic flows with friction: order 2, and exact in position for quadratics."""
    return Splitting(step, "BAOAB")


def OBABO(step: float) -> Splitting:  # noqa: N802
    """OBABO for kinetic flows with friction: order 2; its inner BAB is what `Metropolis` tests."""
    return Splitting(step, "OBABO")


class Bath(eqx.Module):
    """Friction and noise on the momentum, solved exactly over any duration."""

    friction: Any
    temperature: Any
    hamiltonian: Hamiltonian
    thermostat: Isokinetic | None
    increments: str = eqx.field(static=True)

    @classmethod
    def of(cls, flow: Any, time: Any) -> Bath:
        """The bath of a kinetic flow at `time`."""
        part = flow.parts[0]
        thermal = part.thermal
        return cls(
            friction_of(part.geometry.at(time)),
            part.temperature(time),
            hamiltonian(part.functional),
            _thermostat(part.geometry),
            "normal" if thermal is None else thermal.increments,
        )

    def relax(self, state: Any, duration: Any, randomness: Any, stream: int) -> tuple[Any, Any]:
        """p+ = c p + sqrt(m T (1 - c^2)) xi, c = exp(-gamma duration / m), and the heat given.

        Under a thermostat p+ is brought back to the size of p: a random rotation.
        """
        batch = batch_axis(state)
        momentum = points(state).momentum
        if self.friction is None:
            return state, 0.0
        mass = self.hamiltonian.masses(momentum, batch)
        rate = jax.tree.map(lambda m: -self.friction * duration / m, mass)
        new = jax.tree.map(lambda p, r: jnp.exp(r).astype(p.dtype) * p, momentum, rate)
        if self.temperature is not None:
            white = randomness.like(momentum, self.increments, stream, batch or 0)
            new = jax.tree.map(
                lambda p, r, m, w: (
                    p + jnp.sqrt(-m * self.temperature * jnp.expm1(2 * r)).astype(p.dtype) * w
                ),
                new,
                rate,
                mass,
                white,
            )
        if self.thermostat is not None:
            new = self.thermostat.settle_momentum(new, momentum, batch)
        # (p - p+)(p + p+)/2m: the difference of kinetic energies without their cancellation.
        mean = self.hamiltonian.velocity(tree.add(momentum, new), batch)
        heat = 0.5 * tree.dot(tree.sub(momentum, new), mean, batch)
        return with_points(state, Phase(points(state).position, new)), heat


def drift(flow: Any, state: Any, time: Any, duration: Any) -> Any:
    """A: the position moves along dH/dp for `duration`."""
    phase = points(state)
    raised = points(_raised(flow, state, time, None))
    return with_points(
        state, Phase(tree.axpy(-duration, raised.position, phase.position), phase.momentum)
    )


def _kick(flow: Any, state: Any, slope: Any, duration: Any) -> tuple[Any, Any]:
    """B: (state, energy that a thermostat took)."""
    phase, thermostat = points(state), _thermostat(flow.parts[0].geometry)
    if thermostat is None:
        new, taken = tree.axpy(-duration, slope, phase.momentum), 0.0
    else:
        force = tree.scale(-1.0, slope)
        new, taken = thermostat.kick(phase.momentum, force, duration, batch_axis(state))
    return with_points(state, Phase(phase.position, new)), taken


def _slope(flow: Any, state: Any, time: Any, randomness: Any) -> Any:
    """dH/dq, which steps hand on: its negative is computed twice in XLA's loops on a CPU."""
    if _thermostat(flow.parts[0].geometry) is not None:
        covector = flow.parts[0].covector(state, time, randomness)
        slope = state.potential_gradient(covector) if is_ensemble(state) else covector
        return slope.position
    return points(_raised(flow, state, time, randomness)).momentum


def _raised(flow: Any, state: Any, time: Any, randomness: Any) -> Any:
    """K dH of the conservative K; what is not used of it is never computed."""
    part = flow.parts[0]
    covector = part.covector(state, time, randomness)
    return _conservative(part.geometry.at(time)).sharp(state, covector)


def _conservative(geometry: Any) -> Any:
    """The terms of a kinetic geometry without friction."""
    ground = _ground(geometry)
    kept = [term for term in ground.terms if term.conservative]
    found = kept[0] if len(kept) == 1 else Sum(tuple(kept))
    return found if ground is geometry else Wasserstein(found)


def _ground(geometry: Any) -> Any:
    """What moves the points: of a Wasserstein(K) it is a K, otherwise the geometry itself."""
    if isinstance(geometry, Scaled) and _ground(geometry.part) is not geometry.part:
        return _ground(geometry.part) * geometry.factor
    return geometry.ground if isinstance(geometry, Wasserstein) else geometry


def _thermostat(geometry: Any) -> Isokinetic | None:
    """The isokinetic term of a kinetic geometry, if it has one."""
    return next((term for term in _ground(geometry).terms if isinstance(term, Isokinetic)), None)


def _check_speed(part: Any, state: Any) -> None:
    """Raises ArgumentError unless isokinetic momenta have the size that the noise stands for."""
    if not part.geometry.isothermal:
        return
    ground = _ground(part.geometry)
    conservative = [term for term in ground.terms if term.conservative]
    if len(conservative) != 1 or not isinstance(conservative[0], Isokinetic):
        raise ArgumentError("geometry", ground.name, "Isokinetic() once, unscaled, by itself")
    mass = hamiltonian(part.functional).mass
    if not (isinstance(mass, (int, float)) and mass == 1):
        raise ArgumentError("mass", mass, "isokinetic dynamics has mass 1: scale the coordinates")
    momentum = points(state).momentum
    if part.thermal is None or any(isinstance(x, Tracer) for x in jax.tree.leaves(momentum)):
        return
    batch = batch_axis(state)
    size = tree.norm_sq(momentum, batch)
    count = tree.size(momentum) / jnp.size(size)
    temperature = size / (count - 1)
    off = float(jnp.max(jnp.abs(temperature - part.temperature(0.0))))
    if not off <= 1e-3 * float(part.temperature(0.0)):
        given = f"{float(temperature.ravel()[0]):.4g} by the size of the momenta"
        raise ArgumentError("temperature", given, "start from Isokinetic.start(key, position, T)")


def friction_of(geometry: Any) -> Any | None:
    """The total friction coefficient of a kinetic geometry, None without friction."""
    total = None
    for term in _ground(geometry).terms:
        factor = 1.0
        while isinstance(term, Scaled):
            factor, term = factor * term.factor, term.part
        if isinstance(term, Friction):
            total = factor * term.gamma if total is None else total + factor * term.gamma
    return total


def hamiltonian(functional: Any) -> Hamiltonian:
    """The Hamiltonian inside a kinetic functional of a point or of particles."""
    parts = getattr(functional, "parts", (functional,))
    energies = [part.energy if isinstance(part, ExpectedEnergy) else part for part in parts]
    found = next((energy for energy in energies if isinstance(energy, Hamiltonian)), None)
    if found is None:
        raise ArgumentError(
            "functional", functional.name, "a splitting needs H(q, p) = E(q) + |p|²/2"
        )
    return found


def check_kinetic(scheme: Any, flow: Any, state: Any) -> None:
    """Raises ArgumentError unless the flow is a single separable kinetic flow."""
    if len(flow.parts) != 1:
        raise ArgumentError("flow", str(flow), f"{scheme.name} advances a single flow")
    part = flow.parts[0]
    if is_law(state):
        name = type(state).__name__
        raise ArgumentError("state", name, f"{scheme.name} moves points; of a law use RungeKutta()")
    if not part.geometry.kinetic or not part.geometry.conservative:
        raise ArgumentError(
            "scheme",
            scheme.name,
            f"{part.geometry.name} is not kinetic; use Euler(step), or the geometry "
            "Symplectic() + Friction(gamma) on a Phase",
        )
    if part.noise is not None and any(isinstance(t, Diffusion) for t in part.noise.terms):
        raise ArgumentError("noise", part.noise.name, f"{scheme.name} takes Thermal noise only")
    hamiltonian(part.functional)
