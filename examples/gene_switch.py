"""Snapshots of dividing cells: what the bridge through them says, against the cells' true paths.

Two genes repress each other, a switch with two stable states; cells begin between them, and those
on the way to the first state divide. Each snapshot destroys its cells, so no path is ever seen. The
simulation knows all paths: the law between the snapshots, the fate of a cell, its descendants.

python examples/gene_switch.py          writes examples/runs/gene_switch.png
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import steepest as st
from steepest.bridges import SchrodingerChain, brownian

jax.config.update("jax_enable_x64", True)
TIMES, BETWEEN = (0.0, 1.0, 2.0, 3.0), (0.5, 1.5, 2.5)
NOISE, STEP = 0.03, 0.02


def drift(x: np.ndarray) -> np.ndarray:
    """Made where the other gene is rare, and decaying: dx/dt = 2/(1 + y^4) - x."""
    return 2.0 / (1.0 + x[:, ::-1] ** 4) - x


def divisions(x: np.ndarray) -> np.ndarray:
    """Divisions per unit time: 0.7 in the first state, none in the second."""
    return 0.7 / (1.0 + np.exp(-4.0 * (x[:, 0] - x[:, 1])))


def founders(n: int, seed: int) -> np.ndarray:
    """Cells between the two states."""
    return np.array([1.0, 1.0]) + 0.2 * np.random.default_rng(seed).normal(size=(n, 2))


def population(x: np.ndarray, time: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(cells at `time`, the founder of each) by Euler's steps; daughters begin at mothers."""
    rng, family = np.random.default_rng(seed), np.arange(len(x))
    for _ in range(round(time / STEP)):
        x = x + STEP * drift(x) + np.sqrt(2.0 * NOISE * STEP) * rng.normal(size=x.shape)
        born = rng.random(len(x)) < STEP * divisions(x)
        x, family = np.concatenate([x, x[born]]), np.concatenate([family, family[born]])
    return x, family


def snapshots(n: int = 400) -> tuple[list[np.ndarray], list[float]]:
    """Cells of populations that were measured at `TIMES`, and how many there are for a founder."""
    clouds = [population(founders(n, 10 + i), t, i)[0] for i, t in enumerate(TIMES)]
    return clouds, [len(cloud) / n for cloud in clouds]


def bridge(clouds: list[np.ndarray], masses: list[float], growth: float | None = 2.0):
    """The chain through the snapshots; the reference knows of neither the switch nor divisions."""
    reference = brownian(0.04)
    if growth is None:
        return SchrodingerChain(reference, clouds, TIMES).solve("sinkhorn", tolerance=1e-3)
    problem = SchrodingerChain(reference, clouds, TIMES, growth=growth, masses=masses)
    return problem.solve(tolerance=1e-4)


def told(chain, x: np.ndarray, copies: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """(descendants, the share of them in the first state) of each founder, by the bridge."""
    start = jnp.repeat(jnp.asarray(x), copies, axis=0)
    paths = chain.sample_paths(start, TIMES[1:], jax.random.key(1))
    mass = np.exp(np.asarray(chain.log_growth_along(start, paths)[-1])).reshape(len(x), copies)
    first = np.asarray(paths[-1][:, 0] > paths[-1][:, 1]).reshape(len(x), copies)
    return mass.mean(1), (mass * first).sum(1) / mass.sum(1)


def true(x: np.ndarray, copies: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """The same of the simulation."""
    cells, family = population(np.repeat(x, copies, axis=0), TIMES[-1], 99)
    family = family // copies
    count = np.bincount(family, minlength=len(x))
    first = np.bincount(family, cells[:, 0] > cells[:, 1], minlength=len(x))
    return count / copies, first / np.maximum(count, 1)


def distance(chain, time: float, n: int = 400) -> tuple[float, float]:
    """Sliced W2 of the bridge's law at `time` from cells measured then, and of two such samples."""
    cells = [population(founders(n, 50 + i), time, 20 + i)[0] for i in range(2)]
    law = chain.marginal(time, jax.random.key(2), 2000)
    value = lambda a, b: float(jnp.sqrt(2.0 * st.SlicedWasserstein(b, 64)(a)))  # noqa: E731
    one, two = (st.Particles(jnp.asarray(cloud)) for cloud in cells)
    return value(law, one), value(two, one)


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's."""
    return float(np.corrcoef(a, b)[0, 1])


def picture(path: Path) -> None:
    """Cells and paths; descendants and fates as told and as they are."""
    from matplotlib import colormaps, rc_context
    from matplotlib.figure import Figure

    from steepest.figures import LIGHT
    from steepest.figures.theme import rc

    clouds, masses = snapshots()
    chain, x = bridge(clouds, masses), founders(60, 7)
    found, want = told(chain, x), true(x)
    at = np.linspace(0.05, 3.0, 60)
    paths = np.asarray(chain.sample_paths(jnp.asarray(x[:40]), at, jax.random.key(0)))
    with rc_context(rc(LIGHT)):
        figure = Figure(figsize=(11.5, 3.6), layout="constrained")
        one, two, three = figure.subplots(1, 3)
        colours = colormaps["viridis"](np.linspace(0.0, 0.9, len(TIMES)))
        one.plot(paths[..., 0], paths[..., 1], color=LIGHT.muted, lw=0.5, alpha=0.5)
        for time, cloud, colour in zip(TIMES, clouds, colours, strict=True):
            one.scatter(*cloud[:300].T, s=5, color=colour, alpha=0.6, lw=0, label=f"t = {time:g}")
        one.legend(frameon=False, markerscale=2)
        one.set_xlabel("gene 1")
        one.set_ylabel("gene 2")
        one.set_title("Snapshots, paths of the bridge")
        for axes, k, what in ((two, 0, "descendants"), (three, 1, "fates")):
            axes.scatter(want[k], found[k], s=14, color=LIGHT.first, lw=0)
            top = 1.05 * max(want[k].max(), found[k].max())
            axes.plot([0, top], [0, top], color=LIGHT.muted, lw=1)
            axes.set_xlabel(f"{what}, true" if k == 0 else "share in the first state, true")
            axes.set_ylabel("by the bridge")
            axes.set_title(f"{what.capitalize()}: correlation {correlation(want[k], found[k]):.2f}")
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=150)
    kept = bridge(clouds, masses, None)
    for time in BETWEEN:
        (near, floor), far = distance(chain, time), distance(kept, time)[0]
        print(f"t = {time}: sliced W2 {near:.3f}; of two samples {floor:.3f}; mass kept {far:.3f}")


if __name__ == "__main__":
    picture(Path(__file__).parent / "runs" / "gene_switch.png")
