"""A functional is a number for every state; its differential is the covector `jax.grad` gives.

F : states -> R,  dF(x) in T*_x,  d/dt F(x(t)) = <dF, dx/dt> (eq. 34). Functionals form a cone:
`F + G` and `a * F` are functionals. A new one is one file with `__call__`.
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
from jaxtyping import Array, Float

from .. import tree
from ..errors import ArgumentError, refuse_hidden_methods


class Resolved(eqx.Module):
    """F = <potential> + temperature integral rho log rho + sum(rest), of a measure rho (eq. 46).

    `potential`: x -> number, or None; `rest`: functionals that are neither, with their factors.
    """

    potential: Any
    temperature: Any
    rest: tuple[AbstractFunctional, ...] = ()


class AbstractFunctional(eqx.Module):
    """The map state -> number (eq. 9), with its differential by automatic differentiation."""

    def __init_subclass__(cls, **options: Any):
        super().__init_subclass__(**options)
        refuse_hidden_methods(cls)
        # A differential of its own is that of many states too, whatever the parent has for them.
        if "differential" in cls.__dict__ and "differentials" not in cls.__dict__:
            cls.differentials = AbstractFunctional.differentials

    @abc.abstractmethod
    def __call__(self, state: Any) -> Float[Array, ""]:
        """F(state)."""

    def differential(self, state: Any) -> Any:
        """dF(state), a covector: the structure and shapes of the state (eq. 34)."""
        return jax.grad(self)(state)

    def differentials(self, states: Any, axis: int) -> Any:
        """dF of each of many states, which are counted along `axis` of every leaf.

        The reverse of all at once, where autodiff gives it: it keeps the layout of the states,
        which a batch of reverses turns over and back.
        """
        if type(self).differential is AbstractFunctional.differential:
            return jax.grad(lambda x: jnp.sum(jax.vmap(self, axis)(x)))(states)
        return jax.vmap(self.differential, axis, axis)(states)

    def estimate(self, state: Any, randomness: Any) -> Any:
        """An unbiased estimate of the differential; exact unless the functional subsamples data."""
        del randomness
        return self.differential(state)

    def per_point(self, state: Any) -> Float[Array, "..."]:
        """Values whose average over the state is F; one number where F is no expectation."""
        return self(state)

    def first_variation(self, state: Any) -> Callable[[Any], Any]:
        """psi = dF/drho at the measure `state`, a function on space x -> number (eq. 57).

        Defined up to a constant. Raises ArgumentError for functionals of a point.
        """
        raise ArgumentError("functional", self.name, "it is not a functional of a measure")

    def resolve(self) -> Resolved:
        """The linear and the entropic part by themselves, for schemes that treat them exactly."""
        return Resolved(None, 0.0, (self,))

    def check(self, state: Any) -> None:
        """Raises ArgumentError when the functional cannot be evaluated at this state."""

    @property
    def exact(self) -> bool:
        """Whether `differential` is the differential of the value; an estimated score is not."""
        return True

    @property
    def smooth(self) -> bool:
        """Whether the differential is continuous; a force that is singular at contact is not."""
        return True

    @property
    def of_phase(self) -> bool:
        """Whether it is a function of position and momentum already, as a Hamiltonian is."""
        return False

    @property
    def on_measures(self) -> bool:
        """Whether it is a functional of a law; the others are functions of one point."""
        return False

    @property
    def couples(self) -> bool:
        """Whether particles feel one another: F is no mean of a function of one particle."""
        return False

    def at(self, time: Any) -> AbstractFunctional:
        """The functional with its protocol frozen at `time` (itself if it has none)."""
        del time
        return self

    @property
    def time_dependent(self) -> bool:
        """Whether `at` does anything: then the flow does work on the state."""
        return False

    @property
    def subsamples(self) -> bool:
        """Whether `estimate` is random."""
        return False

    @property
    def name(self) -> str:
        """How the functional appears in the flow's row."""
        return type(self).__name__

    def __add__(self, other: AbstractFunctional) -> AbstractFunctional:
        if not isinstance(other, AbstractFunctional):
            return NotImplemented
        return Sum(parts(self) + parts(other))

    def __mul__(self, factor: float) -> AbstractFunctional:
        return Scaled(self, factor)

    __rmul__ = __mul__


class Sum(AbstractFunctional):
    """F_1 + ... + F_k."""

    parts: tuple[AbstractFunctional, ...]

    def __check_init__(self):
        if len({part.on_measures for part in self.parts}) > 1:
            raise ArgumentError(
                "functional",
                self.name,
                "the terms of a sum act on the same kind of state: ExpectedEnergy(E) is the "
                "functional of a law that an energy E of its points makes",
            )

    def __call__(self, state):
        return sum((part(state) for part in self.parts[1:]), self.parts[0](state))

    def check(self, state):
        for part in self.parts:
            part.check(state)

    @property
    def exact(self):
        return all(part.exact for part in self.parts)

    @property
    def smooth(self):
        return all(part.smooth for part in self.parts)

    @property
    def of_phase(self):
        return all(part.of_phase for part in self.parts)

    @property
    def on_measures(self):
        return self.parts[0].on_measures

    @property
    def couples(self):
        return any(part.couples for part in self.parts)

    def differential(self, state):
        return _added([part.differential(state) for part in self.parts])

    def differentials(self, states, axis):
        return _added([part.differentials(states, axis) for part in self.parts])

    def estimate(self, state, randomness):
        return _added([part.estimate(state, randomness) for part in self.parts])

    def per_point(self, state):
        values = [part.per_point(state) for part in self.parts]
        return sum(values[1:], values[0])

    def first_variation(self, state):
        variations = [part.first_variation(state) for part in self.parts]
        return lambda x: sum(variation(x) for variation in variations)

    def resolve(self):
        resolved = [part.resolve() for part in self.parts]
        potentials = tuple(r.potential for r in resolved if r.potential is not None)
        return Resolved(
            _Added(potentials) if potentials else None,
            added_schedules([r.temperature for r in resolved]),
            tuple(functional for r in resolved for functional in r.rest),
        )

    def at(self, time):
        return Sum(tuple(part.at(time) for part in self.parts)) if self.time_dependent else self

    @property
    def time_dependent(self):
        return any(part.time_dependent for part in self.parts)

    @property
    def subsamples(self):
        return any(part.subsamples for part in self.parts)

    @property
    def name(self):
        return " + ".join(part.name for part in self.parts)


class Scaled(AbstractFunctional):
    """a F for a real a."""

    part: AbstractFunctional
    factor: float | Float[Array, ""]

    def __check_init__(self):
        if isinstance(self.factor, Tracer):
            return
        try:
            good = math.isfinite(float(self.factor))
        except (TypeError, ValueError):
            good = False
        if not good:
            raise ArgumentError("factor", self.factor, "a functional is scaled by a finite number")

    def __call__(self, state):
        return self.factor * self.part(state)

    def check(self, state):
        self.part.check(state)

    @property
    def exact(self):
        return self.part.exact

    @property
    def smooth(self):
        return self.part.smooth

    @property
    def of_phase(self):
        return self.part.of_phase

    @property
    def on_measures(self):
        return self.part.on_measures

    @property
    def couples(self):
        return self.part.couples

    def differential(self, state):
        return tree.scale(self.factor, self.part.differential(state))

    def differentials(self, states, axis):
        return tree.scale(self.factor, self.part.differentials(states, axis))

    def estimate(self, state, randomness):
        return tree.scale(self.factor, self.part.estimate(state, randomness))

    def per_point(self, state):
        return self.factor * self.part.per_point(state)

    def first_variation(self, state):
        variation = self.part.first_variation(state)
        return lambda x: self.factor * variation(x)

    def resolve(self):
        inner = self.part.resolve()
        potential = None if inner.potential is None else _Multiple(self.factor, inner.potential)
        rest = tuple(Scaled(functional, self.factor) for functional in inner.rest)
        return Resolved(potential, scaled_schedule(self.factor, inner.temperature), rest)

    def at(self, time):
        return Scaled(self.part.at(time), self.factor) if self.time_dependent else self

    @property
    def time_dependent(self):
        return self.part.time_dependent

    @property
    def subsamples(self):
        return self.part.subsamples

    @property
    def name(self):
        inner = f"({self.part.name})" if isinstance(self.part, Sum) else self.part.name
        return f"{self.factor} {inner}"


def scaled_schedule(factor: Any, value: Any) -> Any:
    """factor times a number, or times a schedule of flow time."""
    return _Multiple(factor, value) if callable(value) else factor * value


def added_schedules(values: list[Any]) -> Any:
    """The sum of numbers and schedules of flow time."""
    if not any(callable(value) for value in values):
        return sum(values[1:], values[0]) if values else 0.0
    return _Added(tuple(v if callable(v) else _Constant(v) for v in values))


class _Constant(eqx.Module):
    """t -> a, a schedule."""

    value: Any

    def __call__(self, time: Any) -> Any:
        del time
        return self.value


class _Added(eqx.Module):
    """x -> f_1(x) + ... + f_k(x), a potential."""

    terms: tuple[Callable[[Any], Any], ...]

    def __call__(self, x: Any) -> Any:
        return sum(term(x) for term in self.terms)


class _Multiple(eqx.Module):
    """x -> a f(x)."""

    factor: Any
    term: Callable[[Any], Any]

    def __call__(self, x: Any) -> Any:
        return self.factor * self.term(x)


def unscaled(functional: Any) -> tuple[Any, Any]:
    """(a, F) of a functional a F."""
    factor: Any = 1.0
    while isinstance(functional, Scaled):
        factor, functional = factor * functional.factor, functional.part
    return factor, functional


def _added(covectors: list[Any]) -> Any:
    return jax.tree.map(lambda *leaves: sum(leaves[1:], leaves[0]), *covectors)


def parts(functional: AbstractFunctional) -> tuple[AbstractFunctional, ...]:
    """The terms of a sum; itself otherwise."""
    return functional.parts if isinstance(functional, Sum) else (functional,)
