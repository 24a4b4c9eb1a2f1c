"""Whether a bridge solves the stated problem.

Both ends are compared with the laws that were given, by sliced W2 and MMD; the floor is what the
same discrepancy takes when the two clouds are pooled and split at random, so that sampling alone
passes. The potential is held against a Sinkhorn solution on points: the gap of its dual value is
KL(P* | P) of the bridge corrected by one more iteration. The drift is held against the backward
equation that makes it Markov.
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.special
from jaxtyping import Array, Float, Key

from ..audit.report import Audit, Check
from ..functionals import MMD, SlicedWasserstein
from ..states import Particles
from .base import AbstractBridge
from .chain import BridgeChain, SchrodingerChain
from .gaussians import whitened
from .grids import GridBridge
from .growth import GrowthBridge
from .linear import LinearBridge
from .mixtures import draw
from .networks import NetworkBridge, stations
from .problem import SchrodingerBridge
from .sinkhorn import sinkhorn, transform
from .smooth import SmoothChain

POINTS = 500
SPLITS = 39
"""Random splits: their largest value is passed by chance once in 40."""
SLACK = 1.25
"""Factor on the largest split, so that false alarms are rarer than that."""
SPARE = 8
"""Paths for each point that is drawn among those that grew, so that few are drawn twice."""
DUAL_POINTS = 300
ALARM = 1e-3
"""Chance of a false alarm of the reciprocal residual."""


def audit(
    problem: SchrodingerBridge | SchrodingerChain,
    bridge: AbstractBridge,
    key: Key[Array, ""],
    n: int = POINTS,
) -> Audit:
    """The checks of a bridge against the problem that it should solve; `n` points of each cloud.

    Of a chain every leg is checked, and where the paths from the first snapshot end.
    """
    if isinstance(bridge, SmoothChain):
        return Audit(tuple(_smooth(problem, bridge, key, n)))
    if isinstance(problem, SchrodingerChain):
        assert isinstance(bridge, BridgeChain)
        return Audit(tuple(_chain(problem, bridge, key, n)))
    if isinstance(bridge, GrowthBridge):
        return Audit(tuple(_growth(problem, bridge, key, n)))
    keys = jax.random.split(key, 8)
    x, x_new = draw(problem.source, keys[0], n), draw(problem.source, keys[1], n)
    y, y_new = draw(problem.target, keys[2], n), draw(problem.target, keys[3], n)
    checks = [
        *_end("end", bridge.sample(x, keys[4]), y_new, keys[5]),
        *_end("start", bridge.sample_backward(y, keys[6]), x_new, keys[7]),
    ]
    if isinstance(bridge, GridBridge):
        checks += _on_grid(problem, bridge)
    elif isinstance(bridge, LinearBridge):
        if bridge.source is not None:
            checks += _moments(problem, bridge)
        checks.append(_dual(problem, bridge, keys[7]))
        checks.append(_markov(bridge, x, keys[5]))
    elif isinstance(bridge, NetworkBridge):
        ahead = jnp.concatenate([x, bridge.sample(x, keys[5])], axis=1)
        back = jnp.concatenate([bridge.sample_backward(y_new, keys[7]), y_new], axis=1)
        checks += _end("coupling ahead and back,", ahead, back, keys[6])
        checks.append(_reciprocal(bridge, x_new, keys[4]))
    return Audit(tuple(checks))


def _chain(problem: SchrodingerChain, chain: BridgeChain, key: Any, n: int) -> list[Check]:
    first, last, move, split, pick, legs = jax.random.split(key, 6)
    found = _legs(problem, chain, legs, n)
    x = _starts(problem, first, n)
    paths = chain.sample_paths(x, jnp.asarray(chain.times[1:]), move)
    # What has grown counts more often: as many draws, each path with the mass that it carries.
    logs = chain.log_growth_along(x, paths)[-1]
    if problem.growth is not None:
        paths = paths[:, jax.random.categorical(pick, logs, shape=(n,))]
    return [*found, *_end("whole chain, end", paths[-1], draw(problem.target, last, n), split)]


def _starts(problem: Any, key: Any, n: int) -> Array:
    """Points of the first law, from which n paths are taken: more where paths grow."""
    return draw(problem.source, key, n if problem.growth is None else SPARE * n)


def _legs(problem: SchrodingerChain, chain: BridgeChain, key: Any, n: int) -> list[Check]:
    """The checks of every leg, under its number."""
    found, keys = [], jax.random.split(key, len(chain.legs))
    for i, (leg, bridge, k) in enumerate(zip(problem.legs, chain.legs, keys, strict=True), 1):
        checks = audit(leg, bridge, k, n).checks
        found += [dataclasses.replace(c, name=f"leg {i}, {c.name}") for c in checks]
    return found


def _smooth(problem: Any, chain: SmoothChain, key: Any, n: int) -> list[Check]:
    """Every snapshot that the paths lead to, and that they are as smooth as they say."""
    first, move, legs, *keys = jax.random.split(key, 2 + len(chain.times))
    x, middle = _starts(problem, first, n), []
    if isinstance(chain.joined, BridgeChain):
        found = _legs(problem, chain.joined, legs, n)
    else:
        tolerance = 1e-9 if chain.joined.mean.dtype == jnp.float64 else 1e-4
        why = "covariances of the snapshots against those asked for, relative"
        found = [Check.compare("snapshot covariances", float(chain.gap), tolerance, why)]
    for a, b in itertools.pairwise(chain.times):
        middle += [0.5 * (a + b) - 0.01 * (b - a), 0.5 * (a + b), 0.5 * (a + b) + 0.01 * (b - a)]
    paths = chain.sample_states(x, np.sort([*middle, *chain.times[1:]]), move)
    positions, velocities = (np.asarray(part) for part in paths)
    stations = positions[3::4]
    logs = chain.log_growth_along(x, jnp.asarray(stations))
    for i, (law, k) in enumerate(zip(problem.snapshots[1:], keys, strict=True), 1):
        pick, split, last = jax.random.split(k, 3)
        rows = jnp.arange(n)
        if problem.growth is not None:
            rows = jax.random.categorical(pick, logs[i - 1], shape=(n,))
        found += _end(f"snapshot {i + 1},", stations[i - 1][rows], draw(law, last, n), split)
    # The middle of a short interval: its slope is the velocity, but for the noise in between.
    before, after = positions[0::4], positions[2::4]
    width = 0.02 * np.diff(chain.times)[:, None, None]
    gap = (after - before) / width - velocities[1::4]
    # Averaged Brownian motion over half a width on both sides: variance 2 T width/12.
    scaled = gap**2 / (2.0 * float(chain.temperature) * width / 12.0)
    off = abs(float(scaled.mean()) - 1.0)
    why = "velocities against differences of positions, in units of the noise between them"
    return [*found, Check.compare("paths are smooth", off, 5.0 * (2.0 / scaled.size) ** 0.5, why)]


def _growth(problem: Any, bridge: GrowthBridge, key: Any, n: int) -> list[Check]:
    """The lineages against what is joined; what the mass does, and that no plan is cheaper."""
    sources, targets, price = bridge.sources, bridge.targets, bridge.price
    first = Particles(sources.positions, jnp.log(sources.weights) - bridge.f / price)
    last = Particles(targets.positions, jnp.log(targets.weights) - bridge.g / price)
    joined = SchrodingerBridge(problem.reference, first, last, problem.horizon)
    checks = [
        dataclasses.replace(c, name=f"lineages, {c.name}")
        for c in audit(joined, bridge.lineages, key, n).checks
    ]
    tolerance = 1e-4 if bridge.f.dtype == jnp.float64 else 1e-2
    for name, time, wanted in (("start", 0.0, problem.masses[0]), ("end", bridge.horizon, None)):
        wanted = problem.masses[1] if wanted is None else wanted
        mass = float(bridge.mass(time))
        why = f"the moving mass is {mass:.6g}, the law's {wanted:.6g}; relative"
        checks.append(Check.compare(f"mass at the {name}", abs(mass / wanted - 1), tolerance, why))
    grown = bridge.growth(sources.positions)
    total = problem.masses[0] * float(sources.weights @ grown)
    why = f"a unit becomes {float(jnp.min(grown)):.3g} to {float(jnp.max(grown)):.3g}; summed"
    gap = abs(total / problem.masses[1] - 1.0)
    checks.append(Check.compare("growth of the points", gap, tolerance, why))
    why = "what a cheaper plan with growth could save, in nats for each unit joined"
    return [*checks, Check.compare("duality gap of growth", float(bridge.gap), tolerance, why)]


def _end(name: str, found: Any, wanted: Any, key: Any) -> list[Check]:
    """Two checks of two clouds of equal size."""
    value, floor = two_samples(found, wanted, key)
    why = f"bridge against the given law, {len(found)} points of each; floor: random splits"
    return [
        Check.compare(f"{name} marginal, sliced W2", float(value[0]), SLACK * float(floor[0]), why),
        Check.compare(f"{name} marginal, MMD", float(value[1]), SLACK * float(floor[1]), why),
    ]


@eqx.filter_jit
def two_samples(
    x: Float[Array, "n d"], y: Float[Array, "n d"], key: Key[Array, ""]
) -> tuple[Float[Array, "2"], Float[Array, "2"]]:
    """(sliced W2, MMD) of two clouds, and the largest values over random splits of the pool."""
    pool, n = jnp.concatenate([x, y]), len(x)

    def one(order: Array) -> Array:
        a, b = Particles(pool[order[:n]]), Particles(pool[order[n:]])
        # The functionals are half the squares.
        both = jnp.stack([SlicedWasserstein(b, 32)(a), MMD(b)(a)])
        return jnp.sqrt(2.0 * jnp.maximum(both, 0.0))

    orders = jax.vmap(lambda k: jax.random.permutation(k, 2 * n))(jax.random.split(key, SPLITS))
    return one(jnp.arange(2 * n)), jnp.max(jax.lax.map(one, orders), axis=0)


def _on_grid(problem: Any, bridge: GridBridge) -> list[Check]:
    found = []
    for name, law, time in (("start", problem.source, 0.0), ("end", problem.target, bridge.span)):
        gap = bridge.marginal(time).total_variation(law)
        why = "total variation of the bridge's density and the given one; stops at 1e-8"
        tolerance = 1e-6 if law.values.dtype == jnp.float64 else 1e-3
        found.append(Check.compare(f"{name} density", float(gap), tolerance, why))
    return found


def _moments(problem: Any, bridge: LinearBridge) -> list[Check]:
    """Of a Gaussian bridge: the end has the moments asked for, to round-off."""
    if bridge.target is None or bridge.source is None:
        return []
    (a, L), (b, M) = whitened(bridge.reference, bridge.source, bridge.target)
    r, S = bridge.potential.means[0], bridge.potential.component(0).covariance
    B = M @ M.T
    gap = jnp.max(jnp.abs(S @ L @ L.T @ S + S - B)) / jnp.max(jnp.abs(B))
    gap = jnp.maximum(gap, jnp.max(jnp.abs(r + S @ a - b)) / (1.0 + jnp.max(jnp.abs(b))))
    size = float(jnp.linalg.cond(L @ L.T)) * len(a)
    tolerance = 100.0 * size * float(jnp.finfo(B.dtype).eps)
    why = "mean and covariance at the end against those of the Gaussian, relative"
    return [Check.compare("end moments", float(gap), tolerance, why)]


def _dual(problem: Any, bridge: LinearBridge, key: Any) -> Check:
    """The dual value of the bridge's potential on fresh points, against the best there is.

    What a Sinkhorn potential of other points reaches there is the floor.
    """
    keys = jax.random.split(key, 4)
    x, x_other = draw(problem.source, keys[0], 2 * DUAL_POINTS).reshape(2, DUAL_POINTS, -1)
    y, y_other = draw(problem.target, keys[1], 2 * DUAL_POINTS).reshape(2, DUAL_POINTS, -1)
    white, equal = bridge.reference, jnp.full(DUAL_POINTS, 1.0 / DUAL_POINTS, x.dtype)
    u, v = white.white_source(x), white.white_target(y)
    best = sinkhorn(u, equal, v, equal, 1e-3, 2000)
    other = sinkhorn(
        white.white_source(x_other), equal, white.white_target(y_other), equal, 1e-3, 2000
    )

    def value(f: Array) -> Array:
        return jnp.mean(f) + jnp.mean(transform(v, u, equal, f))

    learned = transform(u, white.white_target(y_other), equal, other.g)
    gap = best.value - value(-bridge.log_potential(x))
    floor = best.value - value(learned)
    if not float(best.error) < 0.05:
        return Check.undecided("dual gap", "Sinkhorn did not converge on the points of the audit")
    why = (
        f"nats on {DUAL_POINTS} points; tolerance: the gap of a Sinkhorn potential of "
        f"{DUAL_POINTS} other points"
    )
    return Check.compare("dual gap", float(gap), 0.01 + float(floor), why)


def _markov(bridge: LinearBridge, x: Any, key: Any) -> Check:
    """d/dt log phi + <b, grad log phi> + T (laplacian log phi + |grad log phi|^2) = 0."""
    time = 0.5 * bridge.horizon
    points = bridge.sample_paths(x[:32], jnp.asarray([0.5]) * bridge.horizon, key)[0]
    residual, size = _backward_equation(bridge, points, time)
    scale = float(jnp.max(size)) + 1.0
    tolerance = 3e-9 if points.dtype == jnp.float64 else 3e-2
    why = "the potential of the drift solves the backward equation, by differentiating it"
    return Check.compare(
        "drift consistency", float(jnp.max(jnp.abs(residual))) / scale, tolerance, why
    )


def _reciprocal(bridge: NetworkBridge, x: Any, key: Any) -> Check:
    """Given its ends the bridge is the reference: half-way, in white coordinates,
    xi = (mu - D u - (1 - D) v)/sqrt(D (1 - D)) is standard normal whatever u and v are.

    A Markov process with that and both ends is the Schroedinger bridge (Leonard, 2014).
    """
    flat = _moments_between(bridge, x, key)
    tolerance = float(scipy.special.ndtri(1.0 - ALARM / 2.0 / flat.size)) / len(x) ** 0.5
    why = f"largest of {flat.size} moments of the way between the ends, {len(x)} paths"
    return Check.compare("reciprocal residual", float(np.abs(flat).max()), tolerance, why)


@eqx.filter_jit
def _moments_between(bridge: NetworkBridge, x: Any, key: Any) -> Array:
    reference, n = bridge.reference, len(x)
    left, times = stations(reference, 2)
    at = times[1:] * bridge.horizon
    middle, end = bridge.sample_paths(x, at, key)
    u, v, D = reference.white_source(x), reference.white_target(end), left[1]
    mu = reference.coming(reference.turned(middle), at[0])[0]
    xi = (mu - D * u - (1.0 - D) * v) / jnp.sqrt(D * (1.0 - D))
    scaled = [(w - jnp.mean(w, 0)) / jnp.std(w, 0) for w in (u, v)]
    known = jnp.concatenate([jnp.ones((n, 1), x.dtype), *scaled], axis=1)
    second = xi.T @ xi / n - jnp.eye(xi.shape[1], dtype=xi.dtype)
    # Each has mean 0 and variance 1/n, those on the diagonal 2/n.
    scores = [xi.T @ known / n, second / (1.0 + (2.0**0.5 - 1.0) * jnp.eye(xi.shape[1]))]
    return jnp.concatenate([jnp.ravel(part) for part in scores])


@eqx.filter_jit
def _backward_equation(bridge: Any, x: Any, time: Any) -> tuple[Array, Array]:
    reference = bridge.reference

    def pulled(p: Array) -> Array:
        return (
            0.5 * (bridge.drift(p[None], time)[0] - reference.velocity(p)) / reference.temperature
        )

    def one(x: Array) -> tuple[Array, Array]:
        log = lambda p, t: bridge.log_potential(p[None], t)[0]  # noqa: E731
        slope = jax.grad(log)(x, time)
        rate = jax.grad(log, argnums=1)(x, jnp.asarray(time, x.dtype))
        pull = pulled(x)
        # The Laplacian from the drift: that the drift is the gradient is part of the check.
        bend = jnp.trace(jax.jacfwd(pulled)(x))
        terms = (rate, reference.velocity(x) @ slope, reference.temperature * (bend + pull @ slope))
        return sum(terms), sum(jnp.abs(t) for t in terms)  # type: ignore[return-value]

    return jax.lax.map(one, x)
