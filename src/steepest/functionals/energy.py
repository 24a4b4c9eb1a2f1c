"""Energies of a point: the loss of learning (eq. 30) and the Hamiltonian of mechanics (eq. 29)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from .. import tree
from ..errors import ArgumentError
from ..states import Phase
from .base import AbstractFunctional


class Energy(AbstractFunctional):
    """E(theta) = fn(theta), a smooth function of one point (eq. 30).

    `fn` takes the state (any pytree) and returns a scalar; with `time_dependent=True` it takes
    (state, time), and a flow of it does work. `fn` may be an Equinox module with parameters, which
    are then differentiable through `solve`.
    """

    fn: Callable[..., Any]
    time_dependent_fn: bool = eqx.field(static=True)
    time: Any

    def __init__(self, fn: Callable[..., Any], *, time_dependent: bool = False, time: Any = None):
        if not callable(fn):
            raise ArgumentError("fn", type(fn).__name__, "a function state -> scalar is needed")
        self.fn, self.time_dependent_fn, self.time = fn, time_dependent, time

    def __call__(self, state: Any) -> Float[Array, ""]:
        if self.time_dependent_fn:
            value = self.fn(state, 0.0 if self.time is None else self.time)
        else:
            value = self.fn(state)
        shape = jnp.shape(value)
        if shape != ():
            raise ArgumentError("fn", f"a value of shape {shape}", "an energy must be a scalar")
        return value

    @property
    def expect_gaussian(self) -> Any | None:
        """E's own expectation under a Gaussian, where `fn` knows it (see `Gaussian.expect`)."""
        return None if self.time_dependent_fn else getattr(self.fn, "expect_gaussian", None)

    def at(self, time: Any) -> Energy:
        if not self.time_dependent_fn:
            return self
        return Energy(self.fn, time_dependent=True, time=time)

    @property
    def time_dependent(self) -> bool:
        return self.time_dependent_fn

    @property
    def name(self) -> str:
        fn = getattr(self.fn, "__name__", type(self.fn).__name__)
        return "E" if fn == "<lambda>" else f"E={fn}"


class Hamiltonian(AbstractFunctional):
    """H(q, p) = E(q) + |p|^2 / (2 mass) on a `Phase` (eq. 29, 53).

    `potential`: a functional of the position. `mass`: a positive number, or positive arrays that
    broadcast against the leaves of the momentum, as a pytree of the same structure.
    """

    potential: AbstractFunctional
    mass: Any = 1.0

    def __check_init__(self):
        for leaf in jax.tree.leaves(self.mass):
            if not isinstance(leaf, Tracer) and not (np.asarray(leaf) > 0).all():
                raise ArgumentError("mass", leaf, "every mass must be positive")

    def __call__(self, state: Phase) -> Float[Array, ""]:
        return self.potential(state.position) + self.kinetic(state.momentum)

    def check(self, state: Any) -> None:
        _check_phase(self, state)
        self.potential.check(state.position)

    def masses(self, momentum: Any, batch: int | None = None) -> Any:
        """The mass for every leaf of the momentum, shaped to multiply it along its `batch` axis."""
        mass, structure = self.mass, jax.tree.structure(momentum)
        if jax.tree.structure(mass) == jax.tree.structure(0):
            mass = jax.tree.unflatten(structure, [mass] * structure.num_leaves)
        if jax.tree.structure(mass) != structure:
            given = f"structure {jax.tree.structure(mass)}"
            raise ArgumentError("mass", given, f"the momentum has structure {structure}")

        def leaf(p: Array, m: Any) -> Array:
            m, shape = jnp.asarray(m, p.dtype), list(p.shape)
            if batch is not None:
                del shape[batch]
            if m.ndim > len(shape) or any(
                a not in (1, b) for a, b in zip(m.shape[::-1], shape[::-1], strict=False)
            ):
                raise ArgumentError("mass", f"shape {m.shape}", f"a momentum has shape {shape}")
            return m[..., None] if batch == -1 and m.ndim else m

        return jax.tree.map(leaf, momentum, mass)

    def velocity(self, momentum: Any, batch: int | None = None) -> Any:
        """dH/dp = p / mass, by a product with 1 / mass: one division for all particles."""
        return jax.tree.map(lambda p, m: p * (1.0 / m), momentum, self.masses(momentum, batch))

    def differential(self, state: Phase) -> Phase:
        force = self.potential.differential(state.position)
        return Phase(force, self.velocity(state.momentum))

    def differentials(self, states: Phase, axis: int) -> Phase:
        force = self.potential.differentials(states.position, axis)
        return Phase(force, self.velocity(states.momentum, axis))

    def kinetic(self, momentum: Any, batch: int | None = None) -> Float[Array, "..."]:
        """|p|^2 / (2 mass); the `batch` axis, if any, is kept."""
        velocity = self.velocity(momentum, batch)
        return 0.5 * tree.dot(momentum, velocity, batch)

    def estimate(self, state: Phase, randomness: Any) -> Phase:
        force = self.potential.estimate(state.position, randomness)
        return Phase(force, self.velocity(state.momentum))

    def at(self, time: Any) -> Hamiltonian:
        return Hamiltonian(self.potential.at(time), self.mass) if self.time_dependent else self

    @property
    def time_dependent(self) -> bool:
        return self.potential.time_dependent

    @property
    def subsamples(self) -> bool:
        return self.potential.subsamples

    @property
    def of_phase(self) -> bool:
        return True

    @property
    def name(self) -> str:
        unit = isinstance(self.mass, (int, float)) and self.mass == 1
        return f"{self.potential.name} + |p|²/2" + ("" if unit else "m")


class PhaseEnergy(Energy):
    """H(q, p) = fn(q, p), any function on phase space (eq. 29); with time_dependent fn(q, p, t).

    Where H is E(q) + |p|^2/2m, `Hamiltonian` says so, and explicit splittings can use it.
    """

    def __init__(self, fn: Callable[..., Any], *, time_dependent: bool = False, time: Any = None):
        super().__init__(fn, time_dependent=time_dependent, time=time)

    def __call__(self, state: Phase) -> Float[Array, ""]:
        q, p = state.position, state.momentum
        if not self.time_dependent_fn:
            value = self.fn(q, p)
        else:
            value = self.fn(q, p, 0.0 if self.time is None else self.time)
        if jnp.shape(value) != ():
            raise ArgumentError("fn", f"shape {jnp.shape(value)}", "an energy must be a scalar")
        return value

    def at(self, time: Any) -> PhaseEnergy:
        if not self.time_dependent_fn:
            return self
        return PhaseEnergy(self.fn, time_dependent=True, time=time)

    def check(self, state: Any) -> None:
        _check_phase(self, state)

    @property
    def of_phase(self) -> bool:
        return True

    @property
    def name(self) -> str:
        return "H" + super().name[1:]


class OfPosition(AbstractFunctional):
    """E(state.position) on a state that holds more, such as `Adaptive`."""

    part: AbstractFunctional

    def __call__(self, state: Any) -> Float[Array, ""]:
        return self.part(state.position)

    def differential(self, state: Any) -> Any:
        zero = jax.tree.map(jnp.zeros_like, state)
        force = self.part.differential(state.position)
        return eqx.tree_at(lambda s: s.position, zero, force)

    def estimate(self, state: Any, randomness: Any) -> Any:
        zero = jax.tree.map(jnp.zeros_like, state)
        force = self.part.estimate(state.position, randomness)
        return eqx.tree_at(lambda s: s.position, zero, force)

    def check(self, state: Any) -> None:
        self.part.check(state.position)

    def at(self, time: Any) -> AbstractFunctional:
        return OfPosition(self.part.at(time)) if self.time_dependent else self

    @property
    def time_dependent(self) -> bool:
        return self.part.time_dependent

    @property
    def subsamples(self) -> bool:
        return self.part.subsamples

    @property
    def name(self) -> str:
        return self.part.name


def _check_phase(energy: AbstractFunctional, state: Any) -> None:
    if not isinstance(state, Phase):
        given = type(state).__name__
        raise ArgumentError("state", given, f"{energy.name} needs a Phase(position, momentum)")
