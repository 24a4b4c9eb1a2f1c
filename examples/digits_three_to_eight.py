"""Handwritten threes on their way to eights: a bridge in 64 dimensions.

Sinkhorn's bridge leads onto given eights; the mixture's bridge has a drift everywhere and maps
threes that it has not seen. A classifier that was trained on all ten digits says what they become.

python examples/digits_three_to_eight.py    writes examples/runs/digits_three_to_eight.png
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from steepest.bridges import SchrodingerBridge, brownian

TIMES = (0.2, 0.4, 0.6, 0.8, 1.0)


def digits(held_out: int = 40) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(threes, threes kept apart, eights), 64 grey values in [0, 1] each."""
    x, label = load_digits(return_X_y=True)
    threes, eights = (np.asarray(x[label == k] / 16, np.float32) for k in (3, 8))
    return threes[held_out:], threes[:held_out], eights


def bridges(threes: np.ndarray, eights: np.ndarray, steps: int = 1500) -> dict:
    """By both methods; grey values wander by sqrt(2 T) = 0.2."""
    problem = SchrodingerBridge(brownian(0.02), threes, eights)
    mixture = problem.solve("mixture", jax.random.key(0), components=20, steps=steps)
    return {"sinkhorn": problem.solve(tolerance=1e-3), "mixture": mixture}


def eights_among(images: np.ndarray) -> float:
    """The share that a logistic regression on all ten digits calls an eight."""
    x, label = load_digits(return_X_y=True)
    judge = LogisticRegression(max_iter=300).fit(x / 16, label)
    return float(np.mean(judge.predict(images) == 8))


def picture(path: Path) -> None:
    """Rows of one digit on its way: paths, and mean ends of threes that were kept apart."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    from steepest.figures import LIGHT
    from steepest.figures.theme import rc

    threes, apart, eights = digits()
    found = bridges(threes, eights)
    for name, bridge in found.items():
        ends = np.asarray(bridge.expected_end(jnp.asarray(apart)))
        share, drawn = eights_among(ends), bridge.sample(jnp.asarray(apart), jax.random.key(2))
        print(f"{name}: {share:.0%} of unseen threes have an eight as mean end, ", end="")
        print(f"{eights_among(np.asarray(drawn)):.0%} as an end that is drawn")
    with rc_context(rc(LIGHT)):
        figure = Figure(figsize=(11.5, 3.9), layout="constrained")
        panels = figure.subplots(4, 2 * len(TIMES) + 3)
        for panel in panels.ravel():
            panel.axis("off")
        for side, (name, bridge) in enumerate(found.items()):
            x = jnp.asarray(apart[:4])
            paths = np.asarray(bridge.sample_paths(x, TIMES, jax.random.key(1)))
            first = side * (len(TIMES) + 2)
            for i in range(4):
                for k, image in enumerate([apart[i], *paths[:, i]]):
                    panels[i, first + k].imshow(image.reshape(8, 8), "gray_r", vmin=0, vmax=1)
                    if i == 0:
                        title = f"{name}\nt = 0" if k == 0 else f"\n{TIMES[k - 1]:g}"
                        panels[0, first + k].set_title(title, fontsize=9)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=130)


if __name__ == "__main__":
    picture(Path(__file__).parent / "runs" / "digits_three_to_eight.png")
