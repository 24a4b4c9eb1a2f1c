"""From N(0, 16 I) to ten Gaussians with means uniform in a cube, in 2 to 12 dimensions.

The target, start and horizon of Mokrov et al., NeurIPS 2021: means in [-5, 5]^D, unit covariances,
equal weights, t = 4. The published method takes 40 JKO steps of the Wasserstein() flow; the second
and third rows here run another flow, with FisherRao() added, and take JKO steps in its second half
alone, so their numbers reach the same target but are not those of the same method:

- particles (Euler-Maruyama, steps of 0.02) to t = 4 under Wasserstein() alone, and a mixture fitted
  to them: the transport flow itself, up to sampling, the step and the fit;
- particles to t = 2 under Wasserstein(), a mixture of 16 fitted to them and merged to what the data
  can tell apart, then 20 minimizing movements of 0.1 under Wasserstein() + FisherRao(), which
  passes mass between components;
- the same with all 16 components kept: more than the target has.

A first line says what the transport flow itself can reach, for the flow is that of the law of
Langevin particles: each is given the mode that explains it best, and the symmetric KL of these
labels is at most that of the laws (data processing). From N(0, 16 I) at D = 12, with 4e5 particles,
steps of 0.02 and of 0.005 alike, it was 0.184, 0.110, 0.194, 0.274 for targets of seeds 0 to 3 at
t = 4, and fell by less than 0.003 until t = 16: the weights of the modes freeze before t = 2. Pure
transport from this start does not come below that, by whatever method; 0.05 needs another flow,
such as Wasserstein() + FisherRao(), or another start.

No row is told the target's components. Started as N(0, 16 I) split into 32 components, the mixture
alone missed modes at D = 12 (symmetric KL 8.1, one run).

Symmetric KL to the target from 8192 draws of each; published there: 0.51 at D = 12 in
7175 s. Seconds are those of everything, compilation included.
"""

from __future__ import annotations

import functools
import math
import time

import jax
import jax.numpy as jnp

DIMENSIONS = (2, 4, 6, 8, 10, 12)
PARTS = [str(d) for d in DIMENSIONS]
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


def fitted(particles, dimension: int, seed: int, merge: bool = True):
    """A mixture; `merge`: components join while what they buy is below Schwarz's price."""
    import steepest as st

    key = jax.random.key(seed + 200)
    mixture = st.GaussianMixture.fit(
        particles,
        COMPONENTS,
        key,
        tolerance=1e-5,
        iterations=100,
        quadrature=st.QuasiMonteCarlo(256),
    )
    if not merge:
        return mixture
    numbers = 1 + dimension + dimension * (dimension + 1) / 2
    return mixture.merged(0.5 * numbers * math.log(particles.count) / particles.count)


def settled(mixture, target, step: float = 0.1, steps: int = 20):
    """Minimizing movements under Wasserstein() + FisherRao()."""
    import steepest as st

    flow = st.Flow(st.KL(target), st.Wasserstein() + st.FisherRao())
    move = st.MinimizingMovement(step, tolerance=1e-2)
    scheme = st.Composition(move, move, symmetric=False)
    return st.solve(flow, mixture, scheme=scheme, steps=steps, save_every=steps).final


def least_symmetric_kl(target, dimension: int, seed: int) -> float:
    """What the labels of Langevin particles at t = 4 bound the transport flow's symmetric KL by."""
    particles = langevin(target, dimension, seed, 4 * PARTICLES, 4.0)
    square = jnp.sum((particles.positions[:, None] - target.means) ** 2, axis=-1)
    counts = jnp.bincount(jnp.argmin(square, axis=1), length=MODES)
    shares, equal = (counts + 0.5) / (particles.count + 0.5 * MODES), 1.0 / MODES
    return float(jnp.sum((shares - equal) * jnp.log(shares / equal)))


def transported(dimension: int, seed: int, target):
    """Particles alone."""
    return fitted(langevin(target, dimension, seed, 4 * PARTICLES, 4.0), dimension, seed)


def moved(dimension: int, seed: int, target, merge: bool):
    """Particles, then minimizing movements of a mixture."""
    particles = langevin(target, dimension, seed, PARTICLES, 2.0)
    return settled(fitted(particles, dimension, seed, merge), target)


def rows(dimension: int, seed: int):
    """(name, symmetric KL, components, seconds) of each way."""
    target = target_of(dimension, seed)
    ways = {
        "Wasserstein(), particles": transported,
        "Wasserstein() + FisherRao(), mixture, merged": functools.partial(moved, merge=True),
        "Wasserstein() + FisherRao(), mixture of 16": functools.partial(moved, merge=False),
    }
    for name, way in ways.items():
        jax.clear_caches()
        begun = time.perf_counter()
        end = jax.block_until_ready(way(dimension, seed, target))
        seconds = time.perf_counter() - begun
        kl = end.symmetric_kl(target, jax.random.key(seed + 300), DRAWS)
        yield name, kl, end.count, seconds


def tables(rounds: int, only: str | None):
    """One table; `--case 12` runs that dimension alone."""
    del rounds
    jax.config.update("jax_enable_x64", True)
    lines = [
        "### symmetric KL to ten Gaussians, from N(0, 16 I) at t = 4",
        "",
        "| D | flow | symmetric KL | components | seconds |",
        "|---|---|---|---|---|",
    ]
    for dimension in DIMENSIONS:
        if only is not None and only != str(dimension):
            continue
        least = least_symmetric_kl(target_of(dimension, 0), dimension, 0)
        lines.append(f"| {dimension} | Wasserstein(), no method below | > {least:.4f} | | |")
        for name, kl, count, seconds in rows(dimension, 0):
            value = f"{float(kl.value):.4f} +- {float(kl.error):.4f}"
            lines.append(f"| {dimension} | {name} | {value} | {count} | {seconds:.0f} |")
    yield "\n".join([*lines, ""])
