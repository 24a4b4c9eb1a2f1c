"""Samplers of diffusion models: the reverse process by its score (eq. 70; section 7.4).

One Gaussian is the data, so that a textbook has its score in closed form; the noise level falls
from t = 0.9 to 0.1 of the variance-preserving process in `LEVELS` steps, equal in t.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from ..diffusion import DDIM, ExactMixture, Heun, ReverseEuler, ReverseFlow, SingleStep
from ..diffusion import VariancePreserving as Process
from ..states import GaussianMixture, Particles
from .algorithm import Algorithm, Composed, Setting
from .chains import kick

LEVELS = 400
NOISIEST, CLEANEST = 0.2, 0.02
BETA_MIN, BETA_MAX = 0.1, 20.0
MEAN, DEVIATIONS = np.array([0.6, -0.3]), np.array([0.3, 0.2])


def backwards(scheme: Any) -> Any:
    """The reverse process of a cloud by one of the samplers."""

    def compose(setting: Setting) -> Composed:
        law = GaussianMixture(jnp.zeros(1), jnp.asarray(MEAN[None]), jnp.asarray(DEVIATIONS[None]))
        process = Process(BETA_MIN, BETA_MAX)
        grid = [NOISIEST, CLEANEST]
        flow = ReverseFlow(process, ExactMixture(law), grid, scheme.churn)
        return Composed(flow, scheme, Particles.from_positions(jnp.asarray(setting.cloud)))

    return compose


def level(t: Any) -> tuple[Any, Any]:
    """(alpha, sigma) of dx = -beta x / 2 dt + sqrt(beta) dW, beta rising along a line."""
    grown = BETA_MIN * t + 0.5 * (BETA_MAX - BETA_MIN) * t**2
    return np.exp(-0.5 * grown), np.sqrt(-np.expm1(-grown))


def noise_in(x: Any, alpha: Any, sigma: Any) -> Any:
    """E[noise | x]; the score is -noise / sigma, and E[x_0 | x] = (x - sigma noise) / alpha."""
    return sigma * (x - alpha * MEAN) / (alpha**2 * DEVIATIONS**2 + sigma**2)


def ends() -> tuple[Any, Any, tuple[Any, Any], tuple[Any, Any]]:
    """The times of the first step and their levels."""
    t, s = NOISIEST, NOISIEST - (NOISIEST - CLEANEST) / LEVELS
    return t, s, level(t), level(s)


def _ddim(setting: Setting, state: Any, randomness: Any) -> tuple[Any, ...]:
    # Equation 12 of the paper without noise: predicted x_0, and the direction towards x_t.
    x = np.asarray(state.positions)
    _, _, (alpha, sigma), (after, left) = ends()
    noise = noise_in(x, alpha, sigma)
    return (after * (x - sigma * noise) / alpha + left * noise,)


def _reversed(setting: Setting, state: Any, randomness: Any) -> tuple[Any, ...]:
    x = np.asarray(state.positions)
    t, s, (alpha, sigma), _ = ends()
    beta = BETA_MIN + (BETA_MAX - BETA_MIN) * t
    score = -noise_in(x, alpha, sigma) / sigma
    drift = 0.5 * beta * x + beta * score
    return (x + (t - s) * drift + np.sqrt(beta * (t - s)) * kick(randomness, x),)


def _heun(setting: Setting, state: Any, randomness: Any) -> tuple[Any, ...]:
    # Algorithm 1 with s(t) = alpha, in y = x/alpha at the noise r = sigma/alpha: dy/dr = noise.
    x = np.asarray(state.positions)
    _, _, (alpha, sigma), (after, left) = ends()
    r, end = sigma / alpha, left / after
    slope = noise_in(x, alpha, sigma)
    y = x / alpha + (end - r) * slope
    again = noise_in(after * y, after, left)
    return (after * (x / alpha + 0.5 * (end - r) * (slope + again)),)


def _single_step(setting: Setting, state: Any, randomness: Any) -> tuple[Any, ...]:
    # Algorithm 1 with r = 1/2: u at the middle of log(alpha/sigma), then D(u) all the way.
    x = np.asarray(state.positions)
    _, _, (alpha, sigma), (after, left) = ends()
    clean = (x - sigma * noise_in(x, alpha, sigma)) / alpha
    h = np.log(after / left) - np.log(alpha / sigma)
    # sigma/alpha at the middle, and with alpha^2 + sigma^2 = 1 the level itself.
    ratio = np.sqrt(sigma / alpha * left / after)
    half, rest = 1.0 / np.hypot(1.0, ratio), ratio / np.hypot(1.0, ratio)
    u = rest / sigma * x - half * np.expm1(-0.5 * h) * clean
    later = (u - rest * noise_in(u, half, rest)) / half
    return (left / sigma * x - after * np.expm1(-h) * later,)


ALGORITHMS = (
    Algorithm(
        "DDIM",
        "Song, Meng and Ermon, ICLR 2021",
        backwards(DDIM(1.0 / LEVELS)),
        _ddim,
    ),
    Algorithm(
        "reversed diffusion by Euler-Maruyama",
        "Song, Sohl-Dickstein, Kingma, Kumar, Ermon and Poole, ICLR 2021",
        backwards(ReverseEuler(1.0 / LEVELS)),
        _reversed,
    ),
    Algorithm(
        "EDM sampler (Heun)",
        "Karras, Aittala, Aila and Laine, NeurIPS 2022",
        backwards(Heun(1.0 / LEVELS)),
        _heun,
    ),
    Algorithm(
        "DPM-Solver++(2S)",
        "Lu, Zhou, Bao, Chen, Li and Zhu, arXiv:2211.01095",
        backwards(SingleStep(1.0 / LEVELS)),
        _single_step,
    ),
)
