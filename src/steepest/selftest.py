"""Exact solutions on this machine: what a run here can be trusted with, in one precision.

Each check compares a computed number with a closed form. Tolerances are a count of roundings times
the unit roundoff eps, or five standard errors of a sample; a device that multiplies matrices in
fewer bits than asked (TF32, bfloat16) fails the first.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .audit.report import Audit, Check
from .driver import solve
from .flow import Flow
from .functionals import FreeEnergy, NegativeEntropy
from .geometries import Euclidean, FisherRao, Friction, Symplectic, Wasserstein
from .inference import log_evidence
from .noise import Thermal
from .random import Randomness, threefry2x32
from .schemes import BAOAB, Backtracking, Euler, Exponential, FiniteVolume, Leapfrog
from .states import Density, Gaussian, Grid, Particles, Phase
from .states.gaussian import wasserstein_squared

SIGMAS = 5.0
CHAINS = 20_000


def selftest(dtype: Any) -> Audit:
    """Every check in one precision; float64 needs `jax.enable_x64`."""
    dtype = jnp.dtype(dtype)
    eps = float(jnp.finfo(dtype).eps)
    return Audit(tuple(found for check in BATTERY for found in check(dtype, eps)))


def _matrix_products(dtype: Any, eps: float) -> Iterator[Check]:
    # Odd integers of 12 bits times -1, 0, 1: every sum is below 2^24, so float32 is exact. TF32
    # keeps 11 bits, bfloat16 8.
    n = 64
    i, j = np.meshgrid(np.arange(n), np.arange(n), indexing="ij")
    a = 2049 + 2 * ((37 * i + 101 * j) % 1000)
    b = (7 * i + 3 * j) % 3 - 1
    product = np.asarray(jnp.asarray(a, dtype) @ jnp.asarray(b, dtype), float)
    off = float(np.max(np.abs(product - a @ b)))
    why = "products of 12-bit integers, exact in float32; if not, the device multiplies in "
    why += 'fewer bits: jax.config.update("jax_default_matmul_precision", "highest")'
    yield Check.compare("matrix products", off, 0.0, why)


def _random_numbers(dtype: Any, eps: float) -> Iterator[Check]:
    # Known answers of Threefry-2x32 with 20 rounds (Salmon et al., SC 2011, Random123).
    known = {
        (0, 0, 0, 0): (0x6B200159, 0x99BA4EFE),
        (0xFFFFFFFF,) * 4: (0x1CB996FC, 0xBB002BE7),
        (0x13198A2E, 0x03707344, 0x243F6A88, 0x85A308D3): (0xC4923A9C, 0x483DF7A0),
    }
    wrong = 0
    for asked, words in known.items():
        key0, key1, *counter = (jnp.uint32(word) for word in asked)
        drawn = jax.jit(threefry2x32)(key0, key1, *counter)
        wrong += sum(int(word) != told for word, told in zip(drawn, words, strict=True))
    yield Check.compare("random words", wrong, 0.0, "Threefry's published known answers")
    n = 2**16
    x = np.asarray(Randomness.from_key(jax.random.key(0)).at(0).normal((n,), dtype), float)
    off = max(abs(x.mean()) * math.sqrt(n), abs(np.mean(x**2) - 1.0) * math.sqrt(n / 2.0))
    yield Check.compare("normals", off, SIGMAS, "mean 0 and variance 1, in standard errors")


def _harmonic_oscillator(dtype: Any, eps: float) -> Iterator[Check]:
    # Leapfrog keeps p^2 + (1 - h^2/4) q^2 exactly.
    h, steps = 0.1, 1000
    flow = Flow(lambda q: 0.5 * jnp.sum(q**2), Symplectic())
    start = Phase(jnp.ones(1, dtype), jnp.zeros(1, dtype))
    end = solve(flow, start, scheme=Leapfrog(h), steps=steps, save_every=steps).final
    q, p = float(end.position[0]), float(end.momentum[0])
    kept = (p**2 + (1.0 - h**2 / 4.0) * q**2) / (1.0 - h**2 / 4.0)
    # Four roundings a step at most, all in one direction.
    why = "the invariant p² + (1 - h²/4) q² of leapfrog after 1000 steps"
    yield Check.compare("harmonic oscillator", abs(kept - 1.0), 4 * steps * eps, why)


def _ornstein_uhlenbeck(dtype: Any, eps: float) -> Iterator[Check]:
    # Euler's chain x+ = (1 - h) x + sqrt(2 T h) xi from 2: mean 2 a^n, variance in closed form.
    h, steps, temperature = 0.1, 20, 0.7
    flow = Flow(lambda x: 0.5 * jnp.sum(x**2), Euclidean(), Thermal(temperature))
    start = Particles.from_positions(jnp.full((CHAINS, 1), 2.0, dtype))
    key = jax.random.key(1)
    run = solve(flow, start, scheme=Euler(h), steps=steps, key=key, save_every=steps)
    x = np.asarray(run.final.positions, float)
    a = 1.0 - h
    mean, variance = 2.0 * a**steps, 2.0 * temperature * h * (1 - a ** (2 * steps)) / (1 - a**2)
    off = max(
        abs(x.mean() - mean) / math.sqrt(variance / CHAINS),
        abs(x.var() / variance - 1.0) * math.sqrt(CHAINS / 2.0),
    )
    why = "mean and variance of Euler's chain, known exactly, in standard errors"
    yield Check.compare("Ornstein-Uhlenbeck", off, SIGMAS, why)


def _kinetic_langevin(dtype: Any, eps: float) -> Iterator[Check]:
    # In a quadratic well BAOAB has the exact variance T / k of the position, at any stable step.
    temperature, stiffness = 0.7, 2.0
    energy = lambda q: 0.5 * stiffness * jnp.sum(q**2)  # noqa: E731
    flow = Flow(energy, Symplectic() + Friction(1.5), Thermal(temperature))
    key = jax.random.key(2)
    rest = jnp.zeros((CHAINS, 1), dtype)
    start = Particles.from_positions(Phase(rest, rest))
    run = solve(flow, start, scheme=BAOAB(0.5), steps=60, key=key, save_every=60)
    q = np.asarray(run.final.positions.position, float)
    off = abs(q.var() * stiffness / temperature - 1.0) * math.sqrt(CHAINS / 2.0)
    why = "the variance T/k that BAOAB keeps at any step, in standard errors"
    yield Check.compare("kinetic Langevin", off, SIGMAS, why)


def _heat_equation(dtype: Any, eps: float) -> Iterator[Check]:
    # The discrete Laplacian of x^2 is 2: the variance grows by 2 t exactly, whatever the cells.
    h, steps, cells = 0.02, 20, 240
    grid = Grid(-12.0, 12.0, cells)
    start = Density.from_log(grid, lambda x: jnp.asarray(-0.5 * jnp.sum(x**2), dtype))
    start = jax.tree.map(lambda v: jnp.asarray(v, dtype), start)
    flow = Flow(NegativeEntropy(), Wasserstein())
    run = solve(flow, start, scheme=FiniteVolume(h), steps=steps, save_every=steps)
    x = -12.0 + 0.1 * (np.arange(cells) + 0.5)
    spread = [float(np.sum(np.asarray(v.values, float) * x**2) * 0.1) for v in (start, run.final)]
    off = abs(spread[1] - spread[0] - 2.0 * h * steps)
    # Each solve loses its condition number 1 + 4 h/dx^2 = 9 in roundings, on a variance of 2.
    why = "the variance of the heat kernel, 2 t, exact on any grid"
    yield Check.compare("heat equation", off, 2 * 9 * steps * eps * 10, why)
    gibbs = Flow(FreeEnergy(lambda y: 0.5 * jnp.sum(y**2), 1.0), Wasserstein())
    late = solve(gibbs, start, scheme=Exponential(40.0), steps=1).final
    told = np.exp(-0.5 * x**2)
    told /= told.sum() * 0.1
    off = float(np.max(np.abs(np.asarray(late.values, float) - told)))
    # The cells of a symmetric well of temperature 1 hold the Gibbs law of the grid itself.
    yield Check.compare("Gibbs law of a grid", off, 1e3 * eps, "what a density relaxes to")


def _gaussians(dtype: Any, eps: float) -> Iterator[Check]:
    a, b = np.array([1.0, 4.0, 0.25]), np.array([2.25, 1.0, 0.5])
    apart = np.array([0.5, -1.0, 2.0])
    turn = np.linalg.qr(np.array([[1.0, 2.0, 0.0], [0.5, -1.0, 1.0], [0.3, 0.2, 2.0]]))[0]

    def law(mean: Any, spread: Any) -> Gaussian:
        covariance = turn @ np.diag(spread) @ turn.T
        return Gaussian.from_moments(jnp.asarray(mean, dtype), jnp.asarray(covariance, dtype))

    one, other = law(np.zeros(3), a), law(turn @ apart, b)
    squared = float(wasserstein_squared(one, other))
    told = float(np.sum(apart**2) + np.sum((np.sqrt(a) - np.sqrt(b)) ** 2))
    # A few hundred roundings of numbers of order ten, conditions up to 16.
    yield Check.compare(
        "W2 of Gaussians", abs(squared - told), 1e3 * eps, "the closed form of commuting laws"
    )
    entropy = 0.5 * float(np.sum(np.log(2.0 * np.pi * np.e * a)))
    off = abs(float(one.entropy()) - entropy)
    yield Check.compare("entropy of a Gaussian", off, 1e3 * eps, "log det in closed form")


def _natural_gradient(dtype: Any, eps: float) -> Iterator[Check]:
    # With a quadratic energy one step of length 1 in the natural parameters lands on the target.
    precision = np.array([[2.0, 0.5], [0.5, 1.0]])
    matrix, pull = jnp.asarray(precision, dtype), jnp.asarray([0.5, -1.0], dtype)
    free = FreeEnergy(lambda x: 0.5 * x @ matrix @ x - pull @ x, 1.0)
    start = Gaussian(jnp.ones(2, dtype), jnp.eye(2, dtype=dtype))
    end = solve(Flow(free, FisherRao()), start, scheme=Backtracking(1.0), steps=1).final
    told = np.linalg.inv(precision)
    off = np.max(np.abs(np.asarray(end.covariance, float) - told))
    off = max(off, np.max(np.abs(np.asarray(end.mean, float) - told @ np.array([0.5, -1.0]))))
    why = "one natural-gradient step reaches a Gaussian posterior exactly"
    yield Check.compare("Gaussian posterior", off, 1e3 * eps, why)


def _annealing(dtype: Any, eps: float) -> Iterator[Check]:
    # The evidence of a Gaussian, (2 pi)^(d/2) / sqrt(det): annealing brackets it at 99 %.
    scales = jnp.asarray([1.0, 2.0], dtype)
    found = log_evidence(
        lambda x: 0.5 * jnp.sum((x / scales) ** 2), 2000, start=jnp.zeros(2, dtype)
    )
    told = math.log(2.0 * math.pi * 2.0)
    off = max(found.lower - told, told - found.upper, 0.0)
    yield Check.compare("log Z by annealing", off, 0.0, f"log 4π in its bracket at 99 %: {found}")


BATTERY = (
    _matrix_products,
    _random_numbers,
    _harmonic_oscillator,
    _ornstein_uhlenbeck,
    _kinetic_langevin,
    _heat_equation,
    _gaussians,
    _natural_gradient,
    _annealing,
)
