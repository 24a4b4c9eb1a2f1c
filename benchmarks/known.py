"""Random posteriors whose means and sds are known without sampling, for calibration.

A family makes an instance from a seed: an energy (with its numbers as arrays, so that all
instances of a family run the same compiled programs), a start, and the true moments. None of them
was looked at when thresholds of certificates were chosen.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from scipy import special, stats

from steepest.problems.generalised_linear import GeneralisedLinear, logistic_loss


@dataclasses.dataclass(frozen=True)
class Known:
    """A posterior with true `mean` and `sd` (d,)."""

    name: str
    energy: Callable[[Any], Any]
    start: np.ndarray
    mean: np.ndarray
    sd: np.ndarray


class Quadratic(eqx.Module):
    """E = 1/2 (x - m)^T P (x - m)."""

    centre: jax.Array
    precision: jax.Array

    def __call__(self, x):
        gap = x - self.centre
        return 0.5 * gap @ self.precision @ gap


def gaussian(seed: int, d: int = 10, condition: float = 300.0) -> Known:
    """A rotated Gaussian of random spectrum."""
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.standard_normal((d, d)))[0]
    widths = condition ** rng.uniform(-0.5, 0.5, d)
    centre = 3.0 * rng.standard_normal(d)
    covariance = (turn * widths) @ turn.T
    energy = Quadratic(jnp.asarray(centre), jnp.asarray((turn / widths) @ turn.T))
    return Known(f"gaussian d={d}", energy, np.zeros(d), centre, np.sqrt(np.diag(covariance)))


class Students(eqx.Module):
    """Independent Student t laws of `freedom` degrees, under x = A z."""

    inverse: jax.Array
    freedom: jax.Array

    def __call__(self, x):
        z = self.inverse @ x
        return jnp.sum(0.5 * (self.freedom + 1.0) * jnp.log1p(z**2 / self.freedom))


def students(seed: int, d: int = 5) -> Known:
    """Tails heavier than any Gaussian's: 5 to 12 degrees of freedom."""
    rng = np.random.default_rng(seed)
    freedom = rng.uniform(5.0, 12.0, d)
    mix = np.eye(d) + 0.4 * rng.standard_normal((d, d))
    sd = np.sqrt(mix**2 @ (freedom / (freedom - 2.0)))
    energy = Students(jnp.asarray(np.linalg.inv(mix)), jnp.asarray(freedom))
    return Known("students d=5", energy, np.ones(d), np.zeros(d), sd)


class LogGamma(eqx.Module):
    """x_j = log of a Gamma(shape_j) variable."""

    shape: jax.Array

    def __call__(self, x):
        return jnp.sum(jnp.exp(x) - self.shape * x)


def log_gamma(seed: int, d: int = 8) -> Known:
    """Skewed laws, as logarithms of scales are."""
    shape = np.random.default_rng(seed).uniform(0.7, 6.0, d)
    mean, sd = special.digamma(shape), np.sqrt(special.polygamma(1, shape))
    return Known("log-gamma d=8", LogGamma(jnp.asarray(shape)), np.zeros(d), mean, sd)


class Banana(eqx.Module):
    """x_1 ~ N(0, s^2), x_2 | x_1 ~ N(b (x_1^2 - s^2), 1)."""

    width: jax.Array
    bend: jax.Array

    def __call__(self, x):
        second = x[1] - self.bend * (x[0] ** 2 - self.width**2)
        return 0.5 * (x[0] / self.width) ** 2 + 0.5 * second**2


def banana(seed: int) -> Known:
    """A bent ridge."""
    rng = np.random.default_rng(seed)
    width, bend = rng.uniform(1.0, 4.0), rng.uniform(0.05, 0.3)
    sd = np.array([width, np.sqrt(1.0 + 2.0 * bend**2 * width**4)])
    energy = Banana(jnp.asarray(width), jnp.asarray(bend))
    return Known("banana", energy, np.ones(2), np.zeros(2), sd)


class TwoGaussians(eqx.Module):
    """w N(-a, 1) + (1 - w) N(a, s^2)."""

    share: jax.Array
    place: jax.Array
    width: jax.Array

    def __call__(self, x):
        d = x.shape[0]
        first = jnp.log(self.share) - 0.5 * jnp.sum((x + self.place) ** 2)
        second = jnp.log1p(-self.share) - d * jnp.log(self.width)
        second = second - 0.5 * jnp.sum(((x - self.place) / self.width) ** 2)
        return -jnp.logaddexp(first, second)


def two_gaussians(seed: int, d: int = 3) -> Known:
    """Two modes of different mass and width, from touching to far apart."""
    rng = np.random.default_rng(seed)
    share, width = rng.uniform(0.2, 0.8), rng.uniform(0.6, 1.5)
    place = rng.uniform(0.5, 5.0) * stats.uniform_direction(d, seed=rng).rvs(1)[0]
    mean = (1.0 - 2.0 * share) * place
    second = share * (1.0 + place**2) + (1.0 - share) * (width**2 + place**2)
    energy = TwoGaussians(*(jnp.asarray(v) for v in (share, place, width)))
    start = rng.standard_normal(d)
    return Known("two gaussians d=3", energy, start, mean, np.sqrt(second - mean**2))


class Groups(eqx.Module):
    """y_j ~ N(theta_j, s_j^2), theta_j ~ N(mu, tau^2), mu ~ N(0, 25), tau ~ half-Cauchy(5).

    x = (log tau, mu, z): theta = z if `centred`, else mu + tau z.
    """

    y: jax.Array
    error: jax.Array
    centred: bool = eqx.field(static=True)

    def __call__(self, x):
        log_tau, mu, z = x[0], x[1], x[2:]
        tau = jnp.exp(log_tau)
        theta = z if self.centred else mu + tau * z
        prior = 0.5 * jnp.sum(((z - mu) / tau) ** 2) + z.size * log_tau
        prior = prior if self.centred else 0.5 * jnp.sum(z**2)
        rows = 0.5 * jnp.sum(((self.y - theta) / self.error) ** 2)
        return rows + prior + 0.5 * mu**2 / 25.0 + jnp.log1p((tau / 5.0) ** 2) - log_tau


def groups(seed: int, centred: bool = False, count: int = 6) -> Known:
    """A hierarchical model with its funnel. Given tau all is Gaussian; tau by quadrature."""
    rng = np.random.default_rng(seed)
    error, tau = rng.uniform(3.0, 12.0, count), rng.uniform(0.0, 8.0)
    y = 4.0 + tau * rng.standard_normal(count) + error * rng.standard_normal(count)
    u = np.linspace(-14.0, 7.0, 6001)
    t = np.exp(u)[:, None]
    spread = error**2 + t**2
    precision = np.sum(1.0 / spread, axis=1) + 1.0 / 25.0
    m = np.sum(y / spread, axis=1) / precision
    log_p = -0.5 * np.sum(np.log(spread) + y**2 / spread, axis=1) + 0.5 * m**2 * precision
    log_p += -0.5 * np.log(precision) - np.log1p((t[:, 0] / 5.0) ** 2) + u
    w = np.exp(log_p - log_p.max())
    w /= w.sum()
    pull = t**2 / spread  # E[theta_j | mu, tau] = mu + pull (y_j - mu)
    own = t**2 * error**2 / spread
    loose = (1.0 - pull) ** 2 / precision[:, None]
    theta = m[:, None] + pull * (y - m[:, None])
    z_mean = (theta - m[:, None]) / t
    # Of z = (theta - mu) / tau given tau: var(theta - mu | tau) / tau^2.
    z_var = (own + pull**2 / precision[:, None]) / t**2
    low, low_var = (theta, own + loose) if centred else (z_mean, z_var)
    firsts = np.concatenate([u[:, None], m[:, None], low], axis=1)
    variances = np.concatenate([0 * u[:, None], 1.0 / precision[:, None], low_var], axis=1)
    mean = w @ firsts
    sd = np.sqrt(w @ (variances + firsts**2) - mean**2)
    energy = Groups(jnp.asarray(y), jnp.asarray(error), centred)
    name = "groups, centred" if centred else "groups"
    return Known(name, energy, np.concatenate([[1.0], np.zeros(count + 1)]), mean, sd)


def logistic(seed: int, n: int = 40) -> Known:
    """Logistic regression in two parameters; moments by a grid of 801^2 points."""
    rng = np.random.default_rng(seed)
    design = np.stack([np.ones(n), rng.standard_normal(n)], axis=1)
    truth = rng.standard_normal(2)
    signs = np.where(rng.uniform(size=n) < special.expit(design @ truth), 1.0, -1.0)
    scale = np.full(2, 2.0)
    axes = np.linspace(-9.0, 9.0, 801)
    grid = np.stack(np.meshgrid(axes, axes, indexing="ij"), axis=-1).reshape(-1, 2)
    logs = -0.5 * np.sum((grid / scale) ** 2, axis=1)
    for row, sign in zip(design, signs, strict=True):
        logs -= np.logaddexp(0.0, -sign * (grid @ row))
    w = np.exp(logs - logs.max())
    w /= w.sum()
    mean = w @ grid
    sd = np.sqrt(w @ grid**2 - mean**2)
    parts = (jnp.asarray(design), jnp.asarray(signs), jnp.asarray(scale))
    return Known("logistic d=2", GeneralisedLinear(*parts, logistic_loss), np.zeros(2), mean, sd)


FAMILIES: dict[str, Callable[[int], Known]] = {
    "gaussian d=10": gaussian,
    "gaussian d=40": lambda seed: gaussian(seed, 40, 1e4),
    "students": students,
    "log-gamma": log_gamma,
    "banana": banana,
    "two gaussians": two_gaussians,
    "groups": groups,
    "groups, centred": lambda seed: groups(seed, True),
    "logistic": logistic,
}
