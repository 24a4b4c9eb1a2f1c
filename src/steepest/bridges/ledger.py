"""The ledger along a bridge: what moves, what spreads, and what is conserved between them.

With v = (b + b_back)/2 the velocity of the marginals, w = (b - b_back)/2 - b_reference
= T grad log(rho_t/m) and m the reversible law of the reference, the bridge minimises
    KL(P | P_m) = (KL(rho_0 | m) + KL(rho_1 | m))/2 + 1/(4 T) integral E|v|^2 + E|w|^2 dt
so that E|v|^2/2 - E|w|^2/2 is one number for all t. The relative entropy changes by
    d/dt KL(rho_t | m) = E<v, w>/T
and its gradient flow is v = -w. As T -> 0 with Brownian motion the integral of E|v|^2/2 is that of
Benamou and Brenier: half the squared Wasserstein distance, divided by the horizon.
Sources: Chen, Georgiou and Pavon, J. Optim. Theory Appl. 169 (2016) 671; Gentil, Leonard and
Ripani, Ann. Fac. Sci. Toulouse 26 (2017) 569.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from ..errors import ArgumentError
from ..states import Density, Gaussian
from .grids import GridBridge
from .linear import LinearBridge

ORDER = 16


class BridgeLedger(NamedTuple):
    """At `times`: E|v|^2/2, E|w|^2/2, their difference, E<v, w>/T; and integrals over the horizon.

    `transport`: of E|v|^2/2 (Benamou and Brenier). `action`: of (E|v|^2 + E|w|^2)/(4 T).
    """

    times: Float[np.ndarray, " k"]
    kinetic: Float[Array, " k"]
    osmotic: Float[Array, " k"]
    conserved: Float[Array, " k"]
    growth: Float[Array, " k"]
    transport: Array
    action: Array


def ledger(bridge: Any, key: Key[Array, ""] | None = None, n: int = 2000) -> BridgeLedger:
    """Books of a bridge of a linear reference or on a grid, at Gauss-Legendre times.

    Expectations are exact between Gaussians and sums over cells on a grid; else means over `n`
    points, drawn with `key`. Raises ArgumentError for other bridges.
    """
    if not isinstance(bridge, LinearBridge | GridBridge):
        what = "a bridge of a linear reference or on a grid"
        raise ArgumentError("bridge", type(bridge).__name__, what)
    nodes, shares = np.polynomial.legendre.leggauss(ORDER)
    horizon = float(bridge.horizon)
    times, shares = 0.5 * horizon * (nodes + 1.0), jnp.asarray(0.5 * horizon * shares)
    temperature = _temperature(bridge)
    rows = []
    for i, time in enumerate(times):
        law = bridge.marginal(float(time), None if key is None else jax.random.fold_in(key, i), n)
        x, weights = _nodes(law)
        now = jnp.asarray(time, x.dtype)
        ahead, back = bridge.drift(x, now), bridge.backward_drift(x, now)
        v, w = 0.5 * (ahead + back), 0.5 * (ahead - back) - bridge.reference_drift(x)
        pairs = ((v, v), (w, w), (v, w))
        rows.append(jnp.stack([weights @ jnp.sum(a * b, axis=1) for a, b in pairs]))
    vv, ww, vw = jnp.stack(rows, axis=1)
    action = shares @ (vv + ww) / (4.0 * temperature)
    halves = 0.5 * vv, 0.5 * ww
    return BridgeLedger(
        times, *halves, halves[0] - halves[1], vw / temperature, shares @ halves[0], action
    )


def _nodes(law: Any) -> tuple[Array, Array]:
    """Points and weights: exact for quadratics under a Gaussian, cells of a grid, or the points."""
    if isinstance(law, Gaussian):
        d = law.dimension
        moves = jnp.sqrt(1.0 * d) * law.lower.T
        x = jnp.concatenate([law.mean + moves, law.mean - moves])
        return x, jnp.full(2 * d, 0.5 / d, x.dtype)
    if isinstance(law, Density):
        x = law.grid.points().reshape(-1, law.grid.dimension).astype(law.values.dtype)
        return x, law.values.reshape(-1) * law.grid.cell_volume
    return law.positions, law.weights


def _temperature(bridge: Any) -> Array:
    return bridge.temperature if isinstance(bridge, GridBridge) else bridge.reference.temperature
