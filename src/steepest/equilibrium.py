"""Where a flow comes to rest: the Gibbs law (eq. 44), a minimiser, or nowhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx


class Equilibrium(eqx.Module):
    """What is known of the stationary law of a flow.

    `kind`: `"gibbs"` (a law with a density), `"self-consistent"` (with interactions: a density in
    the field that it makes), `"minimiser"` (a point mass at critical points),
    `"none"` (conservative: every energy shell stays) or `"unknown"`. `statement` says it in words.
    `log_density(x)` is unnormalised, None unless the kind is `"gibbs"`; `temperature` likewise.
    """

    kind: str = eqx.field(static=True)
    statement: str = eqx.field(static=True)
    log_density: Callable[[Any], Any] | None = None
    temperature: Any = None

    def __str__(self) -> str:
        return self.statement


class GibbsLogDensity(eqx.Module):
    """x -> -F(x) / temperature, the log of eq. 44 without log Z."""

    functional: Any
    temperature: Any

    def __call__(self, x: Any) -> Any:
        return -self.functional(x) / self.temperature


def equilibrium(functional: Any, geometry: Any, noise: Any) -> Equilibrium:
    """The stationary law of the flow with these ingredients, as far as theory gives it."""
    from .noise import Thermal

    terms = () if noise is None else noise.terms
    thermal = [term for term in terms if isinstance(term, Thermal)]
    others = [term for term in terms if not isinstance(term, Thermal)]
    if not geometry.dissipative:
        return Equilibrium("none", "every level set of H is invariant")
    if geometry.isothermal and not thermal:
        return Equilibrium("unknown", "Gibbs at the temperature of the momenta, if ergodic")
    if others:
        names = " + ".join(term.name for term in others)
        return Equilibrium("unknown", f"not Gibbs unless {names} matches the geometry")
    if not thermal or is_zero(thermal[0].temperature):
        return Equilibrium("minimiser", f"critical points of {functional.name}")
    temperature = thermal[0].temperature
    if callable(temperature) or functional.time_dependent:
        return Equilibrium("unknown", "follows the schedule: Gibbs only where that is slow")
    measure = " with respect to the Riemannian volume" if geometry.follows_volume else ""
    density = GibbsLogDensity(functional, temperature)
    statement = f"exp(-({functional.name})/T)/Z"
    if functional.name == "-log π":
        statement = "π"
    return Equilibrium("gibbs", statement + measure, density, temperature)


def of_measure(functional: Any, geometry: Any, noise: Any) -> Equilibrium:
    """Of a functional with interactions or internal energy: the law appears on both sides."""
    from .noise import Thermal

    if not geometry.dissipative:
        return Equilibrium("none", "every level set of the functional is invariant")
    terms = () if noise is None else noise.terms
    others = [term.name for term in terms if not isinstance(term, Thermal)]
    if others:
        return Equilibrium("unknown", f"not known with {' + '.join(others)}")
    if any(callable(term.temperature) or not is_zero(term.temperature) for term in terms):
        statement = f"self-consistent: ρ = exp(-δ({functional.name})/δρ / T)/Z"
        return Equilibrium("self-consistent", statement)
    return Equilibrium("minimiser", f"first variation of {functional.name} constant on the support")


def is_zero(temperature: Any) -> bool:
    return isinstance(temperature, (int, float)) and temperature == 0
