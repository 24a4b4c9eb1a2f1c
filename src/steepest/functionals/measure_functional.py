"""Any function of a measure as a functional: the mean-field limit of a network, for instance."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from ..errors import ArgumentError
from ..states import Particles
from .base import AbstractFunctional
from .projection import projection


class MeasureFunctional(AbstractFunctional):
    """F(rho) = function(rho), written in terms of `rho.expect`; its covector is `jax.grad`.

    For example the risk of a two-layer network in its mean-field limit, the neurons being the
    particles (section 6.8):  lambda rho: jnp.mean((rho.expect(neuron) - y)**2).
    """

    function: Callable[[Any], Any]

    def __check_init__(self):
        if not callable(self.function):
            given = type(self.function).__name__
            raise ArgumentError("function", given, "a function of a measure -> number")

    def __call__(self, state: Any) -> Float[Array, ""]:
        value = jnp.asarray(self.function(state))
        if value.ndim:
            raise ArgumentError("function", f"a value of shape {value.shape}", "one number")
        return value

    def per_point(self, state):
        return projection(self, state) if isinstance(state, Particles) else self(state)

    def check(self, state):
        if not hasattr(state, "expect"):
            raise ArgumentError("state", type(state).__name__, "a measure, e.g. Particles(...)")

    @property
    def on_measures(self):
        return True

    @property
    def couples(self):
        return True

    @property
    def name(self):
        name = getattr(self.function, "__name__", type(self.function).__name__)
        return "F(ρ)" if name == "<lambda>" else f"{name}(ρ)"
