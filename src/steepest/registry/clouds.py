"""Particles that feel one another, or data (eq. 63; sections 6.8, 7.2)."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from ..flow import Flow
from ..functionals import MMD, ExpectedEnergy, FreeEnergy, InteractionEnergy
from ..geometries import FisherRao, Stein, Wasserstein
from ..kernels import GaussianKernel
from ..schemes import BirthDeath, Euler
from ..states import Particles
from .algorithm import Algorithm, Composed, Setting
from .chains import kick

STEP = 0.05
WIDTH = 0.8
DATA = np.array([[0.0, 1.0], [-1.0, 0.0], [0.5, -0.5]])


def cloud(functional: Any, geometry: Any) -> Any:
    """An explicit flow of the cloud."""

    def compose(setting: Setting) -> Composed:
        start = Particles.from_positions(jnp.asarray(setting.cloud))
        return Composed(Flow(functional(setting), geometry), Euler(STEP), start)

    return compose


def kernel(x: Any, y: Any) -> tuple[Any, Any]:
    """(k, the differences x_i - y_j) of the Gaussian kernel exp(-|x - y|^2 / (2 width^2))."""
    apart = x[:, None, :] - y[None, :, :]
    return np.exp(-np.sum(apart**2, axis=-1) / (2.0 * WIDTH**2)), apart


def _svgd(setting: Setting, state: Any, randomness: Any) -> tuple[Any, ...]:
    x = np.asarray(state.positions)
    k, apart = kernel(x, x)
    pushed = np.sum(k[..., None] * apart, axis=1) / WIDTH**2  # sum_j grad_{x_j} k(x_j, x_i)
    return (x + STEP * (pushed - k @ setting.gradient(x)) / len(x),)


def attraction(x: Any, y: Any) -> Any:
    """-sum_j grad_x k(x_i, y_j) / m, towards the y."""
    k, apart = kernel(x, y)
    return np.mean(k[..., None] * apart, axis=1) / WIDTH**2


def _mmd(setting: Setting, state: Any, randomness: Any) -> tuple[Any, ...]:
    x = np.asarray(state.positions)
    return (x + STEP * (attraction(x, x) - attraction(x, DATA)),)


def _spring(z: Any) -> Any:
    return 0.5 * jnp.sum(z**2)


def _aggregation(setting: Setting, state: Any, randomness: Any) -> tuple[Any, ...]:
    x = np.asarray(state.positions)
    return (x - STEP * (x - x.mean(axis=0)),)


def _mckean_vlasov(setting: Setting, state: Any, randomness: Any) -> tuple[Any, ...]:
    x = np.asarray(state.positions)
    force = -setting.gradient(x) - (x - x.mean(axis=0))
    return (x + STEP * force + np.sqrt(2.0 * setting.temperature * STEP) * kick(randomness, x),)


def _drawn_together(setting: Setting) -> Any:
    return FreeEnergy(setting.energy, setting.temperature) + InteractionEnergy(_spring)


def _birth_death(setting: Setting) -> Composed:
    place = jnp.asarray(setting.cloud)
    start = Particles(place, jnp.zeros(len(place)))
    flow = Flow(ExpectedEnergy(setting.energy), FisherRao())
    return Composed(flow, BirthDeath(10 * STEP, 1.0), start)


def _birth_death_update(setting: Setting, state: Any, randomness: Any) -> tuple[Any, ...]:
    # Weights exp(-h E), then particle number k is the one at the quantile (k + u)/n.
    x = np.asarray(state.positions)
    w = np.exp(-10 * STEP * np.array([float(setting.energy(place)) for place in x]))
    u = float(randomness.at(0).uniform((1,), x.dtype, stream=13)[0])
    levels = (np.arange(len(x)) + u) / len(x)
    return x[np.searchsorted(np.cumsum(w / w.sum()), levels, side="right")], np.zeros(len(x))


ALGORITHMS = (
    Algorithm(
        "birth-death particles",
        "Lu, Lu and Nolen, arXiv:1905.09863 (the reaction); "
        "Kitagawa, J. Comput. Graph. Stat. 5 (1996) 1 (the resampling)",
        _birth_death,
        _birth_death_update,
    ),
    Algorithm(
        "Stein variational gradient descent",
        "Liu and Wang, NeurIPS 2016",
        cloud(
            lambda setting: FreeEnergy(setting.energy, 1.0),
            Stein(GaussianKernel(WIDTH), bandwidth=None),
        ),
        _svgd,
    ),
    Algorithm(
        "MMD flow",
        "Arbel, Korba, Salim and Gretton, NeurIPS 2019",
        cloud(lambda setting: MMD(jnp.asarray(DATA), GaussianKernel(WIDTH)), Wasserstein()),
        _mmd,
    ),
    Algorithm(
        "aggregation equation by particles",
        "Carrillo, McCann and Villani, Rev. Mat. Iberoam. 19 (2003) 971",
        cloud(lambda setting: InteractionEnergy(_spring), Wasserstein()),
        _aggregation,
    ),
    Algorithm(
        "McKean-Vlasov particles",
        "McKean, Proc. Natl. Acad. Sci. 56 (1966) 1907",
        cloud(
            lambda setting: (
                FreeEnergy(setting.energy, setting.temperature) + InteractionEnergy(_spring)
            ),
            Wasserstein(),
        ),
        _mckean_vlasov,
    ),
)
