"""The colours of one photograph given to another, by a bridge between their pixels.

Each pixel is a point of the RGB cube. The bridge is fitted to 20,000 pixels of each photograph, as
a mixture; its mean end then maps every pixel, also those that it has not seen.

python examples/photograph_colours.py   writes examples/runs/photograph_colours.png
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_sample_images

import steepest as st
from steepest.bridges import SchrodingerBridge, brownian


def photographs(every: int = 2) -> list[np.ndarray]:
    """Two of scikit-learn's photographs, every n-th pixel, values in [0, 1]."""
    return [
        np.asarray(image[::every, ::every], np.float32) / 255
        for image in load_sample_images().images
    ]


def pixels(image: np.ndarray, n: int = 20_000) -> np.ndarray:
    """Some of them."""
    flat = image.reshape(-1, 3)
    return flat[np.random.default_rng(0).choice(len(flat), n)]


def bridge(source: np.ndarray, target: np.ndarray, steps: int = 1500):
    """Standard deviation sqrt(2 T) = 0.06 of a cube of side one."""
    problem = SchrodingerBridge(brownian(0.002), pixels(source), pixels(target))
    return problem, problem.solve("mixture", jax.random.key(0), components=30, steps=steps)


def mapped(found, image: np.ndarray) -> np.ndarray:
    """The mean end of every pixel."""
    ends = np.asarray(found.expected_end(jnp.asarray(image.reshape(-1, 3))))
    return np.clip(ends, 0.0, 1.0).reshape(image.shape)


def distance(a: np.ndarray, b: np.ndarray) -> float:
    """Sliced W2 of the colours of two images."""
    law = st.Particles(jnp.asarray(pixels(b, 4000)))
    value = st.SlicedWasserstein(law, 64)(st.Particles(jnp.asarray(pixels(a, 4000))))
    return float(jnp.sqrt(2.0 * value))


def picture(path: Path) -> None:
    """Both photographs, and each in the colours of the other."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    from steepest.figures import LIGHT
    from steepest.figures.theme import rc

    temple, flower = photographs()
    there = mapped(bridge(temple, flower)[1], temple)
    back = mapped(bridge(flower, temple)[1], flower)
    for name, before, after, goal in (
        ("temple", temple, there, flower), ("flower", flower, back, temple),
    ):  # fmt: skip
        was, now = distance(before, goal), distance(after, goal)
        print(f"{name}: sliced W2 of its colours from the other's {was:.3f} -> {now:.3f}")
    with rc_context(rc(LIGHT)):
        figure = Figure(figsize=(11.5, 7.6), layout="constrained")
        titles = ("A", "B", "A in the colours of B", "B in the colours of A")
        panels = figure.subplots(2, 2).ravel()
        for axes, image, title in zip(panels, (temple, flower, there, back), titles, strict=True):
            axes.imshow(image)
            axes.set_title(title)
            axes.axis("off")
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=110)


if __name__ == "__main__":
    picture(Path(__file__).parent / "runs" / "photograph_colours.png")
