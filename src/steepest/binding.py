"""A flow meets a state: the form of the flow that acts on this representation (eq. 45-46, 61).

On particles a flow of parameters moves every particle, and an entropy, which has no differential
there, becomes thermal noise or, where mass is only reweighed, an estimated log density. On a law
known as a whole thermal noise becomes an entropy.
"""

from __future__ import annotations

from typing import Any

from . import tree
from .errors import ArgumentError
from .flow import Flow, FlowSum
from .functionals import AbstractFunctional, ExpectedEnergy, NegativeEntropy
from .functionals.base import parts, unscaled
from .functionals.measures import estimated, realised
from .functionals.sampled import SampledFreeEnergy
from .geometries import Wasserstein
from .geometries.cone import Sum as GeometrySum
from .identity import remembered
from .noise import Minibatch, Thermal
from .states.adaptive import Adaptive
from .states.points import is_ensemble, is_measure


def bound(flow: Flow, state: Any) -> Any:
    """`flow` in the form that acts on `state`; raises ArgumentError if there is none."""
    if is_ensemble(state):
        functional, noise, geometry = flow.functional, flow.noise, flow.geometry
        if not geometry.on_measures:
            functional, geometry = ExpectedEnergy(functional), Wasserstein(geometry)
        else:
            functional, temperature = realised(functional)
            if temperature is not None:
                bath = Thermal(temperature)
                still = [t for t in geometry.terms if not (t.noise_terms or t.repulsive)]
                if still:
                    return _reweighing(flow, functional, bath, still).bind(state)
                noise = bath if noise is None else noise + bath
        flow = Flow(functional, geometry, noise).conserving(flow.kept)
    elif is_measure(state):
        flow = _on_law(flow)
    elif flow.geometry.on_measures:
        raise ArgumentError(
            "state",
            type(state).__name__,
            f"{flow.geometry.name} moves measures; try Particles.from_positions(x)",
        )
    if isinstance(state, Adaptive) and not flow.geometry.adaptive:
        raise ArgumentError("state", "Adaptive", f"{flow.geometry.name} has no use for its moments")
    flow.geometry.at(0.0).check(state)
    flow.functional.check(state)
    return flow


class BookedFlow(Flow):
    """A flow of one functional, in the books of another: F and what it loses are `booked`."""

    booked: AbstractFunctional

    def __init__(self, functional: Any, geometry: Any, booked: AbstractFunctional):
        super().__init__(functional, geometry)
        self.booked = booked

    def slope(self, state, time, randomness=None):
        own = self.covector(state, time, randomness)
        covector = self.booked.at(time).differential(state)
        return covector, self.velocity_along(state, own, time)

    def per_point(self, state, time=0.0):
        return self.booked.at(time).per_point(state)

    def bind(self, state):
        self.geometry.at(0.0).check(state)
        self.functional.check(state)
        return self


class SharedFlow(FlowSum):
    """Velocities of several flows with the same books, which the ledger counts once."""

    def slope(self, state, time, randomness=None):
        covector, velocity = self.flows[0].slope(state, time, randomness)
        for part in self.flows[1:]:
            velocity = tree.add(velocity, part.slope(state, time, randomness)[1])
        return covector, velocity

    def rate_per_point(self, state, time=0.0):
        covector = self.flows[0].slope(state, time)[0]
        rates = [
            part.geometry.at(time).rate(state, covector, part.covector(state, time))
            for part in self.flows
        ]
        return sum(rates[1:], rates[0])

    def per_point(self, state, time=0.0):
        return self.flows[0].per_point(state, time)

    def bind(self, state):
        return SharedFlow(tuple(part.bind(state) for part in self.flows))

    @property
    def shared(self):
        return True


def _reweighing(flow: Flow, functional: Any, bath: Thermal, still: list[Any]) -> SharedFlow:
    """A free energy on particles whose geometry moves and reweighs them.

    Terms that move feel the entropy as noise; terms that only reweigh feel its first variation
    log rho, estimated by a kernel density.
    """
    moving = [term for term in flow.geometry.terms if term not in still]
    parts: list[Flow] = [BookedFlow(estimated(flow.functional), _sum_of(still), functional)]
    if moving:
        noise = bath if flow.noise is None else flow.noise + bath
        parts.insert(0, Flow(functional, _sum_of(moving), noise))
    return SharedFlow(tuple(parts))


def _sum_of(terms: list[Any]) -> Any:
    return terms[0] if len(terms) == 1 else GeometrySum(tuple(terms))


@remembered
def _on_law(flow: Flow) -> Flow:
    """The flow of a law known as a whole: thermal noise becomes temperature times -S (eq. 46)."""
    flow = flow.lift()
    if flow.noise is None:
        return flow
    others = [term for term in flow.noise.terms if not isinstance(term, Thermal)]
    if all(isinstance(term, Minibatch) for term in flow.noise.terms):
        if _samples_law(flow.functional):
            return flow  # an estimate of the law's own differential
        remedy = "no Minibatch(): a law takes the mean over all rows; or particles"
        raise ArgumentError("noise", flow.noise.name, remedy)
    if others or flow.thermal is None:
        names = " + ".join(term.name for term in others)
        raise ArgumentError("noise", names, "a law feels thermal noise only; use particles")
    temperature = flow.thermal.temperature
    if callable(temperature):
        raise ArgumentError(
            "temperature", "a schedule", "on measures give FreeEnergy(energy, schedule) instead"
        )
    return Flow(flow.functional + temperature * NegativeEntropy(), flow.geometry)


def _samples_law(functional: AbstractFunctional) -> bool:
    """Whether what subsamples has an estimate for a law known as a whole."""
    first, *others = parts(unscaled(functional)[1])
    if others:
        return all(_samples_law(term) for term in (first, *others))
    return not first.subsamples or isinstance(first, SampledFreeEnergy)
