"""Annealing between a reference and a target, there and back, with the work of every level.

    E_s = -(1 - s) log r + s E,      V = E + log r,      Z_{k+1} / Z_k = E_k exp(-(s_{k+1} - s_k) V)

Sequential Monte Carlo in independent islands: between levels particles are weighted by the work of
the switch and resampled; at a level every ancestor runs a Metropolis-adjusted chain of kinetic
Langevin dynamics (the flow of E_s by `solve`), all states of which are kept. A pilot chooses levels, steps and bases; the
sweeps that count leave them fixed, so that exp(-work) is unbiased for Z (Jarzynski), and back down,
from draws of the target, for 1/Z (Crooks).
Sources: Del Moral, Doucet and Jasra, J. R. Stat. Soc. B 68 (2006) 411; Dau and Chopin, J. R. Stat.
Soc. B 84 (2022) 114 (all states kept); Grosse, Ghahramani and Adams, arXiv:1511.02543 (both sides).
"""

from __future__ import annotations

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.special import logsumexp

from ..driver import solve
from ..flow import Flow
from ..functionals import Energy, InBasis, Interpolation
from ..geometries import Friction, Symplectic
from ..noise import Thermal
from ..schemes import OBABO, Metropolis
from ..states import Particles, Phase
from .reference import Reference, systematic
from .target import Target

EFFECTIVE = 0.5
"""The share of particles that remain effective over one switch, in the pilot."""

LAST = 0.35
"""The same over the last switch: a level more costs more than it brings."""

ACCEPTANCE, FRICTION = 0.8, 0.5
"""For N(0, 1 / lambda), lambda from 0.6 to 1.6 in 4 and 31 dimensions, means take the fewest steps
by these, or within a tenth of that: 2 and 3.6 steps for an independent draw, squares 2.4 and 4."""

TUNINGS = (2, 2, 2)
"""Steps of the pilot at a level between two looks at the acceptance."""


BLOCK = 4
"""Points at which E is evaluated at once, in units of the number of chains."""


@dataclasses.dataclass(frozen=True)
class Protocol:
    """Levels s_0 = 0 < ... < s_K = 1, with the basis (d, d) and the step of the moves at each."""

    shares: np.ndarray
    bases: list[np.ndarray]
    steps: np.ndarray

    @property
    def last(self) -> int:
        """K."""
        return len(self.shares) - 1


@dataclasses.dataclass(frozen=True)
class Sweep:
    """One pass over the levels by G islands.

    `log_ratios` (K, G): log of the mean weight of each switch, in the order of the levels;
    `gaps`: V at the particles of each level, (G, n) each, None where none were made; `draws`
    (G, n, d) and `energies` (G, n) of E at the last level visited; `acceptance` and `effective`:
    by level, the share accepted, and the share of effective particles in an island;
    `ancestors` (G,): how many particles of the first level have descendants.
    """

    log_ratios: np.ndarray
    gaps: list[np.ndarray | None]
    draws: np.ndarray
    energies: np.ndarray
    acceptance: np.ndarray
    effective: np.ndarray
    ancestors: np.ndarray
    ledgers: tuple[Any, ...] = ()


@dataclasses.dataclass
class Bridge:
    """A target, its reference, `islands` of `chains` chains each; `gradients` counts what is spent.

    Every state that enters costs one gradient of E, as the Metropolis step takes value and slope of
    each proposal; values of E at states kept are those.
    """

    target: Target
    reference: Reference
    islands: int
    chains: int
    gradients: int = 0

    @property
    def count(self) -> int:
        """Chains in all."""
        return self.islands * self.chains

    def start(
        self, random: np.random.Generator, length: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(x, V, E) of chains x length draws of the reference in each island."""
        return self.valued(self.reference.sample(random, self.islands, self.chains * length))

    def move(
        self, protocol: Protocol, level: int, x: np.ndarray, length: int, key: Any
    ) -> tuple[tuple[np.ndarray, np.ndarray, np.ndarray], np.ndarray, Any]:
        """((x, V, E), last, run): `length` states of each chain from x (G, chains, d) on, the first
        being x itself; the last state of each chain; and the run of `solve`."""
        basis = protocol.bases[level]
        dtype = self.target.start.dtype
        z = np.linalg.solve(basis, x.reshape(self.count, -1).T).T
        flow = _flow(self.target, self.reference.law, protocol.shares[level], basis)
        own = jax.random.normal(jax.random.fold_in(key, 0), z.shape, dtype)
        run = solve(
            flow,
            Particles(Phase(jnp.asarray(z, dtype), own)),
            scheme=Metropolis(OBABO(float(protocol.steps[level]))),
            steps=length - 1,
            key=key,
        )
        found = np.asarray(run.states.positions.position, float) @ basis.T
        found = found.reshape(length, self.islands, self.chains, -1)
        # States of a chain side by side.
        together = np.moveaxis(found, 0, 2).reshape(self.islands, self.chains * length, -1)
        return self.valued(together), found[-1], run

    def valued(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(x, V, E) at points (G, n, d); V and E are (G, n)."""
        flat = x.reshape(-1, x.shape[-1]).astype(self.target.start.dtype)
        self.gradients += len(flat)
        # In blocks of one shape, so that any number of points takes one compiled program.
        size = BLOCK * self.count
        filled = np.pad(flat, ((0, -len(flat) % size), (0, 0)), mode="edge")
        values = [
            _values(self.target, self.reference.law, block)
            for block in filled.reshape(-1, size, x.shape[-1])
        ]
        energy, log_reference = np.moveaxis(np.asarray(values, float), 0, 1).reshape(2, -1)
        energy = np.where(np.isnan(energy), np.inf, energy)[: len(flat)].reshape(x.shape[:2])
        return x, energy + log_reference[: len(flat)].reshape(x.shape[:2]), energy

    def resample(
        self, x: np.ndarray, gap: np.ndarray, width: float, random: np.random.Generator
    ) -> np.ndarray:
        """Indices (G, chains) of ancestors, drawn within each island by weights exp(-width V).

        Systematically, in the order of the reference's components and of V: so every component gets
        its share of ancestors up to one.
        """
        logs = -width * gap
        weights = np.exp(logs - logs.max(axis=1, keepdims=True))
        labels = self.reference.label(x.reshape(-1, x.shape[-1])).reshape(gap.shape)
        order = np.lexsort((gap, labels), axis=1)
        found = systematic(np.take_along_axis(weights, order, axis=1), self.chains, random)
        return np.take_along_axis(order, found, axis=1)


def pilot(bridge: Bridge, key: Any, most: int) -> Protocol | None:
    """Levels by effective size, steps by acceptance, bases by the particles; None where `most`
    gradients do not reach the target."""
    d = bridge.target.dimension
    random = generator(jax.random.fold_in(key, 0))
    limit = bridge.gradients + most
    length = sum(TUNINGS)
    covariance = bridge.reference.covariance
    # The energy of a leapfrog step errs with variance d h^6 / 16; at 1/4 four of five are accepted.
    step = (4.0 / d) ** (1 / 6)
    shares, bases, steps = [0.0], [np.linalg.cholesky(covariance)], [step]
    x, gap, _ = bridge.start(random, length)
    while shares[-1] < 1.0:
        if bridge.gradients + length * bridge.count > limit:
            return None
        share = _next_share(gap, shares[-1])
        width = share - shares[-1]
        logs = -width * gap
        covariance = _covariance(bridge.reference, x, logs, covariance)
        shares.append(share)
        bases.append(np.linalg.cholesky(covariance))
        steps.append(step)
        index = bridge.resample(x, gap, width, random)
        now = np.take_along_axis(x, index[..., None], axis=1)
        kept = []
        for i, count in enumerate(TUNINGS):
            steps[-1] = step
            protocol = Protocol(np.array(shares), bases, np.array(steps))
            source = jax.random.fold_in(key, 8 * len(shares) + i)
            found, now, run = bridge.move(protocol, len(shares) - 1, now, count + 1, source)
            bridge.gradients -= bridge.count  # where a block starts another ended
            kept.append(found)
            accepted = float(np.mean(run.ledger.acceptance[1:]))
            step *= float(np.exp(np.clip(2.0 * (accepted - ACCEPTANCE), -1.0, 0.4)))
        steps[-1] = step
        bridge.gradients += bridge.count
        x, gap = (np.concatenate([found[i] for found in kept], axis=1) for i in (0, 1))
    return Protocol(np.array(shares), bases, np.array(steps))


def forward(bridge: Bridge, protocol: Protocol, length: int, final: int, key: Any) -> Sweep:
    """From the reference to the target, `length` states a chain at each level, `final` at the last.

    The product over levels of the mean weights of an island has expectation Z / Z_0 = Z.
    """
    random = generator(jax.random.fold_in(key, 0))
    x, gap, energy = bridge.start(random, length)
    own = np.broadcast_to(np.arange(gap.shape[1]), gap.shape)
    ratios, gaps, rates, effective, ledgers = [], [gap], [], [], []
    for level in range(1, protocol.last + 1):
        width = protocol.shares[level] - protocol.shares[level - 1]
        logs = -width * gap
        ratios.append(log_mean(logs))
        effective.append(effective_share(logs).mean())
        index = bridge.resample(x, gap, width, random)
        long = final if level == protocol.last else length
        ancestors = np.take_along_axis(x, index[..., None], axis=1)
        (x, gap, energy), _, run = bridge.move(
            protocol, level, ancestors, long, jax.random.fold_in(key, 1 + level)
        )
        own = np.repeat(np.take_along_axis(own, index, axis=1), long, axis=1)
        gaps.append(gap)
        rates.append(float(np.mean(run.ledger.acceptance[1:])))
        ledgers.append(run.ledger)
    alive = np.array([len(np.unique(row)) for row in own])
    return Sweep(
        np.array(ratios),
        list(gaps),
        x,
        energy,
        np.array(rates),
        np.array(effective),
        alive,
        tuple(ledgers),
    )


def backward(
    bridge: Bridge, protocol: Protocol, length: int, start: np.ndarray, gap: np.ndarray, key: Any
) -> Sweep:
    """From draws of the target (G, n, d), with V there, down to the reference.

    Where they are draws of the target, the product over levels of the mean weights of an island has
    expectation 1/Z; `log_ratios` holds the negative logarithms, so that they compare with those of
    `forward`.
    """
    random = generator(jax.random.fold_in(key, 0))
    x, energy = start, np.full(gap.shape, np.nan)
    own = np.broadcast_to(np.arange(gap.shape[1]), gap.shape)
    ratios, rates, effective = [], [], []
    gaps: list[np.ndarray | None] = [gap]
    for level in range(protocol.last - 1, -1, -1):
        width = protocol.shares[level] - protocol.shares[level + 1]
        logs = -width * gap
        ratios.append(-log_mean(logs))
        effective.append(effective_share(logs).mean())
        if level == 0:
            break
        index = bridge.resample(x, gap, width, random)
        ancestors = np.take_along_axis(x, index[..., None], axis=1)
        (x, gap, energy), _, run = bridge.move(
            protocol, level, ancestors, length, jax.random.fold_in(key, 1 + level)
        )
        own = np.repeat(np.take_along_axis(own, index, axis=1), length, axis=1)
        gaps.append(gap)
        rates.append(float(np.mean(run.ledger.acceptance[1:])))
    alive = np.array([len(np.unique(row)) for row in own])
    return Sweep(
        np.array(ratios[::-1]),
        [None, *gaps[::-1]],
        x,
        energy,
        np.array(rates[::-1]),
        np.array(effective[::-1]),
        alive,
    )


def log_mean(logs: np.ndarray) -> np.ndarray:
    """log mean exp over the last axis."""
    return logsumexp(logs, axis=-1) - np.log(logs.shape[-1])


def effective_share(logs: np.ndarray) -> np.ndarray:
    """(sum w)^2 / (n sum w^2) over the last axis."""
    twice = 2.0 * logsumexp(logs, axis=-1) - logsumexp(2.0 * logs, axis=-1)
    return np.exp(twice) / logs.shape[-1]


def generator(key: Any) -> np.random.Generator:
    """NumPy's generator, seeded by a JAX key."""
    return np.random.default_rng(np.asarray(jax.random.key_data(key)).tolist())


def _next_share(gap: np.ndarray, share: float) -> float:
    """The furthest level at which EFFECTIVE of all particles are still effective (bisection)."""
    pooled = gap.reshape(-1)
    good = lambda delta: effective_share(-delta * pooled) >= EFFECTIVE  # noqa: E731
    if effective_share(-(1.0 - share) * pooled) >= LAST:
        return 1.0
    low, high = 0.0, 1.0 - share
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if good(middle) else (low, middle)
    return share + max(low, 1e-9)


def _covariance(
    reference: Reference, x: np.ndarray, logs: np.ndarray, before: np.ndarray
) -> np.ndarray:
    """Of the weighted particles within components of the reference, drawn towards `before`.

    As if 2 d more particles had covariance `before`; where particles are fewer than 4 d only
    the scales of the coordinates follow.
    """
    d = x.shape[-1]
    x, logs = x.reshape(-1, d), logs.reshape(-1)
    weights = np.exp(logs - logs.max())
    weights /= weights.sum()
    labels = reference.label(x)
    total = np.zeros((d, d))
    for label in np.unique(labels):
        w, y = weights[labels == label], x[labels == label]
        if w.sum() > 0:
            y = y - (w @ y) / w.sum()
            total += (w[:, None] * y).T @ y
    n = 1.0 / np.sum(weights**2)
    if n < 4 * d:
        grown = np.sqrt((n * np.diag(total) / np.diag(before) + 10.0) / (n + 10.0))
        return grown[:, None] * before * grown
    return (n * total + 2 * d * before) / (n + 2 * d)


class _MinusLog(eqx.Module):
    """-log r."""

    law: Any

    def __call__(self, x: Float[Array, " d"]) -> Float[Array, ""]:
        return -self.law.log_prob(x)


def _flow(target: Target, law: Any, share: float, basis: np.ndarray) -> Flow:
    dtype = target.start.dtype
    path = Interpolation(Energy(_MinusLog(law)), Energy(target), jnp.asarray(share, dtype))
    bath = Symplectic() + Friction(FRICTION)
    return Flow(InBasis(path, jnp.asarray(basis, dtype)), bath, Thermal(1.0))


@eqx.filter_jit
def _values(target: Target, law: Any, x: Float[Array, "n d"]) -> tuple[Any, Any]:
    return jax.vmap(target)(x), jax.vmap(law.log_prob)(x)
