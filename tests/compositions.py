"""Random compositions of everything that `steepest` exports, and what must hold of each.

A composition is a state, a functional, a geometry, a noise and a scheme. Classes are taken from
the exports; their arguments are found by name in `VALUES`, so an ingredient that is added later
joins as soon as its required arguments have values there (`missing()` says which have none).

    python tests/compositions.py --seed 0 --count 20000      prints what is wrong, and a count

What is accepted must run, and its run must be right by means that share no code with the scheme:

  refusal        nothing but a SteepestError, whose message says what would do
  consistency    (x(h) - x(0))/h tends to the flow's velocity as h tends to 0: a scheme that leaves
                 out a part of the flow, or weighs it wrongly, keeps an error that does not shrink
  slope          the velocity lowers F at the rate <dF, K dF> >= 0, F by the user's own functional,
                 differentiated numerically
  books          F(0) - F(h) - dissipated is of higher order in h
  noise          the variance of a step is 2 T tr K h (+ tr sigma sigma^T h), over many particles
  descent        F does not rise without noise, at a small step, and at any step of a scheme that
                 says it is monotone
  law            mass is kept, nothing is negative, covariances are positive, shapes and dtypes stay
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import functools
import inspect
import random
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

import steepest as st
from steepest import driver, tree
from steepest.errors import Diverged, NotConverged, SteepestError
from steepest.functionals import AbstractFunctional
from steepest.functionals.scores import AbstractScoreEstimator
from steepest.geometries import AbstractGeometry
from steepest.geometries.cone import unscaled
from steepest.geometries.potentials import AbstractPotential
from steepest.kernels import AbstractKernel
from steepest.noise import AbstractNoise
from steepest.schemes import AbstractScheme
from steepest.states.points import is_ensemble, points

SMALL, COPIES, CLOUD, CELLS = 1e-3, 2000, 6, 16


# --- functions, each of any pytree of arrays -------------------------------------------------


def _total(fn: Callable[[Any], Any], x: Any) -> Any:
    return sum(jnp.sum(fn(leaf)) for leaf in jax.tree.leaves(x))


def bowl(x):
    return _total(lambda a: 0.6 * (a - 0.3) ** 2, x)


def double_well(x):
    return _total(lambda a: 0.25 * (a**2 - 1.0) ** 2 + 0.1 * a, x)


def tilted(x, time):
    return _total(lambda a: 0.5 * (a - jnp.sin(time)) ** 2, x)


def pendulum(q, p):
    return _total(lambda a: 0.5 * a**2, p) - _total(jnp.cos, q)


def log_density(x):
    return -bowl(x)


def loss(theta, row):
    return 0.5 * (_total(lambda a: row[0] * a, theta) - row[1]) ** 2


def predicted(theta, row):
    return _total(lambda a: row * a, theta)


def spring(z):
    return _total(lambda a: 0.5 * a**2, z)


def soft(z):
    return jnp.sqrt(1.0 + _total(lambda a: a**2, z))


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
    return jnp.atleast_1d(_total(lambda a: a**2, q) - 1.0)


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

ROWS = (np.array([0.5, -1.0, 0.8, 1.3]), np.array([0.2, -0.4, 0.9, 1.0]))
LABELS = (ROWS[0], np.array([0.0, 1.0, 1.0, 0.0]))
POINTS = np.array([[0.3, -0.2], [-0.5, 0.4], [1.0, 0.1]])

Draw = random.Random


@dataclasses.dataclass(frozen=True)
class Of:
    """An instance of an exported class under this base."""

    base: type


def _kernel(draw: Draw) -> Any:
    return draw.choice([spring, soft, *(k() for k in exported(AbstractKernel))])


VALUES: dict[str, list[Any]] = {
    # functionals
    "fn": [bowl, double_well],
    "energy": [bowl, double_well],
    "potential": [st.Energy(bowl), st.Energy(double_well)],
    "loss": [loss],
    "data": [POINTS],
    "batch_size": [None, 2],
    "kernel": [_kernel],
    "power": [2.0, 3.0, 0.8],
    "target": [log_density, st.Energy(double_well), st.Gaussian.standard(2)],
    "function": [second_moment],
    "apply": [predicted],
    "estimator": [None, Of(AbstractScoreEstimator)],
    "mass": [1.0, 2.0],
    "temperature": [0.0, 0.5, 1.0, waning],
    "family": ["categorical", "bernoulli", "gaussian"],
    # geometries
    "gamma": [0.0, 1.0, waning],
    "ground": [Of(AbstractGeometry)],
    "metric": [metric],
    "matrix": [turn, drag],
    "constraint": [level],
    "model": [st.NegativeLogLikelihood(predicted, LABELS, "bernoulli")],
    "kind": ["sup", "l1", "euclidean", "spectral"],
    "unit": [False, True],
    "parts": [st.Euclidean(), {"a": st.Euclidean(), "b": st.Bregman("entropy")}],
    "p": [1.5],
    "time": [0.5],
    # noise
    "increments": ["normal", "two-point", "three-point"],
    # schemes
    "step": [SMALL],
    "order": [1, 2],
    "word": ["BAOAB", "ABA", "OBA", "BAB"],
    "scheme": [Of(AbstractScheme)],
    "schemes": [Of(AbstractScheme)],
    "solver": ["tsit5", "kvaerno3"],
    "accuracy": [2, 4],
    "quadrature": ["gauss", "lobatto"],
    "method": ["auto", "mirror", "covector", "bures", "quantile", "entropic"],
    "symmetric": [True, False],
}
OWN: dict[tuple[str, str], list[Any]] = {
    ("EmpiricalRisk", "data"): [ROWS],
    ("NegativeLogLikelihood", "data"): [LABELS],
    ("PhaseEnergy", "fn"): [pendulum],
    ("Energy", "time_dependent"): [False],
    ("Potential", "function"): [convex],
    ("Bregman", "potential"): ["simplex", "entropy", "hyperbolic", Of(AbstractPotential)],
    ("Diagonal", "estimator"): [scales, st.SecondMoment(0.5)],
    ("Poisson", "matrix"): [turn],
    ("Onsager", "matrix"): [drag],
    ("Stein", "kernel"): [None, _kernel],
    ("MMD", "kernel"): [None, _kernel],
    ("SteinDiscrepancy", "kernel"): [None, _kernel],
    ("InteractionEnergy", "batch_size"): [None],
    ("Fisher", "kind"): ["exact", "empirical", "gauss-newton"],
    ("Diffusion", "sigma"): [0.3, sigma, None],
    ("Diffusion", "apply"): [None, mixing],
    ("ScoreNetwork", "steps"): [3],
    ("Splitting", "accuracy"): [None],
    ("Yoshida", "order"): [4],
    ("SinkhornDivergence", "epsilon"): [0.5],
    ("SlicedWasserstein", "projections"): [8],
    ("MinimizingMovement", "order"): [1, 2],
}
ALWAYS = ("sigma", "apply", "order", "increments", "batch_size", "estimator", "kernel", "method")
"""Optional arguments that are worth drawing; others keep their defaults."""


@functools.cache
def exported(base: type) -> tuple[Any, ...]:
    """The exported classes, and functions that make them, of one kind."""
    home = {
        AbstractFunctional: "functionals",
        AbstractGeometry: "geometries",
        AbstractNoise: "noise",
        AbstractScheme: "schemes",
        AbstractKernel: "kernels",
        AbstractPotential: "geometries",
        AbstractScoreEstimator: "functionals",
    }[base]
    found = [getattr(st, name) for name in st._HOME[home]]
    classes = [x for x in found if isinstance(x, type) and issubclass(x, base)]
    if base is AbstractScheme:
        classes += [x for x in found if not isinstance(x, type) and x is not st.generator]
    return tuple(classes)


KINDS = (AbstractFunctional, AbstractGeometry, AbstractNoise, AbstractScheme)


def missing() -> list[str]:
    """Required arguments of exported ingredients that `VALUES` knows nothing of."""
    found = []
    for kind in KINDS:
        for made in exported(kind):
            for name, parameter in inspect.signature(made).parameters.items():
                known = name in VALUES or (made.__name__, name) in OWN
                if parameter.default is inspect.Parameter.empty and not known:
                    found.append(f"{made.__name__}({name}=...)")
    return found


def _argument(draw: Draw, made: Any, name: str, depth: int) -> Any:
    value = draw.choice(OWN.get((made.__name__, name)) or VALUES[name])
    if isinstance(value, Of):
        return ingredient(draw, value.base, depth + 1)
    if inspect.isfunction(value) and value is _kernel:
        return _kernel(draw)
    return value


def one(draw: Draw, made: Any, depth: int = 0) -> Any:
    """`made` called with arguments drawn by name."""
    positional, named = [], {}
    for name, parameter in inspect.signature(made).parameters.items():
        required = parameter.default is inspect.Parameter.empty
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            positional = [_argument(draw, made, name, depth) for _ in range(draw.choice([1, 2, 2]))]
        elif required or (
            (name in VALUES or (made.__name__, name) in OWN)
            and (name in ALWAYS or draw.random() < 0.15)
        ):
            named[name] = _argument(draw, made, name, depth)
    return made(*positional, **named)


def ingredient(draw: Draw, kind: type, depth: int = 0) -> Any:
    """One ingredient of a kind; of flows' ingredients also sums and multiples."""
    made = one(draw, draw.choice(exported(kind)), depth)
    if kind in (AbstractFunctional, AbstractGeometry) and depth < 2:
        if draw.random() < 0.25:
            made = made + ingredient(draw, kind, depth + 1)
        if draw.random() < 0.2:
            made = draw.choice([0.5, 2.0]) * made
    if kind is AbstractNoise and draw.random() < 0.15:
        made = made + ingredient(draw, kind, depth + 1)
    return made


# --- states -------------------------------------------------------------------------------------


def _vector(n: int = 2) -> Any:
    return jnp.asarray(np.linspace(0.5, -0.3, n))


def _cloud(n: int = CLOUD) -> Any:
    rng = np.random.default_rng(3)
    return jnp.asarray(0.7 * rng.normal(size=(n, 2)))


def _weights(n: int = CLOUD) -> Any:
    return jnp.log(jnp.asarray(np.arange(1, n + 1) / (n * (n + 1) / 2)))


def _density(grid: Any) -> Any:
    return st.Density.from_log(grid, lambda x: -_total(lambda a: (a + 0.2) ** 2, x))


def _phases(n: int = CLOUD) -> Any:
    return st.Phase(_cloud(n), 0.8 * _cloud(n)[::-1])


LOWER = np.array([[0.8, 0.0], [0.2, 0.6]])
STATES: dict[str, Callable[[], Any]] = {
    "vector": _vector,
    "positive": lambda: jnp.asarray([0.5, 0.3, 0.2]),
    "matrix": lambda: jnp.asarray([[0.6, -0.2], [0.1, 0.9]]),
    "definite": lambda: jnp.asarray([[1.2, 0.3], [0.3, 0.7]]),
    "unit": lambda: jnp.asarray([0.6, 0.8]),
    "frame": lambda: jnp.asarray([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]),
    "dictionary": lambda: {"a": _vector(), "b": jnp.asarray([0.4, 0.7])},
    "Phase": lambda: st.Phase(_vector(), jnp.asarray([0.4, 0.7])),
    "Phase on a circle": lambda: st.Phase(jnp.asarray([0.6, 0.8]), jnp.asarray([-0.8, 0.6])),
    "Adaptive": lambda: st.Adaptive.start(_vector(), jnp.asarray([0.3, 0.2])),
    "Particles": lambda: st.Particles(_cloud()),
    "Particles, weighted": lambda: st.Particles(_cloud(), _weights()),
    "Particles of Phase": lambda: st.Particles(_phases()),
    "Particles on the simplex": lambda: st.Particles(jax.nn.softmax(_cloud(), axis=1)),
    "Density": lambda: _density(st.Grid(-3.0, 3.0, CELLS)),
    "Density, periodic": lambda: _density(st.Grid(-3.0, 3.0, CELLS, "periodic")),
    "Density in the plane": lambda: _density(st.Grid([-3.0] * 2, [3.0] * 2, [8, 8])),
    "Density, phase": lambda: _density(st.Grid([-3.0] * 2, [3.0] * 2, [8, 8], phase=True)),
    "Gaussian": lambda: st.Gaussian(_vector(), jnp.asarray(LOWER)),
    "Gaussian, diagonal": lambda: st.Gaussian(_vector(), jnp.asarray([0.8, 0.6])),
    "Gaussian, low rank": lambda: st.Gaussian(
        _vector(), st.LowRank(jnp.asarray([[0.3], [0.2]]), jnp.asarray([0.8, 0.6]))
    ),
    "Gaussian, phase": lambda: st.Gaussian(_vector(), jnp.asarray(LOWER), phase=True),
    "GaussianMixture": lambda: st.GaussianMixture(
        jnp.log(jnp.asarray([0.4, 0.6])),
        jnp.asarray([[0.5, -0.3], [-0.6, 0.2]]),
        jnp.asarray(np.stack([LOWER, 0.8 * LOWER])),
    ),
    "Categorical": lambda: st.Categorical.from_probabilities(jnp.asarray([0.5, 0.3, 0.2])),
    "Categorical on a graph": lambda: st.Categorical.from_probabilities(
        jnp.asarray([0.5, 0.3, 0.2]), graph=np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]])
    ),
}
LAWS = [name for name in STATES if name[0].isupper() and not name.startswith(("Phase", "Adaptive"))]


@dataclasses.dataclass
class Composition:
    """What was drawn; `str` names it so that `--seed` and the number find it again."""

    number: int
    state: str
    functional: Any
    geometry: Any
    noise: Any
    scheme: Any

    def __str__(self) -> str:
        names = [getattr(x, "name", x) for x in (self.functional, self.geometry, self.noise)]
        return f"#{self.number} {self.state} | {' | '.join(map(str, names))} | {self.scheme}"


def _fits(geometry: Any, name: str) -> bool:
    """Whether geometry and state speak of the same kind of thing."""
    if geometry.kinetic != ("hase" in name):
        return False
    return geometry.on_measures == (name in LAWS) or name.startswith("Particles")


def composition(seed: int, number: int) -> Composition | SteepestError:
    """Number `number` of a seed, or the refusal of one of its ingredients.

    Most are guided: state, geometry and functional speak of the same kind of thing, and noise and
    scheme are drawn until the flow takes them, up to sixteen times. The others are drawn blindly.
    """
    draw = random.Random(f"{seed} {number}")
    name, guided = draw.choice(list(STATES)), draw.random() < 0.8
    try:
        geometry = ingredient(draw, AbstractGeometry)
        functional = ingredient(draw, AbstractFunctional)
        for _ in range(40 if guided else 0):
            if _fits(geometry, name):
                break
            geometry = ingredient(draw, AbstractGeometry)
        for _ in range(40 if guided else 0):
            if functional.on_measures == geometry.on_measures:
                break
            functional = ingredient(draw, AbstractFunctional)
    except SteepestError as refusal:
        return refusal
    found: Composition | SteepestError | None = None
    for _ in range(8 if guided else 1):
        try:
            noise = ingredient(draw, AbstractNoise) if draw.random() < 0.35 else None
            scheme = ingredient(draw, AbstractScheme)
            found = Composition(number, name, functional, geometry, noise, scheme)
            driver._fitted(st.Flow(functional, geometry, noise), scheme, STATES[name]())
            break
        except SteepestError as refusal:
            found = refusal if found is None else found
        except Exception:
            break
    assert found is not None
    return found


# --- what must hold -----------------------------------------------------------------------------


@dataclasses.dataclass
class Outcome:
    """`verdict`: refused, diverged, ran, or the name of what is wrong; with the reason."""

    verdict: str
    why: str = ""


FINE = ("refused", "diverged", "ran", "taken")


class Fault(Exception):
    """Something that must hold does not: (name of the check, what was found)."""


def examine(made: Composition, run: bool = True) -> Outcome:
    """Runs a composition and holds it to the checks of the module's docstring.

    `run`: without, only whether it is taken or refused.
    """
    try:
        flow = st.Flow(made.functional, made.geometry, made.noise)
        if not run:
            driver._fitted(flow, made.scheme, STATES[made.state]())
            return Outcome("taken")
        checks = Checks(flow, made.scheme, STATES[made.state]())
        checks.everything()
    except (Diverged, NotConverged) as end:
        return Outcome("diverged", str(end))
    except SteepestError as refusal:
        good = len(str(refusal)) > 20 and "object at 0x" not in str(refusal)
        return Outcome("refused" if good else "unclear refusal", str(refusal))
    except Fault as fault:
        return Outcome(fault.args[0], fault.args[1])
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)
        ours = [frame for frame in where if "steepest" in frame.filename]
        last = ours[-1] if ours else where[-1]
        place = f"{last.filename.rsplit('/', 2)[-1]}:{last.lineno}"
        return Outcome("raw error", f"{type(error).__name__} at {place}: {str(error)[:160]}")
    return Outcome("ran")


def with_step(scheme: Any, step: float) -> Any:
    """The scheme, and those inside it, with another step."""

    def leaf(path: Any, value: Any) -> Any:
        named = getattr(path[-1], "name", None) == "step"
        return step if named and isinstance(value, float) else value

    return jax.tree_util.tree_map_with_path(leaf, scheme)


def flat(x: Any) -> np.ndarray:
    return np.asarray(ravel_pytree(x)[0], float)


class Checks:
    """One composition that is run at two small steps and a large one."""

    def __init__(self, flow: Any, scheme: Any, state: Any):
        self.flow, self.scheme, self.state = flow, scheme, state
        self.coarse = self.run(SMALL)
        start = tree.as_float(state)
        self.bound = flow.bind(start)
        # One program for both, as compiling is what costs.
        both = jax.jit(lambda: (flow.velocity(start), flow.dissipation_rate(start)))
        self.velocity, self.rate = (None, None) if self.bound.noisy else both()

    def run(self, step: float, state: Any = None, key: int = 0) -> Any:
        state = self.state if state is None else state
        scheme = with_step(self.scheme, step)
        length = {"steps": 1} if scheme.step is not None else {"time": step, "steps": 1}
        return st.solve(self.flow, state, scheme=scheme, key=jax.random.key(key), **length)

    @property
    def exact(self) -> bool:
        """Whether the covector is the differential of the value."""
        return all(p.functional.exact for p in self.bound.parts)

    def everything(self) -> None:
        self.law(self.coarse)
        if self.bound.noisy:
            self.noise()
            return
        fine = self.run(SMALL / 4)
        if getattr(self.scheme, "method", "") == "entropic":
            # It blurs by the same width however short the step, and says so: the audit must tell.
            if self.coarse.audit().passed:
                self.consistency(fine)
            return
        self.consistency(fine)
        self.slope()
        self.books(fine)
        self.descent(fine)

    def law(self, run: Any) -> None:
        """Shapes, dtypes, mass, sign."""
        before, after = run.at(0), run.at(len(run) - 1)
        for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
            if a.shape != b.shape or a.dtype != b.dtype:
                raise Fault("law", f"{a.dtype}{a.shape} became {b.dtype}{b.shape}")
        if not np.isfinite(flat(after)).all():
            raise Fault("law", "not finite")
        if isinstance(after, st.Density):
            drift = abs(float(after.mass - before.mass))
            if drift > 1e-10:
                raise Fault("law", f"mass changed by {drift:.2e}")
            # What is explicit may leave the laws: the ledger keeps the smallest value, and the
            # audit fails.
            open_ = isinstance(self.scheme, (st.Euler, st.RungeKutta))
            if not open_ and float(jnp.min(after.values)) < -1e-14:
                raise Fault("law", f"smallest value {float(jnp.min(after.values)):.2e}")
        if is_ensemble(after) and after.log_weights is not None:
            drift = abs(float(jax.nn.logsumexp(after.log_weights)))
            if drift > 1e-2:
                raise Fault("law", f"log of the mass {drift:.2e}")
        if isinstance(after, st.Gaussian):
            least = float(jnp.min(jnp.linalg.eigvalsh(after.covariance)))
            if not least > 0:
                raise Fault("law", f"smallest variance {least:.2e}")

    def shrinks(self, what: str, error: Callable[[Any, float], float], fine: Any, close: float):
        """Raises unless an error is small, or shrinks with the step, be it a much smaller one."""
        errors = [error(self.coarse, SMALL), error(fine, SMALL / 4)]
        if errors[1] <= close or errors[1] <= 0.6 * errors[0]:
            return
        errors.append(error(self.run(SMALL / 256), SMALL / 256))  # where the flow is stiff
        if errors[2] > max(close, 0.3 * errors[0]):
            raise Fault(what, ", ".join(f"{e:.3g}" for e in errors))

    def consistency(self, fine: Any) -> None:
        """The error of (x(h) - x(0))/h against the velocity shrinks with h, or is small."""
        velocity = flat(self.velocity)

        def error(run: Any, step: float) -> float:
            moved = (flat(run.at(1)) - flat(run.at(0))) / step
            size = np.linalg.norm(velocity) + np.linalg.norm(moved) + 1e-3
            return float(np.linalg.norm(moved - velocity) / size)

        # On a grid a scheme has fluxes of its own, which agree with those of the velocity to the
        # order of the cells; 0.35 tells a missing term from that.
        self.shrinks(
            "consistency", error, fine, 0.35 if isinstance(self.state, st.Density) else 0.01
        )

    def slope(self) -> None:
        """dF/dt along the velocity, by central differences of F itself, is -<dF, K dF> <= 0."""
        parts = self.bound.parts
        if self.bound.warm:  # an entropy has no differential on particles
            return
        if self.flow.time_dependent or not self.exact:
            return
        if not all(p.functional.smooth for p in parts):
            return
        state = tree.as_float(self.state)
        velocity, rate = self.velocity, float(self.rate)
        size = np.linalg.norm(flat(velocity))
        if size == 0:
            return
        epsilon = 1e-5 / max(size, 1.0)
        there = [
            float(self.bound.value(tree.axpy(sign * epsilon, velocity, state)))
            for sign in (1.0, -1.0)
        ]
        change = (there[0] - there[1]) / (2 * epsilon)
        noise = 1e-15 * (1.0 + abs(there[0])) / epsilon
        isothermal = any(p.geometry.isothermal for p in parts)
        if not isothermal and abs(change + rate) > 1e-3 * abs(rate) + 1e-5 * size + 10 * noise:
            raise Fault("slope", f"dF/dt = {change:.6g}, -<dF, K dF> = {-rate:.6g}")
        if rate < -1e-8 * (1 + size):
            raise Fault("slope", f"<dF, K dF> = {rate:.3g} < 0")

    def books(self, fine: Any) -> None:
        """What is missing in F(0) - F(h) = dissipated + O(h^2)."""
        if self.flow.time_dependent or not self.exact:
            return

        def error(run: Any, step: float) -> float:
            rate = abs(float(run.ledger.dissipation_rate[0]))
            return abs(float(run.ledger.closure[-1])) / step / (rate + 1e-2)

        self.shrinks("books", error, fine, 0.02)

    def descent(self, fine: Any) -> None:
        """F does not rise where the flow dissipates."""
        if self.bound.warm or self.flow.time_dependent:
            return
        parts = self.bound.parts
        if not self.bound.shared or not any(p.geometry.dissipative for p in parts):
            return
        if not self.exact or not all(p.functional.smooth for p in parts):
            return
        before, after = (float(self.bound.value(fine.at(i))) for i in (0, 1))
        rate = float(fine.ledger.dissipation_rate[0])
        if after - before > 1e-9 * (1 + abs(before)) + 0.05 * rate * SMALL:
            raise Fault("descent", f"F rose by {after - before:.3g} at a small step")
        if not self.scheme.monotone or any(p.geometry.kinetic for p in parts):
            return
        try:
            large = self.run(0.3)
        except (Diverged, NotConverged, SteepestError):
            return
        self.law(large)
        before, after = (float(self.bound.value(large.at(i))) for i in (0, 1))
        if after - before > 1e-9 * (1 + abs(before)):
            raise Fault("descent", f"F rose by {after - before:.3g} at a large step, said monotone")

    def noise(self) -> None:
        """The variance of a step against 2 T tr K h + tr sigma sigma^T h."""
        state = tree.as_float(self.state)
        if is_ensemble(state):
            state = jax.tree.map(lambda x: x[0], points(state))
        if any(p.geometry.on_measures and not _transports(p.geometry) for p in self.flow.parts):
            return
        if any(p.functional.couples for p in self.bound.parts) or self.flow.subsamples:
            return
        copies = st.Particles(jax.tree.map(lambda x: jnp.tile(x, (COPIES, *[1] * x.ndim)), state))
        run = self.run(SMALL, copies)
        moved = jax.vmap(lambda x: ravel_pytree(x)[0])(points(run.at(1)))
        found = float(jnp.sum(jnp.var(moved, axis=0))) / SMALL
        wanted = expected_variance(self.flow, state)
        # The sum of d variances of n samples errs by sqrt(2/n) of itself at most; five of these,
        # and what a finite step changes.
        if wanted is None:
            return
        if abs(found - wanted) > (5 * np.sqrt(2 / COPIES) + 0.05) * wanted + 1e-4:
            raise Fault("noise", f"variance / step {found:.4g}, 2 T tr K + tr σσ^T = {wanted:.4g}")


def _transports(geometry: Any) -> bool:
    return isinstance(unscaled(geometry)[1], st.Wasserstein)


def expected_variance(flow: Any, point: Any) -> float | None:
    """2 T tr K + tr sigma sigma^T at a point, from the ingredients as the user gave them."""
    geometry = flow.geometry
    factor = 1.0
    temperature = 0.0
    if geometry.on_measures:
        factor, geometry = unscaled(geometry)
        geometry = geometry.ground
        temperature = flow.functional.at(0.0).resolve().temperature
    if geometry.isothermal or not geometry.linear or geometry.curved:
        return None
    if flow.thermal is not None:
        temperature = temperature + flow.temperature(0.0)
    geometry = geometry.at(0.0)
    x, unravel = ravel_pytree(point)
    sharp = lambda e: ravel_pytree(geometry.sharp(unravel(x), unravel(e)))[0] @ e  # noqa: E731
    trace = float(sum(sharp(e) for e in jnp.eye(x.size, dtype=x.dtype)))
    total = 2.0 * float(temperature) * float(factor) * trace
    for term in () if flow.noise is None else flow.noise.terms:
        if isinstance(term, st.Diffusion):
            kick = lambda e, term=term: ravel_pytree(term.kick(point, 0.0, unravel(e)))[0]  # noqa: E731
            total += float(sum(jnp.sum(kick(e) ** 2) for e in jnp.eye(x.size, dtype=x.dtype)))
    return total


def survey(
    seed: int, numbers: Any, say: Any = None, every: int = 1
) -> tuple[collections.Counter, list[str]]:
    """Outcomes of many compositions: how often each verdict, and a line for each fault.

    Of those that are taken one in `every` is run; compiling is what costs.
    """
    count: collections.Counter[str] = collections.Counter()
    faults = []
    for number in numbers:
        try:
            made = composition(seed, number)
            outcome = (
                Outcome("refused", str(made))
                if isinstance(made, Exception)
                else examine(made, number % every == 0)
            )
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            why = f"{type(error).__name__} at {where.filename}:{where.lineno}: {error}"
            made, outcome = f"#{number}", Outcome("raw error", why[:200])
        count[outcome.verdict] += 1
        if outcome.verdict not in FINE:
            faults.append(f"{outcome.verdict}: {' '.join(str(made).split())}\n    {outcome.why}")
            if say is not None:
                say(faults[-1])
    return count, faults


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seconds", type=float, help="stop after these")
    options = parser.parse_args()
    began, done = time.monotonic(), 0
    total: collections.Counter[str] = collections.Counter()
    for first in range(options.first, options.first + options.count, 100):
        last = min(first + 100, options.first + options.count)
        count, _ = survey(options.seed, range(first, last), lambda s: print(s, flush=True))
        total, done = total + count, done + last - first
        if first % 400 == 0:
            jax.clear_caches()  # programs hold memory maps, of which a process has 65,530
        print(f"-- {done} {dict(total)} {time.monotonic() - began:.0f} s", flush=True)
        if options.seconds is not None and time.monotonic() - began > options.seconds:
            break
    sys.exit(any(verdict not in FINE for verdict in total))


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    main()
