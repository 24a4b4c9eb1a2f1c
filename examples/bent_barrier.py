"""A double well as reference: the bridge crosses where the minimum-energy path does.

Mass is to go from one well to the other in time 4. Under Brownian motion the most likely way is
straight; with the potential as reference it bends to the saddle. The bridge is solved on a grid, by
the reference's own semigroup.

python examples/bent_barrier.py         writes examples/runs/bent_barrier.png
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import steepest as st
from steepest.bridges import SchrodingerBridge, brownian
from steepest.mechanics import minimum_energy_path

jax.config.update("jax_enable_x64", True)
TEMPERATURE, HORIZON = 0.25, 4.0


def energy(x):
    """Wells at (-1, 0) and (1, 0), the saddle between them at (0, 0.6)."""
    return (x[0] ** 2 - 1.0) ** 2 + 2.0 * (x[1] - 0.6 * (1.0 - x[0] ** 2)) ** 2


def bridges(cells: int = 40) -> tuple:
    """(through the wells' potential, through none), between the Gibbs laws of the two wells."""
    grid = st.Grid((-1.5, -0.8), (1.5, 1.3), (cells, round(0.7 * cells)))
    well = st.Flow(st.Energy(energy), st.Euclidean(), st.Thermal(TEMPERATURE))
    ends = [
        st.Density.from_log(grid, lambda x, c=c: -energy(x) / TEMPERATURE - 4.0 * (x[0] - c) ** 2)
        for c in (-1.0, 1.0)
    ]
    bent = SchrodingerBridge(well, *ends, horizon=HORIZON)
    flat = SchrodingerBridge(brownian(0.05), *ends, horizon=HORIZON)
    return bent.solve(), flat.solve()


def crossings(bridge, n: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """(paths (times, n, 2), the height y at which each first has x > 0)."""
    times = jnp.linspace(0.02, HORIZON, 200)
    start = bridge.source.sample(jax.random.key(0), n)
    paths = np.asarray(bridge.sample_paths(start, times, jax.random.key(1)))
    first = np.argmax(paths[:, :, 0] > 0.0, axis=0)
    return paths, paths[first, np.arange(n), 1]


def saddle() -> tuple[np.ndarray, np.ndarray]:
    """(the minimum-energy path between the wells, its highest point)."""
    found = minimum_energy_path(energy, jnp.array([-1.0, 0.0]), jnp.array([1.0, 0.0]), 21)
    return np.asarray(found.path), np.asarray(found.saddle)


def picture(path: Path) -> None:
    """Paths of both bridges over the potential, and where they cross."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    from steepest.figures import LIGHT
    from steepest.figures.theme import rc

    (likely, top), both = saddle(), bridges()
    with rc_context(rc(LIGHT)):
        figure = Figure(figsize=(11.5, 3.8), layout="constrained")
        one, two, three = figure.subplots(1, 3)
        gx, gy = np.meshgrid(np.linspace(-1.5, 1.5, 120), np.linspace(-0.8, 1.3, 120))
        heights = jax.vmap(jax.vmap(energy))(jnp.stack([jnp.asarray(gx), jnp.asarray(gy)], -1))
        said = ("The double well as reference", "Brownian motion as reference")
        for axes, bridge, title, colour in zip(
            (one, two), both, said, (LIGHT.first, LIGHT.second), strict=True
        ):
            paths, at = crossings(bridge)
            axes.contour(gx, gy, heights, np.linspace(0, 4, 13), colors=LIGHT.muted, linewidths=0.4)
            axes.plot(*np.moveaxis(paths[::2, :12], 2, 0), color=colour, lw=0.5, alpha=0.6)
            axes.plot(*likely.T, color=LIGHT.ink, lw=2)
            axes.scatter(*top, color=LIGHT.ink, s=30, zorder=3)
            axes.set(title=title, xlim=(-1.5, 1.5), ylim=(-0.8, 1.3))
            three.hist(
                at, 30, range=(-0.8, 1.3), color=colour, alpha=0.6, label=title.split(" as ")[0]
            )
            print(f"{title}: crosses at y = {at.mean():.3f} +- {at.std():.3f}; saddle {top[1]:.3f}")
        three.axvline(top[1], color=LIGHT.ink, lw=1.5, label="saddle")
        three.set(title="Where paths cross the barrier", xlabel="y at x = 0")
        three.legend(frameon=False)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=150)


if __name__ == "__main__":
    picture(Path(__file__).parent / "runs" / "bent_barrier.png")
