"""A geometry says how *steepest* is measured: the Onsager operator K(x), covector -> tangent.

    dx/dt = -K(x) dF(x),    dF/dt = -<dF, K dF> <= 0        (eq. 38-40)

K is linear in the covector. Its symmetric part is positive semi-definite (a metric, a friction),
its antisymmetric part conserves F. Geometries form a cone: `g + h` and `a * g` for a >= 0.
A new one is one file: `sharp`, and for thermal noise `sqrt` and `divergence`.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Float

from .. import tree
from ..errors import ArgumentError
from ..states.points import pairing


class Observed(eqx.Module):
    """What an optimizer shows its geometry at a step: the loss, the batch, the random numbers."""

    value: Any = None
    batch: Any = None
    randomness: Any = None


class AbstractGeometry(eqx.Module):
    """The map K, with what a flow, its noise and its schemes need of it."""

    @abc.abstractmethod
    def sharp(self, state: Any, covector: Any) -> Any:
        """K(x) covector, a tangent. Linear in the covector."""

    def norm_sq(self, state: Any, covector: Any) -> Float[Array, ""]:
        """<covector, K(x) covector> >= 0, the rate of dissipation (eq. 40)."""
        return tree.dot(covector, self.sharp(state, covector))

    def rate(
        self, state: Any, covector: Any, own: Any, temperature: Any = None
    ) -> Float[Array, "..."]:
        """<covector, K own> per point, the rate at which a flow of `own` lowers the functional."""
        del temperature
        return pairing(state, covector, self.sharp(state, own))

    def sqrt(self, state: Any, white: tuple[Any, ...]) -> Any:
        """S(x) xi with S S^T the symmetric part of K; `white` holds `noise_terms` white noises."""
        raise ArgumentError(
            "noise", f"thermal noise on {self.name}", "this geometry offers no square root of K"
        )

    def divergence(self, state: Any) -> Any | None:
        """(div K)_i = sum_j d_j K_ij: with the drift temperature * div K the Gibbs law stays exact.

        None where it vanishes (constant K, and manifolds, whose noise follows the volume).
        """
        return None

    def drift(self, state: Any, covector: Any, temperature: Any = None) -> Any:
        """-K covector, and temperature div K where there is a bath: a velocity (eq. 42)."""
        velocity = tree.scale(-1.0, self.sharp(state, covector))
        if temperature is None or self.constant:
            return velocity
        spread = self.divergence(state)
        return velocity if spread is None else tree.axpy(temperature, spread, velocity)

    def retract(self, state: Any, tangent: Any) -> Any:
        """The point reached from x along a tangent: exponential map or retraction."""
        return tree.add(state, tangent)

    def length_sq(self, state: Any, tangent: Any) -> Float[Array, ""]:
        """<K^{-1} v, v>, the squared length whose half is the cost of a minimizing movement."""
        raise ArgumentError(
            "geometry", self.name, "it measures no length, so it has no minimizing movement"
        )

    def log_volume(self, state: Any) -> Float[Array, ""]:
        """log sqrt(det K), up to a constant: the spread of the noise, for Metropolis ratios."""
        raise ArgumentError("geometry", self.name, "Metropolis needs a flat or Riemannian geometry")

    def full_rate(self, state: Any, variation: Callable[[Any], Any]) -> Float[Array, ""]:
        """<psi, K psi> of a law free to move anywhere, psi = `variation` a function on space.

        A family of laws follows it only as far as its tangent space reaches (eq. 56).
        """
        raise ArgumentError("geometry", self.name, "it does not act on measures")

    def check(self, state: Any) -> None:
        """Raises ArgumentError when the geometry cannot live on this state."""

    def begin(self, state: Any) -> Any:
        """The memory of a geometry that learns from an optimizer's run; empty where it does not."""
        del state
        return ()

    def observe(
        self, memory: Any, state: Any, covector: Any, seen: Observed
    ) -> tuple[Any, AbstractGeometry, Any, Any]:
        """(memory, the geometry of this step, its start and covector) after seeing a covector.

        The start is `state` itself, or an earlier one where the last step is taken back.
        """
        del seen
        return memory, self, state, covector

    def settle(self, memory: Any, state: Any, covector: Any, tangent: Any, step: Any) -> Any:
        """The memory after the step -step * tangent was chosen."""
        del state, covector, tangent, step
        return memory

    def at(self, time: Any) -> AbstractGeometry:
        """The geometry with its schedules frozen at `time`."""
        del time
        return self

    def between(self, start: Any, end: Any) -> AbstractGeometry:
        """The geometry of a step from `start` to `end` that discrete gradients drive.

        Itself, unless it is degenerate along gradients, which the step must keep discretely.
        """
        del start, end
        return self

    @property
    def terms(self) -> tuple[AbstractGeometry, ...]:
        """The summands; itself for a single geometry."""
        return (self,)

    @property
    def noise_terms(self) -> int:
        """How many independent white noises `sqrt` takes."""
        return 1

    @property
    def repulsive(self) -> bool:
        """Whether temperature div K alone stands for thermal noise on particles."""
        return False

    @property
    def dissipative(self) -> bool:
        """Whether the symmetric part of K is not zero."""
        return True

    @property
    def conservative(self) -> bool:
        """Whether the antisymmetric part of K is not zero."""
        return False

    @property
    def kinetic(self) -> bool:
        """Whether it acts on a `Phase`."""
        return False

    @property
    def isothermal(self) -> bool:
        """Whether it holds a temperature by itself: a thermostat, which takes and gives energy."""
        return False

    @property
    def adaptive(self) -> bool:
        """Whether it acts on an `Adaptive` state, its metric moving with the flow."""
        return False

    @property
    def on_measures(self) -> bool:
        """Whether it acts on measures rather than points."""
        return False

    @property
    def constant(self) -> bool:
        """Whether K is the same at every state."""
        return False

    @property
    def linear(self) -> bool:
        """Whether `sharp` is linear in the covector; steepest descent under other norms is not."""
        return True

    @property
    def curved(self) -> bool:
        """Whether states live on a manifold inside their coordinates."""
        return False

    @property
    def follows_volume(self) -> bool:
        """Whether the Gibbs law is with respect to the Riemannian volume, not to dx."""
        return self.curved

    @property
    def name(self) -> str:
        """How the geometry appears in the flow's row."""
        return type(self).__name__

    def __add__(self, other: AbstractGeometry) -> AbstractGeometry:
        if not isinstance(other, AbstractGeometry):
            return NotImplemented
        return Sum(self.terms + other.terms)

    def __mul__(self, factor: Any) -> AbstractGeometry:
        return Scaled(self, factor)

    __rmul__ = __mul__


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
        return sum(rates[1:], rates[0])

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
        if isinstance(self.factor, Tracer) or callable(self.factor):
            return
        try:
            good = math.isfinite(float(self.factor)) and float(self.factor) >= 0
        except (TypeError, ValueError):
            good = False
        if not good:
            raise ArgumentError("factor", self.factor, "a geometry is scaled by a finite a >= 0")

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
        return self.factor * self.part.full_rate(state, variation)

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
