"""Samplers of one chain: a step with noise, the normals being the run's own (eq. 43-44, 51, 53)."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from ..flow import Flow
from ..geometries import Bregman, Euclidean, Friction, Riemannian, Symplectic
from ..noise import Thermal
from ..samplers import sghmc, sgld
from ..schemes import BAOAB, OBABO, Euler, Metropolis, Splitting
from ..states import Phase
from .algorithm import Algorithm, Composed, Setting
from .points import BATCH, batch_gradient

STEP, FRICTION = 0.05, 1.5
RATE = 0.02
LEAPS = 3.0
ACCEPT, LEAPS_STREAM = 14, 13


def chain(geometry: Any, scheme: Any, start: Any = None, energy: Any = None) -> Any:
    """A thermal flow of a point, or of a phase where the geometry is kinetic."""

    def compose(setting: Setting) -> Composed:
        place = jnp.asarray(setting.start if start is None else start)
        state = Phase(place, jnp.asarray(setting.momentum)) if geometry.kinetic else place
        flow = Flow(
            setting.energy if energy is None else energy, geometry, Thermal(setting.temperature)
        )
        return Composed(flow, scheme, state)

    return compose


KINETIC = Symplectic() + Friction(FRICTION)


def kick(randomness: Any, like: Any, stream: int = 0) -> Any:
    """The standard normals of step 0."""
    return np.asarray(randomness.at(0).normal(np.shape(like), np.asarray(like).dtype, stream))


def uniform(randomness: Any, dtype: Any) -> float:
    """The uniform number of step 0 that decides acceptance."""
    return float(randomness.at(0).uniform((), dtype, stream=ACCEPT))


def _langevin(setting: Setting, x: Any, randomness: Any) -> tuple[Any, ...]:
    spread = np.sqrt(2.0 * setting.temperature * STEP)
    return (x - STEP * setting.gradient(x) + spread * kick(randomness, x),)


def _adjusted(setting: Setting, x: Any, randomness: Any) -> tuple[Any, ...]:
    (y,) = _langevin(setting, x, randomness)

    def log_proposal(to: Any, of: Any) -> float:
        apart = to - of + STEP * setting.gradient(of)
        return -float(apart @ apart) / (4.0 * setting.temperature * STEP)

    gap = float(setting.energy(x) - setting.energy(y)) / setting.temperature
    ratio = gap + log_proposal(x, y) - log_proposal(y, x)
    return (y if np.log(uniform(randomness, x.dtype)) < ratio else x,)


def _riemannian(setting: Setting, x: Any, randomness: Any) -> tuple[Any, ...]:
    # K = 1/(1 + x^2) on the diagonal: drift -K grad E + T div K, noise sqrt(2 T K).
    k = 1.0 / (1.0 + x**2)
    spread = np.sqrt(2.0 * setting.temperature * STEP * k) * kick(randomness, x)
    drift = -k * setting.gradient(x) - setting.temperature * 2.0 * x * k**2
    return (x + STEP * drift + spread,)


def _mirror(setting: Setting, x: Any, randomness: Any) -> tuple[Any, ...]:
    # In the mirror coordinates y = log x: dy = -grad E dt + sqrt(2 T / x) dW.
    spread = np.sqrt(2.0 * setting.temperature * STEP / x) * kick(randomness, x)
    return (x * np.exp(-STEP * (1.0 - 2.0 / x) + spread),)


def gamma_energy(x: Any) -> Any:
    """sum x - 2 log x: a Gamma law, whose mass keeps away from zero, where the noise explodes."""
    return jnp.sum(x - 2.0 * jnp.log(x))


def _kinetic_euler(setting: Setting, state: Any, randomness: Any) -> tuple[Any, ...]:
    q, p = np.asarray(state.position), np.asarray(state.momentum)
    spread = np.sqrt(2.0 * FRICTION * setting.temperature * STEP) * kick(randomness, p, stream=16)
    return q + STEP * p, p - STEP * (setting.gradient(q) + FRICTION * p) + spread


def words(word: str, step: float = STEP) -> Any:
    """A (drift), B (kick), O (exact bath), each letter sharing the step among its occurrences."""

    def update(setting: Setting, state: Any, randomness: Any) -> tuple[Any, ...]:
        q, p = np.asarray(state.position), np.asarray(state.momentum)
        for place, letter in enumerate(word):
            h = step / word.count(letter)
            if letter == "A":
                q = q + h * p
            elif letter == "B":
                p = p - h * setting.gradient(q)
            else:
                c = np.exp(-FRICTION * h)
                noise = np.sqrt(setting.temperature * (1.0 - c**2)) * kick(randomness, p, place)
                p = c * p + noise
        return q, p

    return update


def hybrid(leaps: float | None) -> Any:
    """Partial refreshment, leapfrogs, accept or turn round, partial refreshment."""

    def update(setting: Setting, state: Any, randomness: Any) -> tuple[Any, ...]:
        q, p = np.asarray(state.position), np.asarray(state.momentum)
        c = np.exp(-0.5 * FRICTION * STEP)

        def refreshed(p: Any, stream: int) -> Any:
            return c * p + np.sqrt(setting.temperature * (1 - c**2)) * kick(randomness, p, stream)

        def energy(q: Any, p: Any) -> float:
            return float(setting.energy(q)) + 0.5 * float(p @ p)

        p = refreshed(p, 0)
        count, h = 1, STEP
        if leaps is not None:
            u = np.asarray(randomness.at(0).uniform((2,), jnp.float32, stream=LEAPS_STREAM), float)
            count = max(int(np.floor(leaps * (1.0 + 0.2 * (2.0 * u[0] - 1.0)) + u[1])), 1)
            h = STEP / leaps
        y, v = q, p
        for _ in range(count):
            v = v - 0.5 * h * setting.gradient(y)
            y = y + h * v
            v = v - 0.5 * h * setting.gradient(y)
        ratio = (energy(q, p) - energy(y, v)) / setting.temperature
        q, p = (y, v) if np.log(uniform(randomness, q.dtype)) < ratio else (q, -p)
        return q, refreshed(p, 1)

    return update


def _sgld(setting: Setting) -> Composed:
    return Composed(*sgld(setting.risk(BATCH), RATE), jnp.asarray(setting.start))


def _sgld_update(setting: Setting, x: Any, randomness: Any) -> tuple[Any, ...]:
    slope = len(setting.rows[1]) * batch_gradient(setting, x, randomness)
    return (x - RATE * slope + np.sqrt(2.0 * RATE) * kick(randomness, x),)


def _sghmc(setting: Setting) -> Composed:
    start = Phase(jnp.asarray(setting.start), jnp.asarray(setting.momentum))
    return Composed(*sghmc(setting.risk(BATCH), RATE, friction=FRICTION), start)


def _sghmc_update(setting: Setting, state: Any, randomness: Any) -> tuple[Any, ...]:
    q, p = np.asarray(state.position), np.asarray(state.momentum)
    n, h = len(setting.rows[1]), 0.5 * RATE
    p = p - h * n * batch_gradient(setting, q, randomness)
    q = q + h * p
    c = np.exp(-FRICTION * RATE)
    p = c * p + np.sqrt(1.0 - c**2) * kick(randomness, p, 2)
    q = q + h * p
    return q, p - h * n * batch_gradient(setting, q, _Now(randomness))


class _Now:
    """A step's randomness under the name of the step before: its last force is its own."""

    def __init__(self, randomness: Any):
        self.randomness = randomness

    def at(self, step: Any) -> Any:
        del step
        return self.randomness.at(0)


def _annealing(setting: Setting) -> Composed:
    cooling = Thermal(lambda time: setting.temperature / jnp.log(jnp.e + time))
    return Composed(
        Flow(setting.energy, Euclidean(), cooling), Euler(STEP), jnp.asarray(setting.start)
    )


ALGORITHMS = (
    Algorithm(
        "unadjusted Langevin (ULA)",
        "Roberts and Tweedie, Bernoulli 2 (1996) 341",
        chain(Euclidean(), Euler(STEP)),
        _langevin,
    ),
    Algorithm(
        "MALA",
        "Roberts and Tweedie, Bernoulli 2 (1996) 341",
        chain(Euclidean(), Metropolis(Euler(STEP))),
        _adjusted,
    ),
    Algorithm(
        "Langevin annealing",
        "Geman and Hwang, SIAM J. Control Optim. 24 (1986) 1031",
        _annealing,
        _langevin,  # log(e + 0) = 1: the first step is taken at the first temperature
    ),
    Algorithm(
        "Riemannian Langevin",
        "Girolami and Calderhead, J. R. Stat. Soc. B 73 (2011) 123",
        chain(Riemannian(lambda x: jnp.diag(1.0 + x**2)), Euler(STEP)),
        _riemannian,
    ),
    Algorithm(
        "mirror Langevin with the entropy",
        "Zhang, Peyre, Fadili and Pereyra, COLT 2020",
        chain(Bregman("entropy"), Euler(STEP), np.array([2.0, 1.5, 2.5]), gamma_energy),
        _mirror,
    ),
    Algorithm(
        "kinetic Langevin, Euler-Maruyama",
        "Leimkuhler and Matthews, Molecular Dynamics (2015), chapter 7",
        chain(KINETIC, Euler(STEP)),
        _kinetic_euler,
    ),
    Algorithm(
        "BAOAB",
        "Leimkuhler and Matthews, Appl. Math. Res. Express 2013, 34",
        chain(KINETIC, BAOAB(STEP)),
        words("BAOAB"),
    ),
    Algorithm(
        "OBABO",
        "Bussi and Parrinello, Phys. Rev. E 75 (2007) 056707",
        chain(KINETIC, OBABO(STEP)),
        words("OBABO"),
    ),
    Algorithm(
        "ABOBA",
        "Leimkuhler and Matthews, Appl. Math. Res. Express 2013, 34",
        chain(KINETIC, Splitting(STEP, "ABOBA")),
        words("ABOBA"),
    ),
    Algorithm(
        "generalised Hybrid Monte Carlo",
        "Horowitz, Phys. Lett. B 268 (1991) 247",
        chain(KINETIC, Metropolis(OBABO(STEP))),
        hybrid(None),
    ),
    Algorithm(
        "Hybrid Monte Carlo with a random number of leapfrogs",
        "Duane et al., Phys. Lett. B 195 (1987) 216; Mackenzie, Phys. Lett. B 226 (1989) 369",
        chain(KINETIC, Metropolis(OBABO(STEP), leaps=LEAPS)),
        hybrid(LEAPS),
    ),
    Algorithm("SGLD", "Welling and Teh, ICML 2011", _sgld, _sgld_update),
    Algorithm("SGHMC", "Chen, Fox and Guestrin, ICML 2014", _sghmc, _sghmc_update),
)
