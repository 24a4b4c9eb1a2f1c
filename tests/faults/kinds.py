"""Five kinds of run, each with a checkpoint, and a digest of every bit that it ends with.

python kinds.py FOLDER KIND...    prints "KIND begins" and then "KIND DIGEST" for each
"""

import hashlib
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import steepest as st

KEY = jax.random.key(3)


def digest(*values):
    """Of all numbers of trees, ledgers and texts."""
    found = hashlib.sha256()
    for leaf in jax.tree.leaves(values):
        found.update(np.asarray(leaf).tobytes() if not isinstance(leaf, str) else leaf.encode())
    return found.hexdigest()[:16]


def double_well(x):
    """A tilted one, in every coordinate."""
    return jnp.sum((x**2 - 1.0) ** 2 + 0.1 * x)


def density(place, size):
    """Fokker-Planck by the second-order scheme, which remembers a state."""
    flow = st.Flow(st.FreeEnergy(double_well, 0.4), st.Wasserstein())
    start = st.Density.from_log(st.Grid(-2.5, 2.5, 200), lambda x: -8.0 * jnp.sum((x - 1) ** 2))
    run = st.solve(
        flow,
        start,
        scheme=st.FiniteVolume(1e-4, order=2),
        steps=3000 * size,
        save_every=100,
        checkpoint=place,
    )
    return digest(run.states, run.ledger.columns())


def particles(place, size):
    """Particles that repel each other, with noise."""
    functional = st.FreeEnergy(double_well, 0.3) + st.InteractionEnergy(st.GaussianKernel(1.0))
    start = st.Particles(jax.random.normal(KEY, (256, 2), jnp.float32))
    run = st.solve(
        st.Flow(functional, st.Wasserstein()),
        start,
        scheme=st.Euler(1e-3),
        steps=1500 * size,
        save_every=50,
        key=KEY,
        checkpoint=place,
    )
    return digest(run.states, run.ledger.columns())


def chains(place, size):
    """A method of `steepest compare`: many runs, tuned by one another."""
    from steepest.inference import fit

    energy = lambda x: jnp.sum(x**4) / 4 + jnp.sum(x**2) / 2  # noqa: E731
    start = jnp.zeros(4)
    found = fit(energy, "hmc", 20_000 * size, start=start, key=KEY, checkpoint=place)
    return digest(found.draws, found.certificate.mean, found.certificate.sd, str(found.gradients))


def variational(place, size):
    """A Gaussian by natural gradient, from the mode."""
    from steepest.inference import fit

    energy = lambda x: jnp.sum(jnp.cosh(x - jnp.roll(x, 1)) + 0.3 * (x - 1.0) ** 4)  # noqa: E731
    options = dict(start=jnp.zeros(6), key=KEY, checkpoint=place)
    found = fit(energy, "natural-gradient", 10_000 * size, **options)
    return digest(found.draws, found.law, found.certificate.mean, found.certificate.sd)


def training(place, size):
    """The score of a diffusion model."""
    from steepest import diffusion

    x = np.random.default_rng(0).normal(size=(500, 2)).astype(np.float32)
    network = diffusion.Perceptron(2, jax.random.key(1), width=16, depth=1)
    options = dict(steps=2500 * size, batch_size=32, learning_rate=1e-2, checkpoint=place)
    found = diffusion.fit(diffusion.EDM(), network, x, KEY, **options)
    return digest(found.model, found.last, found.losses)


KINDS = dict(
    density=density,
    particles=particles,
    chains=chains,
    variational=variational,
    training=training,
)

if __name__ == "__main__":
    folder, size, *names = sys.argv[1:]
    for name in names:
        print(name, "begins", flush=True)
        place = st.Checkpoint(Path(folder) / name, every=0.02)
        print(name, KINDS[name](place, int(size)), flush=True)
