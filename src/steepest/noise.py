"""What fluctuates (eq. 42): thermal noise, minibatch noise, or any diffusion.

`Thermal(T)` is bound to the geometry by fluctuation-dissipation: dx = -K dF dt + T div K dt +
sqrt(2 T) K^{1/2} dW, so that exp(-F/T) is invariant (eq. 43-44). `Minibatch()` is the noise that
subsampled data bring (eq. 51). `Diffusion(sigma)` promises nothing.
Temperatures may be schedules: functions of flow time (optax schedules are such functions).
"""

from __future__ import annotations

import abc
import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.core import Tracer

from .dials import check_dial
from .errors import ArgumentError
from .random import KINDS


class AbstractNoise(eqx.Module):
    """The random part of a flow."""

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """How the noise appears in the flow's row."""

    def at(self, time: Any) -> AbstractNoise:
        """The noise with its schedules frozen at `time`."""
        del time
        return self

    @property
    def terms(self) -> tuple[AbstractNoise, ...]:
        """The independent parts."""
        return (self,)

    def __add__(self, other: AbstractNoise) -> AbstractNoise:
        if not isinstance(other, AbstractNoise):
            return NotImplemented
        return Noises(self.terms + other.terms)


class Thermal(AbstractNoise):
    """Noise of a bath at `temperature` = 1/beta, through the geometry's own K (eq. 43, 53).

    `temperature`: a number >= 0 or a schedule of flow time. `increments`: `"normal"`,
    `"two-point"` (weak order 1, cheaper) or `"three-point"` (weak order 2): the law of one step's
    random kick; the two cheap ones are for averages, not for paths or tails.
    """

    temperature: Any
    increments: str = eqx.field(static=True, default="normal")

    def __check_init__(self):
        if self.increments not in KINDS:
            raise ArgumentError("increments", repr(self.increments), f"one of {KINDS}")
        check_dial("temperature", self.temperature, "a finite number >= 0")

    def at(self, time: Any) -> Thermal:
        if not callable(self.temperature):
            return self
        return Thermal(self.temperature(time), self.increments)

    @property
    def name(self) -> str:
        return f"thermal({format_value(self.temperature, 'T')})"


class Minibatch(AbstractNoise):
    """The noise of a functional that subsamples its data, as EmpiricalRisk does (eq. 51, 65)."""

    @property
    def name(self) -> str:
        return "minibatch"


class Diffusion(AbstractNoise):
    """dx gains sigma(theta, t) dW (eq. 42) for any sigma, with no fluctuation-dissipation.

    `sigma`: a number, or a function (theta, t) -> number, pytree of arrays like theta (diagonal),
    or a function `(theta, t, white) -> tangent` given as `apply` for a full matrix.
    """

    sigma: float | Callable[[Any, Any], Any] | None = None
    apply: Callable[[Any, Any, Any], Any] | None = None

    def __check_init__(self):
        if (self.sigma is None) == (self.apply is None):
            raise ArgumentError("sigma", self.sigma, "give exactly one of sigma and apply")
        if isinstance(self.sigma, (int, float)) and not math.isfinite(self.sigma):
            raise ArgumentError("sigma", self.sigma, "a finite number or a function (theta, t)")

    def kick(self, point: Any, time: Any, white: Any) -> Any:
        """sigma(point, t) white, a tangent at one point."""
        if self.apply is not None:
            return self.apply(point, time, white)
        value = self.sigma(point, time) if callable(self.sigma) else self.sigma
        if jax.tree.structure(value) == jax.tree.structure(white):
            return jax.tree.map(jnp.multiply, value, white)
        return jax.tree.map(lambda w: jnp.asarray(value, w.dtype) * w, white)

    @property
    def name(self) -> str:
        return "diffusion(σ)"


class Noises(AbstractNoise):
    """Several independent noises, e.g. `Thermal(T) + Minibatch()` (SGLD)."""

    parts: tuple[AbstractNoise, ...]

    def __check_init__(self):
        kinds = [type(part) for part in self.parts]
        if len(set(kinds)) < len(kinds):
            raise ArgumentError("noise", self.name, "at most one noise of each kind")

    def at(self, time: Any) -> Noises:
        return Noises(tuple(part.at(time) for part in self.parts))

    @property
    def terms(self) -> tuple[AbstractNoise, ...]:
        return self.parts

    @property
    def name(self) -> str:
        return " + ".join(part.name for part in self.parts)


def format_value(value: Any, symbol: str) -> str:
    """A number for the flow's row, or symbol(t) for a schedule."""
    if callable(value):
        return f"{symbol}(t)"
    if isinstance(value, Tracer):
        return symbol
    return f"{symbol}={float(value):g}"
