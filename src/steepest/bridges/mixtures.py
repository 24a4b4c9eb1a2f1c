"""Light bridges: the end potential as a Gaussian mixture, fitted by maximum likelihood.

Among bridges P with w = sum_k a_k N(r_k, S_k), the divergence from the bridge sought is
    KL(P* | P) = E_source log c(u) - E_target log w(v) + const,
    c(u) = sum_k a_k exp(u'S_k u/2 + r_k'u)
which needs draws of both laws and no coupling of them. One compiled scan of Adam over fresh draws,
with a rate that decays to zero, from the closed form of the bridge between Gaussians.
Source: Korotin, Gushchin and Burnaev, ICLR 2024.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float, Key

from ..errors import ArgumentError
from ..states import GaussianMixture, Particles
from ..states.factors import as_flat, inverse
from .gaussians import diagonal_start
from .reference import LinearReference

COVARIANCES = ("diagonal", "full")
SHARE = 0.5
THIN = 0.02
"""Where S starts at least: a coordinate in which the target is constant would have none, and Adam's
first step would be thousands of its deviations."""
LEAST = 1e-3
"""The smallest factor of S, in deviations of the reference's end."""


class Parameters(NamedTuple):
    """log a, r, log diagonals of the factors of S, and what is below them (None: diagonal)."""

    logits: Array
    means: Array
    logs: Array
    lower: Array | None

    def factor(self) -> Array:
        """(k, d) deviations or (k, d, d) lower factors."""
        if self.lower is None:
            return jnp.exp(self.logs)
        return jnp.tril(self.lower, -1) + jax.vmap(jnp.diag)(jnp.exp(self.logs))


class Fit(NamedTuple):
    """The potential, and the loss (a divergence up to a constant) at each step."""

    potential: GaussianMixture
    loss: Float[Array, " steps"]


def fit_mixture(
    reference: LinearReference,
    source: Any,
    target: Any,
    key: Key[Array, ""],
    *,
    components: int = 20,
    covariance: str = "diagonal",
    steps: int = 5000,
    batch: int = 512,
    rate: float = 0.03,
) -> Fit:
    """The most likely light bridge; `source` and `target` need sample(key, n).

    `covariance`: "diagonal" in the axes of the reference, or "full".
    """
    for name, value in (("components", components), ("steps", steps), ("batch", batch)):
        if not isinstance(value, int) or value < 1:
            raise ArgumentError(name, value, "a positive integer")
    if covariance not in COVARIANCES:
        raise ArgumentError("covariance", repr(covariance), f"one of {COVARIANCES}")
    if not (isinstance(rate, float) and 0 < rate < 1):
        raise ArgumentError("rate", rate, "a number between 0 and 1")
    return _fit(reference, source, target, key, components, covariance, steps, batch, rate)


@eqx.filter_jit
def _fit(
    reference: Any,
    source: Any,
    target: Any,
    key: Any,
    components: int,
    covariance: str,
    steps: int,
    batch: int,
    rate: float,
) -> Fit:
    first, key = jax.random.split(key)
    start: Any = _start(reference, source, target, first, components, covariance == "full")
    # Adam's steps are of one size: the means, and the logits that balance r_k'u, are measured in
    # units of the spread of the means, which is large where it is cold.
    unit = jnp.maximum(jnp.sqrt(jnp.mean(start.means**2)), 1.0)
    start = start._replace(means=start.means / unit)

    def whole(values: Parameters) -> Parameters:
        # Where the target is constant the likelihood has no bound: S stops somewhere.
        logs = jnp.maximum(values.logs, math.log(LEAST))
        return values._replace(logits=values.logits * unit, means=values.means * unit, logs=logs)

    schedule = optax.cosine_decay_schedule(rate, steps)
    method = optax.adam(schedule, b2=0.99)

    def step(carry: Any, k: Any) -> Any:
        values, state = carry
        one, two = jax.random.split(k)
        u = reference.white_source(draw(source, one, batch))
        v = reference.white_target(draw(target, two, batch))
        loss, slope = jax.value_and_grad(lambda p: divergence(whole(p), u, v))(values)
        move, state = method.update(slope, state)
        moved = jax.tree.map(jnp.add, values, move)
        return (moved, state), loss

    keys = jax.random.split(key, steps)
    (found, _), losses = jax.lax.scan(step, (start, method.init(start)), keys)
    found = whole(found)
    logits = jax.nn.log_softmax(found.logits)
    return Fit(GaussianMixture(logits, found.means, found.factor()), losses)


def divergence(
    values: Parameters, u: Float[Array, "n d"], v: Float[Array, "m d"]
) -> Float[Array, ""]:
    """mean log c(u) - mean log w(v)."""
    r, L, d = values.means, values.factor(), u.shape[1]
    logits = jax.nn.log_softmax(values.logits)
    if values.lower is None:
        S = L**2
        tilt = u @ r.T + 0.5 * u**2 @ S.T
        white = v**2 @ (1.0 / S).T - 2.0 * v @ (r / S).T + jnp.sum(r**2 / S, 1)
    else:
        tilt = u @ r.T + 0.5 * jnp.sum(jnp.einsum("ni,kij->nkj", u, L) ** 2, -1)
        back = jax.vmap(inverse)(L)
        gaps = jnp.einsum("kij,nj->nki", back, v) - jnp.einsum("kij,kj->ki", back, r)
        white = jnp.sum(gaps**2, -1)
    volume = jnp.sum(values.logs, 1) + 0.5 * d * math.log(2 * math.pi)
    normal = logsumexp(logits + tilt, axis=1)
    likely = logsumexp(logits - 0.5 * white - volume, axis=1)
    return jnp.mean(normal) - jnp.mean(likely)


def draw(law: Any, key: Any, n: int) -> Array:
    """n draws as one array."""
    return _drawn(law, key, n) if isinstance(law, eqx.Module) else as_flat(law.sample(key, n))


@eqx.filter_jit
def _drawn(law: Any, key: Any, n: int) -> Array:
    if isinstance(law, Particles) and law.log_weights is None:
        return law.positions[jax.random.randint(key, (n,), 0, law.count)]
    return as_flat(law.sample(key, n))


def _start(
    reference: Any, source: Any, target: Any, key: Any, components: int, full: bool
) -> Parameters:
    """Of the Gaussian closed form, coordinate by coordinate, what is left of points of the target.

    The end from u has the mean r + S u: each component gets half of the S of the Gaussian bridge,
    and the r that leads from the u which that bridge expects of a point v to this v. (With the
    whole of S all r would be the same where it is cold.)
    """
    one, two, three = jax.random.split(key, 3)
    u = reference.white_source(draw(source, one, 2048))
    v = reference.white_target(draw(target, two, 2048))
    S, mean, gain = diagonal_start(u, v)
    S = SHARE * jnp.maximum(S, THIN)
    picked = reference.white_target(draw(target, three, components))
    means = picked - S * (mean + gain * (picked - jnp.mean(v, axis=0)))
    logs = jnp.broadcast_to(0.5 * jnp.log(S), means.shape)
    d = means.shape[1]
    lower = jnp.zeros((components, d, d), means.dtype) if full else None
    return Parameters(jnp.zeros(components, means.dtype), means, logs, lower)
