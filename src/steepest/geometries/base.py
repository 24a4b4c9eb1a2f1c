"""A geometry says how *steepest* is measured: the Onsager operator K(x), covector -> tangent.

    dx/dt = -K(x) dF(x),    dF/dt = -<dF, K dF> <= 0        (eq. 38-40)

K is linear in the covector. Its symmetric part is positive semi-definite (a metric, a friction),
its antisymmetric part conserves F. Geometries form a cone: `g + h` and `a * g` for a >= 0.
A new one is one file: `sharp`, and for thermal noise `sqrt` and `divergence`.
"""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any

import equinox as eqx
from jaxtyping import Array, Float

from .. import tree
from ..errors import ArgumentError, refuse_hidden_methods
from ..states.points import pairing


class Observed(eqx.Module):
    """What an optimizer shows its geometry at a step: the loss, the batch, the random numbers."""

    value: Any = None
    batch: Any = None
    randomness: Any = None


class AbstractGeometry(eqx.Module):
    """The map K, with what a flow, its noise and its schemes need of it."""

    def __init_subclass__(cls, **options: Any):
        super().__init_subclass__(**options)
        refuse_hidden_methods(cls)

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

    def full_rate(self, state: Any, variation: Callable[[Any], Any]) -> Float[Array, ""] | None:
        """<psi, K psi> of a law free to move anywhere, psi = `variation` a function on space.

        A family of laws follows it only as far as its tangent space reaches (eq. 56). None where
        the geometry is that of a family's numbers, and says nothing of other laws.
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
        from .cone import Sum

        return Sum(self.terms + other.terms)

    def __mul__(self, factor: Any) -> AbstractGeometry:
        from .cone import Scaled

        return Scaled(self, factor)

    __rmul__ = __mul__
