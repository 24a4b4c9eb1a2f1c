"""The cone of geometries: sums and multiples, `g + h` and `a * g` for a >= 0 (eq. 38-40).

A factor may be a schedule, a function of time.
"""

from __future__ import annotations

import math
from typing import Any

import equinox as eqx
import jax.numpy as jnp

from .. import tree
from ..dials import check_dial
from ..errors import ArgumentError
from .base import AbstractGeometry


class Sum(AbstractGeometry):
    """K_1 + ... + K_k: velocities add, and so do independent noises."""

    parts: tuple[AbstractGeometry, ...]

    def __check_init__(self):
        for kind in ("on_measures", "kinetic"):
            if len({getattr(part, kind) for part in self.parts}) > 1:
                names = " + ".join(part.name for part in self.parts)
                raise ArgumentError(
                    "geometry", names, "the terms of a sum must act on the same kind of state"
                )
        if sum(part.curved for part in self.parts) and len(self.parts) > 1:
            raise ArgumentError(
                "geometry",
                " + ".join(part.name for part in self.parts),
                "a manifold cannot be added to another geometry: they retract differently",
            )

    def sharp(self, state, covector):
        tangents = [part.sharp(state, covector) for part in self.parts]
        total = tangents[0]
        for tangent in tangents[1:]:
            total = tree.add(total, tangent)
        return total

    def sqrt(self, state, white):
        total, used = None, 0
        for part in self.parts:
            count = part.noise_terms
            if count:
                kick = part.sqrt(state, white[used : used + count])
                total = kick if total is None else tree.add(total, kick)
                used += count
        return total

    def divergence(self, state):
        found = [d for d in (part.divergence(state) for part in self.parts) if d is not None]
        if not found:
            return None
        total = found[0]
        for part in found[1:]:
            total = tree.add(total, part)
        return total

    def rate(self, state, covector, own, temperature=None):
        rates = [part.rate(state, covector, own, temperature) for part in self.parts]
        return sum(rates[1:], rates[0])

    def full_rate(self, state, variation):
        rates = [part.full_rate(state, variation) for part in self.parts]
        known = [rate for rate in rates if rate is not None]
        return sum(known[1:], known[0]) if len(known) == len(rates) else None

    def check(self, state):
        for part in self.parts:
            part.check(state)

    def at(self, time):
        return Sum(tuple(part.at(time) for part in self.parts))

    def between(self, start, end):
        return Sum(tuple(part.between(start, end) for part in self.parts))

    def __mul__(self, factor: Any) -> AbstractGeometry:
        return Sum(tuple(part * factor for part in self.parts))  # so that each term is seen

    __rmul__ = __mul__

    @property
    def terms(self):
        return self.parts

    @property
    def noise_terms(self):
        return sum(part.noise_terms for part in self.parts)

    @property
    def repulsive(self):
        return any(part.repulsive for part in self.parts)

    @property
    def dissipative(self):
        return any(part.dissipative for part in self.parts)

    @property
    def conservative(self):
        return any(part.conservative for part in self.parts)

    @property
    def kinetic(self):
        return self.parts[0].kinetic

    @property
    def isothermal(self):
        return any(part.isothermal for part in self.parts)

    @property
    def on_measures(self):
        return self.parts[0].on_measures

    @property
    def constant(self):
        return all(part.constant for part in self.parts)

    @property
    def linear(self):
        return all(part.linear for part in self.parts)

    @property
    def name(self):
        return " + ".join(part.name for part in self.parts)


class Scaled(AbstractGeometry):
    """a K for a >= 0: the same directions, a faster or slower clock.

    `factor`: a number, or a schedule of flow time; a flow then meets it frozen at each time.
    """

    part: AbstractGeometry
    factor: Any

    def __check_init__(self):
        check_dial("factor", self.factor, "a geometry is scaled by a finite a >= 0")

    def sharp(self, state, covector):
        return tree.scale(self.factor, self.part.sharp(state, covector))

    def sqrt(self, state, white):
        return tree.scale(jnp.sqrt(self.factor), self.part.sqrt(state, white))

    def divergence(self, state):
        inner = self.part.divergence(state)
        return None if inner is None else tree.scale(self.factor, inner)

    def drift(self, state, covector, temperature=None):
        return tree.scale(self.factor, self.part.drift(state, covector, temperature))

    def retract(self, state, tangent):
        return self.part.retract(state, tangent)

    def length_sq(self, state, tangent):
        return self.part.length_sq(state, tangent) / self.factor

    def log_volume(self, state):
        return self.part.log_volume(state)

    def rate(self, state, covector, own, temperature=None):
        return self.factor * self.part.rate(state, covector, own, temperature)

    def full_rate(self, state, variation):
        rate = self.part.full_rate(state, variation)
        return None if rate is None else self.factor * rate

    def check(self, state):
        self.part.check(state)

    def at(self, time):
        factor = self.factor(time) if callable(self.factor) else self.factor
        return Scaled(self.part.at(time), factor)

    def between(self, start, end):
        return Scaled(self.part.between(start, end), self.factor)

    @property
    def noise_terms(self):
        return self.part.noise_terms

    @property
    def repulsive(self):
        return self.part.repulsive

    @property
    def dissipative(self):
        return self.part.dissipative

    @property
    def conservative(self):
        return self.part.conservative

    @property
    def kinetic(self):
        return self.part.kinetic

    @property
    def isothermal(self):
        return self.part.isothermal

    @property
    def on_measures(self):
        return self.part.on_measures

    @property
    def constant(self):
        return self.part.constant

    @property
    def linear(self):
        return self.part.linear

    @property
    def curved(self):
        return self.part.curved

    @property
    def follows_volume(self):
        return self.part.follows_volume

    @property
    def name(self):
        return f"{'a(t)' if callable(self.factor) else self.factor} {self.part.name}"


def unscaled(geometry: Any) -> tuple[Any, Any]:
    """(a, K) of a geometry a K; a is a schedule where one of its factors is."""
    factors: list[Any] = []
    while isinstance(geometry, Scaled):
        factors.append(geometry.factor)
        geometry = geometry.part
    scheduled = any(callable(factor) for factor in factors)
    return _Product(tuple(factors)) if scheduled else math.prod(factors, start=1.0), geometry


class _Product(eqx.Module):
    """t -> the product of numbers and schedules, a schedule."""

    factors: tuple[Any, ...]

    def __call__(self, time: Any) -> Any:
        now: list[Any] = [f(time) if callable(f) else f for f in self.factors]
        return math.prod(now)
