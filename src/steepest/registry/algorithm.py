"""A known algorithm: its name, its source, how the ingredients make it, and what the book says."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..flow import AbstractFlow
from ..functionals import EmpiricalRisk, NegativeLogLikelihood
from ..schemes import AbstractScheme


class Composed(NamedTuple):
    """What `solve` takes: the flow, how time advances, and where it starts."""

    flow: AbstractFlow
    scheme: AbstractScheme
    state: Any


@dataclasses.dataclass(frozen=True)
class Algorithm:
    """One row of the registry.

    `compose(setting)` is the algorithm in the four ingredients; `textbook(setting, state,
    randomness)` is its published update of one step from that state, in NumPy: the two must agree
    to round-off. The textbook returns the arrays of the new state (see `numbers`) and draws what is
    random from the run's own `Randomness`.
    """

    name: str
    citation: str
    compose: Callable[[Setting], Composed]
    textbook: Callable[[Setting, Any, Any], tuple[Any, ...]]


@dataclasses.dataclass(frozen=True)
class Setting:
    """The problem on which every row can run: a tilted double well, a line, four choices, data.

    `start` and `momentum` (2,); `cloud` (n, 2); `rows` = (features (m, 2), answers (m,)) of a
    regression; the line is `interval` in `cells` cells, with a hump N(mean, variance) at the start;
    a Gaussian starts from `mean` and `covariance`; `scales` is a diagonal metric. The derivatives
    are written out, so that a textbook shares nothing with automatic differentiation.
    """

    start: Any
    cloud: Any
    cells: int = 24
    rows: Any = None
    temperature: float = 0.4
    momentum: Any = (0.3, -0.2)
    interval: tuple[float, float] = (-3.0, 3.5)
    hump: tuple[float, float] = (-0.5, 0.3)
    mean: Any = (1.0, -0.5)
    covariance: Any = ((0.6, 0.2), (0.2, 0.5))
    scales: Any = (2.0, 0.5)

    @classmethod
    def small(cls, particles: int = 4, cells: int = 24) -> Setting:
        """The default problem, a function of the two sizes alone."""
        turn = np.arange(particles) * 2.399963  # the golden angle: spread without random numbers
        radius = np.sqrt((np.arange(particles) + 0.5) / particles)
        cloud = np.stack([0.4 + 0.9 * radius * np.cos(turn), 0.9 * radius * np.sin(turn)], axis=1)
        place = np.linspace(-1.0, 1.0, 8)
        features = np.stack([np.ones(8), place], axis=1)
        answers = 0.5 - 0.8 * place + 0.1 * np.cos(5.0 * place)
        return cls(np.array([1.3, -0.4]), cloud, cells, (features, answers))

    @staticmethod
    def energy(x: Any) -> Any:
        """(x_0^2 - 1)^2 + x_1^2 + x_0 x_1 / 2."""
        return (x[0] ** 2 - 1.0) ** 2 + x[1] ** 2 + 0.5 * x[0] * x[1]

    def on_sphere(self) -> tuple[Any, Any]:
        """A point of the unit sphere, and a momentum along it."""
        return np.array([0.6, 0.8]), np.array([-0.4, 0.3])

    def risk(self, batch: int) -> Any:
        """The mean loss of the rows, by batches."""
        rows = jax.tree.map(jnp.asarray, self.rows)
        return EmpiricalRisk(self.loss, rows, batch_size=batch)

    def likelihood(self) -> Any:
        """The rows' answers above a half as outcomes of a logistic model."""
        features, answers = self.rows
        labels = jnp.asarray(answers > 0.5, jnp.float32)
        return NegativeLogLikelihood(
            lambda theta, row: jnp.dot(row, theta), (jnp.asarray(features), labels), "bernoulli"
        )

    @staticmethod
    def gradient(x: Any) -> Any:
        """Its gradient, by hand; x (..., 2)."""
        a, b = x[..., 0], x[..., 1]
        return np.stack([4.0 * a * (a**2 - 1.0) + 0.5 * b, 2.0 * b + 0.5 * a], axis=-1)

    @staticmethod
    def hessian(x: Any) -> Any:
        """Its second derivatives (2, 2)."""
        return np.array([[12.0 * x[0] ** 2 - 4.0, 0.5], [0.5, 2.0]])

    @staticmethod
    def line(x: Any) -> Any:
        """(x - 1/2)^2 / 2 on the line."""
        return 0.5 * jnp.sum((x - 0.5) ** 2)

    @staticmethod
    def bowl(x: Any) -> Any:
        """x^T A x / 2 - b^T x, with A and b of `curvature` and `pull`: a Gaussian target."""
        return x[0] ** 2 + 0.5 * x[1] ** 2 + 0.5 * x[0] * x[1] - 0.5 * x[0]

    curvature = np.array([[2.0, 0.5], [0.5, 1.0]])
    pull = np.array([0.5, 0.0])

    @staticmethod
    def loss(theta: Any, row: Any) -> Any:
        """(features . theta - answer)^2 / 2."""
        features, answer = row
        return 0.5 * (jnp.dot(features, theta) - answer) ** 2
