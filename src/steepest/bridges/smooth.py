"""Chains through snapshots whose paths have velocities: a reference with inertia.

The reference is integrated Brownian motion that begins anywhere, at any velocity:
    dX = V dt,   dV = sqrt(2 T) dW
and positions alone are asked for, X at t_i ~ rho_i. The law of paths nearest to it has the density
prod_i g_i(x_i) relative to it, so that two things make it up.
- The joint law of the k + 1 snapshots, the nearest to exp(-x'M x/(4 T)) with the marginals given;
  x'M x is the least integral of |x''|^2 through them, the energy of a natural cubic spline.
- Given the snapshots a path is the reference between them: a natural cubic spline in the mean, with
  a covariance that no snapshot changes.
Between Gaussians both are exact. Other laws are joined by the chain of bridges of Brownian motion,
which has the marginals but is not the nearest joint law; the paths given the snapshots are exact.
As T -> 0 it is the spline of measures.
Sources: Chen, Conforti, Georgiou and Ripani, GSI 2019 (eq. 7-9); Benamou, Gallouet and Vialard,
Found. Comput. Math. 19 (2019) 1063; Chewi et al., AISTATS 2021 (splines through a chain's points);
Green and Silverman, Nonparametric Regression, 1994, chapter 2 (M).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from ..errors import ArgumentError
from ..states import Gaussian, Particles
from .chain import BridgeChain


class Joint(eqx.Module):
    """A Gaussian law of all snapshots: `mean` (k + 1, d), `covariance` of them in one row."""

    mean: Float[Array, "k1 d"]
    covariance: Float[Array, "k1d k1d"]

    def stations(self, x: Float[Array, "n d"], key: Key[Array, ""]) -> Float[Array, "k n d"]:
        """The later snapshots of paths that start at x."""
        later, d = self.mean.shape[0] - 1, self.mean.shape[1]
        L = jnp.linalg.cholesky(self.covariance)
        first = jax.scipy.linalg.solve_triangular(L[:d, :d], (x - self.mean[0]).T, lower=True)
        rest = jax.random.normal(key, (later * d, len(x)), x.dtype)
        moved = L[d:, :d] @ first + L[d:, d:] @ rest
        return self.mean[1:, None] + jnp.moveaxis(moved.reshape(later, d, -1), 2, 1)


class SmoothChain(eqx.Module):
    """`joined`: a `Joint` or a `BridgeChain`, the law of the snapshots; `starts`: of the first.

    `temperature`: of velocities, in squared length per cubed time. `gap`: the largest relative
    error of a marginal covariance of a `Joint`.
    """

    joined: Any
    starts: Any
    temperature: Float[Array, ""]
    gap: Float[Array, ""]
    times: tuple[float, ...] = eqx.field(static=True)
    method: str = eqx.field(static=True, default="smooth")
    why: str = eqx.field(static=True, default="")
    notes: tuple[str, ...] = eqx.field(static=True, default=())

    @property
    def dimension(self) -> int:
        """d."""
        joined = self.joined
        return joined.mean.shape[1] if isinstance(joined, Joint) else joined.dimension

    @property
    def horizon(self) -> float:
        """The time of the last snapshot."""
        return self.times[-1]

    def stations(self, x: Float[Array, "n d"], key: Key[Array, ""]) -> Float[Array, "k n d"]:
        """Where paths from x are at the later snapshots."""
        if isinstance(self.joined, Joint):
            return self.joined.stations(x, key)
        return self.joined.sample_paths(x, self.times[1:], key)

    def sample(self, x: Float[Array, "n d"], key: Key[Array, ""]) -> Float[Array, "n d"]:
        """An end for each start."""
        return self.stations(x, key)[-1]

    def sample_paths(
        self, x: Float[Array, "n d"], times: Any, key: Key[Array, ""]
    ) -> Float[Array, "k n d"]:
        """Paths from x at increasing times in [t_0, t_k]."""
        return self.sample_states(x, times, key)[0]

    def sample_states(
        self, x: Float[Array, "n d"], times: Any, key: Key[Array, ""]
    ) -> tuple[Float[Array, "k n d"], Float[Array, "k n d"]]:
        """(positions, velocities) of paths from x."""
        at = np.asarray(times, float)
        if not np.all((at >= self.times[0]) & (at <= self.times[-1])):
            raise ArgumentError("times", at, f"from {self.times[0]:g} to {self.times[-1]:g}")
        join, move = jax.random.split(key)
        later = self.stations(x, join)
        weights, root = between(self.times, at)
        gaps = (later - x).reshape(len(later), -1)
        noise = jax.random.normal(move, (2 * len(at), gaps.shape[1]), x.dtype)
        scale = jnp.sqrt(2.0 * self.temperature)
        found = jnp.asarray(weights, x.dtype) @ gaps + scale * (jnp.asarray(root, x.dtype) @ noise)
        position, velocity = found.reshape(2, len(at), *x.shape)
        return x + position, velocity

    def marginal(self, time: Any, key: Key[Array, ""] | None = None, n: int = 1000) -> Any:
        """The law of positions at a time: a Gaussian between Gaussians, else points."""
        if isinstance(self.joined, Joint):
            return self.moments(time)
        if key is None:
            raise ArgumentError("key", None, "a key: this marginal is sampled")
        pick, move = jax.random.split(key)
        return Particles(self.sample_paths(self.starts.sample(pick, n), [float(time)], move)[0])

    def moments(self, time: Any) -> Gaussian:
        """Of positions between Gaussians: a weighted sum of snapshots, and noise."""
        weights, root = between(self.times, np.asarray([float(time)]))
        w = jnp.asarray(np.concatenate([[1.0 - weights[0].sum()], weights[0]]))
        mean, covariance = self.joined.mean, self.joined.covariance
        d = mean.shape[1]
        spread = jnp.einsum("i,iajb,j->ab", w, covariance.reshape(len(w), d, len(w), d), w)
        own = 2.0 * self.temperature * float(root[0] @ root[0])
        return Gaussian.from_moments(w @ mean, spread + own * jnp.eye(d))

    def log_growth_along(self, x: Any, stations: Any) -> Float[Array, "k n"]:
        """As of a `BridgeChain`."""
        if isinstance(self.joined, BridgeChain):
            return self.joined.log_growth_along(x, stations)
        return jnp.zeros(stations.shape[:2], x.dtype)


def roughness(times: tuple[float, ...]) -> Float[np.ndarray, "k1 k1"]:
    """M: x'M x is the integral of |x''|^2 of the natural cubic spline through x."""
    h = np.diff(times)
    n = len(h) + 1
    bend, mass = np.zeros((n, n - 2)), np.zeros((n - 2, n - 2))
    for j in range(n - 2):
        bend[j : j + 3, j] = 1 / h[j], -1 / h[j] - 1 / h[j + 1], 1 / h[j + 1]
        mass[j, j] = (h[j] + h[j + 1]) / 3
        if j:
            mass[j, j - 1] = mass[j - 1, j] = h[j] / 6
    return bend @ np.linalg.solve(mass, bend.T)


def between(
    times: tuple[float, ...], at: Float[np.ndarray, " q"]
) -> tuple[Float[np.ndarray, "2q k"], Float[np.ndarray, "2q 2q"]]:
    """(W, R) for positions, then velocities, at the times `at`, given the snapshots.

    They are x_0 + W (x_i - x_0), or W (x_i - x_0), plus sqrt(2 T) R noise. For I, the integral of
    Brownian motion from 0, Cov(I_s, I_t) = s^2 (3 t - s)/6 where s <= t; the first velocity has no
    prior and is found by generalised least squares.
    """
    h, t = np.asarray(times[1:]) - times[0], np.asarray(at) - times[0]

    def both(s: Any, t: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Cov(I_s, I_t), Cov(V_s, I_t), Cov(V_s, V_t)."""
        s, t = np.meshgrid(s, t, indexing="ij")
        low, high = np.minimum(s, t), np.maximum(s, t)
        return low**2 * (3 * high - low) / 6, low * t - low**2 / 2, low

    own = both(h, h)[0]
    place, speed = both(t, h)[:2]
    across = np.concatenate([place, speed])
    pp, vp, vv = both(t, t)
    prior = np.block([[pp, vp.T], [vp, vv]])
    trend = np.concatenate([t, np.ones_like(t)])
    solved = np.linalg.solve(own, np.concatenate([across.T, h[:, None]], axis=1))
    kriged, known = solved[:, :-1].T, solved[:, -1]
    size, left = h @ known, trend - kriged @ h
    weights = kriged + np.outer(left, known) / size
    spread = prior - kriged @ across.T + np.outer(left, left) / size
    values, vectors = np.linalg.eigh(0.5 * (spread + spread.T))
    return weights, vectors * np.sqrt(np.maximum(values, 0.0))


class Fitted(NamedTuple):
    """The covariance of all snapshots, the largest relative error of a block, sweeps."""

    covariance: Array
    gap: Array
    sweeps: Array


def fit_joint(
    laws: Any, times: tuple[float, ...], temperature: float, tolerance: float, most: int
) -> Fitted:
    """The Gaussian nearest to exp(-x'M x/(4 T)) with the covariances of `laws`.

    Its precision is that of the reference plus a block for each snapshot: every block in turn is
    moved until its marginal is right (proportional fitting).
    """
    given = jnp.stack([law.covariance for law in laws])
    K = jnp.asarray(roughness(times), given.dtype) / (2.0 * temperature)
    return _fit_joint(K, given, tolerance, most)


@jax.jit
def _fit_joint(K: Any, given: Any, tolerance: Any, most: Any) -> Fitted:
    n, d = given.shape[:2]
    base = jnp.kron(K, jnp.eye(d, dtype=given.dtype))
    wanted = jnp.linalg.inv(given)

    def whole(blocks: Any) -> Any:
        diagonal = jnp.einsum("ij,iab->iajb", jnp.eye(n, dtype=given.dtype), blocks)
        return jnp.linalg.inv(base + diagonal.reshape(n * d, n * d))

    def own(S: Any) -> Any:
        return jnp.einsum("iaib->iab", S.reshape(n, d, n, d))

    def turn(i: Any, blocks: Any) -> Any:
        return blocks.at[i].add(wanted[i] - jnp.linalg.inv(own(whole(blocks))[i]))

    def step(carry: Any) -> Any:
        blocks, _, k = carry
        blocks = jax.lax.fori_loop(0, n, turn, blocks)
        gap = jnp.max(jnp.abs(own(whole(blocks)) - given)) / jnp.max(jnp.abs(given))
        return blocks, gap, k + 1

    def going(carry: Any) -> Any:
        return (carry[1] > tolerance) & (carry[2] < most)

    start = (wanted, jnp.asarray(jnp.inf, given.dtype), jnp.asarray(0))
    blocks, gap, sweeps = jax.lax.while_loop(going, step, start)
    covariance = whole(blocks)
    return Fitted(0.5 * (covariance + covariance.T), gap, sweeps)


def check_smooth(smooth: Any, times: tuple[float, ...]) -> None:
    """Raises ArgumentError for what is no temperature, and for fewer than three snapshots."""
    if not (isinstance(smooth, (int, float)) and 0 < smooth < float("inf")):
        raise ArgumentError("smooth", smooth, "a temperature of velocities > 0, or None")
    if len(times) < 3:
        what = "three snapshots or more: through two every path may be straight"
        raise ArgumentError("smooth", f"{len(times)} snapshots", what)


def fit_smooth(problem: Any, smooth: float, chain: Any, *, most: int = 3000) -> SmoothChain:
    """The smooth chain of a `SchrodingerChain`; `chain` joins laws that are not all Gaussian."""
    laws = problem.snapshots
    scalar = lambda value: jnp.asarray(value, float)  # noqa: E731
    if chain is not None:
        note = "snapshots are joined by Brownian bridges, paths between them are smooth"
        starts = chain.legs[0].starts if hasattr(chain.legs[0], "starts") else problem.source
        return SmoothChain(
            chain, starts, scalar(smooth), scalar(0.0), problem.times, f"smooth, {chain.method}",
            chain.why, (*chain.notes, note),
        )  # fmt: skip
    mean = jnp.stack([law.mean for law in laws])
    tolerance = 1e-11 if mean.dtype == jnp.float64 else 1e-5
    found = fit_joint(laws, problem.times, smooth, tolerance, most)
    notes = ()
    if not float(found.gap) <= tolerance:
        notes = (f"stopped after {most} sweeps, a covariance {float(found.gap):.2g} off",)
    why = "all snapshots are Gaussian: the closed form"
    return SmoothChain(
        Joint(mean, found.covariance), laws[0], scalar(smooth), found.gap, problem.times,
        "smooth, gaussian", why, notes,
    )  # fmt: skip
