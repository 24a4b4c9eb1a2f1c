"""Conservative and dissipative dynamics of one energy, side by side: section 4.5 as measured."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from .. import tree
from ..driver import solve
from ..flow import Flow
from ..functionals import AbstractFunctional, Energy
from ..geometries import Euclidean, Symplectic
from ..schemes import RungeKutta
from ..states import Phase
from .action import first_variation
from .flow_map import FlowMap
from .lagrangian import Lagrangian

SAVES = 400


@dataclasses.dataclass(frozen=True)
class Contrast:
    """The rows of section 4.5 as measured: (question, conservative, dissipative)."""

    rows: tuple[tuple[str, str, str], ...]
    numbers: dict[str, tuple[float, float]]

    def __str__(self) -> str:
        head = ("", "conservative", "dissipative")
        table = [head, *self.rows]
        width = [max(len(row[i]) for row in table) for i in range(3)]
        return "\n".join(
            "  ".join(text.ljust(w) for text, w in zip(row, width, strict=True)).rstrip()
            for row in table
        )


def contrast(energy: Callable[[Any], Any], start: Any, time: float) -> Contrast:
    """Run mechanics and gradient flow of the same energy from the same point at rest, and measure.

    `numbers`: "change of F" (largest |H - H(0)|; E(0) - E(t)), "largest rise of F", "Euler-Lagrange
    residual" of each path (the first variation of the discrete action, zero to second order in
    time/400 where the action is stationary), "volume" |det D phi|, "form"
    (|M^T J M - J|; asymmetry of K, both zero), and "way back" (distance from the start after
    running on with the velocity reversed, or with the clock's sign kept).
    """
    functional = energy if isinstance(energy, AbstractFunctional) else Energy(energy)
    start = tree.as_float(start, "start")
    scheme = RungeKutta("dopri8", rtol=1e-11, atol=1e-11)
    still = Phase.at_rest(start)
    mechanics, descent = Flow(functional, Symplectic()), Flow(functional, Euclidean())
    one = solve(mechanics, still, scheme=scheme, time=time, steps=SAVES)
    two = solve(descent, start, scheme=scheme, time=time, steps=SAVES)
    maps = FlowMap(mechanics, rtol=1e-11, atol=1e-11), FlowMap(descent, rtol=1e-11, atol=1e-11)
    moved = maps[0].with_tangent(still, time), maps[1].with_tangent(start, time)
    tangents = moved[0][1], moved[1][1]
    volume = tuple(float(jnp.abs(jnp.linalg.det(m))) for m in tangents)
    n = tree.size(start)
    form = jnp.eye(2 * n)
    form = jnp.concatenate([form[n:], -form[:n]])
    bent = float(jnp.max(jnp.abs(tangents[0].T @ form @ tangents[0] - form)))
    fall = tuple(np.asarray(run.ledger.functional, float) for run in (one, two))
    lagrangian = Lagrangian(lambda q, v: 0.5 * tree.dot(v, v) - functional(q))
    residual = (
        _residual(lagrangian, one, one.states.position),
        _residual(lagrangian, two, two.states),
    )
    end = one.final
    turned = Phase(end.position, tree.scale(-1.0, end.momentum))
    back = maps[0].with_tangent(turned, time)[0].position
    again = maps[1].with_tangent(two.final, time)[0]
    away = tuple(float(jnp.linalg.norm(ravel_pytree(tree.sub(x, start))[0])) for x in (back, again))
    change = (float(np.abs(fall[0] - fall[0][0]).max()), float(fall[1][0] - fall[1][-1]))
    rise = tuple(float(max(np.diff(f).max(), 0.0)) for f in fall)
    numbers = {
        "change of F": change,
        "largest rise of F": (rise[0], rise[1]),
        "Euler-Lagrange residual": residual,
        "volume": (volume[0], volume[1]),
        "form": (bent, _asymmetry(descent.geometry, start)),
        "way back": (away[0], away[1]),
    }
    rows = (
        ("what is varied", "the action of trajectories", "the energy of states"),
        ("Euler-Lagrange residual", f"{residual[0]:.1e}", f"{residual[1]:.1e}"),
        ("order in time", "second: position and velocity", "first: position"),
        ("energy", f"H changes by {change[0]:.1e}", f"E falls by {change[1]:.3g}"),
        ("structure", f"symplectic to {bent:.1e}", "metric, K = K^T"),
        ("phase volume times", f"{volume[0]:.6g}", f"{volume[1]:.3g}"),
        ("run back, distance to the start", f"{away[0]:.1e}", f"{away[1]:.3g}"),
    )
    return Contrast(rows, numbers)


def _residual(lagrangian: Any, run: Any, path: Any) -> float:
    """The largest first variation of the discrete action per step, relative to |dL/dq|."""
    times = jnp.asarray(run.times, tree.dtype(path))
    slope = first_variation(lagrangian, path, times)
    still = lambda q: tree.norm_sq(  # noqa: E731
        jax.grad(lagrangian.__call__)(q, tree.zeros_like(q))
    )
    off = jnp.max(jax.vmap(tree.norm_sq)(slope)) / (times[1] - times[0]) ** 2
    return float(jnp.sqrt(off / jnp.max(jax.vmap(still)(path))))


def _asymmetry(geometry: Any, state: Any) -> float:
    """|<a, K b> - <b, K a>| of two covectors."""
    generator = np.random.default_rng(0)
    a, b = (
        jax.tree.map(lambda x: jnp.asarray(generator.standard_normal(x.shape), x.dtype), state)
        for _ in range(2)
    )
    gap = tree.dot(a, geometry.sharp(state, b)) - tree.dot(b, geometry.sharp(state, a))
    return float(jnp.abs(gap))
