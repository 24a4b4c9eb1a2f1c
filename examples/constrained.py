"""Two problems whose geometry keeps them where they belong, on real data, each with its audit.

python examples/constrained.py

1. The weights of a mixture (Fisher's irises, petal lengths): mirror descent on the simplex. The
   loss is convex, and its gradient bounds how far it is from the least (Lindsay, 1983).
2. The best plane of the digits (principal components): a frame that stays orthonormal.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import steepest as st

DATA = Path(__file__).parent / "data"


def mixture():
    """Weights of Gaussians of width 0.25 cm on a grid of centres, by maximum likelihood."""
    table = np.genfromtxt(DATA / "iris.csv", delimiter=",", names=True, dtype=None, encoding=None)
    lengths = jnp.asarray(table["petal_length"], jnp.float32)
    centres = jnp.linspace(0.75, 7.25, 27)
    density = jnp.exp(-0.5 * ((lengths[:, None] - centres) / 0.25) ** 2) / (
        0.25 * (2 * jnp.pi) ** 0.5
    )
    energy = st.Energy(lambda weights: -jnp.mean(jnp.log(density @ weights)))
    flow = st.Flow(energy, st.Bregman("simplex"))
    run = st.solve(flow, jnp.full(27, 1 / 27), scheme=st.Euler(0.25), steps=2000, save_every=50)
    weights = run.final
    gap = float(jnp.max(jnp.mean(density / (density @ weights)[:, None], axis=0)) - 1.0)
    return run, gap


def plane():
    """The two directions of most variance of the digits, as a frame with orthonormal columns."""
    pixels = np.loadtxt(DATA / "digits.csv", delimiter=",", skiprows=1)[:, :64] / 16.0
    centred = pixels - pixels.mean(axis=0)
    covariance = jnp.asarray(centred.T @ centred / len(centred), jnp.float32)
    energy = st.Energy(lambda w: -jnp.trace(w.T @ covariance @ w))
    flow = st.Flow(energy, st.Stiefel())
    start = st.Stiefel().random(jax.random.key(0), (64, 2)).astype(jnp.float32)
    run = st.solve(flow, start, scheme=st.Euler(0.1), steps=600, save_every=15)
    most = float(jnp.linalg.eigvalsh(covariance)[-2:].sum())
    return run, most


if __name__ == "__main__":
    run, gap = mixture()
    print(f"{run.audit()}\nlog likelihood within {gap:.1e} of the best\n")
    run, most = plane()
    print(f"{run.audit()}\nvariance {-run.ledger.functional[-1]:.5f} of at most {most:.5f}")
