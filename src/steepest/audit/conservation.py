"""Does the flow keep what it says it keeps, and is its step a symplectic map? (eq. 29)"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from .. import tree
from ..errors import ArgumentError
from ..random import Randomness
from ..states import Phase
from ..states.points import each, is_ensemble, points
from .context import Context
from .envelope import GROWTH, conservative, envelope
from .report import Check

SAMPLES, MOST_COORDINATES = 12, 64


def conservation_checks(context: Context) -> list[Check]:
    """Two checks for each invariant, and one for the geometry of a step."""
    checks = []
    for name, fn in context.flow.invariants.items():
        with jax.enable_x64(True):
            found = [_share(context.flow, fn, *pair) for pair in _sample(context)]
        shares, sizes = np.asarray(found, float).T
        checks += [_stationary(name, shares), _drift(context, name, float(sizes.max()))]
    return checks + _symplectic(context)


def _index(context: Context) -> np.ndarray:
    return np.unique(np.linspace(0, len(context.trajectory) - 1, SAMPLES).astype(int))


def _sample(context: Context) -> list[tuple[Any, Any]]:
    """States of a few saves and their times, in float64 arrays: one program for all."""
    double = lambda x: jnp.asarray(np.asarray(x, np.float64))  # noqa: E731
    return [
        (jax.tree.map(double, context.trajectory.at(int(i))), double(context.trajectory.times[i]))
        for i in _index(context)
    ]


def _stationary(name: str, shares: np.ndarray) -> Check:
    """|<dJ, velocity>| / (|dJ| |velocity|), which is zero where J is kept by the flow itself.

    Both factors err by round-off, amplified by the condition of what computes them; sqrt(eps) of
    float64 admits 1e8, and a function that is not kept errs by its own share.
    """
    why = "d/dt of it along the flow, relative to |dJ| |velocity|"
    return Check.compare(f"symmetry of {name}", float(shares.max()), 1.5e-8, why)


@eqx.filter_jit
def _share(flow: Any, fn: Any, state: Any, time: Any) -> Any:
    """(|<dJ, velocity>| / (|dJ| |velocity|), the scale |dJ| |x| of J, averaged over points)."""
    velocity = points(flow.slope(state, time)[1])
    change = each(jax.grad(fn), state)(points(state))
    size = jnp.sqrt(tree.norm_sq(change) * tree.norm_sq(velocity))
    share = jnp.abs(tree.dot(change, velocity)) / jnp.where(size > 0, size, 1.0)
    value = each(fn, state)(points(state))
    scale = jnp.sqrt(tree.norm_sq(change) * tree.norm_sq(points(state)))
    return share, scale / jnp.sqrt(1.0 * jnp.size(value)) + jnp.max(jnp.abs(value))


def _drift(context: Context, name: str, scale: float) -> Check:
    """The largest change over the run, against round-off and what single steps change.

    Round-off is a walk of one error a step, on the scale |dJ| |x|. Where the scheme does not keep
    J by itself, a single step from the saves changes it by an amount that is measured, and three
    times the sum of these is allowed. That cannot fail where the errors of steps only ever add up,
    so a symplectic scheme, whose errors do not (it keeps a J near by), is held to more once the
    motion has come back on itself: see `envelope`.
    """
    column = np.asarray(context.ledger.conserved[name], float)
    steps = []
    for i in _index(context):
        rows = context.single_step(int(i), float(context.trajectory.times[i]))
        before, after = (float(row[f"conserved_{name}"][0]) for row in rows)
        steps.append(after - before)
    tolerance = 50 * context.epsilon * np.sqrt(max(context.steps, 1)) * scale
    typical = float(np.mean(np.abs(np.asarray(steps))))
    if typical > 50 * np.finfo(np.float64).eps * scale:
        tolerance += 3 * context.steps * typical
    why = f"largest change over {context.steps} steps; one step changes it by {typical:.1e}"
    early = envelope(context, column)
    if early is not None and GROWTH * early < tolerance:
        tolerance = max(GROWTH * early, 50 * context.epsilon * np.sqrt(context.steps) * scale)
        why += f"; the first quarter of the run by {early:.1e}, which must not grow"
    residual = float(np.max(np.abs(column - column[0])))
    return Check.compare(f"conservation of {name}", residual, tolerance, why)


def symplectic_defect(
    flow: Any, scheme: Any, state: Any, time: Any = 0.0, factor: Any = 1.0
) -> Any:
    """max |M^T J M - factor J| of the derivative M of one step, at one `Phase`.

    `factor`: 1 of a conservative flow; exp(-gamma step / mass) with friction, where the step is
    conformally symplectic. Noise that is added moves every point alike and has no part in M.
    Raises ArgumentError for a state that is no `Phase`.
    """
    if not isinstance(state, Phase):
        raise ArgumentError("state", type(state).__name__, "a Phase: the form pairs q with p")
    flow = flow.bind(state)
    source = Randomness.from_key(jax.random.key(0)).at(jnp.uint32(0))
    flat, unravel = ravel_pytree(state)

    def move(x: Any) -> Any:
        start = unravel(x)
        memory = scheme.init(flow, start, time, source)
        return ravel_pytree(scheme.advance(flow, start, memory, time, scheme.step, source)[0])[0]

    matrix = jax.jacfwd(move)(flat)
    n = flat.size // 2
    form = jnp.eye(2 * n, dtype=flat.dtype)
    form = jnp.concatenate([form[n:], -form[:n]])
    return jnp.max(jnp.abs(matrix.T @ form @ matrix - factor * form)), jnp.max(jnp.abs(matrix))


def _symplectic(context: Context) -> list[Check]:
    """M^T J M = J to round-off, 2 d eps |M|^2 with a margin of 50, of schemes that say so.

    Of a flow of points, not of one that only acts on all particles together.
    """
    state = context.trajectory.final
    if any(part.geometry.on_measures for part in context.trajectory.flow.parts):
        return []
    point = jax.tree.map(lambda x: x[0], points(state)) if is_ensemble(state) else state
    symplectic = conservative(context) and context.scheme.symplectic
    if not (symplectic and isinstance(point, Phase)):
        return []
    if tree.size(point) > MOST_COORDINATES:
        return []
    worst, tolerance = 0.0, 0.0
    with jax.enable_x64(True):
        for sampled, time in _sample(context)[:: SAMPLES // 3]:
            if is_ensemble(sampled):
                sampled = jax.tree.map(lambda x: x[0], points(sampled))
            defect, size = _defect(context.trajectory.flow, context.scheme, sampled, time)
            worst = max(worst, float(defect))
            size = max(float(size), 1.0)
            tolerance = max(tolerance, 50 * tree.size(point) * np.finfo(float).eps * size**2)
    why = "M^T J M - J of the derivative M of a step"
    return [Check.compare("symplecticity", worst, tolerance, why)]


_defect = eqx.filter_jit(symplectic_defect)
