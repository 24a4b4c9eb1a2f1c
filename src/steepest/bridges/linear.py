"""Bridges of linear references: the whole process in closed form from a potential at its end.

    drift(x, t) = reference drift + 2 T grad log phi_t(x)   (Doob's transform)
Given its two ends a path is a bridge of the reference, so that paths are sampled without error in
time: first the end, then the reference between the ends.
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float, Key

from ..errors import ArgumentError
from ..random import Randomness
from ..states import Gaussian, GaussianMixture, Particles
from ..states.divergences import Estimate
from .base import AbstractBridge, compiled
from .gaussians import whitened
from .potential import Ends, drawn_ends, drawn_index, ends, log_end, normals
from .reference import LinearReference

ENTRIES = 2**22


class LinearBridge(AbstractBridge):
    """The bridge of a linear reference with the end potential `potential`, in white coordinates.

    `potential`: the mixture w, or atoms (`Particles`) with g = sum_j w_j delta_j. `starts`: points
    of the source (weights if unequal), on which what runs backwards leans. `source`, `target`: the
    two laws where both are Gaussian, else None.
    """

    reference: LinearReference
    potential: Any
    starts: Particles
    source: Gaussian | None = None
    target: Gaussian | None = None
    method: str = eqx.field(static=True, default="given")
    why: str = eqx.field(static=True, default="a given potential")
    notes: tuple[str, ...] = eqx.field(static=True, default=())

    @property
    def dimension(self):
        return self.reference.dimension

    @property
    def horizon(self):
        return self.reference.horizon

    @compiled
    def drift(self, x, time):
        z = self.reference.turned(x)
        factor = self.reference.coming(z, time)[2]
        pull = factor * self._ends(z, time).slopes
        return self.reference.pulled(z, pull)

    def reference_drift(self, x):
        return self.reference.velocity(x)

    @compiled
    def log_potential(self, x: Float[Array, "n d"], time: Any = 0.0) -> Float[Array, " n"]:
        """log phi_t(x), whose gradient is the pull of the target."""
        return logsumexp(self._ends(self.reference.turned(x), time).logs, axis=1)

    @compiled
    def backward_drift(self, x, time):
        z = self.reference.turned(x)
        if self.source is not None:
            law: Any = self._gaussian_marginal(time)
            score = -jnp.linalg.solve(law.covariance, (x - law.mean).T).T
            return self.drift(x, time) - 2.0 * self.reference.temperature * score
        # log phi-hat: the reference from the starts, each with the weight w/phi_0.
        factor, shift, variance = self.reference.transition(time)
        atoms = self.reference.turned(self.starts.positions) * factor + shift
        logs = self._start_logs()
        root = jnp.sqrt(variance)
        gaps = _products(z / root, atoms / root) + logs
        share = jnp.exp(gaps - logsumexp(gaps, axis=1, keepdims=True))
        slope = (share @ atoms - z) / variance
        return self.reference.pulled(z, -slope)

    @eqx.filter_jit
    def sample(self, x, key):
        return self._by_blocks(self._draw, x, key)

    @eqx.filter_jit
    def sample_backward(self, y, key):
        u = self.reference.white_source(self.starts.positions)
        v, logs = self.reference.white_target(y), self._start_logs()
        chosen = drawn_index(_products(v, u) + logs, Randomness.from_key(key))
        return self.starts.positions[chosen]

    @compiled
    def sample_paths(self, x, times, key):
        reference, T = self.reference, self.reference.horizon
        first, rest = jax.random.split(key)
        z, y = reference.turned(x), reference.turned(self.sample(x, first))
        times = jnp.asarray(times, z.dtype)

        def move(carry: Any, now: Any) -> Any:
            z, before = carry
            time, k = now
            f1, s1, q1 = reference.transition(time - before)
            f2, s2, q2 = reference.transition(jnp.maximum(T - time, 0.0))
            whole = q2 + f2**2 * q1
            safe = jnp.where(whole > 0, whole, 1.0)
            ahead = f1 * z + s1
            mean = ahead + jnp.where(whole > 0, q1 * f2 / safe, 0.0) * (y - f2 * ahead - s2)
            spread = jnp.sqrt(jnp.where(whole > 0, q1 * q2 / safe, 0.0))
            z = mean + spread * normals(z, Randomness.from_key(k))
            return (z, time), z

        keys = jax.random.split(rest, times.shape[0])
        path = jax.lax.scan(move, (z, jnp.zeros((), z.dtype)), (times, keys))[1]
        return reference.back(path)

    def marginal(self, time, key=None, n=1000):
        if self.source is not None:
            return self._gaussian_marginal(time)
        if key is None:
            raise ArgumentError("key", None, "a key: this marginal is sampled")
        pick, move = jax.random.split(key)
        x = self.starts.sample(pick, n)
        return Particles(self.sample_paths(x, jnp.asarray([time]), move)[0])

    def expected_end(self, x: Float[Array, "n d"]) -> Float[Array, "n d"]:
        """E[X_T | X_0 = x], the barycentric map."""
        return self.conditional_moments(x, covariance=False)[0]

    @eqx.filter_jit
    def conditional_moments(
        self, x: Float[Array, "n d"], covariance: bool = True
    ) -> tuple[Float[Array, "n d"], Float[Array, "n d d"] | None]:
        """Mean and covariance of the end given the start."""
        reference = self.reference
        found = self._ends(reference.turned(x), 0.0)
        share = jax.nn.softmax(found.logs, axis=1)
        atoms = found.scales is None
        mean = share @ found.means if atoms else jnp.einsum("nk,nkd->nd", share, found.means)
        spread = None
        if covariance:
            _, _, variance = reference.transition(reference.horizon)
            gaps = found.means - mean[:, None]
            spread = jnp.einsum("nk,nki,nkj->nij", share, gaps, gaps)
            if found.scales is not None:
                L = found.scales
                own = L @ jnp.swapaxes(L, 1, 2) if L.ndim == 3 else jax.vmap(jnp.diag)(L**2)
                spread = spread + jnp.einsum("nk,kij->nij", share, own)
            root = jnp.sqrt(variance)
            spread = root[:, None] * spread * root
            R = reference.rotation
            spread = spread if R is None else R @ spread @ R.T
        return reference.from_white_target(mean), spread

    def coupling(self) -> tuple[Float[Array, " 2d"], Float[Array, "2d 2d"]]:
        """Mean and covariance of (X_0, X_T) of a bridge between Gaussians."""
        if self.source is None:
            raise ArgumentError("bridge", self.method, "sample(x, key) draws from the coupling")
        return self._coupling()

    @eqx.filter_jit
    def _coupling(self) -> tuple[Array, Array]:
        assert self.source is not None
        (a, L), _ = whitened(self.reference, self.source, self.source)
        r, S = self.potential.means[0], self.potential.component(0).covariance
        A = L @ L.T
        C = A @ S
        B = S @ C + S
        factor, shift, variance = self.reference.transition(self.horizon)
        root = jnp.sqrt(variance)
        whole = jnp.block([[A, C], [C.T, B]])
        scale = jnp.concatenate([root / factor, root])
        turn = self.reference.back
        mean = jnp.concatenate([turn(a * root / factor), turn((r + S @ a) * root + shift)])
        whole = scale[:, None] * whole * scale
        if self.reference.rotation is not None:
            R = jax.scipy.linalg.block_diag(self.reference.rotation, self.reference.rotation)
            whole = R @ whole @ R.T
        return mean, whole

    def path_kl(self, key: Key[Array, ""], n: int = 2000) -> Estimate:
        """KL(P || P_0) over paths that start at the source, from n draws, with standard error.

        E log g(X_T) - E log phi_0(X_0). Infinite for a bridge that ends on atoms: then refused.
        """
        if isinstance(self.potential, Particles):
            raise ArgumentError("bridge", "an end of atoms", "its path KL is infinite; use mixture")
        pick, move = jax.random.split(key)
        x = self.source.sample(pick, n) if self.source else self.starts.sample(pick, n)
        end = self.reference.white_target(self.sample(x, move))
        terms = eqx.filter_jit(log_end)(self.potential, end) - self.log_potential(x)
        return Estimate(jnp.mean(terms), jnp.std(terms) / jnp.sqrt(n))

    def _gaussian_marginal(self, time: Any) -> Gaussian:
        """X_t = alpha X_0 + beta X_T + gamma + noise, in the axes of the stiffness."""
        return Gaussian(*self._moments(time))

    @compiled
    def _moments(self, time: Any) -> tuple[Array, Array]:
        reference = self.reference
        mean, whole = self.coupling()
        f1, s1, q1 = reference.transition(time)
        f2, s2, q2 = reference.transition(self.horizon - time)
        gain = q1 * f2 / (q2 + f2**2 * q1)
        alpha, gamma = f1 - gain * f2 * f1, s1 - gain * (f2 * s1 + s2)
        d = self.dimension
        if reference.rotation is not None:
            R = jax.scipy.linalg.block_diag(reference.rotation, reference.rotation)
            whole = R.T @ whole @ R
        both = jnp.concatenate([jnp.diag(alpha), jnp.diag(gain)], axis=1)
        spread = both @ whole @ both.T + jnp.diag(q1 * q2 / (q2 + f2**2 * q1))
        first, last = reference.turned(mean[:d]), reference.turned(mean[d:])
        middle = alpha * first + gain * last + gamma
        R = reference.rotation
        spread = spread if R is None else R @ spread @ R.T
        return reference.back(middle), jnp.linalg.cholesky(0.5 * (spread + spread.T))

    def _ends(self, z: Any, time: Any) -> Ends:
        mu, D, _ = self.reference.coming(z, time)
        return ends(self.potential, mu, D)

    def _draw(self, z: Any, key: Any) -> Array:
        mu, D, _ = self.reference.coming(z, 0.0)
        return self.reference.from_white_target(drawn_ends(self.potential, mu, D, key))

    def _start_logs(self) -> Array:
        """log(w_i / phi_0(x_i)) of the starts."""
        logs = jnp.log(self.starts.weights)
        return logs - self.log_potential(self.starts.positions)

    def _by_blocks(self, fn: Any, x: Any, key: Any) -> Array:
        """fn of blocks of rows, so that no matrix (n, k, d) is whole."""
        k = self.potential.count
        dense = isinstance(self.potential, GaussianMixture) and self.potential.scales.ndim == 3
        wide = self.dimension if dense else 1
        block = max(1, min(len(x), ENTRIES // max(k * wide, 1)))
        count = -(-len(x) // block)
        z = self.reference.turned(x)
        if count == 1:
            return fn(z, key)
        padded = jnp.concatenate([z, jnp.broadcast_to(z[:1], (count * block - len(z), z.shape[1]))])
        keys = jax.random.split(key, count)
        found = jax.lax.map(lambda a: fn(*a), (padded.reshape(count, block, -1), keys))
        return found.reshape(count * block, -1)[: len(x)]


def _products(a: Any, b: Any) -> Array:
    """-|a_i - b_j|^2/2, centred first."""
    centre = jnp.mean(b, axis=0)
    a, b = a - centre, b - centre
    return a @ b.T - 0.5 * jnp.sum(a**2, 1)[:, None] - 0.5 * jnp.sum(b**2, 1)
