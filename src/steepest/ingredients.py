"""Whether functional, geometry and noise fit together, and what completes them."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax.numpy as jnp

from . import tree
from .errors import ArgumentError
from .functionals import AbstractFunctional, Energy, ExpectedEnergy, Hamiltonian, OfPosition
from .functionals.base import Sum as FunctionalSum
from .geometries import AbstractGeometry
from .noise import AbstractNoise, Minibatch, Thermal


def as_energy(potential: Any) -> AbstractFunctional:
    """A functional as it is; of a function, its `Energy`."""
    return potential if isinstance(potential, AbstractFunctional) else Energy(potential)


def completed(functional: AbstractFunctional, geometry: AbstractGeometry) -> AbstractFunctional:
    """On phase space an energy of the position becomes a Hamiltonian."""
    if geometry.adaptive and not isinstance(functional, OfPosition):
        return OfPosition(functional)
    if not geometry.kinetic or functional.of_phase:
        return functional
    if not geometry.on_measures:
        return Hamiltonian(functional)
    parts = list(functional.parts) if isinstance(functional, FunctionalSum) else [functional]
    energies = [getattr(part, "energy", None) for part in parts]
    if any(getattr(energy, "of_phase", False) for energy in energies):
        return functional
    for i, energy in enumerate(energies):
        if energy is not None:
            parts[i] = eqx.tree_at(lambda f: f.energy, parts[i], Hamiltonian(energy))
            return parts[0] if len(parts) == 1 else FunctionalSum(tuple(parts))
    if not functional.couples:
        return functional
    return functional + ExpectedEnergy(Hamiltonian(Energy(_zero)))


def _zero(x: Any) -> Any:
    return jnp.zeros((), tree.dtype(x))


def check_kind(functional: AbstractFunctional, geometry: AbstractGeometry) -> None:
    """Raises ArgumentError unless both are of laws, or both of points.

    Unasked, the formula of one may run on the arrays of the other and mean nothing.
    """
    if functional.on_measures == geometry.on_measures:
        return
    if geometry.on_measures:
        remedy = "a functional of a law, e.g. ExpectedEnergy(E) or FreeEnergy(E, temperature)"
    else:
        remedy = "a geometry of laws, e.g. Wasserstein(), or an energy of the points themselves"
    raise ArgumentError("functional", f"{functional.name} under {geometry.name}", remedy)


def check_noise(
    functional: AbstractFunctional, geometry: AbstractGeometry, noise: AbstractNoise | None
) -> None:
    """Raises ArgumentError for a noise that cannot act through this geometry and functional."""
    if noise is None:
        return
    mute = geometry.noise_terms == 0 and not geometry.repulsive
    if any(isinstance(term, Thermal) for term in noise.terms) and mute:
        raise ArgumentError(
            "noise",
            noise.name,
            f"{geometry.name} has no friction for the bath to act through; add Friction(gamma)",
        )
    has_minibatch = any(isinstance(term, Minibatch) for term in noise.terms)
    if has_minibatch and not functional.subsamples:
        raise ArgumentError(
            "noise", noise.name, "the functional has no batch_size, so nothing is subsampled"
        )
