"""Optimizers of a point: x+ from the gradient alone, under many geometries (section 7.1)."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from ..flow import Flow
from ..geometries import (
    Bregman,
    Diagonal,
    Euclidean,
    Fisher,
    Friction,
    HyperbolicEntropy,
    Norm,
    PNorm,
    Riemannian,
    SecondMoment,
    Sphere,
    Symplectic,
)
from ..noise import Minibatch
from ..schemes import DiscreteGradient, Euler, MinimizingMovement, Nesterov, Splitting
from ..states import Phase
from ..states.adaptive import Adaptive
from .algorithm import Algorithm, Composed, Setting
from .equations import newton

STEP = 0.05
FRICTION = 2.0
MATRIX = np.array([[0.6, -0.2], [0.1, 0.9]])
BATCH = 3
LAST = 2**32 - 1  # the memory of step k is made by the random numbers of step k - 1


def descent(geometry: Any, start: Any = None, scheme: Any = None, energy: Any = None) -> Any:
    """A composition whose flow has a function of the point, a geometry, and no noise."""

    def compose(setting: Setting) -> Composed:
        place = setting.start if start is None else start
        flow = Flow(setting.energy if energy is None else energy, geometry)
        return Composed(flow, Euler(STEP) if scheme is None else scheme, jnp.asarray(place))

    return compose


def along(direction: Any) -> Any:
    """The textbook x+ = x - step direction(x, gradient)."""

    def update(setting: Setting, x: Any, randomness: Any) -> tuple[Any, ...]:
        del randomness
        return (x - STEP * direction(x, setting.gradient(x)),)

    return update


def matrix_energy(w: Any) -> Any:
    """|w w^T - 1|^2 / 4, of a matrix."""
    return 0.25 * jnp.sum((w @ w.T - jnp.eye(w.shape[0])) ** 2)


def matrix_gradient(w: Any) -> Any:
    """(w w^T - 1) w."""
    return (w @ w.T - np.eye(w.shape[0])) @ w


def polar_factor(m: Any) -> Any:
    """U V^T of the singular value decomposition."""
    u, _, vt = np.linalg.svd(m)
    return u @ vt


def muon_direction(m: Any) -> Any:
    """Five Newton-Schulz steps with Jordan's coefficients, from m / |m|."""
    x = m / (np.sqrt(np.sum(m**2)) + 1e-8)
    for _ in range(5):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x


def _softmax_step(x: Any, g: Any) -> Any:
    grown = x * np.exp(-STEP * g)
    return grown / grown.sum()


def _steepest_coordinate(x: Any, g: Any) -> Any:
    largest = np.argmax(np.abs(g))
    return np.where(np.arange(g.size) == largest, g, 0.0)


def _p_mirror(x: Any, g: Any) -> Any:
    # phi = |x|_p^2 / 2 with p = 3/2; its conjugate has q = 3, and the mirror map back is its own.
    def link(v: Any, p: float) -> Any:
        return np.sign(v) * np.abs(v) ** (p - 1) * np.sum(np.abs(v) ** p) ** (2 / p - 1)

    return link(link(x, 1.5) - STEP * g, 3.0)


def _preconditioned(setting: Setting) -> Composed:
    return descent(Diagonal(jnp.asarray(setting.scales)))(setting)


def _preconditioned_update(setting: Setting, x: Any, randomness: Any) -> tuple[Any, ...]:
    return (x - STEP * setting.gradient(x) / np.asarray(setting.scales),)


def _on_sphere(setting: Setting) -> Composed:
    return descent(Sphere(), start=setting.on_sphere()[0])(setting)


def _sphere_step(setting: Setting, x: Any, randomness: Any) -> tuple[Any, ...]:
    g = setting.gradient(x)
    v = -STEP * (g - (g @ x) * x)
    size = np.linalg.norm(v)
    return (np.cos(size) * x + np.sin(size) * v / size,)


def _proximal(setting: Setting, x: Any, randomness: Any) -> tuple[Any, ...]:
    return (
        newton(
            lambda y: y - x + STEP * setting.gradient(y),
            lambda y: np.eye(2) + STEP * setting.hessian(y),
            x,
        ),
    )


def _discrete_gradient(setting: Setting, x: Any, randomness: Any) -> tuple[Any, ...]:
    def gradient(y: Any) -> Any:  # Gonzalez (1996), between x and y
        moved, middle = y - x, setting.gradient(0.5 * (x + y))
        gap = float(setting.energy(y) - setting.energy(x)) - middle @ moved
        return middle + gap * moved / (moved @ moved)

    y = x - STEP * setting.gradient(x)
    for _ in range(200):  # a contraction: its rate is step times half the curvature
        y = x - STEP * gradient(y)
    return (y,)


def _rms(setting: Setting) -> Composed:
    start = jnp.asarray(setting.start)
    first = 0.5 * jnp.ones_like(start)
    flow = Flow(setting.energy, Diagonal(SecondMoment(time=0.5, unbiased=False)))
    return Composed(flow, Euler(STEP), Adaptive.start(start, first))


def _rms_update(setting: Setting, state: Any, randomness: Any) -> tuple[Any, ...]:
    # In the order of the flow: theta moves by the average of the gradients seen before.
    x, v = np.asarray(state.position), np.asarray(state.moment)
    g, share = setting.gradient(x), STEP / 0.5
    moved = x - STEP * g / (np.sqrt(v) + 1e-8)
    return moved, (1.0 - share) * v + share * g**2, np.asarray(state.weight)


def _heavy_ball(setting: Setting) -> Composed:
    flow = Flow(setting.energy, Symplectic() + Friction(FRICTION))
    start = jnp.asarray(setting.start)
    return Composed(flow, Splitting(STEP, "OBA"), Phase(start, jnp.ones_like(start)))


def _heavy_ball_update(setting: Setting, state: Any, randomness: Any) -> tuple[Any, ...]:
    # x_{k+1} = x_k + mu (x_k - x_{k-1}) - eta grad E(x_k), mu = exp(-friction step), eta = step^2.
    x, before = np.asarray(state.position), None
    before = x - STEP * np.asarray(state.momentum)
    new = x + np.exp(-FRICTION * STEP) * (x - before) - STEP**2 * setting.gradient(x)
    return new, (new - x) / STEP


def _vanishing(time: Any) -> Any:
    """3/t, a step later than the clock, which begins at zero."""
    return 3.0 / (time + STEP)


def _accelerated(setting: Setting) -> Composed:
    flow = Flow(setting.energy, Symplectic() + Friction(_vanishing))
    start = jnp.asarray(setting.start)
    return Composed(flow, Splitting(STEP, "OBA"), Phase(start, jnp.ones_like(start)))


def _accelerated_update(setting: Setting, state: Any, randomness: Any) -> tuple[Any, ...]:
    x = np.asarray(state.position)
    slowed = np.exp(-_vanishing(0.0) * STEP) * np.asarray(state.momentum)
    p = slowed - STEP * setting.gradient(x)
    return x + STEP * p, p


def _nesterov(setting: Setting) -> Composed:
    # (k - 1)/(k + 2) = 1 - 3 h/(t + 3 h), where t = (k - 1) h.
    flow = Flow(setting.energy, Symplectic() + Friction(lambda time: 3.0 / (time + 3.0 * STEP)))
    start = jnp.asarray(setting.start)
    return Composed(flow, Nesterov(STEP), Phase(start, jnp.zeros_like(start)))


def nesterov_sequence(setting: Setting, x: Any, count: int) -> list[Any]:
    """x_1, x_2, ...: y_{k+1} = x_k + (k - 1)/(k + 2) (x_k - x_{k-1}), x_k = y_k - eta grad E."""
    found, y, eta = [x], x, STEP**2
    for k in range(1, count + 1):
        found.append(y - eta * setting.gradient(y))
        y = found[-1] + k / (k + 3) * (found[-1] - found[-2])
    return found


def _nesterov_update(setting: Setting, state: Any, randomness: Any) -> tuple[Any, ...]:
    before, new = nesterov_sequence(setting, np.asarray(state.position), 1)
    return new, (new - before) / STEP


DAMPING = 0.1


def _natural(setting: Setting) -> Composed:
    model = setting.likelihood()
    geometry = Fisher(model, damping=DAMPING)
    return Composed(Flow(model, geometry), Euler(STEP), jnp.asarray(setting.start))


def _natural_update(setting: Setting, x: Any, randomness: Any) -> tuple[Any, ...]:
    features, answers = setting.rows
    p = 1.0 / (1.0 + np.exp(-features @ x))
    gradient = features.T @ (p - (answers > 0.5)) / len(answers)
    information = (features.T * (p * (1.0 - p))) @ features / len(answers)
    return (x - STEP * np.linalg.solve(information + DAMPING * np.eye(2), gradient),)


def _stochastic(setting: Setting) -> Composed:
    risk = setting.risk(BATCH)
    return Composed(Flow(risk, Euclidean(), Minibatch()), Euler(STEP), jnp.asarray(setting.start))


def batch_gradient(setting: Setting, x: Any, randomness: Any) -> Any:
    """Of least squares over the rows that step 0 of a run draws."""
    features, answers = setting.rows
    bits = np.asarray(randomness.at(LAST).bits((BATCH,), stream=15))
    drawn = bits % len(answers)
    f, y = features[drawn], answers[drawn]
    return f.T @ (f @ x - y) / BATCH


SIMPLEX = np.array([0.5, 0.3, 0.2])
COSTS = np.array([1.0, -0.5, 0.2])


def choice_energy(x: Any) -> Any:
    """c . x + |x|^2 / 2 on the simplex."""
    return jnp.dot(jnp.asarray(COSTS, x.dtype), x) + 0.5 * jnp.sum(x**2)


ALGORITHMS = (
    Algorithm(
        "gradient descent",
        "Cauchy, C. R. Acad. Sci. 25 (1847) 536",
        descent(Euclidean()),
        along(lambda x, g: g),
    ),
    Algorithm(
        "proximal point (implicit Euler)",
        "Rockafellar, SIAM J. Control Optim. 14 (1976) 877",
        descent(Euclidean(), scheme=MinimizingMovement(STEP)),
        _proximal,
    ),
    Algorithm(
        "discrete-gradient descent",
        "Gonzalez, J. Nonlinear Sci. 6 (1996) 449",
        descent(Euclidean(), scheme=DiscreteGradient(STEP)),
        _discrete_gradient,
    ),
    Algorithm(
        "heavy ball",
        "Polyak, USSR Comput. Math. Math. Phys. 4 (1964) 1",
        _heavy_ball,
        _heavy_ball_update,
    ),
    Algorithm(
        "Nesterov's accelerated gradient",
        "Nesterov, Soviet Math. Dokl. 27 (1983) 372",
        _nesterov,
        _nesterov_update,
    ),
    Algorithm(
        "the flow of Nesterov's method, split",
        "Su, Boyd and Candes, J. Mach. Learn. Res. 17 (2016) 153: x'' + 3 x'/t + grad E = 0",
        _accelerated,
        _accelerated_update,
    ),
    Algorithm(
        "preconditioned gradient descent",
        "Nocedal and Wright, Numerical Optimization, 2nd ed. (2006), chapter 5",
        _preconditioned,
        _preconditioned_update,
    ),
    Algorithm(
        "Riemannian gradient descent, a metric on flat space",
        "Absil, Mahony and Sepulchre, Optimization Algorithms on Matrix Manifolds (2008)",
        descent(Riemannian(lambda x: jnp.diag(1.0 + x**2))),
        along(lambda x, g: g / (1.0 + x**2)),
    ),
    Algorithm(
        "Riemannian gradient descent on the sphere",
        "Absil, Mahony and Sepulchre, Optimization Algorithms on Matrix Manifolds (2008)",
        _on_sphere,
        _sphere_step,
    ),
    Algorithm(
        "natural gradient",
        "Amari, Neural Comput. 10 (1998) 251",
        _natural,
        _natural_update,
    ),
    Algorithm(
        "exponentiated gradient",
        "Kivinen and Warmuth, Inform. and Comput. 132 (1997) 1",
        descent(Bregman("simplex"), start=SIMPLEX, energy=choice_energy),
        lambda setting, x, randomness: (_softmax_step(x, COSTS + x),),
    ),
    Algorithm(
        "unnormalised exponentiated gradient",
        "Kivinen and Warmuth, Inform. and Comput. 132 (1997) 1",
        descent(Bregman("entropy"), start=SIMPLEX, energy=choice_energy),
        lambda setting, x, randomness: (x * np.exp(-STEP * (COSTS + x)),),
    ),
    Algorithm(
        "hypentropy mirror descent",
        "Ghai, Hazan and Singer, ALT 2020",
        descent(Bregman(HyperbolicEntropy(0.5))),
        lambda setting, x, randomness: (
            0.5 * np.sinh(np.arcsinh(x / 0.5) - STEP * setting.gradient(x)),
        ),
    ),
    Algorithm(
        "p-norm mirror descent",
        "Grove, Littlestone and Schuurmans, Mach. Learn. 43 (2001) 173",
        descent(Bregman(PNorm(1.5))),
        lambda setting, x, randomness: (_p_mirror(x, setting.gradient(x)),),
    ),
    Algorithm(
        "sign descent",
        "Bernstein et al., ICML 2018",
        descent(Norm("sup", unit=True)),
        along(lambda x, g: np.sign(g)),
    ),
    Algorithm(
        "normalised gradient descent",
        "Nesterov, Introductory Lectures on Convex Optimization (2004), section 3.2.3",
        descent(Norm("euclidean", unit=True)),
        along(lambda x, g: g / np.linalg.norm(g)),
    ),
    Algorithm(
        "steepest coordinate descent",
        "Nutini et al., ICML 2015",
        descent(Norm("l1")),
        along(_steepest_coordinate),
    ),
    Algorithm(
        "orthogonalised (spectral) descent",
        "Carlson, Cevher and Carin, AISTATS 2015",
        descent(Norm("spectral", unit=True), start=MATRIX, energy=matrix_energy),
        lambda setting, w, randomness: (w - STEP * polar_factor(matrix_gradient(w)),),
    ),
    Algorithm(
        "muon without momentum",
        "Jordan et al., Muon, 2024",
        descent(Norm("spectral", unit=True, iterations=5), start=MATRIX, energy=matrix_energy),
        lambda setting, w, randomness: (w - STEP * muon_direction(matrix_gradient(w)),),
    ),
    Algorithm("RMSProp", "Tieleman and Hinton, COURSERA lecture 6.5 (2012)", _rms, _rms_update),
    Algorithm(
        "stochastic gradient descent",
        "Robbins and Monro, Ann. Math. Statist. 22 (1951) 400",
        _stochastic,
        lambda setting, x, randomness: (x - STEP * batch_gradient(setting, x, randomness),),
    ),
)
