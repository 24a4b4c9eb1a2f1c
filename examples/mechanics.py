"""Stationary action three times: the fastest slide, a law learned from motion, a rare crossing.

python examples/mechanics.py            writes examples/runs/mechanics.png
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

import steepest as st
from steepest.mechanics import (
    Lagrangian,
    minimum_energy_path,
    stationary_path,
    transition_path,
)

jax.config.update("jax_enable_x64", True)
GRAVITY = 9.81


def brachistochrone(x: float = 1.0, depth: float = 0.6):
    """The slide of least time from (0, 0) to (x, depth): (points, time), and a straight one's time.

    Time is length in the metric (dx^2 + dy^2) / (2 g y); u = sqrt(y) makes the start regular.
    """
    optical = Lagrangian(lambda q, v: ((v[0] / q[1]) ** 2 + 4 * v[1] ** 2) / (4 * GRAVITY))
    end = jnp.array([x, np.sqrt(depth)])
    found = stationary_path(
        optical, jnp.zeros(2), end, 0.0, 1.0, 101, 4, guess=lambda t: end * jnp.stack([t**2, t])
    )
    straight = np.sqrt(2 * (x**2 + depth**2) / (GRAVITY * depth))
    points = np.stack([found.path[:, 0], found.path[:, 1] ** 2], axis=1)
    return points, float(np.sqrt(2 * found.action)), straight


def learned_lagrangian(steps: int = 800):
    """The potential of a pendulum from accelerations alone, by a small network inside L.

    L(q, v) = v^2/2 - V(q): the squared Euler-Lagrange residual at noisy accelerations is
    minimised, by Adam. Returns (angles, V learned, V true), both with V(0) = 0.
    """
    keys = jax.random.split(jax.random.key(0), 4)
    q = jax.random.uniform(keys[0], (256,), minval=-2.5, maxval=2.5)
    a = -jnp.sin(q) + 0.02 * jax.random.normal(keys[1], (256,))
    weights = {
        "in": jax.random.normal(keys[2], (24,)),
        "shift": jnp.linspace(-2.0, 2.0, 24),
        "out": 0.1 * jax.random.normal(keys[3], (24,)),
    }

    def potential(w, x):
        return jnp.dot(w["out"], jnp.tanh(w["in"] * x + w["shift"]))

    def loss(w):
        learned = Lagrangian(lambda q, v: 0.5 * v**2 - potential(w, q))
        off = jax.vmap(learned.euler_lagrange_residual)(q, jnp.zeros_like(q), a)
        return jnp.mean(off**2)

    flow = st.Flow(st.Energy(loss), st.Euclidean())
    scheme = st.from_optax(optax.adam(0.03))
    w = st.solve(flow, weights, scheme=scheme, steps=steps, save_every=steps).final
    x = jnp.linspace(-2.5, 2.5, 101)
    found = jax.vmap(lambda x: potential(w, x))(x) - potential(w, jnp.zeros(()))
    return np.asarray(x), np.asarray(found), 1 - np.cos(np.asarray(x))


MUELLER = jnp.array(
    [
        (-200.0, -1.0, 0.0, -10.0, 1.0, 0.0),
        (-100.0, -1.0, 0.0, -10.0, 0.0, 0.5),
        (-170.0, -6.5, 11.0, -6.5, -0.5, 1.5),
        (15.0, 0.7, 0.6, 0.7, -1.0, 1.0),
    ]
)


def mueller_brown(p):
    """The potential of Müller and Brown, Theor. Chim. Acta 53 (1979) 75."""
    height, a, b, c, x0, y0 = MUELLER.T
    x, y = p[0] - x0, p[1] - y0
    return jnp.sum(height * jnp.exp(a * x**2 + b * x * y + c * y**2))


def crossing(time: float = 1.0):
    """(minimum energy path, most probable path of Langevin dynamics in `time`).

    The slowest rate at the minima is 411: most of so long a time is spent waiting.
    """
    start, end = jnp.array([-0.55822363, 1.44172584]), jnp.array([0.62349941, 0.02803776])
    curve = minimum_energy_path(mueller_brown, start, end, 61, tolerance=0.03)
    flow = st.Flow(st.Energy(mueller_brown), st.Euclidean(), st.Thermal(10.0))
    return curve, transition_path(flow, start, end, time, 1001, guess=curve)


def picture(path: Path) -> None:
    """The three beside one another."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    from steepest.figures import LIGHT
    from steepest.figures.theme import rc

    with rc_context(rc(LIGHT)):
        figure = Figure(figsize=(11.5, 3.4), layout="constrained")
        one, two, three = figure.subplots(1, 3)
        slide, fast, slow = brachistochrone()
        one.plot(slide[:, 0], -slide[:, 1], color=LIGHT.first)
        one.plot([0, slide[-1, 0]], [0, -slide[-1, 1]], color=LIGHT.muted, ls="--", lw=1)
        one.set_title(f"Least time: {fast:.4f} s, straight {slow:.4f} s")
        one.set_aspect("equal")
        x, found, true = learned_lagrangian()
        two.plot(x, true, color=LIGHT.muted, lw=4, alpha=0.5, label="1 - cos q")
        two.plot(x, found, color=LIGHT.first, label="learned")
        two.legend(frameon=False)
        two.set_xlabel("angle")
        two.set_title("A potential learned from motion")
        curve, likely = crossing()
        gx, gy = np.meshgrid(np.linspace(-1.5, 1.1, 160), np.linspace(-0.4, 2.0, 160))
        grid = jnp.stack([jnp.asarray(gx), jnp.asarray(gy)], axis=-1)
        heights = jax.vmap(jax.vmap(mueller_brown))(grid)
        three.contour(gx, gy, heights, np.arange(-150, 100, 15), colors=LIGHT.muted, linewidths=0.5)
        three.plot(*np.asarray(curve.path).T, color=LIGHT.muted, lw=3, alpha=0.5)
        three.plot(*np.asarray(likely.path).T, color=LIGHT.second)
        three.scatter(*curve.saddle, color=LIGHT.first, zorder=3, s=26)
        three.set_title(f"Crossing: action {float(likely.action):.2f}")
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=140)


if __name__ == "__main__":
    _, fast, slow = brachistochrone()
    print(f"brachistochrone {fast:.6f} s, straight {slow:.6f} s")
    picture(Path(__file__).parent / "runs" / "mechanics.png")
