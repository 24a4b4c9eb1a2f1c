"""The four ingredients together:  dx = -K(x) dF(x) dt  (+ noise)   (eq. 33, 39, 42-43, 53).

A flow is a functional, a geometry and a noise; the state it meets decides the representation. On
`Particles` a flow of parameters moves every particle: an ensemble of independent copies.
"""

from __future__ import annotations

import abc
import copy
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from . import equilibrium as _equilibrium
from . import tree
from .card import card_of, row_of
from .errors import ArgumentError
from .functionals import AbstractFunctional, ExpectedEnergy, FreeEnergy
from .functionals.measures import realised
from .geometries import AbstractGeometry, Wasserstein
from .ingredients import as_energy, check_kind, check_noise, completed
from .noise import AbstractNoise, Diffusion, Minibatch, Noises, Thermal
from .random import Randomness
from .states.points import average, batch_axis, each, is_ensemble, points

KICK_STREAM, DIFFUSION_STREAM = 0, 8


class AbstractFlow(eqx.Module):
    """What schemes and the ledger need of a flow: slope, fluctuation, value."""

    @abc.abstractmethod
    def slope(self, state: Any, time: Any, randomness: Randomness | None = None) -> tuple[Any, Any]:
        """(covector, velocity) at a state: dF, and -K dF (+ temperature div K)."""

    @abc.abstractmethod
    def fluctuation(self, state: Any, time: Any, step: Any, randomness: Any) -> Any | None:
        """The random displacement of one step, a tangent; None without such noise."""

    @abc.abstractmethod
    def per_point(self, state: Any, time: Any = 0.0) -> Float[Array, "..."]:
        """The functional, per point where it is an average over points."""

    @abc.abstractmethod
    def bind(self, state: Any) -> AbstractFlow:
        """The flow in the form that acts on this representation; raises if there is none."""

    @property
    @abc.abstractmethod
    def parts(self) -> tuple[Flow, ...]:
        """The single flows whose velocities add."""

    def card(self, scheme: Any = None, state: Any = None) -> dict[str, str]:
        """The flow as one row of the table in section 7.6; with scheme and state where given."""
        return card_of(self, scheme, state)

    @property
    def invariants(self) -> dict[str, Any]:
        """Functions of a point that the flow keeps, by name: columns of the ledger."""
        return {}

    @property
    def shared(self) -> bool:
        """Whether all parts have the same books, so that what each loses adds up."""
        return len(self.parts) == 1

    def value(self, state: Any, time: Any = 0.0) -> Float[Array, ""]:
        """F(state)."""
        return average(state, self.per_point(state, time))

    def whole(self, state: Any) -> bool:
        """Whether the ledger keeps one account for all particles rather than one for each.

        Where weights move or particles interact, nothing belongs to one particle alone.
        """
        if not is_ensemble(state):
            return False
        return state.log_weights is not None or any(p.functional.couples for p in self.parts)

    def account(self, state: Any, values: Any) -> Any:
        """Per-point values as the ledger keeps them: their mean where there is one account."""
        return average(state, values) if self.whole(state) else values

    def velocity(self, state: Any, time: Any = 0.0) -> Any:
        """-K(x) dF(x) = -grad_g F (eq. 41), and under thermal noise temperature div K (eq. 42)."""
        state, flow = _prepared(self, state)
        return flow.slope(state, time)[1]

    def dissipation_rate(self, state: Any, time: Any = 0.0) -> Float[Array, ""]:
        """<dF, K dF>, the rate at which the drift lowers F (eq. 35, 40)."""
        state, flow = _prepared(self, state)
        return average(state, flow.rate_per_point(state, time))

    def rate_per_point(self, state: Any, time: Any = 0.0) -> Float[Array, "..."]:
        """<dF, K dF> per point, of a bound flow; the Ito drift temperature div K stands apart."""
        own = [part.functional.at(time).differential(state) for part in self.parts]
        total = own[0]
        for covector in own[1:]:
            total = tree.add(total, covector)
        rates = [
            part.geometry.at(time).rate(state, total, covector, part.temperature(time))
            for part, covector in zip(self.parts, own, strict=True)
        ]
        return sum(rates[1:], rates[0])

    @property
    def noisy(self) -> bool:
        """Whether two runs with different seeds differ."""
        return any(part.fluctuates for part in self.parts)

    @property
    def warm(self) -> bool:
        """Whether a bath exchanges heat with the state, in whatever way: F may rise."""
        baths = (part.thermal is not None or part.geometry.isothermal for part in self.parts)
        return self.noisy or any(baths)

    @property
    def time_dependent(self) -> bool:
        """Whether a protocol does work on the state."""
        return any(part.functional.time_dependent for part in self.parts)

    @property
    def subsamples(self) -> bool:
        """Whether the covector is a minibatch estimate."""
        return any(
            isinstance(term, Minibatch)
            for part in self.parts
            if part.noise is not None
            for term in part.noise.terms
        )


class Flow(AbstractFlow):
    """The flow of `functional` under `geometry` with `noise`.

    With a kinetic geometry an energy of the position is completed to the Hamiltonian
    H(q, p) = E(q) + |p|^2/2 (give `Hamiltonian(E, mass)` for other masses).
    Raises ArgumentError for ingredients that do not fit together.
    """

    functional: AbstractFunctional
    geometry: AbstractGeometry
    noise: AbstractNoise | None
    kept: dict[str, Any]

    def __init__(
        self,
        functional: AbstractFunctional | Any,
        geometry: AbstractGeometry,
        noise: AbstractNoise | None = None,
    ):
        if not isinstance(functional, AbstractFunctional):
            if not callable(functional):
                raise ArgumentError("functional", type(functional).__name__, "e.g. Energy(fn)")
            functional = as_energy(functional)
        if not isinstance(geometry, AbstractGeometry):
            raise ArgumentError("geometry", type(geometry).__name__, "e.g. Euclidean()")
        if noise is not None and not isinstance(noise, AbstractNoise):
            raise ArgumentError("noise", type(noise).__name__, "e.g. Thermal(1.0), or None")
        check_kind(functional, geometry)
        self.functional = completed(functional, geometry)
        self.geometry, self.noise, self.kept = geometry, noise, {}
        check_noise(functional=self.functional, geometry=geometry, noise=noise)

    def conserving(self, invariants: dict[str, Callable[[Any], Any]]) -> Flow:
        """The same flow, whose ledger and audit follow `invariants`, functions of a point by name.

        For those of a symmetry see `steepest.mechanics.momentum_map`. What is not kept fails the
        audit.
        """
        for name, fn in invariants.items():
            if not callable(fn):
                raise ArgumentError(name, type(fn).__name__, "a function of a state")
        new = copy.copy(self)
        object.__setattr__(new, "kept", self.kept | invariants)
        return new

    @property
    def invariants(self) -> dict[str, Any]:
        return self.kept

    @property
    def parts(self) -> tuple[Flow, ...]:
        return (self,)

    @property
    def fluctuates(self) -> bool:
        """Whether the noise is felt as noise; a repulsive geometry turns a bath into a force."""
        terms = () if self.noise is None else self.noise.terms
        return any(not isinstance(t, Thermal) or self.geometry.noise_terms for t in terms)

    @property
    def thermal(self) -> Thermal | None:
        """The thermal part of the noise."""
        return self._noise(Thermal)

    def _noise(self, kind: type) -> Any:
        terms = () if self.noise is None else self.noise.terms
        return next((term for term in terms if isinstance(term, kind)), None)

    def temperature(self, time: Any = 0.0) -> Any | None:
        """Of the bath; None without one."""
        return None if self.thermal is None else self.thermal.at(time).temperature

    def covector(self, state: Any, time: Any, randomness: Randomness | None = None) -> Any:
        """dF(state), or its minibatch estimate when the noise says so."""
        functional = self.functional.at(time)
        if randomness is not None and self.subsamples:
            return functional.estimate(state, randomness)
        return functional.differential(state)

    def slope(self, state, time, randomness=None):
        covector = self.covector(state, time, randomness)
        return covector, self.velocity_along(state, covector, time)

    def velocity_along(self, state: Any, covector: Any, time: Any) -> Any:
        """-K covector (+ temperature div K): the velocity at a state whose covector is known."""
        return self.geometry.at(time).drift(state, covector, self.temperature(time))

    def fluctuation(self, state, time, step, randomness):
        kick = None
        thermal = self.thermal
        if thermal is not None and self.geometry.noise_terms:
            now, geometry = thermal.at(time), self.geometry.at(time)
            white = tuple(
                randomness.like(state, now.increments, KICK_STREAM + i, batch_axis(state) or 0)
                for i in range(geometry.noise_terms)
            )
            amplitude = jnp.sqrt(2.0 * jnp.asarray(now.temperature) * step)
            kick = tree.scale(amplitude, geometry.sqrt(state, white))
        diffusion = self._noise(Diffusion)
        if diffusion is not None:
            axis = batch_axis(state) or 0
            white = points(randomness.like(state, stream=DIFFUSION_STREAM, axis=axis))
            moved = each(lambda x, w: diffusion.kick(x, time, w), state)(points(state), white)
            moved = tree.scale(jnp.sqrt(step), moved)
            moved = state.tangent(moved) if is_ensemble(state) else moved
            kick = moved if kick is None else tree.add(kick, moved)
        return kick

    def per_point(self, state, time=0.0):
        return self.functional.at(time).per_point(state)

    def split(self) -> tuple[Flow, ...]:
        """One flow for each term of the geometry, with the same functional: their sum is the flow.

        Thermal noise acts through each term, a minibatch on each; a diffusion stays with the first.
        """
        terms = self.geometry.terms
        if len(terms) == 1:
            return (self,)

        def share(index: int, term: AbstractGeometry) -> AbstractNoise | None:
            kept = [
                noise
                for noise in (() if self.noise is None else self.noise.terms)
                if isinstance(noise, Minibatch)
                or (isinstance(noise, Thermal) and (term.noise_terms or term.repulsive))
                or (isinstance(noise, Diffusion) and index == 0)
            ]
            return None if not kept else kept[0] if len(kept) == 1 else Noises(tuple(kept))

        return tuple(
            Flow(self.functional, term, share(index, term)) for index, term in enumerate(terms)
        )

    def bind(self, state):
        from .binding import bound

        return bound(self, state)

    def lift(self) -> Flow:
        """The flow of the law: FreeEnergy(E, T) under Wasserstein(ground=geometry) (eq. 45, 61).

        Without thermal noise, the expected energy. Other noises stay as they are.
        """
        if self.geometry.on_measures:
            return self
        terms = () if self.noise is None else self.noise.terms
        rest = [term for term in terms if not isinstance(term, Thermal)]
        noise = None
        for term in rest:
            noise = term if noise is None else noise + term
        if self.thermal is None:
            functional: AbstractFunctional = ExpectedEnergy(self.functional)
        else:
            functional = FreeEnergy(self.functional, self.thermal.temperature)
        return Flow(functional, Wasserstein(self.geometry), noise)

    def equilibrium(self) -> _equilibrium.Equilibrium:
        """The Gibbs law, or what else is known of the stationary state (eq. 44)."""
        functional, noise = self.functional, self.noise
        if self.geometry.on_measures:
            if isinstance(functional, FreeEnergy) and callable(functional.temperature):
                return _equilibrium.equilibrium(
                    functional.energy, self.geometry, Thermal(functional.temperature)
                )
            resolved = functional.resolve()
            if resolved.rest or resolved.potential is None:
                own, warm = realised(functional) if resolved.rest else (functional, None)
                bath = None if warm is None else Thermal(warm)
                noise = bath if noise is None else noise if bath is None else noise + bath
                return _equilibrium.of_measure(own, self.geometry, noise)
            functional = as_energy(resolved.potential)
            if not _equilibrium.is_zero(resolved.temperature):
                extra = Thermal(resolved.temperature)
                noise = extra if noise is None else noise + extra
        return _equilibrium.equilibrium(functional, self.geometry, noise)

    def row(self) -> dict[str, str]:
        """What `card` says of this part."""
        return row_of(self)

    def __str__(self) -> str:
        return " | ".join(f"{key}: {value}" for key, value in self.card().items())

    def __add__(self, other: AbstractFlow) -> AbstractFlow:
        if not isinstance(other, AbstractFlow):
            return NotImplemented
        return FlowSum(self.parts + other.parts)


class FlowSum(AbstractFlow):
    """Velocities and noises of several flows, added; the ledger follows F_1 + ... + F_k.

    The balance of the sum closes, but only flows that share a functional must lower it.
    """

    flows: tuple[Flow, ...]

    @property
    def parts(self) -> tuple[Flow, ...]:
        return self.flows

    def slope(self, state, time, randomness=None):
        slopes = [part.slope(state, time, randomness) for part in self.flows]
        covector, velocity = slopes[0]
        for more_covector, more_velocity in slopes[1:]:
            covector = tree.add(covector, more_covector)
            velocity = tree.add(velocity, more_velocity)
        return covector, velocity

    def fluctuation(self, state, time, step, randomness):
        total = None
        for index, part in enumerate(self.flows):
            if part.noise is None:
                continue
            kick = part.fluctuation(state, time, step, randomness.fold(index + 1))
            if kick is not None:
                total = kick if total is None else tree.add(total, kick)
        return total

    def per_point(self, state, time=0.0):
        values = [part.per_point(state, time) for part in self.flows]
        return sum(values[1:], values[0])

    def bind(self, state):
        bound = [part.bind(state) for part in self.flows]
        return FlowSum(tuple(part for flow in bound for part in flow.parts))

    def __str__(self) -> str:
        return "\n+ ".join(str(part) for part in self.flows)

    def __add__(self, other: AbstractFlow) -> FlowSum:
        if not isinstance(other, AbstractFlow):
            return NotImplemented
        return FlowSum(self.parts + other.parts)


def _prepared(flow: AbstractFlow, state: Any) -> tuple[Any, AbstractFlow]:
    state = state if is_ensemble(state) else tree.as_float(state)
    return state, flow.bind(state)
