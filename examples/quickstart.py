"""The README's example, and its picture: 2000 particles leave one well and fill both.

python examples/quickstart.py            writes docs/quickstart.png
"""

from pathlib import Path

import jax
import jax.numpy as jnp

import steepest as st

energy = st.Energy(lambda x: (x[0] ** 2 - 1) ** 2 + 2 * x[1] ** 2)
flow = st.Flow(energy, st.Euclidean(), st.Thermal(0.4))

start = jnp.array([-1.0, 0.0]) + 0.08 * jax.random.normal(jax.random.key(0), (2000, 2))
particles = st.Particles.from_positions(start)
run = st.solve(
    flow, particles, scheme=st.Euler(0.01), time=40.0, key=jax.random.key(1), save_every=20
)

print(flow)
print(run.audit())


def picture(path: Path) -> None:
    """The particles at four times, and the free energy on its way to -T log Z."""
    import numpy as np
    from matplotlib import rc_context
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure

    from steepest.figures import LIGHT
    from steepest.figures.theme import rc

    x, y = np.meshgrid(np.linspace(-1.9, 1.9, 200), np.linspace(-1.6, 1.6, 160))
    height = (x**2 - 1) ** 2 + 2 * y**2
    temperature = 0.4
    cell = (x[0, 1] - x[0, 0]) * (y[1, 0] - y[0, 0])
    exact = -temperature * np.log(np.sum(np.exp(-height / temperature)) * cell)
    falling = run.free_energy(saves=41)
    colours = LinearSegmentedColormap.from_list("energy", ["#cfdfe8", LIGHT.card])
    with rc_context(rc(LIGHT)):
        figure = Figure(figsize=(11.5, 2.5), layout="constrained")
        panels = figure.subplots(1, 5, width_ratios=[1, 1, 1, 1, 1.45])
        for axes, index in zip(panels, (0, 5, 40, 200), strict=False):
            axes.contourf(x, y, np.log1p(height), levels=16, cmap=colours)
            axes.contour(
                x, y, np.log1p(height), levels=16, colors=LIGHT.muted, linewidths=0.3, alpha=0.6
            )
            points = run.at(index).positions
            axes.scatter(points[:, 0], points[:, 1], s=2.2, color=LIGHT.second, alpha=0.55, lw=0)
            axes.set_title(f"t = {run.times[index]:g}", fontweight="normal")
            axes.set_xlim(-1.9, 1.9)
            axes.set_ylim(-1.6, 1.6)
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set_visible(False)
        axes = panels[-1]
        axes.axhline(exact, color=LIGHT.muted, lw=1, ls=(0, (4, 2)))
        axes.annotate(
            "-T log Z, exact",
            (40, exact),
            xytext=(0, -11),
            ha="right",
            textcoords="offset points",
            color=LIGHT.muted,
        )
        axes.errorbar(
            falling.times,
            falling.value,
            2 * falling.standard_error,
            color=LIGHT.first,
            lw=1.6,
            elinewidth=0.8,
        )
        axes.set_ylim(-0.14, 1.0)
        axes.set_title("Free energy ⟨E⟩ - T S over time", fontweight="normal")
        figure.savefig(path, dpi=140)


if __name__ == "__main__":
    picture(Path(__file__).parent.parent / "docs" / "quickstart.png")
