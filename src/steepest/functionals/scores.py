"""The score grad log rho of particles, by named estimators: the entropy without noise.

Each has a bias, which its docstring states and a test shows on a Gaussian with known score.
"""

from __future__ import annotations

import abc
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from ..errors import ArgumentError
from ..kernels import GaussianKernel, InverseMultiquadric, median_bandwidth, pairs
from ..kernels.radial import check_bandwidth
from ..states import Particles
from ..states.points import coordinates, from_coordinates


class AbstractScoreEstimator(eqx.Module):
    """grad log rho at the particles, and what follows from it."""

    @abc.abstractmethod
    def score(self, state: Particles) -> Float[Array, "n d"]:
        """grad log rho(x_i)."""

    def log_density(self, state: Particles) -> Float[Array, " n"]:
        """log rho(x_i); by nearest neighbours where the estimator has no density of its own."""
        return -state.entropy_terms()

    def covector(self, state: Particles) -> Particles:
        """The differential of -S(rho): w_i grad log rho(x_i), and w_i log rho(x_i) if weighted."""
        moved = from_coordinates(state, state.weights[:, None] * self.score(state))
        if state.log_weights is None:
            return Particles(moved, None, state.axis)
        w, logs = state.weights, self.log_density(state)
        return Particles(moved, w * (logs - jnp.sum(w * logs)), state.axis)

    @property
    def potential(self) -> bool:
        """Whether `covector` is the exact differential of <log_density>."""
        return False


class KernelDensity(AbstractScoreEstimator):
    """rho replaced by k * rho inside the logarithm: the energy integral rho log(k * rho) ("blob").

    k is Gaussian; `bandwidth`: a number, or "silverman", h = s (4/((d + 2) n))^(1/(d + 4)) with s^2
    the mean variance. The covector is the exact differential, at a fixed bandwidth
    grad log(k * rho) + grad k * (rho / (k * rho)), in which the errors of order h^2 of the two
    terms cancel. Bias: of order h^4, towards a flatter law, as if heat were lost. Under the energy
    x^2/2 at temperature 1 the best Gaussian has variance (1 + sqrt(1 + 4 h^2))/2 - h^2, 1 - h^4.
    Silverman's bandwidth moves with the particles, and its part of the differential is in the
    covector; the energy of a round Gaussian is then -S and a constant, so its score has no bias.
    Source: Carrillo, Craig and Patacchini, Calc. Var. 58 (2019) 53.
    """

    bandwidth: Any = "silverman"

    def __check_init__(self):
        if isinstance(self.bandwidth, str):
            if self.bandwidth != "silverman":
                raise ArgumentError("bandwidth", repr(self.bandwidth), "a number or 'silverman'")
        else:
            check_bandwidth(self.bandwidth)

    def width(self, x: Float[Array, "n d"], w: Float[Array, " n"]) -> Any:
        """The bandwidth h."""
        if not isinstance(self.bandwidth, str):
            return self.bandwidth
        n, d = x.shape
        variance = jnp.sum(w @ jnp.square(x - w @ x)) / d
        variance = jnp.where(variance > 0, variance, 1.0)  # all in one place: no bandwidth
        return jnp.sqrt(variance) * (4.0 / ((d + 2.0) * n)) ** (1.0 / (d + 4.0))

    def log_density(self, state):
        return self._logs(coordinates(state), state.weights)

    def _logs(self, x: Float[Array, "n d"], w: Float[Array, " n"]) -> Float[Array, " n"]:
        # The particles are measured in bandwidths: pairs differentiate in them, in no kernel.
        h = self.width(x, w)
        constant = -0.5 * x.shape[1] * jnp.log(2.0 * math.pi * jnp.square(h))
        return jnp.log(pairs.potential(GaussianKernel(1.0), x / h, x / h, w)) + constant

    def score(self, state):
        """The gradient of the energy's first variation."""
        weights = jax.lax.stop_gradient(state.weights)
        energy = lambda x: jnp.sum(weights * self._logs(x, weights))  # noqa: E731
        return jax.grad(energy)(coordinates(state)) / weights[:, None]

    def covector(self, state):
        return jax.grad(lambda s: s.average(self.log_density(s)))(state)

    @property
    def potential(self):
        return True


class SteinRidge(AbstractScoreEstimator):
    """-(K + n ridge)^(-1) sum_j d_j k(x_i, x_j): ridge regression on Stein's identity.

    k is an inverse multiquadric at the median bandwidth, or at `bandwidth`. Solved by conjugate
    gradients in memory O(n). Bias: towards zero, by about ridge / (ridge + eigenvalue of K/n) in
    each direction. Source: Li and Turner, ICLR 2018.
    """

    ridge: Any = 1e-3
    bandwidth: Any = "median"
    iterations: int = eqx.field(static=True, default=60)

    def __check_init__(self):
        if isinstance(self.ridge, (int, float)) and not self.ridge > 0:
            raise ArgumentError("ridge", self.ridge, "a positive number: K alone is singular")
        if not isinstance(self.bandwidth, str):
            check_bandwidth(self.bandwidth)

    def score(self, state):
        x, n = coordinates(state), state.count
        h = self.bandwidth
        if isinstance(h, str):
            h = median_bandwidth(x) * math.sqrt(2.0 * math.log(n + 1.0))
        kernel = InverseMultiquadric(h)
        zero, ones = jnp.zeros((n, 1), x.dtype), jnp.ones(n, x.dtype)
        _, right = pairs.apply(kernel, x, x, zero, ones)

        def operator(values: Any) -> Any:
            applied, _ = pairs.apply(kernel, x, x, values, ones)
            return applied + n * self.ridge * values

        solved, _ = jax.scipy.sparse.linalg.cg(operator, -right, maxiter=self.iterations, tol=1e-6)
        return solved


class ScoreNetwork(AbstractScoreEstimator):
    """A network s(x) trained on the particles by score matching, min E[|s|^2/2 + div s].

    Two hidden layers of `width` on standardised coordinates, plus the score of the fitted Gaussian,
    so that an untrained network is the Gaussian estimate; `steps` of Adam from `seed` at every
    call, the same ones for the same particles. Bias: what the network cannot represent, and with
    few particles an over-fitted divergence. Source: Hyvarinen, JMLR 6 (2005) 695.
    """

    width: int = eqx.field(static=True, default=32)
    steps: int = eqx.field(static=True, default=200)
    learning_rate: float = 3e-3
    seed: int = eqx.field(static=True, default=0)

    def score(self, state):
        x, w = coordinates(state), state.weights
        x = jax.lax.stop_gradient(x)
        d = x.shape[1]
        mean = w @ x
        scale = jnp.sqrt(w @ (x - mean) ** 2) + jnp.finfo(x.dtype).tiny
        z = (x - mean) / scale
        key = jax.random.key(self.seed)
        net = eqx.nn.MLP(d, d, self.width, 2, jax.nn.silu, key=key, dtype=x.dtype)
        # The last layer starts at zero: the first guess is the Gaussian's score.
        net = eqx.tree_at(lambda n: n.layers[-1].weight, net, replace_fn=jnp.zeros_like)
        net = eqx.tree_at(lambda n: n.layers[-1].bias, net, replace_fn=jnp.zeros_like)

        def field(net: Any, point: Any) -> Any:
            return net(point) - point

        def loss(net: Any) -> Any:
            def one(point: Any) -> Any:
                s, slope = field(net, point), jax.jacfwd(lambda p: field(net, p))(point)
                return 0.5 * jnp.sum(s**2) + jnp.trace(slope)

            return jnp.sum(w * jax.vmap(one)(z))

        optimizer = optax.adam(optax.cosine_decay_schedule(self.learning_rate, self.steps))
        parameters, static = eqx.partition(net, eqx.is_inexact_array)

        def step(carry: Any, _: Any) -> Any:
            parameters, memory = carry
            gradient = jax.grad(lambda p: loss(eqx.combine(p, static)))(parameters)
            change, memory = optimizer.update(gradient, memory)
            return (optax.apply_updates(parameters, change), memory), None

        start = (parameters, optimizer.init(parameters))
        (parameters, _), _ = jax.lax.scan(step, start, length=self.steps)
        trained = eqx.combine(parameters, static)
        return jax.vmap(lambda point: field(trained, point))(z) / scale
