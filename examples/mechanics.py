"""Stationary action three times: the fastest slide, a law learned from motion, a rare crossing.

python examples/mechanics.py            writes examples/runs/mechanics/report.html
"""

import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy.optimize import brentq

import steepest as st
from steepest.cli.folder import check_place, new_folder
from steepest.cli.pages import write_page
from steepest.figures.canvas import half, themed
from steepest.figures.theme import Theme
from steepest.mechanics import (
    Lagrangian,
    minimum_energy_path,
    stationary_path,
    transition_path,
)
from steepest.report import Picture, Record

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


def crossing(duration: float = 1.0):
    """(minimum energy path, most probable path of Langevin dynamics in `duration`).

    The slowest rate at the minima is 411: most of so long a time is spent waiting.
    """
    start, end = jnp.array([-0.55822363, 1.44172584]), jnp.array([0.62349941, 0.02803776])
    curve = minimum_energy_path(mueller_brown, start, end, 61, tolerance=0.03)
    flow = st.Flow(st.Energy(mueller_brown), st.Euclidean(), st.Thermal(10.0))
    return curve, transition_path(flow, start, end, duration, 1001, guess=curve)


@themed
def slide_figure(points, fast: float, slow: float, *, theme: Theme):
    """The slide beside a straight one."""
    figure, axes = half(height=3.6)
    axes.plot(points[:, 0], -points[:, 1], color=theme.first)
    axes.plot([0, points[-1, 0]], [0, -points[-1, 1]], color=theme.muted, ls="--", lw=1)
    axes.set_title(f"Least time: {fast:.4f} s, straight {slow:.4f} s")
    axes.set_aspect("equal")
    return figure


@themed
def learned_figure(x, found, true, *, theme: Theme):
    """The potential and what was learned of it."""
    figure, axes = half(height=3.6)
    axes.plot(x, true, color=theme.muted, lw=4, alpha=0.5, label="1 - cos q")
    axes.plot(x, found, color=theme.first, label="learned")
    axes.legend(frameon=False)
    axes.set_xlabel("angle")
    axes.set_title("A potential learned from motion")
    return figure


@themed
def crossing_figure(curve, likely, *, theme: Theme):
    """Contours, the minimum energy path (grey), the most probable path, the saddle."""
    figure, axes = half(height=4.2)
    x, y = np.meshgrid(np.linspace(-1.5, 1.1, 160), np.linspace(-0.4, 2.0, 160))
    heights = jax.vmap(jax.vmap(mueller_brown))(jnp.stack([jnp.asarray(x), jnp.asarray(y)], -1))
    levels = np.arange(-150, 100, 15)
    axes.contour(x, y, heights, levels, colors=theme.muted, linewidths=0.5)
    axes.plot(*np.asarray(curve.path).T, color=theme.muted, lw=3, alpha=0.5)
    axes.plot(*np.asarray(likely.path).T, color=theme.second)
    axes.scatter(*curve.saddle, color=theme.first, zorder=3, s=26)
    axes.set_title(f"Crossing: action {float(likely.action):.2f}")
    return figure


@themed
def heights_figure(likely, *, theme: Theme):
    """The energy along the most probable path over time: it waits at minima and saddles."""
    figure, axes = half(height=4.2)
    axes.plot(likely.times, jax.vmap(mueller_brown)(likely.path), color=theme.second)
    axes.set_xlabel("time")
    axes.set_title("Energy on the way")
    return figure


def check(name: str, residual: float, tolerance: float, why: str) -> dict:
    """A row of the report's audit."""
    verdict = "passed" if residual <= tolerance else "FAILED"
    return dict(name=name, residual=residual, tolerance=tolerance, verdict=verdict, why=why)


def report(place: Path) -> Record:
    """The three beside one another, each held against what is known of it."""
    began = time.perf_counter()
    slide, fast, slow = brachistochrone()
    x, found, true = learned_lagrangian()
    curve, likely = crossing()
    angle = brentq(lambda a: (a - np.sin(a)) / (1 - np.cos(a)) - 1.0 / 0.6, 0.1, 6.0)
    cycloid = angle * np.sqrt(0.6 / (1 - np.cos(angle)) / GRAVITY)
    # Müller and Brown's stationary values: what is climbed from the first minimum to the last.
    climbed = (146.700 - 40.665) + (80.768 - 72.249)
    checks = (
        check("cycloid", abs(fast - cycloid), 1e-7, "time of the slide against the exact one"),
        check("learned potential", float(np.abs(found - true).max()), 0.03,
              "largest error of V, learned from accelerations with 2 % noise"),
        check("saddle", float(np.abs(curve.saddle - np.array([-0.822, 0.624])).max()), 1e-3,
              "against the published place"),
        check("action of the crossing", abs(float(likely.action) - climbed), 0.01,
              "in a long time S is what is climbed"),
        check("least action", float(likely.morse_index), 0.0, "Morse index of the crossing"),
    )  # fmt: skip
    passed = all(row["verdict"] == "passed" for row in checks)
    pictures = (
        Picture("slide", "The fastest slide.", "The slide of least time, a cycloid.",
                lambda theme: slide_figure(slide, fast, slow, theme=theme)),
        Picture("learned", "Potential learned and true.", "A network inside a Lagrangian.",
                lambda theme: learned_figure(x, found, true, theme=theme)),
        Picture("crossing", "The crossing over the contours of the energy.",
                "Minimum energy path (grey) and the most probable path in the given time.",
                lambda theme: crossing_figure(curve, likely, theme=theme)),
        Picture("heights", "Energy of the crossing over time.",
                "Most of the time is spent at minima and saddles.",
                lambda theme: heights_figure(likely, theme=theme)),
    )  # fmt: skip
    record = Record(
        title="Stationary action three times",
        passed=passed,
        verdict="audit passed" if passed else "audit failed",
        facts=(
            ("slide", f"{fast:.6f} s"),
            ("straight", f"{slow:.6f} s"),
            ("barrier", f"{curve.barrier:.3f}"),
            ("action", f"{float(likely.action):.3f}"),
            ("seconds", f"{time.perf_counter() - began:.1f}"),
        ),
        pictures=pictures,
        checks=checks,
        spec='program = "examples/mechanics.py"\n',
        provenance=(("command", "python examples/mechanics.py"), ("steepest", st.__version__)),
        command="python examples/mechanics.py",
    )
    with new_folder(check_place(place)) as scratch:
        write_page(scratch, record)
    return record


if __name__ == "__main__":
    made = report(Path(__file__).parent / "runs" / "mechanics")
    for row in made.checks:
        print(f"{row['name']:<24} {row['residual']:.2e}  {row['verdict']}")
    print("examples/runs/mechanics/report.html")
