"""The kernelised Stein discrepancy: how far particles are from a target, by its score alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..errors import ArgumentError
from ..kernels import (
    AbstractKernel,
    InverseMultiquadric,
    SteinKernel,
    check_smooth,
    check_symmetric,
    pairs,
)
from ..states import Particles
from ..states.points import coordinates
from .base import AbstractFunctional
from .energy import Energy
from .projection import projection


class SteinDiscrepancy(AbstractFunctional):
    """KSD^2(rho | pi) = double integral u(x, y) rho(dx) rho(dy), pi ~ exp(-E/temperature).

    u(x, y) = s_x.s_y k + s_x.d_y k + s_y.d_x k + tr d_x d_y k with the score s = -grad E /
    temperature. `kernel`: an inverse multiquadric of bandwidth 1 unless given (its discrepancy
    controls weak convergence); `SteinDiscrepancy.measure` gives an estimate with its error.
    Sources: Liu, Lee and Jordan, ICML 2016; Gorham and Mackey, ICML 2017.
    """

    energy: AbstractFunctional
    kernel: AbstractKernel
    temperature: Any

    def __init__(
        self,
        energy: AbstractFunctional | Callable,
        kernel: AbstractKernel | None = None,
        temperature: Any = 1.0,
    ):
        self.energy = energy if isinstance(energy, AbstractFunctional) else Energy(energy)
        self.kernel = InverseMultiquadric() if kernel is None else kernel
        if not isinstance(self.kernel, AbstractKernel):
            raise ArgumentError("kernel", type(kernel).__name__, "e.g. InverseMultiquadric()")
        check_smooth(self.kernel)
        number = not callable(temperature)
        if not number or (isinstance(temperature, (int, float)) and not 0 < temperature < math.inf):
            raise ArgumentError("temperature", temperature, "a positive finite number")
        self.temperature = temperature

    def lifted(self, state: Particles, slope: Any = None) -> Float[Array, "n 2d"]:
        """Rows (x_i, score at x_i); `slope`: grad E at each particle, where it is known."""
        if slope is None:
            slope = self.energy.differentials(state.positions, state.axis)
        score = coordinates(Particles(slope, None, state.axis)) / -self.temperature
        return SteinKernel.lift(coordinates(state), score)

    def __call__(self, state: Particles) -> Float[Array, ""]:
        return pairs.energy(SteinKernel(self.kernel), self.lifted(state), state.weights)

    def per_point(self, state):
        return projection(self, state)

    def check(self, state: Any) -> None:
        if not isinstance(state, Particles):
            raise ArgumentError("state", type(state).__name__, f"{self.name} measures Particles")
        check_symmetric(self.kernel, coordinates(state).shape[1], coordinates(state).dtype)

    def witness(self, state: Particles) -> Float[Array, " n"]:
        """sum_j w_j u(x_i, x_j) at each particle; zero everywhere only at the target."""
        rows = self.lifted(state)
        return pairs.potential(SteinKernel(self.kernel), rows, rows, state.weights)

    def measure(self, state: Particles, slope: Any = None) -> SteinEstimate:
        """KSD^2 without its diagonal (unbiased), its standard error, and its null level.

        `slope`: grad E at each particle, with the structure of the positions, where it is known.
        """
        return _measured(self, state, slope)

    @property
    def on_measures(self):
        return True

    @property
    def couples(self) -> bool:
        return True

    @property
    def name(self) -> str:
        return f"KSD²({self.kernel.name})"


class SteinEstimate(NamedTuple):
    """An unbiased estimate of KSD^2 with its standard error, both under independence.

    `null`: the standard deviation that the estimate has when the particles do follow the target;
    a value of a few times `null` is no evidence against it.
    """

    value: Float[Array, ""]
    error: Float[Array, ""]
    null: Float[Array, ""]


@eqx.filter_jit
def _measured(functional: SteinDiscrepancy, state: Particles, slope: Any) -> SteinEstimate:
    rows, w = functional.lifted(state, slope), state.weights
    kernel = SteinKernel(functional.kernel)
    own = jax.vmap(kernel.pair)(rows, rows)
    all_pairs = pairs.potential(kernel, rows, rows, w)
    size = 1.0 / jnp.sum(w**2)
    off = 1.0 - jnp.sum(w**2)
    rest = (all_pairs - w * own) / off  # sum over j != i
    value = jnp.sum(w * rest)
    error = 2.0 * jnp.sqrt(jnp.sum(w * (rest - value) ** 2) / size)
    # At the target rest has mean zero, and the variance of the statistic is 2 E u^2 / n^2.
    squares = pairs.reduced(lambda r, c, v: jnp.square(kernel.block(r, c)) @ v, (rows,), (rows, w))
    null = jnp.sqrt(2.0 * jnp.sum(w * (squares - w * own**2))) / size
    return SteinEstimate(value, jnp.hypot(error, null), null)
