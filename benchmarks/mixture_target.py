"""From N(0, 16 I) to ten Gaussians with means uniform in a cube, in 2 to 12 dimensions.

The set-up of Mokrov et al., NeurIPS 2021: means in [-5, 5]^D, unit covariances, equal weights.
Two rows a dimension, neither of which is told the target's components:

- particles to t = 4 under Wasserstein() alone, and the mixture fitted to them. This is the exact
  flow up to sampling: between modes mass stays as the basins of N(0, 16 I) have shared it out, so
  no solver of the transport flow can come nearer at t = 4;
- particles to t = 2, a mixture of 16 fitted to them and merged to what the data can tell apart,
  then minimizing movements of that mixture under Wasserstein() + FisherRao(), which settles the
  weights.

Symmetric KL to the target from 8192 draws of each, as published there (0.51 at D = 12). Seconds are
those of everything, compilation included.
"""

from __future__ import annotations

import math
import time

import jax
import jax.numpy as jnp

DIMENSIONS = (2, 4, 6, 8, 10, 12)
MODES, CUBE, SPREAD = 10, 5.0, 4.0
PARTICLES, COMPONENTS, DRAWS = 8192, 16, 8192


def target_of(dimension: int, seed: int):
    """The target; `log_prob` is all that the flows see of it."""
    import steepest as st

    means = jax.random.uniform(jax.random.key(seed), (MODES, dimension), minval=-CUBE, maxval=CUBE)
    return st.GaussianMixture(jnp.zeros(MODES), means, jnp.ones((MODES, dimension)))


def langevin(target, dimension: int, seed: int, count: int, horizon: float):
    """Particles of N(0, 16 I) under the transport flow of KL."""
    import steepest as st

    start = st.Particles(SPREAD * jax.random.normal(jax.random.key(seed + 50), (count, dimension)))
    flow = st.Flow(st.KL(target), st.Wasserstein())
    steps = round(horizon / 0.02)
    key = jax.random.key(seed + 100)
    run = st.solve(flow, start, scheme=st.Euler(0.02), steps=steps, save_every=steps, key=key)
    return run.final


def fitted(particles, dimension: int, seed: int):
    """A mixture, with components merged while the likelihood they buy is below Schwarz's price."""
    import steepest as st

    rule = st.QuasiMonteCarlo(512 if dimension > 4 else 256)
    key = jax.random.key(seed + 200)
    mixture = st.GaussianMixture.fit(
        particles, COMPONENTS, key, tolerance=1e-5, iterations=100, quadrature=rule
    )
    numbers = 1 + dimension + dimension * (dimension + 1) / 2
    return mixture.merged(0.5 * numbers * math.log(particles.count) / particles.count)


def settled(mixture, target, step: float = 0.25, steps: int = 16):
    """Minimizing movements under Wasserstein() + FisherRao()."""
    import steepest as st

    flow = st.Flow(st.KL(target), st.Wasserstein() + st.FisherRao())
    move = st.MinimizingMovement(step, tolerance=1e-3)
    scheme = st.Composition(move, move, symmetric=False)
    return st.solve(flow, mixture, scheme=scheme, steps=steps, save_every=steps).final


def one(dimension: int, seed: int):
    """(symmetric KL, seconds, components) of each row."""
    target = target_of(dimension, seed)
    begun = time.perf_counter()
    mixture = fitted(langevin(target, dimension, seed, PARTICLES, 2.0), dimension, seed)
    mixture = jax.block_until_ready(settled(mixture, target))
    ours = time.perf_counter() - begun
    begun = time.perf_counter()
    plain = fitted(langevin(target, dimension, seed, 4 * PARTICLES, 4.0), dimension, seed)
    jax.block_until_ready(plain)
    theirs = time.perf_counter() - begun
    measure = lambda m: m.symmetric_kl(target, jax.random.key(seed + 300), DRAWS)  # noqa: E731
    return (measure(plain), theirs, plain.count), (measure(mixture), ours, mixture.count)


def tables(rounds: int, only: str | None):
    """One table; `--case 12` runs that dimension alone."""
    del rounds
    jax.config.update("jax_enable_x64", True)
    lines = [
        "### symmetric KL to ten Gaussians, from N(0, 16 I)",
        "",
        "| D | flow | symmetric KL | components | seconds |",
        "|---|---|---|---|---|",
    ]
    for dimension in DIMENSIONS:
        if only is not None and only != str(dimension):
            continue
        names = ("Wasserstein(), particles, t = 4", "Wasserstein() + FisherRao(), mixture")
        for name, (kl, seconds, count) in zip(names, one(dimension, 0), strict=True):
            value = f"{float(kl.value):.4f} +- {float(kl.error):.4f}"
            lines.append(f"| {dimension} | {name} | {value} | {count} | {seconds:.0f} |")
    yield "\n".join([*lines, ""])
