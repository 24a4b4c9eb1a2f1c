"""Posteriors that samplers are compared on, with the means and variances of x^2 under each.

Sources: Gaussians, banana, Rosenbrock, Brownian motion and item response as in Robnik, De Luca,
Silverstein and Seljak, JMLR 24 (2023) 311, and in the inference gym; eight schools: Rubin, J. Educ.
Stat. 6 (1981) 377. Data that are drawn are drawn once, from a fixed seed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from steepest.problems.generalised_linear import GeneralisedLinear, logistic_loss, softplus

DATA = Path(__file__).parents[1] / "examples" / "data"


@dataclasses.dataclass(frozen=True)
class Case:
    """`energy` on R^d from `start`. `squares`: (means, variances) of x^2, or draws to take them of;
    None: from a long run, see `truth`."""

    energy: Callable[[Any], Any]
    start: np.ndarray
    squares: tuple[np.ndarray, np.ndarray] | None = None


def _of_draws(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.mean(x**2, axis=0), np.var(x**2, axis=0)


class Quadratic(eqx.Module):
    """1/2 x^T P x."""

    precision: jax.Array

    def __call__(self, x):
        return 0.5 * x @ self.precision @ x


def gaussian(condition: float, d: int = 100) -> Case:
    """A rotated Gaussian, eigenvalues spread evenly in the logarithm."""
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((d, d)))[0]
    widths = np.geomspace(1.0 / condition, 1.0, d)
    variance = np.diagonal((turn * widths) @ turn.T)
    energy = Quadratic(jnp.asarray((turn / widths) @ turn.T))
    return Case(energy, np.ones(d), (variance, 2 * variance**2))


def banana() -> Case:
    """x_1 ~ N(0, 10^2), x_2 ~ N(0.03 (x_1^2 - 100), 1)."""
    energy = lambda x: 0.5 * (x[0] / 10) ** 2 + 0.5 * (x[1] - 0.03 * (x[0] ** 2 - 100)) ** 2  # noqa: E731
    rng = np.random.default_rng(0)
    first = 10 * rng.standard_normal(4_000_000)
    second = 0.03 * (first**2 - 100) + rng.standard_normal(first.size)
    return Case(energy, np.zeros(2), _of_draws(np.stack([first, second], axis=1)))


def rosenbrock(pairs: int = 18) -> Case:
    """x_i ~ N(1, 1), y_i ~ N(x_i^2, 0.1), 18 times."""

    def energy(x):
        first, second = x[:pairs], x[pairs:]
        return jnp.sum(0.5 * (first - 1) ** 2 + 5.0 * (second - first**2) ** 2)

    rng = np.random.default_rng(0)
    first = 1 + rng.standard_normal(4_000_000)
    second = first**2 + np.sqrt(0.1) * rng.standard_normal(first.size)
    means, variances = _of_draws(np.stack([first, second], axis=1))
    return Case(energy, np.ones(2 * pairs), (means.repeat(pairs), variances.repeat(pairs)))


def logistic() -> Case:
    """Logistic regression on the breast-cancer data, priors N(0, 1)."""
    rows = np.genfromtxt(DATA / "breast_cancer.csv", delimiter=",", names=True, dtype=None)
    names = [n for n in rows.dtype.names if n != "diagnosis"]
    x = np.stack([rows[n].astype(float) for n in names], axis=1)
    labels = np.unique(rows["diagnosis"])
    sign = np.where(rows["diagnosis"] == labels[1], 1.0, -1.0)
    design = np.concatenate([np.ones((len(x), 1)), (x - x.mean(0)) / x.std(0)], axis=1)
    d = design.shape[1]
    energy = GeneralisedLinear(jnp.asarray(design), jnp.asarray(sign), jnp.ones(d), logistic_loss)
    return Case(energy, np.zeros(d))


EFFECT = np.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
ERROR = np.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])


def eight_schools() -> Case:
    """Non-centred: mu ~ N(0, 5^2), tau ~ half-Cauchy(5), effects mu + tau z."""

    def energy(x):
        mean, log_tau, z = x[0], x[1], x[2:]
        tau = jnp.exp(log_tau)
        prior = 0.5 * (mean / 5) ** 2 + jnp.log1p((tau / 5) ** 2) - log_tau + 0.5 * jnp.sum(z**2)
        return prior + 0.5 * jnp.sum(((EFFECT - mean - tau * z) / ERROR) ** 2)

    return Case(energy, np.zeros(10))


def brownian_motion(steps: int = 30) -> Case:
    """A Brownian path seen with noise, its middle third unseen; both scales unknown, log-normal."""
    rng = np.random.default_rng(0)
    path = np.cumsum(0.1 * rng.standard_normal(steps))
    data = path + 0.15 * rng.standard_normal(steps)
    seen = jnp.asarray((np.arange(steps) < 10) | (np.arange(steps) >= 20))

    def energy(x):
        inner, noise, way = x[0], x[1], x[2:]
        moves = jnp.diff(way, prepend=0.0)
        prior = (inner**2 + noise**2) / (2 * 2.0**2)
        walk = 0.5 * jnp.sum(moves**2) * jnp.exp(-2 * inner) + steps * inner
        gaps = jnp.where(seen, way - data, 0.0)
        return prior + walk + 0.5 * jnp.sum(gaps**2) * jnp.exp(-2 * noise) + jnp.sum(seen) * noise

    return Case(energy, np.zeros(steps + 2), _brownian_squares(data, np.asarray(seen)))


def _brownian_squares(data: np.ndarray, seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """By quadrature over the two scales: given them the path is Gaussian."""
    steps = len(data)
    move = np.eye(steps) - np.eye(steps, k=-1)
    inner, noise = (g.ravel() for g in np.meshgrid(*2 * [np.linspace(-9.0, 5.0, 281)]))
    loose, tight = np.exp(-2 * inner), np.exp(-2 * noise)
    logs, firsts, spreads = [], [], []
    for part in np.array_split(np.arange(inner.size), 64):
        a, b = loose[part, None, None], tight[part, None, None]
        precision = a * (move.T @ move) + b * np.diag(seen.astype(float))
        force = tight[part, None] * np.where(seen, data, 0.0)
        covariance = np.linalg.inv(precision)
        mean = np.einsum("nij,nj->ni", covariance, force)
        half = 0.5 * np.linalg.slogdet(precision)[1]
        log = 0.5 * np.sum(mean * force, axis=1) - half - steps * inner[part]
        log -= np.sum(seen) * noise[part] + 0.5 * tight[part] * np.sum(data[seen] ** 2)
        logs.append(log - (inner[part] ** 2 + noise[part] ** 2) / 8.0)
        firsts.append(mean)
        spreads.append(np.diagonal(covariance, axis1=1, axis2=2))
    log, m, v = np.concatenate(logs), np.concatenate(firsts), np.concatenate(spreads)
    w = np.exp(log - log.max())
    w /= w.sum()
    scales = np.stack([inner, noise], axis=1)
    second = w @ np.concatenate([scales**2, m**2 + v], axis=1)
    fourth = w @ np.concatenate([scales**4, m**4 + 6 * m**2 * v + 3 * v**2], axis=1)
    return second, fourth - second**2


def item_response(students: int = 100, questions: int = 20) -> Case:
    """Answers of students to questions: logit = ability - difficulty + mean ability."""
    rng = np.random.default_rng(0)
    ability = 0.75 + rng.standard_normal(students)
    difficulty = rng.standard_normal(questions)
    chance = 1 / (1 + np.exp(-(ability[:, None] - difficulty)))
    sign = jnp.asarray(np.where(rng.random(chance.shape) < chance, 1.0, -1.0))

    def energy(x):
        mean, able, hard = x[0], x[1 : 1 + students], x[1 + students :]
        logits = mean + able[:, None] - hard[None, :]
        prior = 0.5 * (mean - 0.75) ** 2 + 0.5 * jnp.sum(able**2) + 0.5 * jnp.sum(hard**2)
        return prior + jnp.sum(softplus(-sign * logits))

    return Case(energy, np.zeros(1 + students + questions))


CASES: dict[str, Callable[[], Case]] = {
    "standard Gaussian, d = 100": lambda: gaussian(1.0),
    "ill-conditioned Gaussian, d = 100": lambda: gaussian(1e4),
    "banana, d = 2": banana,
    "Rosenbrock, d = 36": rosenbrock,
    "logistic regression, d = 31": logistic,
    "eight schools, d = 10": eight_schools,
    "Brownian motion, d = 32": brownian_motion,
    "item response, d = 121": item_response,
}


def truth(case: Case, gradients: int = 1_000_000) -> tuple[np.ndarray, np.ndarray]:
    """(means, variances) of x^2; where they are not known, of a long run that is certified."""
    if case.squares is not None:
        return case.squares
    from steepest.inference import fit

    answer = fit(case.energy, "hmc", gradients, start=jnp.asarray(case.start))
    if not answer.certificate.certified:
        raise RuntimeError(f"the long run is {answer.certificate.verdict}")
    return _of_draws(answer.draws.reshape(-1, len(case.start)))
