"""What random compositions are made of: functions of any pytree, arguments by name, and states.

Numbers are drawn where a class takes any; two runs that differ in a dial share their program.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

import steepest as st
from steepest.functionals.scores import AbstractScoreEstimator
from steepest.geometries import AbstractGeometry
from steepest.geometries.potentials import AbstractPotential
from steepest.kernels import AbstractKernel
from steepest.schemes import AbstractScheme

jax.config.update("jax_enable_x64", True)  # before any number is made
STEP, CLOUD, CELLS = 1e-3, 6, 16


# --- functions, each of any pytree of arrays -------------------------------------------------


def total(fn: Callable[[Any], Any], x: Any) -> Any:
    """The sum of fn over all entries."""
    return sum(jnp.sum(fn(leaf)) for leaf in jax.tree.leaves(x))


def bowl(x):
    return total(lambda a: 0.6 * (a - 0.3) ** 2, x)


def double_well(x):
    return total(lambda a: 0.25 * (a**2 - 1.0) ** 2 + 0.1 * a, x)


def tilted(x, time):
    return total(lambda a: 0.5 * (a - jnp.sin(time)) ** 2, x)


def pendulum(q, p):
    return total(lambda a: 0.5 * a**2, p) - total(jnp.cos, q)


def log_density(x):
    return -bowl(x)


def loss(theta, row):
    return 0.5 * (total(lambda a: row[0] * a, theta) - row[1]) ** 2


def predicted(theta, row):
    return total(lambda a: row * a, theta)


def logits(theta, row):
    return jnp.stack([predicted(theta, row), jnp.sin(predicted(theta, row))])


def spring(z):
    return total(lambda a: 0.5 * a**2, z)


def soft(z):
    return jnp.sqrt(1.0 + total(lambda a: a**2, z))


def metric(x):
    flat = ravel_pytree(x)[0]
    return jnp.diag(1.0 + flat**2)


def scales(x):
    return jax.tree.map(lambda a: 1.0 + 0.5 * a**2, x)


def turn(x):
    n = ravel_pytree(x)[0].size
    upper = jnp.triu(jnp.ones((n, n)), 1)
    return upper - upper.T


def drag(x):
    flat = ravel_pytree(x)[0]
    return jnp.diag(1.0 + 0.2 * flat**2)


def level(q):
    return jnp.atleast_1d(total(lambda a: a**2, q) - 1.0)


def second_moment(measure):
    return measure.expect(lambda x: bowl(x)) ** 2


def waning(time):
    return 0.2 + 0.3 * jnp.exp(-time)


def sigma(x, time):
    return jax.tree.map(lambda a: 0.2 + 0.1 * a**2, x)


def mixing(x, time, white):
    return jax.tree.map(lambda w: 0.3 * w, white)


def convex(x):
    return jnp.sum(0.5 * x**2 + 0.1 * x**4)


# --- arguments by name ------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Of:
    """An instance of an exported class under this base."""

    base: type


@dataclasses.dataclass(frozen=True)
class Between:
    """A number of an interval."""

    low: float
    high: float

    def number(self, draw: random.Random) -> float:
        return draw.uniform(self.low, self.high)


ROWS = (np.array([0.5, -1.0, 0.8, 1.3]), np.array([0.2, -0.4, 0.9, 1.0]))
LABELS = (ROWS[0], np.array([0.0, 1.0, 1.0, 0.0]))
CLASSES = (ROWS[0], np.array([0, 1, 1, 0]))
POINTS = np.array([[0.3, -0.2], [-0.5, 0.4], [1.0, 0.1]])

VALUES: dict[str, list[Any]] = {
    # functionals
    "fn": [bowl, double_well],
    "energy": [bowl, double_well],
    "potential": [st.Energy(bowl), st.Energy(double_well)],
    "loss": [loss],
    "data": [POINTS],
    "batch_size": [None, 2],
    "kernel": [Of(AbstractKernel)],
    "power": [2.0, 3.0, 0.8],
    "target": [log_density, st.Energy(double_well), st.Gaussian.standard(2)],
    "function": [second_moment],
    "estimator": [None, Of(AbstractScoreEstimator)],
    "mass": [1.0, Between(0.5, 2.0)],
    "temperature": [0.0, 1.0, Between(0.05, 1.5), waning],
    "bandwidth": [Between(0.5, 1.5)],
    "offset": [Between(0.2, 1.5)],
    # geometries
    "gamma": [0.0, Between(0.1, 2.0), waning],
    "ground": [Of(AbstractGeometry)],
    "metric": [metric],
    "matrix": [turn, drag],
    "constraint": [level],
    "model": [st.NegativeLogLikelihood(predicted, LABELS, "bernoulli")],
    "kind": ["sup", "l1", "euclidean", "spectral"],
    "unit": [False, True],
    "parts": [st.Euclidean(), {"a": st.Euclidean(), "b": st.Bregman("entropy")}],
    "p": [1.5, Between(1.2, 3.0)],
    "scale": [Between(0.3, 2.0)],
    # noise
    "increments": ["normal", "two-point", "three-point"],
    # schemes
    "step": [STEP],
    "order": [2],
    "word": ["BAOAB", "ABA", "OBA", "BAB"],
    "scheme": [Of(AbstractScheme)],
    "schemes": [Of(AbstractScheme)],
    "solver": ["tsit5", "kvaerno3"],
    "accuracy": [2, 4],
    "quadrature": ["gauss", "lobatto"],
    "method": ["auto", "mirror", "covector", "bures", "quantile", "entropic"],
    "symmetric": [True, False],
    "leaps": [1, 3],
}
OWN: dict[tuple[str, str], list[Any]] = {
    ("EmpiricalRisk", "data"): [ROWS, ROWS, st.Streamed(ROWS, 3)],
    ("Potential", "function"): [convex],
    ("Bregman", "potential"): ["simplex", "entropy", "hyperbolic", Of(AbstractPotential)],
    ("Diagonal", "estimator"): [scales, st.SecondMoment(0.5)],
    ("Poisson", "matrix"): [turn],
    ("Onsager", "matrix"): [drag],
    ("Stein", "kernel"): [None, Of(AbstractKernel)],
    ("MMD", "kernel"): [None, Of(AbstractKernel)],
    ("SteinDiscrepancy", "kernel"): [None, Of(AbstractKernel)],
    ("InteractionEnergy", "kernel"): [spring, soft, Of(AbstractKernel)],
    ("InteractionEnergy", "batch_size"): [None],
    ("Fisher", "kind"): ["exact", "empirical", "gauss-newton"],
    ("Fisher", "solver"): ["auto", "cg", "dense"],
    ("ScoreNetwork", "steps"): [3],
    ("Splitting", "accuracy"): [None],
    ("Yoshida", "order"): [4],
    ("McLachlan", "order"): [2, 4],
    ("SinkhornDivergence", "epsilon"): [0.5],
    ("SlicedWasserstein", "projections"): [8],
    ("MinimizingMovement", "order"): [1, 2],
    ("FiniteVolume", "order"): [1, 2],
}
TOGETHER: dict[str, list[dict[str, Any]]] = {
    "Energy": [
        {"fn": bowl},
        {"fn": double_well},
        {"fn": tilted, "time_dependent": True},
    ],
    "PhaseEnergy": [{"fn": pendulum}],
    "NegativeLogLikelihood": [
        {"apply": predicted, "data": LABELS, "family": "bernoulli"},
        {"apply": logits, "data": CLASSES, "family": "categorical"},
        {"apply": predicted, "data": ROWS, "family": "gaussian"},
    ],
    "Diffusion": [{"sigma": 0.3}, {"sigma": sigma}, {"apply": mixing}],
}
"""Arguments that make sense in each other's company only."""
ALWAYS = ("order", "increments", "batch_size", "estimator", "kernel", "method", "leaps")
"""Optional arguments that are worth drawing; others keep their defaults most of the time."""


# --- states -------------------------------------------------------------------------------------

Rng = np.random.Generator


def _normal(rng: Rng, *shape: int) -> Any:
    return jnp.asarray(0.6 * rng.normal(size=shape))


def _shares(rng: Rng, *shape: int) -> Any:
    return jax.nn.softmax(_normal(rng, *shape), axis=-1)


def _unit(rng: Rng, *shape: int) -> Any:
    x = rng.normal(size=shape)
    return jnp.asarray(x / np.linalg.norm(x, axis=-1, keepdims=True))


def _root(rng: Rng) -> Any:
    """The Cholesky factor of a covariance."""
    low, diagonal = 0.3 * rng.normal(), rng.uniform(0.5, 0.9, 2)
    return jnp.asarray([[diagonal[0], 0.0], [low, diagonal[1]]])


def _deviations(rng: Rng) -> Any:
    return jnp.asarray(rng.uniform(0.5, 0.9, 2))


def _circle(rng: Rng) -> Any:
    """On the circle, with a momentum along it of size 1, which is isokinetic at temperature 1."""
    q = _unit(rng, 2)
    return st.Phase(q, jnp.stack([-q[1], q[0]]))


def _hyperboloid(rng: Rng) -> Any:
    y = _normal(rng, 2)
    return jnp.concatenate([jnp.sqrt(1.0 + y @ y)[None], y])


def _definite(rng: Rng) -> Any:
    root = _root(rng)
    return root @ root.T


def _phases(rng: Rng) -> Any:
    return st.Phase(_normal(rng, CLOUD, 2), _normal(rng, CLOUD, 2))


def _density(*grid: Any, **options: Any) -> Callable[[Rng], Any]:
    def make(rng: Rng) -> Any:
        middle = rng.uniform(-0.4, 0.4)
        log = lambda x: -total(lambda a: (a - middle) ** 2, x)  # noqa: E731
        return st.Density.from_log(st.Grid(*grid, **options), log)

    return make


def _gaussian(**options: Any) -> Callable[[Rng], Any]:
    return lambda rng: st.Gaussian(_normal(rng, 2), _root(rng), **options)


def _categorical(**options: Any) -> Callable[[Rng], Any]:
    return lambda rng: st.Categorical.from_probabilities(_shares(rng, 3), **options)


PLANE = ([-3.0] * 2, [3.0] * 2, [8, 8])
STATES: dict[str, Callable[[Rng], Any]] = {
    "vector": lambda rng: _normal(rng, 2),
    "positive": lambda rng: _shares(rng, 3),
    "matrix": lambda rng: _normal(rng, 2, 2),
    "definite": _definite,
    "unit": lambda rng: _unit(rng, 2),
    "hyperboloid": _hyperboloid,
    "frame": lambda rng: jnp.linalg.qr(_normal(rng, 3, 2))[0],
    "dictionary": lambda rng: {"a": _normal(rng, 2), "b": _shares(rng, 2)},
    "Phase": lambda rng: st.Phase(_normal(rng, 2), _normal(rng, 2)),
    "Phase on a circle": _circle,
    "Adaptive": lambda rng: st.Adaptive.start(_normal(rng, 2), _normal(rng, 2)),
    "Particles": lambda rng: st.Particles(_normal(rng, CLOUD, 2)),
    "Particles, weighted": lambda rng: st.Particles(
        _normal(rng, CLOUD, 2), jnp.log(_shares(rng, CLOUD))
    ),
    "Particles of Phase": lambda rng: st.Particles(_phases(rng)),
    "Particles on the simplex": lambda rng: st.Particles(_shares(rng, CLOUD, 2)),
    "Particles on the circle": lambda rng: st.Particles(_unit(rng, CLOUD, 2)),
    "Density": _density(-3.0, 3.0, CELLS),
    "Density, periodic": _density(-3.0, 3.0, CELLS, "periodic"),
    "Density in the plane": _density(*PLANE),
    "Density, phase": _density(*PLANE, phase=True),
    "Gaussian": _gaussian(),
    "Gaussian, GaussHermite": _gaussian(quadrature=st.GaussHermite(8)),
    "Gaussian, Cubature": _gaussian(quadrature=st.Cubature(5)),
    "Gaussian, QuasiMonteCarlo": _gaussian(quadrature=st.QuasiMonteCarlo(64)),
    "Gaussian, MonteCarlo": _gaussian(quadrature=st.MonteCarlo(256)),
    "Gaussian, diagonal": lambda rng: st.Gaussian(_normal(rng, 2), _deviations(rng)),
    "Gaussian, LowRank": lambda rng: st.Gaussian(
        _normal(rng, 2), st.LowRank(_normal(rng, 2, 1), _deviations(rng))
    ),
    "Gaussian, phase": _gaussian(phase=True),
    "GaussianMixture": lambda rng: st.GaussianMixture(
        jnp.log(_shares(rng, 2)), _normal(rng, 2, 2), jnp.stack([_root(rng), _root(rng)])
    ),
    "Categorical": _categorical(),
    "Categorical on a graph": _categorical(graph=np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]])),
}
LAWS = [name for name in STATES if name[0].isupper() and not name.startswith(("Phase", "Adaptive"))]
