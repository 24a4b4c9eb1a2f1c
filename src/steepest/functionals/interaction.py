"""Interaction energies of pairs (eq. 63 and section 6.8): 1/2 E W(x - y), x and y independent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jaxtyping import Array, Float

from .. import tree
from ..errors import ArgumentError
from .base import AbstractFunctional


class InteractionEnergy(AbstractFunctional):
    """1/2 double integral W(x - y) rho(x) rho(y) dx dy, for a symmetric kernel W(z) = W(-z).

    `kernel`: displacement -> number. Its Wasserstein flow is the aggregation equation
    d rho/dt = div(rho grad(W * rho)). On a grid the convolution is done by FFT; on particles every
    pair is visited, a particle with itself included.
    """

    kernel: Callable[[Any], Any]

    def __check_init__(self):
        if not callable(self.kernel):
            raise ArgumentError(
                "kernel", type(self.kernel).__name__, "a function displacement -> number"
            )

    def __call__(self, state: Any) -> Float[Array, ""]:
        pairs = getattr(state, "pair_expectation", None)
        if pairs is not None:
            return 0.5 * pairs(self.kernel)
        return 0.5 * state.expect(lambda x: state.expect(lambda y: self.kernel(tree.sub(x, y))))

    def first_variation(self, state: Any) -> Callable[[Any], Any]:
        """x -> E W(x - y)."""
        return lambda x: state.expect(lambda y: self.kernel(tree.sub(x, y)))

    @property
    def name(self) -> str:
        name = getattr(self.kernel, "__name__", type(self.kernel).__name__)
        return "½⟨W∗ρ⟩" if name == "<lambda>" else f"½⟨{name}∗ρ⟩"
