"""Integrators of Hamilton's equations: conservative flows, one word or one equation a step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from ..flow import Flow
from ..functionals import Energy, Hamiltonian
from ..geometries import Holonomic, Symplectic
from ..schemes import (
    DiscreteGradient,
    ForestRuth,
    Leapfrog,
    McLachlan,
    Rattle,
    Splitting,
    Variational,
    Yoshida,
)
from ..states import Phase
from .algorithm import Algorithm, Composed, Setting
from .equations import newton

STEP = 0.1


def motion(scheme: Any) -> Any:
    """H(q, p) = E(q) + |p|^2 / 2 under the symplectic geometry."""

    def compose(setting: Setting) -> Composed:
        start = Phase(jnp.asarray(setting.start), jnp.asarray(setting.momentum))
        return Composed(Flow(setting.energy, Symplectic()), scheme, start)

    return compose


def stages(word: str, fractions: Sequence[float]) -> Any:
    """Drifts q += c h p ("q") and kicks p -= c h grad E(q) ("p"), in the order of `word`."""

    def update(setting: Setting, state: Any, randomness: Any) -> tuple[Any, ...]:
        q, p = np.asarray(state.position), np.asarray(state.momentum)
        for letter, fraction in zip(word, fractions, strict=True):
            if letter == "q":
                q = q + fraction * STEP * p
            else:
                p = p - fraction * STEP * setting.gradient(q)
        return q, p

    return update


def _midpoint(setting: Setting, state: Any, randomness: Any) -> tuple[Any, ...]:
    q, p = np.asarray(state.position), np.asarray(state.momentum)
    one = np.eye(2)

    def equation(z: Any) -> Any:
        middle, speed = 0.5 * (q + z[:2]), 0.5 * (p + z[2:])
        return np.concatenate(
            [z[:2] - q - STEP * speed, z[2:] - p + STEP * setting.gradient(middle)]
        )

    def slope(z: Any) -> Any:
        bend = 0.5 * STEP * setting.hessian(0.5 * (q + z[:2]))
        return np.block([[one, -0.5 * STEP * one], [bend, one]])

    found = newton(equation, slope, np.concatenate([q, p]))
    return found[:2], found[2:]


def _energy_keeping(setting: Setting, state: Any, randomness: Any) -> tuple[Any, ...]:
    x = np.concatenate([np.asarray(state.position), np.asarray(state.momentum)])

    def energy(z: Any) -> float:
        return float(setting.energy(z[:2])) + 0.5 * float(z[2:] @ z[2:])

    y = x
    for _ in range(200):
        moved, middle = y - x, 0.5 * (x + y)
        g = np.concatenate([setting.gradient(middle[:2]), middle[2:]])
        size = moved @ moved
        if size > 0:
            g = g + (energy(y) - energy(x) - g @ moved) * moved / size
        y = x + STEP * np.concatenate([g[2:], -g[:2]])
    return y[:2], y[2:]


def circle(q: Any) -> Any:
    """(|q|^2 - 1)/2, whose derivative is q."""
    return 0.5 * (jnp.sum(q**2) - 1.0)


def _on_circle(setting: Setting) -> Composed:
    start = Phase(*map(jnp.asarray, setting.on_sphere()))
    return Composed(
        Flow(Hamiltonian(Energy(setting.energy)), Holonomic(circle)), Rattle(STEP), start
    )


def _rattle(setting: Setting, state: Any, randomness: Any) -> tuple[Any, ...]:
    q, p = np.asarray(state.position), np.asarray(state.momentum)
    half = p - 0.5 * STEP * setting.gradient(q)
    # |q + h (half + mu q)|^2 = 1, and of its two roots the one that vanishes with h.
    free = q + STEP * half
    b = free @ q
    size = np.sqrt(b**2 - free @ free + 1.0) - b
    new = free + size * q
    p = half + size / STEP * q - 0.5 * STEP * setting.gradient(new)
    return new, p - (new @ p) * new


# Suzuki and Yoshida: s = 1/(2 - 2^(1/3)), 1 - 2 s, s.
OUTER = 1.0 / (2.0 - 2.0 ** (1.0 / 3.0))
INNER = 1.0 - 2.0 * OUTER
BETWEEN = 0.5 * (OUTER + INNER)
FOUR = (0.5 * OUTER, OUTER, BETWEEN, INNER, BETWEEN, OUTER, 0.5 * OUTER)
# McLachlan (1995), the second-order scheme of least error.
LEAST = 0.1931833275037836

ALGORITHMS = (
    Algorithm(
        "velocity Verlet (leapfrog)",
        "Verlet, Phys. Rev. 159 (1967) 98",
        motion(Leapfrog(STEP)),
        stages("pqp", (0.5, 1.0, 0.5)),
    ),
    Algorithm(
        "position Verlet",
        "Tuckerman, Berne and Martyna, J. Chem. Phys. 97 (1992) 1990",
        motion(Splitting(STEP, "ABA")),
        stages("qpq", (0.5, 1.0, 0.5)),
    ),
    Algorithm(
        "symplectic Euler",
        "de Vogelaere, report 4, University of Notre Dame (1956)",
        motion(Splitting(STEP, "BA")),
        stages("pq", (1.0, 1.0)),
    ),
    Algorithm(
        "Forest-Ruth",
        "Forest and Ruth, Physica D 43 (1990) 105",
        motion(ForestRuth(STEP)),
        stages("qpqpqpq", FOUR),
    ),
    Algorithm(
        "Yoshida's fourth order",
        "Yoshida, Phys. Lett. A 150 (1990) 262",
        motion(Yoshida(STEP)),
        stages("pqpqpqp", FOUR),
    ),
    Algorithm(
        "McLachlan's second order",
        "McLachlan, SIAM J. Sci. Comput. 16 (1995) 151",
        motion(McLachlan(STEP)),
        stages("qpqpq", (LEAST, 0.5, 1.0 - 2.0 * LEAST, 0.5, LEAST)),
    ),
    Algorithm(
        "implicit midpoint",
        "Hairer, Lubich and Wanner, Geometric Numerical Integration, 2nd ed. (2006)",
        motion(Variational(STEP)),
        _midpoint,
    ),
    Algorithm(
        "energy-conserving discrete gradient",
        "Gonzalez, J. Nonlinear Sci. 6 (1996) 449",
        motion(DiscreteGradient(STEP)),
        _energy_keeping,
    ),
    Algorithm("RATTLE", "Andersen, J. Comput. Phys. 52 (1983) 24", _on_circle, _rattle),
)
