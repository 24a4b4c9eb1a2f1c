"""Functionals of a measure, written once in terms of `expect` and `entropy` (eq. 46, 67-69).

Each holds for every representation of a measure. On `Particles` the entropy has no differential;
`realise` tells how a flow puts thermal noise in its place.
"""

from __future__ import annotations

import abc
import dataclasses
import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .. import tree
from ..errors import ArgumentError
from ..states import Particles
from .base import AbstractFunctional, Resolved, Scaled, Sum, added_schedules, scaled_schedule
from .energy import Energy
from .scores import AbstractScoreEstimator, KernelDensity


class ExpectedEnergy(AbstractFunctional):
    """E_rho[E], the first term of the free energy; its first variation is E itself (eq. 46)."""

    energy: AbstractFunctional

    def __init__(self, energy: AbstractFunctional | Callable):
        self.energy = energy if isinstance(energy, AbstractFunctional) else Energy(energy)

    def __call__(self, state: Any) -> Float[Array, ""]:
        return state.expect(self.energy)

    def per_point(self, state: Any) -> Float[Array, "..."]:
        if not isinstance(state, Particles):
            return self(state)
        return state.vmap(self.energy)(state.positions)

    def differential(self, state: Any) -> Any:
        """On particles (w_i dE(x_i), w_i (E(x_i) - <E>)): the energy's own differential is used."""
        if not isinstance(state, Particles):
            return super().differential(state)
        return self._covector(state, self.energy.differentials(state.positions, state.axis))

    def estimate(self, state: Any, randomness: Any) -> Any:
        """A minibatch for every particle of its own, so that copies stay independent."""
        if not self.subsamples or randomness is None:
            return self.differential(state)
        own = lambda x, i: self.energy.estimate(x, randomness.of(i))  # noqa: E731
        return self._covector(state, state.vmap(own)(state.positions, jnp.arange(state.count)))

    def _covector(self, state: Particles, field: Any) -> Particles:
        if state.log_weights is None:
            return Particles(tree.scale(1.0 / state.count, field), None, state.axis)
        w, values = state.weights, self.per_point(state)
        moved = jax.tree.map(lambda g: g * state.spread(w, g), field)
        return Particles(moved, w * (values - jnp.sum(w * values)), state.axis)

    def first_variation(self, state: Any) -> Callable[[Any], Any]:
        return self.energy

    def check(self, state: Any) -> None:
        if isinstance(state, Particles):
            self.energy.check(jax.tree.map(lambda x: x[0], state.turned(0).positions))
        elif self.energy.of_phase and not getattr(getattr(state, "grid", state), "phase", False):
            raise ArgumentError(
                "state", type(state).__name__, f"{self.energy.name} needs a law on phase space"
            )

    def resolve(self) -> Resolved:
        return Resolved(self.energy, 0.0)

    def at(self, time: Any) -> ExpectedEnergy:
        return ExpectedEnergy(self.energy.at(time)) if self.time_dependent else self

    @property
    def time_dependent(self) -> bool:
        return self.energy.time_dependent

    @property
    def on_measures(self):
        return True

    @property
    def subsamples(self) -> bool:
        return self.energy.subsamples

    @property
    def name(self) -> str:
        return f"⟨{self.energy.name}⟩"


class Entropic(AbstractFunctional):
    """<E> - temperature S. On particles the flow of the entropy is noise.

    With an `estimator` (KernelDensity, SteinRidge, ScoreNetwork) there is no noise: the particles
    follow the estimated score instead.
    """

    estimator: eqx.AbstractVar[AbstractScoreEstimator | None]

    @abc.abstractmethod
    def realise(self) -> tuple[ExpectedEnergy, Any]:
        """<E>, and the temperature of the noise that stands for the entropy."""

    def per_point(self, state: Any) -> Float[Array, "..."]:
        if not isinstance(state, Particles):
            return self(state)
        energy, temperature = self.realise()
        if self.estimator is not None:
            logs = self.estimator.log_density(state)
        else:
            logs = -state.entropy_terms()
        return energy.per_point(state) + temperature * logs

    def differential(self, state: Any) -> Any:
        """Raises ArgumentError on particles: the derivative of an estimate is not the score."""
        if not isinstance(state, Particles):
            return super().differential(state)
        if self.estimator is None:
            raise ArgumentError(
                "functional",
                self.name,
                "the entropy of particles has no differential; a flow of FreeEnergy(energy, T) "
                "under Wasserstein() puts thermal noise in its place, and an estimator, as in "
                "FreeEnergy(energy, T, KernelDensity()), a score",
            )
        energy, temperature = self.realise()
        return tree.axpy(temperature, self.estimator.covector(state), energy.differential(state))

    def _estimated(self, state: Any) -> Float[Array, ""]:
        if not isinstance(state, Particles):
            return dataclasses.replace(self, estimator=None)(state)
        return state.average(self.per_point(state))

    def check(self, state: Any) -> None:
        self.realise()[0].check(state)

    @property
    def exact(self) -> bool:
        return self.estimator is None or self.estimator.potential

    @property
    def on_measures(self):
        return True

    @property
    def couples(self) -> bool:
        return self.estimator is not None


class NegativeEntropy(Entropic):
    """integral rho log rho = -S(rho); its Wasserstein flow is the heat equation (eq. 45, E = 0)."""

    estimator: AbstractScoreEstimator | None = None

    def __call__(self, state: Any) -> Float[Array, ""]:
        return self._estimated(state) if self.couples else -state.entropy()

    def realise(self):
        return ExpectedEnergy(Energy(_nothing)), 1.0

    def first_variation(self, state: Any) -> Callable[[Any], Any]:
        """x -> log rho(x) + 1."""
        return lambda x: state.log_prob(x) + 1.0

    def resolve(self) -> Resolved:
        return Resolved(None, 1.0)

    @property
    def name(self) -> str:
        return "-S"


class FreeEnergy(Entropic):
    """F(rho) = E_rho[E] + temperature integral rho log rho (eq. 46, 60, 69).

    Minimised by the Gibbs law exp(-E/temperature)/Z, where F - F_min = temperature KL (eq. 47).
    """

    energy: AbstractFunctional
    temperature: Any
    estimator: AbstractScoreEstimator | None

    def __init__(
        self,
        energy: AbstractFunctional | Callable,
        temperature: Any = 1.0,
        estimator: AbstractScoreEstimator | None = None,
    ):
        if not isinstance(energy, AbstractFunctional):
            energy = Energy(energy)
        if isinstance(temperature, (int, float)) and not (
            math.isfinite(temperature) and temperature >= 0
        ):
            raise ArgumentError("temperature", temperature, "a finite number >= 0 (or a schedule)")
        self.energy, self.temperature, self.estimator = energy, temperature, estimator

    def __call__(self, state: Any) -> Float[Array, ""]:
        if self.couples:
            return self._estimated(state)
        return state.expect(self.energy) - self.temperature * state.entropy()

    def realise(self):
        return ExpectedEnergy(self.energy), self.temperature

    def first_variation(self, state: Any) -> Callable[[Any], Any]:
        """x -> E(x) + temperature (log rho(x) + 1)."""
        return lambda x: self.energy(x) + self.temperature * (state.log_prob(x) + 1.0)

    def resolve(self) -> Resolved:
        return Resolved(self.energy, self.temperature)

    def at(self, time: Any) -> FreeEnergy:
        fixed = self.temperature(time) if callable(self.temperature) else self.temperature
        return FreeEnergy(self.energy.at(time), fixed, self.estimator)

    @property
    def time_dependent(self) -> bool:
        return self.energy.time_dependent or callable(self.temperature)

    @property
    def subsamples(self) -> bool:
        return self.energy.subsamples

    @property
    def name(self) -> str:
        return f"⟨{self.energy.name}⟩ - T S"


class KL(Entropic):
    """KL(rho || pi) = integral rho log(rho/pi) up to the constant log Z (eq. 67-68).

    `target`: a function x -> log pi(x), which need not be normalised, a measure with `log_prob`,
    or an energy E, for pi ~ exp(-E).
    """

    target: Any
    estimator: AbstractScoreEstimator | None

    def __init__(self, target: Any, estimator: AbstractScoreEstimator | None = None):
        if not (hasattr(target, "log_prob") or callable(target)):
            raise ArgumentError("target", type(target).__name__, "a log density or a measure")
        self.target, self.estimator = target, estimator

    def log_target(self, x: Any) -> Float[Array, ""]:
        """log pi(x), unnormalised."""
        if isinstance(self.target, AbstractFunctional):
            return -self.target(x)
        return getattr(self.target, "log_prob", self.target)(x)

    def __call__(self, state: Any) -> Float[Array, ""]:
        if self.couples:
            return self._estimated(state)
        return -state.entropy() - state.expect(self.log_target)

    def realise(self):
        return ExpectedEnergy(Energy(_Negative(self))), 1.0

    def first_variation(self, state: Any) -> Callable[[Any], Any]:
        """x -> log(rho(x) / pi(x)) + 1."""
        return lambda x: state.log_prob(x) - self.log_target(x) + 1.0

    def resolve(self) -> Resolved:
        return Resolved(_Negative(self), 1.0)

    @property
    def name(self) -> str:
        return "KL(ρ‖π)"


def realised(functional: AbstractFunctional) -> tuple[AbstractFunctional, Any | None]:
    """The functional with its entropies taken out, and the temperature of the noise for them.

    None where there was none. Entropies with an estimator stay.
    """
    if isinstance(functional, Entropic) and functional.estimator is None:
        return functional.realise()
    if isinstance(functional, Scaled):
        inner, temperature = realised(functional.part)
        if temperature is None:
            return functional, None
        return Scaled(inner, functional.factor), scaled_schedule(functional.factor, temperature)
    if isinstance(functional, Sum):
        pairs = [realised(part) for part in functional.parts]
        baths = [temperature for _, temperature in pairs if temperature is not None]
        if not baths:
            return functional, None
        total = baths[0] if len(baths) == 1 else added_schedules(baths)
        return Sum(tuple(part for part, _ in pairs)), total
    return functional, None


def estimated(functional: AbstractFunctional) -> AbstractFunctional:
    """The functional with a kernel density behind every entropy that has no estimator."""
    if isinstance(functional, Entropic) and functional.estimator is None:
        return dataclasses.replace(functional, estimator=KernelDensity())
    if isinstance(functional, Scaled):
        return Scaled(estimated(functional.part), functional.factor)
    if isinstance(functional, Sum):
        return Sum(tuple(estimated(part) for part in functional.parts))
    return functional


def _nothing(x: Any) -> Float[Array, ""]:
    return jnp.zeros((), tree.dtype(x))


_nothing.__name__ = "0"


class _Negative(AbstractFunctional):
    """x -> -log pi(x), as an energy."""

    divergence: KL

    def __call__(self, state: Any) -> Float[Array, ""]:
        return -jnp.asarray(self.divergence.log_target(state))

    @property
    def name(self) -> str:
        return "-log π"
