"""Any flow with a Gaussian stationary law as a noising process: dz = A z dt + B dW, in a clock.

Its kernel is N(exp(A s) z_0, C(s)), with s the clock's reading. For a flow -K dF with quadratic F,
stationary covariance S and K = K_sym + K_anti,

    A = -K S^(-1) T,    C(s) = S - exp(A s) S exp(A s)^T.

The critically damped Langevin process is the case K = J^T + Friction(gamma) at the friction where
the two rates of the oscillator meet. Source: Dockhorn, Vahdat and Kreis, ICLR 2022.
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Key

from .. import tree
from ..errors import ArgumentError
from ..flow import Flow
from ..functionals import Energy, Hamiltonian, PhaseEnergy
from ..geometries import Friction, Symplectic
from ..geometries.cone import Scaled
from ..noise import Thermal
from ..states import GaussianMixture, Particles, Phase
from .processes import _positive, quadratic


class LinearProcess(eqx.Module):
    """The law of a flow whose drift is linear, in closed form.

    `forward`: the flow. `like`: one point, for the structure. `matrix`: A; `stationary`: S, both
    (d, d) over the raveled point, in the time of the flow. Made by `from_flow`.
    """

    forward: Flow
    like: Any
    matrix: Float[Array, "d d"]
    stationary: Float[Array, "d d"]
    end: float

    @classmethod
    def from_flow(cls, flow: Flow, like: Any, end: float) -> LinearProcess:
        """The process of `Flow(energy, geometry, Thermal(T))` with quadratic energy about zero.

        Raises ArgumentError if the drift is not linear or the stationary law not Gaussian.
        """
        _positive(end=end)
        like = tree.as_float(like, "like")
        flat, unravel = ravel_pytree(like)

        def drift(x: Any) -> Any:
            return ravel_pytree(flow.velocity(unravel(x)))[0]

        if flow.thermal is None or callable(flow.thermal.temperature) or flow.time_dependent:
            raise ArgumentError("flow", str(flow), "Thermal(T) at one temperature, fixed energy")
        zero = jnp.zeros_like(flat)
        matrix = jax.jacfwd(drift)(zero)
        probe = 1.0 + jnp.arange(flat.size, dtype=flat.dtype) / flat.size
        gap = jnp.max(jnp.abs(drift(probe) - matrix @ probe))
        if not gap <= 1e-4 * (1.0 + jnp.max(jnp.abs(matrix))):
            raise ArgumentError("flow", str(flow), "its drift must be linear, without a constant")
        hessian = jax.hessian(lambda x: flow.value(unravel(x)))(zero)
        if not bool(jnp.linalg.eigvalsh(hessian)[0] > 0):
            raise ArgumentError("flow", str(flow), "a stationary law: the energy must be convex")
        stationary = jnp.asarray(flow.thermal.temperature) * jnp.linalg.inv(hessian)
        return cls(flow, like, matrix, stationary, end)

    def flow(self) -> Flow:
        """The process as a flow of points."""
        return self.forward

    def clock(self, t: Any) -> Any:
        """The reading s(t) of the clock in which A is constant."""
        return t

    def kernel(self, t: Any) -> tuple[Float[Array, "d d"], Float[Array, "d d"]]:
        """(exp(A s), C(s)): the mean map and the covariance of z_t given z_0."""
        moved = jax.scipy.linalg.expm(self.matrix * self.clock(t))
        return moved, self.stationary - moved @ self.stationary @ moved.T

    def law(self, mixture: GaussianMixture, t: Any) -> GaussianMixture:
        """The law of z_t when z_0 has the law `mixture`."""
        moved, spread = self.kernel(t)

        def one(component: Any) -> tuple[Any, Any]:
            covariance = moved @ component.covariance @ moved.T + spread
            return moved @ component.mean, jnp.linalg.cholesky(covariance)

        means, scales = mixture.each(one)
        return GaussianMixture(mixture.log_weights, means, scales, phase=mixture.phase)

    def prior(self, key: Key[Array, ""], n: int) -> Particles:
        """n points of the stationary law."""
        lower = jnp.linalg.cholesky(self.stationary)
        flat, unravel = ravel_pytree(self.like)
        white = jax.random.normal(key, (n, flat.size), flat.dtype)
        return Particles.from_positions(jax.vmap(unravel)(white @ lower.T))

    def reverse(self, mixture: GaussianMixture, *, noise: bool = True) -> Flow:
        """The time reversal from `end`, for data with the law `mixture`: exact scores.

        It is the flow of F = -V - 2 T log p under the same K with the same bath (without noise,
        -V - T log p). Where K is not symmetric the sample paths are not those of the reversed
        process, but the marginals are: K_anti grad log p moves no mass of p.
        """
        temperature: Any = self.forward.temperature()
        factor = 2.0 if noise else 1.0

        def energy(z: Any, s: Any) -> Any:
            flat = ravel_pytree(z)[0]
            law = self.law(mixture, jnp.maximum(self.end - s, 0.0))
            return -self.forward.functional(z) - factor * temperature * law.log_prob(flat)

        reverse = self.forward.geometry
        if isinstance(reverse, Scaled) and callable(reverse.factor):
            pace = reverse.factor
            reverse = Scaled(reverse.part, lambda s: pace(self.end - s))
        thermal = self.forward.thermal if noise else None
        if reverse.kinetic:
            of_phase = lambda q, p, s: energy(Phase(q, p), s)  # noqa: E731
            return Flow(PhaseEnergy(of_phase, time_dependent=True), reverse, thermal)
        return Flow(Energy(energy, time_dependent=True), reverse, thermal)


class CriticallyDamped(LinearProcess):
    """dq = beta p/m dt, dp = -beta q dt - beta gamma p/m dt + sqrt(2 gamma beta) dW, gamma^2 = 4 m.

    `dimension` of the data; `mass` m; `beta` the pace. Noise enters the momentum alone, and the
    position feels it smoothed. Stationary: q ~ N(0, I), p ~ N(0, m I).
    """

    beta: float

    def __init__(
        self, dimension: int, mass: float = 0.25, beta: float = 4.0, end: float = 1.0, dtype=None
    ):
        _positive(mass=mass, beta=beta, end=end)
        if not isinstance(dimension, int) or dimension < 1:
            raise ArgumentError("dimension", dimension, "an integer >= 1")
        rest = jnp.zeros(dimension, dtype)
        friction = 2.0 * mass**0.5
        geometry = Scaled(Symplectic() + Friction(friction), beta)
        flow = Flow(Hamiltonian(Energy(quadratic), mass), geometry, Thermal(1.0))
        made = LinearProcess.from_flow(flow, Phase(rest, rest), end)
        self.forward, self.like, self.end = made.forward, made.like, made.end
        self.matrix, self.stationary, self.beta = made.matrix, made.stationary, beta

    def lift_data(self, mixture: GaussianMixture) -> GaussianMixture:
        """The law of (q, p) at time 0: data in q, the stationary momentum in p."""
        d = mixture.dimension
        momentum = self.stationary[d:, d:]

        def one(component: Any) -> tuple[Any, Any]:
            mean = jnp.concatenate([component.mean, jnp.zeros_like(component.mean)])
            scale = jax.scipy.linalg.block_diag(component.lower, jnp.linalg.cholesky(momentum))
            return mean, scale

        means, scales = mixture.each(one)
        return GaussianMixture(mixture.log_weights, means, scales)
