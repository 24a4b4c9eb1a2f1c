"""Interaction energies of pairs (eq. 63 and section 6.8): 1/2 E W(x - y), x and y independent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from .. import tree
from ..errors import ArgumentError
from ..kernels import AbstractKernel, Displacement, check_symmetric, pairs
from ..states import Particles, Phase
from ..states.points import coordinates
from .base import AbstractFunctional
from .projection import projection

BATCH_STREAM = 14


class InteractionEnergy(AbstractFunctional):
    """1/2 double integral W(x - y) rho(x) rho(y) dx dy, for a symmetric kernel W(z) = W(-z).

    `kernel`: a kernel, or a function displacement -> number. Its Wasserstein flow is the
    aggregation equation d rho/dt = div(rho grad(W * rho)); with thermal noise, McKean and Vlasov's.
    On a grid the convolution is done by FFT. On particles every pair is visited, block by block in
    memory O(n), a particle with itself included: it counts W(0) (nothing where that is infinite)
    and exerts no force. On a `Phase` positions interact.

    `batch_size` = p (even): under `Minibatch()` every particle meets p others, drawn anew at every
    step, with forces in pairs: an unbiased covector whose variance per particle is
    (1/p)(1 - p/(n-1)) Var_j grad W(x_i - x_j), at the cost O(n p).
    Source: Jin, Li and Liu, J. Comput. Phys. 400 (2020) 108877 (random batches).
    Raises ArgumentError for a kernel that is not symmetric, or a batch that does not fit.
    """

    kernel: Callable[[Any], Any]
    batch_size: int | None = eqx.field(static=True, default=None)

    def __check_init__(self):
        if not callable(self.kernel) and not isinstance(self.kernel, AbstractKernel):
            raise ArgumentError(
                "kernel", type(self.kernel).__name__, "a function displacement -> number"
            )
        p = self.batch_size
        if p is not None and not (isinstance(p, (int, np.integer)) and p >= 2 and p % 2 == 0):
            raise ArgumentError("batch_size", p, "an even number of partners, at least 2")

    def __call__(self, state: Any) -> Float[Array, ""]:
        if isinstance(state, Particles):
            return 0.5 * pairs.energy(self.on(state), coordinates(state), state.weights)
        kernel = self._displacement()
        expectation = getattr(state, "pair_expectation", None)
        if expectation is not None:
            return 0.5 * expectation(kernel)
        return 0.5 * state.expect(lambda x: state.expect(lambda y: kernel(tree.sub(x, y))))

    def on(self, state: Particles) -> AbstractKernel:
        """The kernel as a function of two rows of coordinates."""
        if isinstance(self.kernel, AbstractKernel):
            return self.kernel
        one = jax.tree.map(lambda x: x[0], state.turned(0).positions)
        one = one.position if isinstance(one, Phase) else one
        _, unravel = ravel_pytree(jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), one))
        return Displacement(self.kernel, unravel)

    def _displacement(self) -> Callable[[Any], Any]:
        if isinstance(self.kernel, AbstractKernel) and not callable(self.kernel):
            raise ArgumentError("kernel", self.kernel.name, "a law needs a kernel of x - y")
        return self.kernel

    def per_point(self, state: Any) -> Float[Array, "..."]:
        return projection(self, state) if isinstance(state, Particles) else self(state)

    def estimate(self, state: Any, randomness: Any) -> Any:
        """Of p partners each, the next in a random order: pairs at the offsets 1 ... p/2."""
        p = self.batch_size
        if p is None or randomness is None or not isinstance(state, Particles):
            return self.differential(state)
        n = state.count
        order = jnp.argsort(randomness.bits((n,), stream=BATCH_STREAM))
        partners = jnp.stack([jnp.roll(order, -r) for r in range(1, p // 2 + 1)])

        def batch(measure: Particles) -> Any:
            x, w = coordinates(measure), measure.weights
            kernel = self.on(measure)
            one = jax.vmap(kernel.pair)
            values = jax.vmap(lambda j: jnp.sum(w[order] * w[j] * one(x[order], x[j])))(partners)
            return (n - 1.0) / p * jnp.sum(values)

        return jax.grad(batch)(state)

    def first_variation(self, state: Any) -> Callable[[Any], Any]:
        """x -> E W(x - y)."""
        kernel = self._displacement()
        return lambda x: state.expect(lambda y: kernel(tree.sub(x, y)))

    def check(self, state: Any) -> None:
        if not isinstance(state, Particles):
            return
        if self.batch_size is not None and self.batch_size > state.count - 1:
            given = f"{self.batch_size} partners among {state.count} particles"
            raise ArgumentError("batch_size", given, f"at most {state.count - 1}")
        if any(isinstance(x, Tracer) for x in jax.tree.leaves((self.kernel, state))):
            return
        x = coordinates(state)
        check_symmetric(self.on(state), x.shape[1], x.dtype)

    @property
    def smooth(self) -> bool:
        return getattr(self.kernel, "smooth", True)

    @property
    def on_measures(self):
        return True

    @property
    def couples(self) -> bool:
        return True

    @property
    def subsamples(self) -> bool:
        return self.batch_size is not None

    @property
    def name(self) -> str:
        if isinstance(self.kernel, AbstractKernel):
            return f"½⟨{self.kernel.name}∗ρ⟩"
        name = getattr(self.kernel, "__name__", type(self.kernel).__name__)
        return "½⟨W∗ρ⟩" if name == "<lambda>" else f"½⟨{name}∗ρ⟩"
