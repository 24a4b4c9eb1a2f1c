"""Many chains in lock-step: an ensemble of phase points in whitened coordinates, moved by `solve`.

In coordinates z with x = centre + root z the law is near N(0, 1), so one step and one length suit
every direction and the flow stays Euclidean. Every gradient is entered in an `Account`.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ..driver import solve
from ..flow import Flow
from ..functionals import Energy
from ..geometries import AbstractGeometry, Euclidean, Friction, Isokinetic, Symplectic
from ..noise import Thermal
from ..random import Randomness
from ..schemes import OBABO, Metropolis
from ..states import Particles, Phase
from ..trajectory import Trajectory
from .frame import Frame
from .proposal import generator
from .stopwatch import Stopwatch

BATCH = 256


class Account:
    """Gradients spent, out of a budget; gradients and seconds by phase."""

    def __init__(self, limit: int):
        self.limit, self.spent = limit, 0
        self.seconds: dict[str, float] = {}
        self.phases: dict[str, int] = {}

    @property
    def left(self) -> int:
        """What may still be spent."""
        return self.limit - self.spent

    def spend(self, gradients: int) -> None:
        """Enters gradients."""
        self.spent += int(gradients)

    def book(self, phase: str, watch: Stopwatch) -> None:
        """Enters the seconds of a watch, compilation apart, and what was spent meanwhile."""
        self.phases[phase] = self.phases.get(phase, 0) + self.spent - sum(self.phases.values())
        self.seconds["compile"] = self.seconds.get("compile", 0.0) + watch.compile
        self.seconds[phase] = self.seconds.get(phase, 0.0) + watch.run


@dataclasses.dataclass
class Ensemble:
    """The chains on their way: positions in whitened coordinates, momenta, keys, and the account.

    `kind`: "plain" (positions alone), "kinetic" or "isokinetic". `apart` (chain,): which of them
    began at modes of their own.
    """

    energy: Frame
    state: Particles
    key: Any
    account: Account
    kind: str
    apart: Any
    turn: int = 0

    @property
    def kinetic(self) -> bool:
        """Whether there are momenta."""
        return self.kind != "plain"

    @property
    def chains(self) -> int:
        """How many."""
        return self.state.count

    @property
    def dimension(self) -> int:
        """d."""
        return self.energy.target.dimension

    @property
    def positions(self) -> np.ndarray:
        """(chain, d)."""
        inner = self.state.positions
        return np.asarray(inner.position if self.kinetic else inner)

    def next_key(self) -> Any:
        """A key not used before."""
        self.turn += 1
        return jax.random.fold_in(self.key, self.turn)

    def place(self, z: np.ndarray) -> None:
        """Chains at z (chain, d), with fresh momenta."""
        at = jnp.asarray(z, self.energy.centre.dtype)
        if self.kinetic:
            drawn = generator(self.next_key(), 0).standard_normal(z.shape)
            if self.kind == "isokinetic":
                size = np.linalg.norm(drawn, axis=1, keepdims=True)
                drawn *= math.sqrt(z.shape[1] - 1) / size
            at = Phase(at, jnp.asarray(drawn, at.dtype))
        self.state = Particles.from_positions(at)

    def flow(self, friction: float) -> Flow:
        """Of one chain, at temperature 1."""
        geometry: AbstractGeometry = Euclidean()
        if self.kinetic:
            kept = Isokinetic() if self.kind == "isokinetic" else Symplectic()
            geometry = kept + Friction(friction)
        return Flow(Energy(self.energy), geometry, Thermal(1.0))

    def advance(
        self, scheme: Any, steps: int, *, friction: float = 1.0, save_every: int = 1
    ) -> Trajectory:
        """`steps` more steps of all chains, which move on; costs are entered."""
        key = self.next_key()
        options = dict(scheme=scheme, steps=steps, save_every=save_every, key=key)
        # Every step's gradients, and one where the run starts.
        self.account.spend(self.chains * (1 + int(step_costs(scheme, key, steps).sum())))
        run = solve(self.flow(friction), self.state, **options)
        self.state = run.final
        return run

    def planned(self, scheme: Any, gradients: int) -> int:
        """How many steps of the next `advance` cost at most that many gradients for each chain."""
        key = jax.random.fold_in(self.key, self.turn + 1)
        most = max(gradients - 1, 0)
        return int(np.searchsorted(np.cumsum(step_costs(scheme, key, most)), most, side="right"))

    def saved(self, run: Trajectory) -> np.ndarray:
        """The positions of a run without its start, (chain, save, d)."""
        inner = run.states.positions
        z = np.asarray(inner.position if self.kinetic else inner)[1:]
        return np.moveaxis(z, 0, 1)


def step_costs(scheme: Any, key: Any, steps: int) -> np.ndarray:
    """Gradients of each of the first `steps` steps of a chain, (steps,)."""
    if not isinstance(scheme, Metropolis) or isinstance(scheme.leaps, int):
        return np.ones(steps, int)
    found = [
        np.asarray(_counts(jnp.asarray(scheme.leaps), key, jnp.uint32(first)))
        for first in range(0, steps, 1024)
    ]
    return np.concatenate([*found, np.zeros(0, int)])[:steps]


@jax.jit
def _counts(leaps: Any, key: Any, first: Any) -> Any:
    scheme = eqx.tree_at(lambda s: s.leaps, _ANY, leaps)
    source = Randomness.from_key(key)
    return jax.vmap(lambda k: scheme.count(source.at(k)))(first + jnp.arange(1024, dtype="uint32"))


_ANY = Metropolis(OBABO(1.0), leaps=1.0)


def in_batches(fn: Any, energy: Frame, points: np.ndarray, *others: np.ndarray) -> Any:
    """fn(energy, point, ...) at each row, in batches of one size: one compilation."""
    count = len(points)
    pieces = []
    for first in range(0, count, BATCH):
        rows = [np.asarray(x[first : first + BATCH]) for x in (points, *others)]
        padding = BATCH - len(rows[0])
        rows = [np.concatenate([r, np.repeat(r[:1], padding, axis=0)]) for r in rows]
        rows = [jnp.asarray(r, energy.centre.dtype) for r in rows]
        found = _batch(fn, energy, *rows)
        pieces.append(jax.tree.map(lambda x, p=padding: np.asarray(x)[: BATCH - p], found))
    return jax.tree.map(lambda *x: np.concatenate(x), *pieces)


@eqx.filter_jit
def _batch(fn: Any, energy: Frame, *rows: Any) -> Any:
    return jax.vmap(functools.partial(fn, energy))(*rows)


def value_at(energy: Frame, z: Any) -> Any:
    """E."""
    return energy(z)


def gradient_at(energy: Frame, z: Any) -> Any:
    """The gradient of E."""
    return jax.grad(energy)(z)


def slope_at(energy: Frame, z: Any, probe: Any) -> tuple[Any, Any, Any]:
    """E, its gradient, and probe . Hessian probe: three gradients."""
    both = jax.value_and_grad(energy)
    (value, slope), (_, curved) = jax.jvp(both, (z,), (probe,))
    return value, slope, jnp.dot(probe, curved)
