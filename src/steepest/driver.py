"""The driver: compiled chunks of steps, the host in between.

One compiled function advances any number of saves of any length (the loop bounds are traced, see
`compiled`), so a run compiles once, however it is cut into chunks; random numbers depend on (seed,
step) alone. Where an argument is being differentiated the same function is traced whole.
"""

from __future__ import annotations

import dataclasses
import math
import time as clock
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from . import devices, tree
from .checkpoint import Checkpoint, current
from .chunks import Run
from .errors import ArgumentError, Diverged, NotConverged
from .flow import AbstractFlow
from .identity import remembered
from .ledger import Ledger
from .random import Randomness
from .schemes import AbstractScheme
from .states.points import is_ensemble
from .trajectory import Trajectory

CHOICE = (
    '; or choose on_divergence (divergence in the [run] of a spec): "stop" keeps what is good, '
    'which is in error.trajectory, "halve" takes half the step'
)


def solve(
    flow: AbstractFlow,
    state: Any,
    *,
    scheme: AbstractScheme,
    time: float | None = None,
    steps: int | None = None,
    key: Any = None,
    save_every: int = 1,
    progress: bool = False,
    ledger: str = "steps",
    start: float = 0.0,
    mesh: Any = None,
    checkpoint: Checkpoint | None = None,
    on_divergence: str = "raise",
    seconds: float | None = None,
) -> Trajectory:
    """Run `flow` from `state` by `scheme`; returns the Trajectory with its ledger.

    Exactly one of `time` (a multiple of the step) and `steps` says how far; an adaptive scheme
    needs `time`, and `steps` then counts ledger intervals (default 100). Every `save_every` steps
    the state and the ledger are kept, beginning with the initial state. `key` is needed by noisy
    flows. `ledger="steps"` accumulates heat and dissipation at every step, `"saves"` only looks at
    F at saves (the balance is then not judged). `progress` shows a bar; Ctrl-C returns what is
    done. `start` is the initial time of schedules. `mesh`: a `jax.sharding.Mesh` with one axis,
    among whose devices the particles are shared out; where they interact they travel round; of one
    point it is the rows of an `EmpiricalRisk` that are shared out. The numbers are those of one
    device, save for the order of sums (over particles, over rows). (Devices made of one processor
    need threads to spare: set NPROC=32 in the environment, or XLA's collectives may wait for ever.)

    `checkpoint`: a `Checkpoint`, from which the same call goes on, to the same bits, after a kill.
    `on_divergence`, when numbers stop being finite: "raise" Diverged, "stop" with what is good (the
    trajectory's `ending` says so), or "halve" the step, from the save on where F began its last
    rise, as the ledger's column `step` tells; an adaptive scheme has no step to halve, and raises.
    `seconds`: of wall clock, compilation included, after which the run ends at its last save, with
    `ending` "out of time"; with a checkpoint the same call goes on from there.

    A `Particles` state under a flow of parameters is an ensemble of independent copies.
    Differentiable in the arrays inside `flow` and `state`. Raises ArgumentError before anything
    runs, Diverged (with what is still good) when numbers stop being finite, NotConverged when an
    inner problem misses its tolerance, Terminated after SIGTERM where there is a checkpoint.
    """
    if on_divergence not in ("raise", "stop", "halve"):
        raise ArgumentError("on_divergence", repr(on_divergence), "'raise', 'stop' or 'halve'")
    if not (checkpoint is None or isinstance(checkpoint, Checkpoint)):
        raise ArgumentError("checkpoint", type(checkpoint).__name__, "Checkpoint(folder)")
    if not (seconds is None or (isinstance(seconds, (int, float)) and seconds > 0)):
        raise ArgumentError("seconds", seconds, "a positive number of seconds, or None")
    deadline = math.inf if seconds is None else clock.monotonic() + seconds
    length = (time, steps, save_every)
    run, state, steps, traced = prepared(flow, state, scheme, length, key, ledger, start, mesh)
    halve = on_divergence == "halve" and scheme.step is not None
    bound, scheme = run.flow, run.scheme
    first = None if traced else run.begin(state)
    if first is None:
        (times, states, rows), ending = run.trace(state, steps), ""
    else:
        place = current() if checkpoint is None else checkpoint
        options = (progress, place, halve, deadline)
        (times, states, rows), ending = run.host(state, first, steps, *options)
    book = Ledger.assemble(bound, scheme, times, rows)
    trajectory = Trajectory(
        times, states, book, flow, scheme, save_every, ledger == "steps", ending
    )
    if first is not None:
        _check(trajectory, ending, on_divergence, save_every)
    return trajectory


def prepared(
    flow: Any, state: Any, scheme: Any, length: Any, key: Any, ledger: str, start: float, mesh: Any
) -> tuple[Run, Any, int, bool]:
    """(run, state, steps, whether any of it is traced) of what `solve` was given; checked.

    `length`: (time, steps, save_every). Raises ArgumentError.
    """
    if not isinstance(flow, AbstractFlow):
        raise ArgumentError("flow", type(flow).__name__, "a Flow(functional, geometry, noise)")
    if not isinstance(scheme, AbstractScheme):
        raise ArgumentError("scheme", type(scheme).__name__, "e.g. Euler(0.1)")
    if ledger not in ("steps", "saves"):
        raise ArgumentError("ledger", repr(ledger), "'steps' or 'saves'")
    state, bound, traced = _fitted(flow, scheme, state)
    bound = flow if bound is None else bound
    time, steps, save_every = length
    scheme, steps = _plan(scheme, time, steps)
    if not isinstance(save_every, int) or not 1 <= save_every <= steps:
        raise ArgumentError("save_every", save_every, f"an integer between 1 and steps = {steps}")
    if steps % save_every:
        raise ArgumentError(
            "save_every", save_every, f"it must divide steps = {steps}, so that the end is saved"
        )
    if bound.noisy and key is None:
        raise ArgumentError("key", None, "this flow is noisy: pass key=jax.random.key(seed)")
    zero: Any = np.zeros((), np.uint32)
    randomness = Randomness(zero, zero) if key is None else Randomness.from_key(key)
    mesh = None if mesh is None else devices.line(mesh)
    state = _shared_out(flow, state, mesh)
    return Run(bound, scheme, randomness, start, save_every, ledger, mesh), state, steps, traced


@remembered
def _fitted(flow: Any, scheme: Any, state: Any) -> tuple[Any, Any, bool]:
    """The state as floats, the flow bound to it (None: itself), whether any is traced; checked."""
    state = tree.as_float(state)
    traced = any(isinstance(x, Tracer) for x in jax.tree.leaves((flow, scheme, state)))
    if not traced:
        _check_finite(state)
    bound = flow.bind(state)
    scheme.check(bound, state)
    return state, None if bound is flow else bound, traced


def _plan(scheme: Any, time: float | None, steps: int | None) -> tuple[Any, int]:
    """The scheme with its step, and the number of steps."""
    if steps is not None and not (isinstance(steps, (int, np.integer)) and 1 <= steps < 2**32):
        raise ArgumentError("steps", steps, "an integer between 1 and 2^32 - 1")
    if time is not None and not (math.isfinite(time) and time > 0):
        raise ArgumentError("time", time, "a positive finite number")
    if scheme.step is None:
        if time is None:
            raise ArgumentError("time", None, f"{scheme.name} chooses its own steps: give time=")
        steps = 100 if steps is None else int(steps)
        return dataclasses.replace(scheme, step=time / steps), steps
    if (time is None) == (steps is None):
        raise ArgumentError("time, steps", (time, steps), "give exactly one of them")
    if steps is None:
        assert time is not None
        count = time / float(scheme.step)
        steps = round(count)
        if steps < 1 or abs(count - steps) > 1e-6 * count:
            near = time / max(1, math.ceil(count))
            raise ArgumentError(
                "time", time, f"not a multiple of step = {scheme.step:g}; try step = {near:.6g}"
            )
    return scheme, int(steps)


def _check_finite(state: Any) -> None:
    if tree.is_finite(state):
        return
    if is_ensemble(state) and tree.is_finite(state.positions):
        lost = int(jnp.sum(~jnp.isfinite(state.log_weights)))
        given = f"log_weights that are NaN or infinite, {lost} of {state.count}"
        raise ArgumentError("state", given, "leave out particles without mass: none can gain any")
    raise ArgumentError("state", "NaN or infinite values", "start from finite numbers")


def _shared_out(flow: AbstractFlow, state: Any, mesh: Any) -> Any:
    """The particles over the devices of a mesh; a point on each of them, for rows of data."""
    if mesh is None:
        return state
    count = mesh.devices.size
    if not is_ensemble(state):
        if not any(getattr(part.functional, "has_rows", False) for part in flow.parts):
            given = type(state).__name__
            raise ArgumentError("mesh", given, "a mesh shares out Particles, or rows of data")
    elif state.count % count:
        given = f"{state.count} particles on {count} devices"
        raise ArgumentError("mesh", given, "a number of particles that the devices divide")
    return devices.shared_out(state, mesh, cut=is_ensemble(state))


def _check(trajectory: Trajectory, ending: str, on_divergence: str, save_every: int) -> None:
    """Raises Diverged or NotConverged, with what is good of the trajectory."""
    if ending == "diverged" and on_divergence != "stop":
        raise Diverged(
            "the state or its functional is not finite",
            float(trajectory.times[-1]),
            (len(trajectory) - 1) * save_every,
            _remedy(trajectory) + CHOICE,
            trajectory,
        )
    residual = trajectory.ledger.residual
    if residual is not None and np.nanmax(residual) > 1.0:
        where = int(np.argmax(residual > 1.0))
        when = f"before time {trajectory.times[where]:.6g}"
        problem = f"minimizing movement: the inner problem {when}"
        if np.isinf(residual[where]):
            raise NotConverged(
                f"{problem} was not solved: its iteration came to rest elsewhere, or the map that "
                "it found is not optimal; take another step size, a finer grid or a smoother "
                "start, or FiniteVolume(step), which runs the same flow from any density"
            )
        raise NotConverged(
            f"{problem} missed its tolerance by a factor {residual[where]:.3g}; "
            "raise max_iterations or tolerance, or take a smaller step"
        )


def _remedy(trajectory: Trajectory) -> str:
    """A smaller step, and how small it has to be where that can be told."""
    found = trajectory.stiffness()
    if found is None or not found.ratio > 1.0:
        return "take a smaller step"
    return f"take a smaller step: at the start the longest stable one is {found.longest:.3g}"
