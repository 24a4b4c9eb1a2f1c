"""Where chains begin: down to a mode, Laplace's covariance there, and a spread beyond it.

Chains start further out than the law at their best guess reaches, so that a second mode within that
reach, or a tail, shows as a disagreement between chains.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from scipy import optimize

from .dynamics import Account, in_batches, value_at
from .frame import Frame
from .proposal import generator
from .target import Target

DENSE = 256
"""The largest dimension of a dense change of coordinates."""
SPREAD = (0.5, 3.0)
"""Chains start at between these multiples of the guessed standard deviations."""
DESCENTS, REACH = 4, 20.0
"""Pairs of descents from far out, and from how many standard deviations, to find other modes.

A mode whose basin begins a standard deviations away in some direction is found with probability
1 - (2 Phi(a / 20) - 1)^4: 0.99 at a = 8, 0.86 at 16.
"""
SHARE = 0.1
"""Of the budget, the most for the way to the mode, and again for the Hessian."""


@dataclasses.dataclass(frozen=True)
class Beginning:
    """Coordinates, and the chains in them (chain, d).

    `laplace`: whether a mode with a positive Hessian was found. `modes`: how many modes were.
    """

    energy: Frame
    z: np.ndarray
    laplace: bool
    modes: int


def begin(target: Target, chains: int, key: jax.Array, account: Account) -> Beginning:
    """The start of `chains` chains. Costs are entered in the account."""
    d, dtype = target.dimension, target.start.dtype
    dense = d <= DENSE
    affordable = dense and d <= SHARE * account.limit
    mode, slope, settled = _descend(target, account)
    found, laplace = None, False
    if affordable and settled:
        curvature = _hessian(target, mode, account)
        values = np.linalg.eigvalsh(curvature) if np.isfinite(curvature).all() else np.zeros(1)
        if values[0] > 1e-10 * values[-1] > 0:
            newton = np.linalg.solve(curvature, slope)
            # Twice what a quadratic has still to fall: where that is much there is no mode nearby.
            if slope @ newton < 0.1 * d:
                centre = jnp.asarray(mode - newton, dtype)
                found, laplace = Frame.from_precision(target, centre, curvature), True
    if found is None:
        root = np.eye(d) if dense else np.ones(d)
        found = Frame(target, target.start, jnp.asarray(root, dtype))
    energy = found
    # Eight descents and a few looks at all chains must be a small part of the budget.
    look = laplace and account.limit >= 2000
    modes = _other_modes(energy, key, account) if look else np.zeros((0, d))
    least, most = SPREAD
    spread = least + (most - least) * np.linspace(0.0, 1.0, chains)[:, None] ** 2
    spread = spread if laplace else np.ones((chains, 1))
    z = spread * generator(key, 0).standard_normal((chains, d))
    z = _inside(energy, z, laplace, account)
    for i, mode in enumerate(modes):
        # A share of the chains each, taken from those that begin near the first mode.
        at = np.arange(i, chains // 2, 2 * len(modes))
        z[at] = mode + z[at]
    return Beginning(energy, z, laplace, len(modes) + int(laplace))


def _descend(target: Target, account: Account) -> tuple[np.ndarray, np.ndarray, bool]:
    """(point, gradient, whether it is a mode), by L-BFGS."""
    most = max(20, int(SHARE * account.limit))
    x, slope, settled, _ = _minimise(target, np.asarray(target.start, float), most, account)
    return x, slope, settled


def _minimise(
    energy: Any, start: np.ndarray, most: int, account: Account
) -> tuple[np.ndarray, np.ndarray, bool, float]:
    """(point, gradient, whether it settled, value) after at most about `most` gradients."""
    spent, dtype = [0], (energy.start if isinstance(energy, Target) else energy.centre).dtype

    def fun(x: np.ndarray) -> tuple[float, np.ndarray]:
        spent[0] += 1
        value, slope = _value_and_slope(energy, jnp.asarray(x, dtype))
        value, slope = float(value), np.asarray(slope, float)
        # A line search needs numbers; a wall will do.
        good = np.isfinite(value) and np.isfinite(slope).all()
        return (value, slope) if good else (1e30, np.zeros_like(slope))

    options = dict(maxfun=max(most - 20, 5), maxcor=20, maxls=20, ftol=1e-7, gtol=1e-4)
    found = optimize.minimize(fun, start, jac=True, method="L-BFGS-B", options=options)
    account.spend(spent[0])
    settled = bool(np.isfinite(found.x).all()) and found.status in (0, 2) and found.fun < 1e30
    return np.asarray(found.x, float), np.asarray(found.jac, float), settled, float(found.fun)


def _other_modes(energy: Frame, key: jax.Array, account: Account) -> np.ndarray:
    """Modes apart from the first, (k, d), that descents from far out end in.

    A mode counts that is at least 4 sd from the others and not higher by over 10 + d/2.
    """
    d = energy.centre.shape[0]
    far = REACH * generator(key, 1).standard_normal((DESCENTS, d))
    far = np.concatenate([far, -far])
    base, _ = _value_and_slope(energy, jnp.zeros(d, energy.centre.dtype))
    found = [np.zeros(d)]
    for begin in far:
        most = min(60, int(0.005 * account.limit))
        z, slope, settled, value = _minimise(energy, begin, most, account)
        near = min(float(np.linalg.norm(z - other)) for other in found)
        still = settled and np.linalg.norm(slope) < 0.5
        if still and value - float(base) < 10.0 + 0.5 * d and near > 4.0:
            found.append(z)
    return np.asarray(found[1:]).reshape(-1, d)


def _hessian(target: Target, at: np.ndarray, account: Account) -> np.ndarray:
    account.spend(len(at))
    found = np.asarray(_second(target, jnp.asarray(at, target.start.dtype)), float)
    return 0.5 * (found + found.T)


@eqx.filter_jit
def _value_and_slope(energy: Any, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    return jax.value_and_grad(energy)(x)


@eqx.filter_jit
def _second(target: Target, x: jax.Array) -> jax.Array:
    return jax.hessian(target)(x)


def _inside(energy: Frame, z: np.ndarray, laplace: bool, account: Account) -> np.ndarray:
    """The chains, drawn towards the centre while their energy is absurd.

    Laplace's guess of it is |z|^2/2 above the mode: twice that and d/2 more may be. Without a
    guess, 10 d above the centre.
    """
    d = z.shape[1]
    account.spend(1)
    base = in_batches(value_at, energy, np.zeros((1, d)))[0]
    for _ in range(40):
        if account.left < 4 * len(z):
            return 0.1 * z
        account.spend(len(z))
        above = in_batches(value_at, energy, z) - base
        most = np.sum(z**2, axis=1) + 0.5 * d if laplace else 10.0 * d
        bad = ~(above <= most)
        if not bad.any():
            break
        z = np.where(bad[:, None], 0.7 * z, z)
    return z
