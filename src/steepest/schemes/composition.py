"""Operator splitting of a sum of flows: each part by its own scheme, in turn."""

from __future__ import annotations

from typing import Any

import equinox as eqx

from .. import tree
from ..errors import ArgumentError
from ..states.points import pairing
from .base import AbstractScheme, Entry
from .euler import displacement


class Composition(AbstractScheme):
    """Advance `flow_1 + ... + flow_k` part by part; order 1 (Lie) or 2 (Strang).

    A single flow whose geometry is a sum, as Wasserstein() + FisherRao(), is split by its terms.
    `schemes`: one for each part, in that order, all with the same step. The terms of one flow share
    their functional, and the ledger adds what each scheme says it dissipated; flows with different
    functionals exchange, and the ledger integrates the exchange of the whole functional along each
    part's own motion (trapezoidal).
    """

    schemes: tuple[AbstractScheme, ...]
    symmetric: bool = eqx.field(static=True)
    step: float

    def __init__(self, *schemes: AbstractScheme, symmetric: bool = True):
        steps = {scheme.step for scheme in schemes}
        if len(steps) != 1:
            raise ArgumentError(
                "schemes", f"steps {sorted(map(str, steps))}", "the parts share one step"
            )
        if steps == {None}:
            raise ArgumentError("schemes", "no step", "say it to each, e.g. RungeKutta(step=0.1)")
        self.schemes, self.symmetric = schemes, symmetric
        (self.step,) = steps

    def init(self, flow, state, time, randomness):
        return ()

    def advance(self, flow, state, memory, time, step, randomness):
        total: Any = 0.0
        sequence = list(enumerate(self.schemes))
        if self.symmetric:
            halves = [(index, scheme, 0.5) for index, scheme in sequence[:-1]]
            sequence = [*halves, (*sequence[-1], 1.0), *reversed(halves)]
        else:
            sequence = [(index, scheme, 1.0) for index, scheme in sequence]
        parts = _parts(flow)
        shared = flow.shared
        for turn, (index, scheme, fraction) in enumerate(sequence):
            part, own = parts[index], randomness.fold(turn + 1)
            inner = scheme.init(part, state, time, own)
            before = None if shared else flow.slope(state, time)[0]
            new, _, entry = scheme.advance(part, state, inner, time, fraction * step, own)
            if shared:
                total = total + entry.dissipated
            else:
                total = total - _exchange(state, new, before, flow.slope(new, time)[0])
            state = new
        return state, (), Entry(total)

    def check(self, flow, state):
        parts = _parts(flow)
        if len(parts) != len(self.schemes):
            raise ArgumentError(
                "schemes", f"{len(self.schemes)} of them", f"the flow has {len(parts)} parts"
            )
        for part, scheme in zip(parts, self.schemes, strict=True):
            scheme.check(part, state)

    def examine(self, flow, state):
        pairs = zip(_parts(flow), self.schemes, strict=True)
        return tuple(scheme.examine(part, state) for part, scheme in pairs)

    def judge(self, flow, state, found):
        for part, scheme, own in zip(_parts(flow), self.schemes, found, strict=True):
            scheme.judge(part, state, own)

    @property
    def order(self):
        lowest = min(scheme.order for scheme in self.schemes)
        return min(lowest, 2 if self.symmetric else 1)

    @property
    def name(self):
        return f"Composition({', '.join(scheme.name for scheme in self.schemes)})"


def _parts(flow: Any) -> tuple[Any, ...]:
    """The flows of a sum, or one for each term of a single flow's geometry."""
    return flow.parts if len(flow.parts) > 1 else flow.parts[0].split()


def _exchange(state: Any, new: Any, before: Any, after: Any) -> Any:
    """<(dF + dF+)/2, x+ - x> per point."""
    mean = tree.scale(0.5, tree.add(before, after))
    return pairing(state, mean, displacement(state, new))
