"""Flows of a law known as a whole: on a line, a Gaussian, a choice (eq. 45-50, 62, 69)."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import scipy.linalg

from ..flow import Flow
from ..functionals import ExpectedEnergy, FreeEnergy, InternalEnergy, NegativeEntropy
from ..geometries import FisherRao, Wasserstein
from ..schemes import (
    Backtracking,
    Composition,
    Euler,
    Exponential,
    FiniteVolume,
    MinimizingMovement,
)
from ..states import Categorical, Density, Gaussian, Grid
from .algorithm import Algorithm, Composed, Setting

STEP = 0.05
TEMPERATURE = 0.7  # of the choice among three
CHANCES, COSTS = np.array([0.5, 0.3, 0.2]), np.array([1.0, -0.5, 0.2])


def on_line(functional: Any, geometry: Any, scheme: Any) -> Any:
    """A flow of a density on the line."""

    def compose(setting: Setting) -> Composed:
        falling = functional(setting)
        grid = Grid(*setting.interval, setting.cells)
        mean, variance = setting.hump
        start = Density.from_log(grid, lambda x: -0.5 * jnp.sum((x - mean) ** 2) / variance)
        return Composed(Flow(falling, geometry), scheme, start)

    return compose


def free(setting: Setting) -> Any:
    """<V> + T integral rho log rho on the line."""
    return FreeEnergy(setting.line, setting.temperature)


def cells(setting: Setting) -> tuple[Any, float]:
    """(the centres of the cells, their width)."""
    lower, upper = setting.interval
    width = (upper - lower) / setting.cells
    return lower + width * (np.arange(setting.cells) + 0.5), width


def scharfetter_gummel(setting: Setting, potential: Any, temperature: float) -> Any:
    """A of d rho/dt = A rho: up at T B(u)/h^2, down at T B(-u)/h^2, B(u) = u/(e^u - 1)."""
    x, h = cells(setting)
    u = np.diff(potential(x)) / temperature
    with np.errstate(invalid="ignore", divide="ignore"):
        up = np.where(np.abs(u) < 1e-8, 1.0 - u / 2.0, u / np.expm1(u))
        down = np.where(np.abs(u) < 1e-8, 1.0 + u / 2.0, -u / np.expm1(-u))
    a, n = np.zeros((len(x), len(x))), np.arange(len(x) - 1)
    a[n + 1, n] += up
    a[n, n] -= up
    a[n, n + 1] += down
    a[n + 1, n + 1] -= down
    return temperature / h**2 * a


def _hill(x: Any) -> Any:
    return 0.5 * (x - 0.5) ** 2


def _flat(x: Any) -> Any:
    return 0.0 * x


def _implicit(potential: Any, temperature: float | None = None) -> Any:
    def update(setting: Setting, state: Any, randomness: Any) -> tuple[Any, ...]:
        warmth = setting.temperature if temperature is None else temperature
        a = scharfetter_gummel(setting, potential, warmth)
        rho = np.asarray(state.values)
        return (np.linalg.solve(np.eye(len(rho)) - STEP * a, rho),)

    return update


def _semigroup(setting: Setting, state: Any, randomness: Any) -> tuple[Any, ...]:
    a = scharfetter_gummel(setting, _hill, setting.temperature)
    return (scipy.linalg.expm(STEP * a) @ np.asarray(state.values),)


def multiplied(setting: Setting, rho: Any, step: float, temperature: float) -> Any:
    """rho^a exp(-b V) normalised, a = exp(-T t), b = (1 - a)/T: the Fisher-Rao flow."""
    x, h = cells(setting)
    a = np.exp(-temperature * step)
    b = (1.0 - a) / temperature
    new = rho**a * np.exp(-b * _hill(x))
    return new / (new.sum() * h)


def _split(setting: Setting, state: Any, randomness: Any) -> tuple[Any, ...]:
    # Strang: half a step of transport, a step of reaction, half a step of transport.
    a = scharfetter_gummel(setting, _hill, setting.temperature)
    half = np.eye(setting.cells) - 0.5 * STEP * a
    rho = np.linalg.solve(half, np.asarray(state.values))
    return (np.linalg.solve(half, multiplied(setting, rho, STEP, setting.temperature)),)


SHORT = 0.002  # below half the square of a cell over twice the density


def _porous(setting: Setting, state: Any, randomness: Any) -> tuple[Any, ...]:
    # The potential of integral rho^2 is 2 rho; mass crosses a face at the logarithmic mean of rho.
    rho, (_, h) = np.asarray(state.values), cells(setting)
    a, b = rho[:-1], rho[1:]
    face = np.where(np.isclose(a, b), 0.5 * (a + b), (b - a) / np.log(b / a))
    flux = np.concatenate([[0.0], -face * 2.0 * np.diff(rho) / h, [0.0]])
    return (rho - SHORT / h * np.diff(flux),)


def gaussian(functional: Any, geometry: Any, scheme: Any) -> Any:
    """A flow of a Gaussian in the plane towards that of `Setting.bowl`."""

    def compose(setting: Setting) -> Composed:
        start = Gaussian.from_moments(jnp.asarray(setting.mean), jnp.asarray(setting.covariance))
        return Composed(Flow(functional(setting), geometry), scheme, start)

    return compose


def warm(setting: Setting) -> Any:
    """<bowl> - T S."""
    return FreeEnergy(setting.bowl, setting.temperature)


def root(m: Any) -> Any:
    """The symmetric square root."""
    values, vectors = np.linalg.eigh(m)
    return (vectors * np.sqrt(values)) @ vectors.T


def entropy_jko(covariance: Any, clock: float) -> Any:
    """argmin -clock S + W2^2/2: S + clock + sqrt(S (S + 2 clock)), a function of eigenvalues."""
    one = np.eye(len(covariance))
    mixed = root(covariance @ (covariance + 4.0 * clock * one))
    return 0.5 * (covariance + 2.0 * clock * one + mixed)


def _forward_backward(setting: Setting, state: Any, randomness: Any) -> tuple[Any, ...]:
    pushed = np.eye(2) - STEP * setting.curvature
    mean = setting.mean - STEP * (setting.curvature @ setting.mean - setting.pull)
    return mean, entropy_jko(pushed @ setting.covariance @ pushed, STEP * setting.temperature)


def _jko(setting: Setting, state: Any, randomness: Any) -> tuple[Any, ...]:
    # Implicit Euler along geodesics. With V = x.A x/2 the optimal map back from the new law is
    # 1 + h A - h T S+^{-1} (eq. 50): (1 + h A - h T/S+) S+ (1 + h A - h T/S+) = S.
    h, a = STEP, setting.curvature
    one = np.eye(2)
    mean = np.linalg.solve(one + h * a, setting.mean + h * setting.pull)
    new = np.asarray(setting.covariance)
    for _ in range(400):
        # M S+ M = S is solved by S+ = M^{-1} S M^{-1}; the damped iteration contracts.
        back = one + h * a - h * setting.temperature * np.linalg.inv(new)
        target = np.linalg.inv(back) @ setting.covariance @ np.linalg.inv(back)
        new = 0.7 * new + 0.3 * 0.5 * (target + target.T)
    return mean, new


def _cholesky_descent(setting: Setting, state: Any, randomness: Any) -> tuple[Any, ...]:
    # dS/dt = -(G S + S G), G = A - T/S, followed in the triangular L with S = L L^T.
    lower = np.linalg.cholesky(setting.covariance)
    g = setting.curvature - setting.temperature * np.linalg.inv(setting.covariance)
    white = np.linalg.inv(lower)
    rate = -white @ (g @ setting.covariance + setting.covariance @ g) @ white.T
    half = np.tril(rate, -1) + 0.5 * np.diag(np.diag(rate))
    moved = lower + STEP * lower @ half
    return setting.mean - STEP * (setting.curvature @ setting.mean - setting.pull), moved @ moved.T


def _bayesian_rule(setting: Setting, state: Any, randomness: Any) -> tuple[Any, ...]:
    old = np.linalg.inv(setting.covariance)
    new = np.linalg.inv((1.0 - STEP * setting.temperature) * old + STEP * setting.curvature)
    return setting.mean - STEP * new @ (setting.curvature @ setting.mean - setting.pull), new


def _geometric(setting: Setting, state: Any, randomness: Any) -> tuple[Any, ...]:
    # exp of a log rho - b V: the precisions and the precision-weighted means interpolate.
    a = np.exp(-setting.temperature * STEP)
    b = (1.0 - a) / setting.temperature
    old = np.linalg.inv(setting.covariance)
    new = np.linalg.inv(a * old + b * setting.curvature)
    return new @ (a * old @ setting.mean + b * setting.pull), new


def choice(functional: Any, scheme: Any) -> Any:
    """A flow of three probabilities under Fisher-Rao."""

    def compose(setting: Setting) -> Composed:
        start = Categorical.from_probabilities(jnp.asarray(CHANCES))
        return Composed(Flow(functional, FisherRao()), scheme, start)

    return compose


def _cost(i: Any) -> Any:
    return jnp.asarray(COSTS)[i]


def _weights(power: float, exponent: float) -> Any:
    def update(setting: Setting, state: Any, randomness: Any) -> tuple[Any, ...]:
        grown = CHANCES**power * np.exp(-exponent * COSTS)
        return (grown / grown.sum(),)

    return update


KEPT = np.exp(-TEMPERATURE * STEP)
PROXIMAL = 1.0 / (1.0 + STEP * TEMPERATURE)
W2, FR = Wasserstein(), FisherRao()

ALGORITHMS = (
    Algorithm(
        "Fokker-Planck by implicit Scharfetter-Gummel volumes",
        "Chang and Cooper, J. Comput. Phys. 6 (1970) 1",
        on_line(free, W2, FiniteVolume(STEP)),
        _implicit(_hill),
    ),
    Algorithm(
        "Fokker-Planck semigroup",
        "Risken, The Fokker-Planck Equation, 2nd ed. (1989)",
        on_line(free, W2, Exponential(STEP)),
        _semigroup,
    ),
    Algorithm(
        "heat equation, implicit volumes",
        "Laasonen, Acta Math. 81 (1949) 309",
        on_line(lambda setting: NegativeEntropy(), W2, FiniteVolume(STEP)),
        _implicit(_flat, 1.0),
    ),
    Algorithm(
        "porous medium equation, explicit volumes",
        "Vazquez, The Porous Medium Equation (2007); Maas, J. Funct. Anal. 261 (2011) 2250 (the "
        "logarithmic mean)",
        on_line(lambda setting: InternalEnergy(2.0), W2, Euler(SHORT)),
        _porous,
    ),
    Algorithm(
        "Fisher-Rao flow of a density",
        "Lu, Slepcev and Wang, Nonlinearity 36 (2023) 5731",
        on_line(free, FR, Exponential(STEP)),
        lambda setting, state, randomness: (
            multiplied(setting, np.asarray(state.values), STEP, setting.temperature),
        ),
    ),
    Algorithm(
        "Wasserstein-Fisher-Rao splitting",
        "Gallouet and Monsaingeon, SIAM J. Math. Anal. 49 (2017) 1100",
        on_line(free, W2 + FR, Composition(FiniteVolume(STEP), Exponential(STEP))),
        _split,
    ),
    Algorithm(
        "Gaussian JKO",
        "Jordan, Kinderlehrer and Otto, SIAM J. Math. Anal. 29 (1998) 1",
        gaussian(warm, W2, MinimizingMovement(STEP)),
        _jko,
    ),
    Algorithm(
        "forward-backward Gaussian variational inference",
        "Diao, Balasubramanian, Chewi and Salim, ICML 2023",
        gaussian(warm, W2, Backtracking(STEP)),
        _forward_backward,
    ),
    Algorithm(
        "Gaussian Wasserstein flow of the Cholesky factor, Euler",
        "Lambert, Chewi, Bach, Bonnabel and Rigollet, NeurIPS 2022 (the equation); "
        "Morf, Levy and Kailath, IEEE Trans. Automat. Control 23 (1978) 907 (the factor)",
        gaussian(warm, W2, Euler(STEP)),
        _cholesky_descent,
    ),
    Algorithm(
        "natural-gradient variational inference (Bayesian learning rule)",
        "Khan and Rue, J. Mach. Learn. Res. 24 (2023) 281",
        gaussian(warm, FR, Backtracking(STEP)),
        _bayesian_rule,
    ),
    Algorithm(
        "geometric path of Gaussians",
        "Neal, Stat. Comput. 11 (2001) 125",
        gaussian(warm, FR, Exponential(STEP)),
        _geometric,
    ),
    Algorithm(
        "multiplicative weights (replicator equation)",
        "Freund and Schapire, J. Comput. Syst. Sci. 55 (1997) 119",
        choice(ExpectedEnergy(_cost), Exponential(STEP)),
        _weights(1.0, STEP),
    ),
    Algorithm(
        "entropic replicator equation",
        "Harper, arXiv:0911.1763 (the replicator equation as inference)",
        choice(FreeEnergy(_cost, TEMPERATURE), Exponential(STEP)),
        _weights(KEPT, (1.0 - KEPT) / TEMPERATURE),
    ),
    Algorithm(
        "entropic mirror step (KL-proximal)",
        "Beck and Teboulle, Oper. Res. Lett. 31 (2003) 167",
        choice(FreeEnergy(_cost, TEMPERATURE), MinimizingMovement(STEP)),
        _weights(PROXIMAL, STEP * PROXIMAL),
    ),
)
