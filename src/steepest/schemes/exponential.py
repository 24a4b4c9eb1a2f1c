"""The exact flow where it is known: the semigroup of a linear law, the Fisher-Rao product."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from ..errors import ArgumentError
from ..geometries import FisherRao, Wasserstein
from ..geometries.cone import unscaled
from ..states import Density
from . import multiplicative
from .base import AbstractScheme, Entry, check_step
from .finite_volume import FiniteVolume, fitness, judge_fitness
from .generator import assemble
from .semigroup import propagate

NODES = np.array([(4.0 - 6.0**0.5) / 10.0, (4.0 + 6.0**0.5) / 10.0, 1.0])
WEIGHTS = np.array([(16.0 - 6.0**0.5) / 36.0, (16.0 + 6.0**0.5) / 36.0, 1.0 / 9.0])
"""Radau's rule on [0, 1], exact to degree 4."""


class Exponential(AbstractScheme):
    """One step by the exponential of the flow.

    Under Wasserstein() on a `Density`, F = <V> + T integral rho log rho: rho+ = exp(step A) rho, A
    the Scharfetter-Gummel generator, exact in time (eq. 45, 61). `poles`: of the rational
    approximation on a line, error 9.3^-poles.
    Under FisherRao() on `Density`, `Categorical` or `Gaussian`: rho+ ~ rho^a exp(-b V), exact where
    F has no further terms (and V is quadratic, on Gaussians), of order 1 else (eq. 62).
    The dissipation is integrated along the step with three nodes: by Radau's rule, which has the
    end among them, under transport, by Gauss's in the Fisher-Rao case.
    Raises ArgumentError for other states, and for interactions under transport.
    """

    step: float
    poles: int = eqx.field(static=True, default=14)

    def __check_init__(self):
        check_step(self.step)
        if not isinstance(self.poles, int) or self.poles % 2 or not 2 <= self.poles <= 14:
            raise ArgumentError("poles", self.poles, "an even number from 2 to 14")

    def init(self, flow, state, time, randomness):
        part = flow.parts[0]
        if _kind(part) is FisherRao or flow.time_dependent:
            return ()
        return assemble(part, state, state.values, time)

    def advance(self, flow, state, memory, time, step, randomness):
        part = flow.parts[0]
        if _kind(part) is FisherRao:
            new, dissipated = multiplicative.advance(part, state, time + 0.5 * step, step)
            return new, (), Entry(dissipated)
        operator = memory
        if flow.time_dependent:  # frozen half-way: order 2
            operator = assemble(part, state, state.values, time + 0.5 * step)
        nodes = jnp.asarray(NODES, state.values.dtype)
        # Apart from the end, so that a run without the books of each step does not pay for them.
        path = propagate(operator, state.values, step * nodes[:-1], self.poles)
        (end,) = propagate(operator, state.values, step * nodes[-1:], self.poles)
        rates = [operator.dissipation_rate(rho, operator.variation(rho)) for rho in (*path, end)]
        dissipated = step * sum(w * rate for w, rate in zip(WEIGHTS, rates, strict=True))
        return state.tangent(end), memory, Entry(dissipated)

    def check(self, flow, state):
        if flow.noisy or len(flow.parts) != 1:
            raise ArgumentError("scheme", self.name, "a single flow without noise; see Composition")
        part = flow.parts[0]
        kind = _kind(part)
        if kind is FisherRao:
            multiplicative.check(part, state)
            return
        if kind is not Wasserstein or not isinstance(state, Density):
            raise ArgumentError(
                "scheme",
                f"{self.name} for {part.geometry.name} on {type(state).__name__}",
                "Wasserstein() on a Density, or FisherRao(); sums by Composition(...)",
            )
        if part.functional.at(0.0).resolve().rest:
            raise ArgumentError("functional", part.functional.name, "not linear: use FiniteVolume")
        if part.geometry.conservative:
            raise ArgumentError("geometry", part.geometry.name, "kinetic: use FiniteVolume")
        FiniteVolume(self.step).check(flow, state)

    def examine(self, flow, state):
        part = flow.parts[0]
        return () if _kind(part) is FisherRao else fitness(part, state)

    def judge(self, flow, state, found):
        if found:
            judge_fitness(state, found)

    @property
    def order(self):
        return 2

    def monotone(self, flow):
        # What is not <V> - T S enters with its first variation at the start of the step.
        return not flow.parts[0].functional.at(0.0).resolve().rest


def _kind(part: Any) -> Any:
    return type(unscaled(part.geometry)[1])
