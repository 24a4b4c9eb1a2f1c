"""The potential of a bridge at its end, and what it becomes at earlier times, in closed form.

In the white coordinates of a linear reference (`LinearReference`) the end of a bridge from u has
the density proportional to exp(-|u - v|^2/2) g(v), with g(v) exp(-|v|^2/2) = w(v) a mixture
sum_k a_k N(r_k, S_k). At an earlier time, with the end v ~ N(mu, D) under the reference,
    phi(mu) = (2 pi)^{-d/2} sum_k a_k |G_k|^{-1/2}
              exp(-e'P_k e/2 + e'Q_k r_k + r_k'(1 + D Q_k) r_k/2),
    e = mu - r_k,   G_k = D + S_k (1 - D),   P_k = G_k^{-1} (1 - S_k),   Q_k = G_k^{-1} S_k,
and component k has the end mean r_k + Q_k'e + D Q_k r_k and the covariance D Q_k. Atoms are S = 0.
Source: Korotin, Gushchin and Burnaev, ICLR 2024 (light bridges), whose formulas for Brownian
motion these extend to linear references and to every time.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float, Int, Key

from ..random import Randomness
from ..states import GaussianMixture, Particles

GROUP = 64
"""Columns that are searched at once."""


class Ends(NamedTuple):
    """The mixture of ends seen from n points.

    `logs`: (n, k), their logsumexp is log phi; `means`: (n, k, d), or (k, d) for atoms;
    `scales`: a lower factor (k, d, d), deviations (k, d), or None for atoms;
    `slopes`: (n, d), the gradient of log phi in mu.
    """

    logs: Array
    means: Array
    scales: Array | None
    slopes: Array


def ends(
    potential: GaussianMixture | Particles, mu: Float[Array, "n d"], D: Float[Array, " d"]
) -> Ends:
    """The ends of a bridge whose reference has v ~ N(mu, diag D)."""
    found = _ends(potential, mu, D)
    return found._replace(logs=found.logs - 0.5 * mu.shape[1] * math.log(2.0 * math.pi))


def _ends(potential: Any, mu: Any, D: Any) -> Ends:
    if isinstance(potential, Particles):
        # In logarithms throughout: where it is cold the weights themselves underflow.
        r, w = potential.positions, potential.log_weights
        w = jnp.full(len(r), -math.log(len(r))) if w is None else jax.nn.log_softmax(w)
        root, centre = jnp.sqrt(D), jnp.mean(potential.positions, axis=0)
        a, b = (mu - centre) / root, (r - centre) / root
        logs = a @ b.T - 0.5 * jnp.sum(a**2, 1)[:, None] - 0.5 * jnp.sum(b**2, 1)
        logs = logs + (w + 0.5 * jnp.sum(r**2, 1)) - 0.5 * jnp.sum(jnp.log(D))
        share = _softmax(logs)
        return Ends(logs, r, None, (share @ r - mu) / D)
    r, weights = potential.means, jax.nn.log_softmax(potential.log_weights)
    e = mu[:, None, :] - r
    if potential.scales.ndim == 2:
        S = potential.scales**2
        G = D + S * (1.0 - D)
        P, Q = (1.0 - S) / G, S / G
        across = -0.5 * e**2 * P + e * Q * r + 0.5 * r**2 * (1.0 + D * Q)
        logs = weights - 0.5 * jnp.sum(jnp.log(G), -1) + jnp.sum(across, -1)
        means, scales = r + Q * e + D * Q * r, jnp.sqrt(D * Q)
        each = -P * e + Q * r
    else:
        lower = jnp.tril(potential.scales)
        S, one = lower @ jnp.swapaxes(lower, 1, 2), jnp.eye(r.shape[1], dtype=r.dtype)
        G = jnp.diag(D) + S * (1.0 - D)
        P, Q = jnp.linalg.solve(G, one - S), jnp.linalg.solve(G, S)
        P = 0.5 * (P + jnp.swapaxes(P, 1, 2))
        Qr = jnp.einsum("kij,kj->ki", Q, r)
        Pe = jnp.einsum("kij,nkj->nki", P, e)
        linear = jnp.sum(e * (Qr - 0.5 * Pe), -1)
        still = 0.5 * jnp.sum(r * (r + D * Qr), -1)
        logs = weights - 0.5 * jnp.linalg.slogdet(G)[1] + still + linear
        means = r + jnp.einsum("kji,nkj->nki", Q, e) + D * Qr
        spread = D[:, None] * Q
        scales = jnp.linalg.cholesky(0.5 * (spread + jnp.swapaxes(spread, 1, 2)))
        each = Qr - Pe
    return Ends(logs, means, scales, jnp.einsum("nk,nkd->nd", _softmax(logs), each))


def drawn_ends(
    potential: GaussianMixture | Particles,
    mu: Float[Array, "n d"],
    D: Float[Array, " d"],
    key: Key[Array, ""],
) -> Float[Array, "n d"]:
    """One end for each mu: a component by its weight, then its mean and its noise alone.

    Nothing of size (n, k, d) is made where S is diagonal.
    """
    pick, move = map(Randomness.from_key, jax.random.split(key))
    if isinstance(potential, Particles):
        found = _ends(potential, mu, D)
        return potential.positions[drawn_index(found.logs, pick)]
    r, xi = potential.means, normals(mu, move)
    if potential.scales.ndim == 3:
        found = _ends(potential, mu, D)
        assert found.scales is not None
        chosen = drawn_index(found.logs, pick)
        mean = jnp.take_along_axis(found.means, chosen[:, None, None], axis=1)[:, 0]
        return mean + jnp.einsum("nij,nj->ni", found.scales[chosen], xi)
    S = potential.scales**2
    G = D + S * (1.0 - D)
    P, Q = (1.0 - S) / G, S / G
    # -e'P e/2 + e'Q r + r'(1 + D Q) r/2 with e = mu - r, by powers of mu.
    still = jnp.sum(0.5 * r**2 * (1.0 + D * Q - P - 2.0 * Q), 1) - 0.5 * jnp.sum(jnp.log(G), 1)
    logs = jax.nn.log_softmax(potential.log_weights) + still
    logs = logs + mu @ ((P + Q) * r).T - 0.5 * mu**2 @ P.T
    chosen = drawn_index(logs, pick)
    r, Q = r[chosen], Q[chosen]
    return r + Q * (mu - r) + D * Q * r + jnp.sqrt(D * Q) * xi


def drawn_index(logs: Float[Array, "n k"], randomness: Randomness) -> Int[Array, " n"]:
    """A column for each row with the probability exp(logs), up to a factor.

    By one uniform number a row and two searches among sums: of groups of columns, then within one.
    """
    n, k = logs.shape
    width = k if k <= GROUP else math.isqrt(k - 1) + 1
    weights = jnp.exp(logs - jnp.max(logs, axis=1, keepdims=True))
    groups = jnp.pad(weights, ((0, 0), (0, -k % width))).reshape(n, -1, width)
    share = randomness.uniform((n,), logs.dtype)
    group, rest = _found(jnp.sum(groups, axis=2), share)
    within = jnp.take_along_axis(groups, group[:, None, None], axis=1)[:, 0]
    return group * width + _found(within, rest)[0]


def _found(weights: Array, share: Array) -> tuple[Array, Array]:
    """Where the running sum first exceeds `share` of the whole, and the share within the column.

    A column without weight is never found.
    """
    k = weights.shape[1]
    sums = jnp.matmul(weights, jnp.triu(jnp.ones((k, k), weights.dtype)), precision="highest")
    least = 1.0 - 4.0 * jnp.finfo(weights.dtype).eps
    wanted = jnp.minimum(share, least) * sums[:, -1]
    index = jnp.sum(sums[:, :-1] <= wanted[:, None], axis=1)
    own, end = (jnp.take_along_axis(a, index[:, None], axis=1)[:, 0] for a in (weights, sums))
    return index, jnp.clip(1.0 - (end - wanted) / own, 0.0, 1.0)


def normals(like: Float[Array, "n d"], randomness: Randomness) -> Float[Array, "n d"]:
    """Both of each pair: the first half of the rows, and the second."""
    n, d = like.shape
    halves = [half.normal((-(-n // 2), d), like.dtype) for half in randomness.pair(0)]
    return jnp.concatenate(halves)[:n]


def log_end(potential: GaussianMixture, v: Float[Array, "n d"]) -> Float[Array, " n"]:
    """log g(v) = log w(v) + |v|^2/2."""
    return potential.log_prob(v) + 0.5 * jnp.sum(v**2, axis=-1)


def _softmax(logs: Array) -> Array:
    return jnp.exp(logs - logsumexp(logs, axis=1, keepdims=True))
