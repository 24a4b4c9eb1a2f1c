"""Stein geometry: particles move along velocities that a kernel has smoothed (SVGD).

    K(rho) psi (x) = integral k(x, y) grad psi(y) rho(dy)

On n particles K is the matrix k(x_i, x_j), and its divergence over all of them is the repulsion
sum_j w_j d_j k(x_i, x_j). So the flow of a free energy is  -K dE + temperature div K  and needs no
noise: Stein variational gradient descent, whose rate of dissipation is the squared kernelised Stein
discrepancy. Sources: Liu and Wang, NeurIPS 2016; Liu, NeurIPS 2017 (the geometry); Gallego and
Insua, arXiv:1812.00071 (the divergence).
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Float

from .. import tree
from ..errors import ArgumentError
from ..kernels import (
    AbstractKernel,
    GaussianKernel,
    SteinKernel,
    check_smooth,
    check_symmetric,
    median_bandwidth,
    pairs,
)
from ..kernels.base import dot
from ..kernels.radial import check_bandwidth
from ..states import Particles
from ..states.points import coordinates, from_coordinates
from .base import AbstractGeometry


class Stein(AbstractGeometry):
    """The kernelised transport of particles (SVGD).

    `kernel`: GaussianKernel, InverseMultiquadric, LinearKernel, their sums and multiples, or your
    own. `bandwidth`: "median" (of the distances now, over sqrt(2 log(n + 1))), a number, a schedule
    time -> number, or None to keep the kernel's own. `preconditioner`: a symmetric positive
    definite matrix P (d, d): distances are measured by P^{-1} and velocities multiplied by P, as by
    the covariance of the target. Entropies become repulsion, so a bath makes no noise here.
    Raises ArgumentError for a matrix that is not positive definite, and a kernel that is not
    symmetric or not differentiable where two points meet.
    """

    kernel: AbstractKernel
    bandwidth: Any
    factor_of: Float[Array, "d d"] | None

    def __init__(
        self,
        kernel: AbstractKernel | None = None,
        bandwidth: Any = "median",
        preconditioner: Float[Array, "d d"] | None = None,
    ):
        kernel = GaussianKernel() if kernel is None else kernel
        if not isinstance(kernel, AbstractKernel):
            raise ArgumentError("kernel", type(kernel).__name__, "e.g. GaussianKernel()")
        check_smooth(kernel)
        if isinstance(bandwidth, str) and bandwidth != "median":
            raise ArgumentError("bandwidth", repr(bandwidth), "'median', a number or a schedule")
        if bandwidth is not None and not isinstance(bandwidth, str) and not callable(bandwidth):
            check_bandwidth(bandwidth)
        self.kernel, self.bandwidth = kernel, bandwidth
        self.factor_of = None if preconditioner is None else _factor(preconditioner)

    def at(self, time):
        if not callable(self.bandwidth):
            return self
        return eqx.tree_at(lambda g: g.bandwidth, self, self.bandwidth(time))

    def on(self, x: Float[Array, "n d"]) -> AbstractKernel:
        """The kernel at the bandwidth of the whitened particles x."""
        if self.bandwidth is None:
            return self.kernel
        width = median_bandwidth(x) if isinstance(self.bandwidth, str) else self.bandwidth
        return self.kernel.with_bandwidth(width)

    def sharp(self, state: Particles, covector: Particles) -> Particles:
        """v_i = sum_j k(x_i, x_j) dF/dx_j, for w_j grad psi(x_j) = dF/dx_j."""
        x, forces = self._white(state), self._pulled(state, covector)
        applied, _ = pairs.apply(self.on(x), x, x, forces, jnp.zeros(state.count, x.dtype))
        return self._tangent(state, applied)

    def divergence(self, state: Particles) -> Particles:
        """sum_j w_j d_j k(x_i, x_j), the repulsion that stands for noise."""
        x = self._white(state)
        zero = jnp.zeros((state.count, 1), x.dtype)
        _, repulsion = pairs.apply(self.on(x), x, x, zero, state.weights)
        return self._tangent(state, repulsion)

    def drift(self, state, covector, temperature=None):
        """Both in one pass over the pairs."""
        x, forces = self._white(state), self._pulled(state, covector)
        bath = jnp.asarray(0.0 if temperature is None else temperature, x.dtype)
        pulled, pushed = pairs.apply(self.on(x), x, x, forces, bath * state.weights)
        return self._tangent(state, pushed - pulled)

    def rate(self, state, covector, own, temperature=None):
        """<dF, K dF> with the entropy in dF: temperature^2 KSD^2, row by row (eq. 40)."""
        x = self._white(state)
        if temperature is None:
            return super().rate(state, covector, own)
        forces = self._pulled(state, own) / state.weights[:, None]
        # sum_j w_j u(x_i, x_j) with u homogeneous: of the score -force / T, times T^2.
        warm = jnp.maximum(temperature, jnp.finfo(x.dtype).tiny ** 0.25)
        lifted = SteinKernel.lift(x, -forces / warm)
        return warm**2 * pairs.potential(SteinKernel(self.on(x)), lifted, lifted, state.weights)

    def full_rate(self, state, variation):
        raise ArgumentError("geometry", self.name, "its rate is known on particles only")

    def check(self, state):
        if not isinstance(state, Particles):
            raise ArgumentError("state", type(state).__name__, "Stein moves Particles")
        x = coordinates(state)
        d = x.shape[1]
        check_symmetric(self.kernel, d, x.dtype)
        if self.factor_of is not None and self.factor_of.shape != (d, d):
            given = f"shape {self.factor_of.shape}"
            raise ArgumentError("preconditioner", given, f"the particles need ({d}, {d})")

    def _white(self, state: Particles) -> Any:
        """L^{-1} x with P = L L^T."""
        x = coordinates(state)
        if self.factor_of is None:
            return x
        return jnp.linalg.solve(self.factor_of.astype(x.dtype), x.T).T

    def _pulled(self, state: Particles, covector: Particles) -> Any:
        """L^T dF/dx_i, a row a particle."""
        rows = coordinates(Particles(covector.positions, None, state.axis))
        return rows if self.factor_of is None else dot(rows, self.factor_of.astype(rows.dtype))

    def _tangent(self, state: Particles, rows: Any) -> Particles:
        if self.factor_of is not None:
            rows = dot(rows, self.factor_of.T.astype(rows.dtype))
        return state.tangent(from_coordinates(state, rows))

    @property
    def noise_terms(self):
        return 0

    @property
    def repulsive(self):
        return True

    @property
    def on_measures(self):
        return True

    @property
    def name(self):
        width = self.bandwidth
        shown = ", median" if isinstance(width, str) else ""
        return f"Stein({self.kernel.name}{shown})"


def _factor(preconditioner: Any) -> Any:
    matrix = jnp.asarray(preconditioner)
    if isinstance(matrix, Tracer):
        return jnp.linalg.cholesky(matrix)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ArgumentError("preconditioner", f"shape {matrix.shape}", "a square matrix")
    symmetric = bool(jnp.allclose(matrix, matrix.T, rtol=1e-5))
    factor = jnp.linalg.cholesky(matrix)
    if not symmetric or not tree.is_finite(factor):
        raise ArgumentError(
            "preconditioner", "not symmetric positive definite", "a covariance, for instance"
        )
    return factor
