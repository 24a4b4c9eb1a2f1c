"""Where chains begin: down to a mode, Laplace's covariance there, and a spread beyond it.

Chains start further out than the law at their best guess reaches, so that a second mode within that
reach, or a tail, shows as a disagreement between chains.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from .dynamics import Account, in_batches, value_at
from .frame import Frame
from .minima import descend, mode_near, plain
from .modes import Search, search
from .proposal import generator
from .target import Target

DENSE = 256
"""The largest dimension of a dense change of coordinates."""
SPREAD = (0.5, 3.0)
"""Chains start at between these multiples of the guessed standard deviations."""
SHARE = 0.1
"""Of the budget, the most for the way to the mode, and again for the Hessian."""
SEARCH = 0.05
"""Of the budget, the most for the search for other modes."""


@dataclasses.dataclass(frozen=True)
class Beginning:
    """Coordinates, and the chains in them (chain, d).

    `place`: where they begin, in words. `apart` (chain,): which chains begin at modes beside the
    first.
    """

    energy: Frame
    z: np.ndarray
    place: str
    apart: np.ndarray


def begin(target: Target, chains: int, key: jax.Array, account: Account) -> Beginning:
    """The start of `chains` chains. Costs are entered in the account."""
    d, dtype = target.dimension, target.start.dtype
    dense = d <= DENSE
    affordable = dense and d <= SHARE * account.limit
    frame = plain(target)
    first = descend(frame, np.zeros(d), max(20, int(SHARE * account.limit)))
    account.spend(first.gradients)
    laplace = False
    if affordable and first.settled:
        account.spend(d)
        mode = mode_near(frame, first)
        if mode is not None:
            centre = jnp.asarray(frame.places(mode[0]), dtype)
            frame, laplace = Frame.from_precision(target, centre, mode[1]), True
    if dense and not laplace:
        frame = Frame(target, target.start, jnp.asarray(np.eye(d), dtype))
    found = None
    if laplace:
        found = search(frame, int(SEARCH * account.limit), key)
        account.spend(found.gradients)
    least, most = SPREAD
    spread = least + (most - least) * np.linspace(0.0, 1.0, chains)[:, None] ** 2
    spread = spread if laplace else np.ones((chains, 1))
    z = spread * generator(key, 0).standard_normal((chains, d))
    z = _inside(frame, z, laplace, account)
    others = () if found is None else found.others
    apart = np.zeros(chains, bool)
    for i, other in enumerate(others):
        # A share of the chains each, taken from those that begin near the first mode.
        at = np.arange(i, chains // 2, 2 * len(others))
        z[at], apart[at] = other.mean + z[at] @ other.lower.T, True
    return Beginning(frame, z, _told(found), apart)


def _told(found: Search | None) -> str:
    if found is None:
        return "about the start"
    if found.convex:
        return "the mode, which is the only one since E is convex"
    count = 1 + len(found.others)
    return f"{count} mode{'s' * (count > 1)} found, after {found.starts} searches for others"


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
