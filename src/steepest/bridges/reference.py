"""The process before it is conditioned: reference flows, and the transitions that are known.

A reference dX = (p - P X) dt + sqrt(2 T) dW with P symmetric has Gaussian transitions. In the axes
of P they are, coordinate by coordinate, X_t | X_0 = z:  N(f z + s, q) with
    f = exp(-k t),   s = p (1 - exp(-k t))/k,   q = T (1 - exp(-2 k t))/k      (k = 0: the limits).
Source: Uhlenbeck and Ornstein, Phys. Rev. 36 (1930) 823.
"""

from __future__ import annotations

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..errors import ArgumentError
from ..flow import AbstractFlow, Flow
from ..formula import formula
from ..functionals import Energy
from ..geometries import Euclidean
from ..noise import Thermal

PROBES = 3


class Harmonic(eqx.Module):
    """E(x) = stiffness |x - centre|^2 / 2."""

    stiffness: float
    centre: Any = 0.0

    def __call__(self, x: Any) -> Any:
        return 0.5 * self.stiffness * jnp.sum((x - self.centre) ** 2)


def brownian(temperature: float = 0.1) -> Flow:
    """dX = sqrt(2 temperature) dW: the reference of entropic optimal transport.

    Over the time 1 its bridge is the plan of the cost |x - y|^2/2 regularised with
    epsilon = 2 temperature. Raises ArgumentError unless temperature > 0.
    """
    return Flow(Energy(Harmonic(0.0)), Euclidean(), Thermal(_warm(temperature)))


def ornstein_uhlenbeck(temperature: float = 0.1, stiffness: float = 1.0, centre: Any = 0.0) -> Flow:
    """dX = -stiffness (X - centre) dt + sqrt(2 temperature) dW."""
    if not (isinstance(stiffness, (int, float)) and math.isfinite(stiffness)):
        raise ArgumentError("stiffness", stiffness, "a finite number")
    harmonic = Harmonic(float(stiffness), jnp.asarray(centre, float))
    return Flow(Energy(harmonic), Euclidean(), Thermal(_warm(temperature)))


def _warm(temperature: Any) -> Any:
    if not (isinstance(temperature, (int, float)) and 0 < temperature < math.inf):
        raise ArgumentError(
            "temperature", temperature, "a number > 0 (0 is optimal transport without noise)"
        )
    return float(temperature)


def temperature_of(flow: Any) -> float:
    """The temperature of a reference. Raises ArgumentError where the bath is missing or cold."""
    if not isinstance(flow, AbstractFlow) or len(flow.parts) != 1:
        raise ArgumentError("reference", type(flow).__name__, "a Flow, e.g. brownian(0.1)")
    part = flow.parts[0]
    terms = () if part.noise is None else part.noise.terms
    if part.thermal is None or len(terms) != 1:
        raise ArgumentError("reference", "a flow without a bath alone", "give it noise=Thermal(T)")
    found = part.thermal.temperature
    if callable(found) or part.time_dependent:
        raise ArgumentError("reference", "a schedule", "one temperature and one energy throughout")
    return _warm(float(found))


class LinearReference(eqx.Module):
    """Gaussian transitions over [0, horizon] in the axes z = (x - origin) R of the stiffness.

    `rotation`: R, shape (d, d), None where the axes are those of x; `rates`: k; `push`: p at the
    origin, which stands amid the data so that single precision keeps its digits.
    """

    rotation: Float[Array, "d d"] | None
    origin: Float[Array, " d"]
    rates: Float[Array, " d"]
    push: Float[Array, " d"]
    temperature: Float[Array, ""]
    horizon: Float[Array, ""]

    @property
    def dimension(self) -> int:
        """d."""
        return self.rates.shape[0]

    @formula
    def turned(self, x: Float[Array, "... d"]) -> Float[Array, "... d"]:
        """x in the axes of the stiffness."""
        x = x - self.origin
        return x if self.rotation is None else x @ self.rotation

    def back(self, z: Float[Array, "... d"]) -> Float[Array, "... d"]:
        """x at z."""
        return self.along(z) + self.origin

    def along(self, z: Float[Array, "... d"]) -> Float[Array, "... d"]:
        """A direction z in the axes of x."""
        return z if self.rotation is None else z @ self.rotation.T

    @formula
    def transition(self, time: Any) -> tuple[Array, Array, Array]:
        """(f, s, q) of the law after `time`, each of shape (d,)."""
        y = self.rates * time
        variance = 2.0 * self.temperature * time * _relative(2.0 * y)
        return jnp.exp(-y), self.push * time * _relative(y), variance

    def drift(self, z: Float[Array, "... d"]) -> Float[Array, "... d"]:
        """p - k z."""
        return self.push - self.rates * z

    def velocity(self, x: Float[Array, "... d"]) -> Float[Array, "... d"]:
        """The drift at x, in its own axes."""
        return self.along(self.drift(self.turned(x)))

    @formula
    def pulled(self, z: Float[Array, "n d"], pull: Float[Array, "n d"]) -> Float[Array, "n d"]:
        """p - k z + 2 T pull, in the axes of x: the drift at z of what is drawn by `pull`."""
        return self.along(self.drift(z) + 2.0 * self.temperature * pull)

    @formula
    def remaining(self, time: Any) -> Float[Array, " d"]:
        """D: the share of the end's variance that is still to come at `time`."""
        return self.transition(self.horizon - time)[2] / self.transition(self.horizon)[2]

    @formula
    def coming(self, z: Float[Array, "... d"], time: Any) -> tuple[Array, Array, Array]:
        """(mu, D, d mu/dz): the end in white coordinates, seen from (z, time): N(mu, D)."""
        factor, shift, variance = self.transition(self.horizon - time)
        _, end, whole = self.transition(self.horizon)
        root = jnp.sqrt(whole)
        return (factor * z + shift - end) / root, variance / whole, factor / root

    @formula
    def from_coming(self, mu: Float[Array, "... d"], time: Any) -> Float[Array, "... d"]:
        """x from which the end mu is expected at `time`."""
        factor, shift, _ = self.transition(self.horizon - time)
        _, end, whole = self.transition(self.horizon)
        return self.back((mu * jnp.sqrt(whole) + end - shift) / factor)

    @formula
    def white_source(self, x: Float[Array, "... d"]) -> Float[Array, "... d"]:
        """u = f z / sqrt(q): then the transition is exp(-|u - v|^2/2) in v of the target."""
        factor, _, variance = self.transition(self.horizon)
        return self.turned(x) * factor / jnp.sqrt(variance)

    @formula
    def white_target(self, y: Float[Array, "... d"]) -> Float[Array, "... d"]:
        """v = (z - s) / sqrt(q)."""
        _, shift, variance = self.transition(self.horizon)
        return (self.turned(y) - shift) / jnp.sqrt(variance)

    def from_white_source(self, u: Float[Array, "... d"]) -> Float[Array, "... d"]:
        """The inverse of `white_source`."""
        factor, _, variance = self.transition(self.horizon)
        return self.back(u * jnp.sqrt(variance) / factor)

    def from_white_target(self, v: Float[Array, "... d"]) -> Float[Array, "... d"]:
        """The inverse of `white_target`."""
        _, shift, variance = self.transition(self.horizon)
        return self.back(v * jnp.sqrt(variance) + shift)


def linear_reference(flow: Any, origin: Float[Array, " d"], horizon: float) -> LinearReference:
    """The transitions of a reference whose drift is linear, about a point `origin`.

    Linearity is found out by differentiating the drift at several points. Raises ArgumentError for
    other drifts and for geometries other than Euclidean.
    """
    temperature, dimension, dtype = temperature_of(flow), origin.shape[0], origin.dtype
    part = flow.parts[0]
    if type(part.geometry) is not Euclidean:
        raise ArgumentError("reference", part.geometry.name, "Euclidean()")
    scalar = lambda value: jnp.asarray(value, dtype)  # noqa: E731
    energy = getattr(part.functional, "fn", None)
    if isinstance(energy, Harmonic):
        rates = jnp.full((dimension,), energy.stiffness, dtype)
        centre = jnp.broadcast_to(jnp.asarray(energy.centre, dtype), (dimension,))
        push, rotation = rates * (centre - origin), None
    else:
        probes = jax.random.normal(jax.random.key(0), (PROBES, dimension), dtype)
        slopes = _slopes(flow, probes)
        matrix = -slopes[0]
        gap = float(jnp.max(jnp.abs(slopes - slopes[0])))
        size = float(jnp.max(jnp.abs(matrix)))
        if gap > 1e-4 * max(size, 1e-3):
            raise ArgumentError(
                "reference",
                "a drift that is not linear",
                'two Density on one grid and method="grid", or a linear drift',
            )
        push = flow.velocity(probes[0]) + matrix @ probes[0]
        values, vectors = np.linalg.eigh(np.asarray(0.5 * (matrix + matrix.T), float))
        rates, rotation = jnp.asarray(values, dtype), jnp.asarray(vectors, dtype)
        push = push @ rotation - rates * (origin @ rotation)
    return LinearReference(rotation, origin, rates, push, scalar(temperature), scalar(horizon))


@eqx.filter_jit
def _slopes(flow: Flow, points: Any) -> Any:
    return jax.vmap(jax.jacfwd(lambda x: flow.velocity(x)))(points)


def _relative(y: Any) -> Any:
    """(1 - exp(-y))/y, 1 at 0."""
    small = jnp.abs(y) < 1e-4
    safe = jnp.where(small, 1.0, y)
    return jnp.where(small, 1.0 - 0.5 * y + y * y / 6.0, -jnp.expm1(-safe) / safe)
