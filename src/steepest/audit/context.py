"""What the checks share: the run, its flow bound to the state, and samples of its points."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ..chunks import single_step
from ..flow import Flow
from ..functionals import ExpectedEnergy
from ..random import Randomness
from ..schemes import Euler, Metropolis, RungeKutta
from ..states import Phase
from ..states.points import is_ensemble, points

MOST_SAVES, MOST_CHAINS = 200, 1024


@dataclasses.dataclass
class Context:
    """A trajectory with its bound flow; `bias_tolerance` is the reader's choice."""

    trajectory: Any
    bias_tolerance: float = 0.1

    def __post_init__(self) -> None:
        self.flow = self.trajectory.flow.bind(self.trajectory.at(0))
        self.scheme = self.trajectory.scheme
        self.ledger = self.trajectory.ledger
        self.ensemble = is_ensemble(self.trajectory.states)
        self.steps = (len(self.trajectory) - 1) * self.trajectory.save_every
        self.epsilon = float(np.finfo(np.asarray(self.ledger.functional).dtype).eps)
        functional = np.abs(self.ledger.functional)
        self.scale = float(np.max(functional + np.abs(self.ledger.dissipated)) or 1.0)

    @property
    def part(self) -> Flow:
        """The single flow, or the first of a sum."""
        return self.flow.parts[0]

    def temperature(self, time: float) -> float:
        """Of the bath of a thermal flow."""
        value = self.part.temperature(time)
        assert value is not None, "only thermal flows are asked for a temperature"
        return float(value)

    @property
    def single(self) -> bool:
        return len(self.flow.parts) == 1

    @property
    def step(self) -> float:
        return float(self.scheme.step)

    @property
    def inner_scheme(self) -> Any:
        """The proposal inside Metropolis, or the scheme itself."""
        return self.scheme.scheme if isinstance(self.scheme, Metropolis) else self.scheme

    @property
    def adaptive(self) -> bool:
        return isinstance(self.scheme, RungeKutta)

    @property
    def tolerances(self) -> tuple[float, float]:
        """(rtol, atol) of an adaptive scheme."""
        assert isinstance(self.scheme, RungeKutta)
        return float(self.scheme.rtol), float(self.scheme.atol)

    @property
    def exact_law(self) -> bool:
        """Whether the scheme's stationary law is Gibbs itself."""
        return isinstance(self.scheme, Metropolis)

    @property
    def explicit(self) -> bool:
        return isinstance(self.inner_scheme, Euler)

    @property
    def roundoff(self) -> float:
        """Of a sum of `steps` terms: 50 eps sqrt(steps) on the scale of F."""
        return 50 * self.epsilon * np.sqrt(max(self.steps, 1)) * self.scale

    def single_step(
        self, index: int, time: float, scheme: Any = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """The rows of the ledger before and after one step, alone, from a save; in float64.

        A run's own programs take it, so that an audit compiles nothing but what it adds.
        """
        double = lambda x: jnp.asarray(np.asarray(x, np.float64))  # noqa: E731
        with jax.enable_x64(True):
            return single_step(
                self.flow,
                self.scheme if scheme is None else scheme,
                jax.tree.map(double, self.trajectory.at(index)),
                Randomness.from_key(jax.random.key(index)),
                time,
                len(self.trajectory) - 1,
                "steps" if self.trajectory.balanced else "saves",
            )

    def energy(self) -> Callable[[Any], Any]:
        """E of one point: of the position, for kinetic flows."""
        functional = self.part.functional
        if isinstance(functional, ExpectedEnergy):
            functional = functional.energy
        return getattr(functional, "potential", functional)

    def mass(self) -> Any:
        functional = self.part.functional
        if isinstance(functional, ExpectedEnergy):
            functional = functional.energy
        return getattr(functional, "mass", 1.0)

    def ground(self) -> Any:
        """The geometry of one point."""
        geometry = self.part.geometry
        return getattr(geometry, "ground", geometry)

    def chain_points(self, first: float = 0.5) -> Any:
        """Points of the saves after the fraction `first`: leading axes (saves, chains)."""
        total = len(self.trajectory)
        begin = int(first * total)
        index = np.unique(np.linspace(begin, total - 1, MOST_SAVES).astype(int))
        saved = points(self.trajectory.states)
        if not self.ensemble:
            return jax.tree.map(lambda x: np.asarray(x)[index][:, None], saved)
        chains = jax.tree.leaves(saved)[0].shape[1]
        pick = np.unique(np.linspace(0, chains - 1, MOST_CHAINS).astype(int))
        return jax.tree.map(lambda x: np.asarray(x)[index][:, pick], saved)

    def positions(self, first: float = 0.5) -> Any:
        found = self.chain_points(first)
        return found.position if isinstance(found, Phase) else found


def evaluate(fn: Callable[[Any], Any], sample: Any) -> Any:
    """fn at every point of a sample with leading axes (saves, chains), save by save."""
    return jax.tree.map(np.asarray, _evaluate(fn, jax.tree.map(jnp.asarray, sample)))


@eqx.filter_jit
def _evaluate(fn: Callable[[Any], Any], sample: Any) -> Any:
    return jax.lax.map(jax.vmap(fn), sample)


def mean_and_error(values: np.ndarray) -> tuple[float, float]:
    """The mean of (saves, chains) values and its standard error.

    From the spread of chain means where there are 16 chains or more, which needs no assumption on
    the autocorrelation; else from ten batch means a chain.
    """
    values = np.asarray(values, float)
    saves, chains = values.shape
    if chains >= 16:
        blocks = values.mean(axis=0)
    else:
        count = max(2, min(10, saves))
        blocks = np.array(
            [piece.mean(axis=0) for piece in np.array_split(values, count, axis=0) if len(piece)]
        ).ravel()
    if len(blocks) < 2:
        return float(values.mean()), float("inf")
    return float(values.mean()), float(blocks.std(ddof=1) / np.sqrt(len(blocks)))
