"""The atlas: every known algorithm run on one problem and audited, row by row (section 7.6).

A row that raises says what it raised, and one that has nothing to do with the problem says why;
none is left out.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .audit import audit
from .audit.report import Audit
from .driver import solve
from .errors import ArgumentError, Terminated
from .registry import ALGORITHMS, Algorithm, OwnSetting, Setting, card
from .states import Particles
from .states.points import is_ensemble, is_measure
from .trajectory import Trajectory

COPIES = 256
STEPS, SAVE_EVERY = 400, 4


@dataclasses.dataclass(frozen=True)
class Row:
    """One algorithm: its structure card, its run's functional over time, and its audit.

    `error`: what was raised, where something was; `reason`: why it does not apply to the problem.
    `run`, `audit`, `times` and `values` are then empty. `remark`: on what of the problem it ran,
    where that is not the whole.
    """

    algorithm: Algorithm
    card: dict[str, str]
    audit: Audit | None
    times: np.ndarray
    values: np.ndarray
    seconds: float
    error: str = ""
    reason: str = ""
    remark: str = ""
    run: Trajectory | None = None

    @property
    def verdict(self) -> str:
        """`passed`, `FAILED`, `not judged` (no check could decide), `not applicable`, `error`."""
        if self.reason:
            return "not applicable"
        if self.audit is None:
            return "error"
        if all(check.passed is None for check in self.audit.checks):
            return "not judged"
        return "passed" if self.audit.passed else "FAILED"

    @property
    def held(self) -> str:
        """How many of the checks that could be judged hold."""
        checks = () if self.audit is None else self.audit.checks
        judged = [check.passed for check in checks if check.passed is not None]
        return f"{sum(judged)} of {len(judged)}"


def atlas(
    setting: Setting | None = None,
    algorithms: Iterable[Algorithm] = ALGORITHMS,
    *,
    key: Any = None,
    steps: int = STEPS,
) -> Iterator[Row]:
    """Run and audit each algorithm on `setting`; yields a `Row` as soon as it is done.

    `setting`: by default the registry's small problem; `OwnSetting.of(energy, start)` is yours.
    Noisy flows of a point run as `COPIES` independent chains. `steps`: a multiple of `SAVE_EVERY`.
    """
    setting = Setting.small(particles=64, cells=64) if setting is None else setting
    key = jax.random.key(0) if key is None else key
    for number, algorithm in enumerate(algorithms):
        yield _row(algorithm, setting, jax.random.fold_in(key, number), steps)


def _row(algorithm: Algorithm, setting: Setting, key: Any, steps: int) -> Row:
    began, none = time.monotonic(), np.zeros(0)
    own, words, remark = isinstance(setting, OwnSetting), {}, ""
    try:
        if isinstance(setting, OwnSetting):
            (flow, scheme, state), said = setting.compose(algorithm)
            remark = ", ".join(said)
        else:
            flow, scheme, state = algorithm.compose(setting)
        words = card(flow, scheme, state)
        if flow.noisy and not is_measure(state):
            state = copies(state)
        run = solve(flow, state, scheme=scheme, steps=steps, key=key, save_every=SAVE_EVERY)
        found = audit(run)
        columns = run.ledger.columns()
        times, values = (np.asarray(columns[name], float) for name in ("time", "functional"))
        seconds = time.monotonic() - began
        return Row(algorithm, words, found, times, values, seconds, remark=remark, run=run)
    except Terminated:
        raise
    except Exception as error:  # of whatever kind: a row tells what it raised
        seconds = time.monotonic() - began
        row = Row(algorithm, words, None, none, none, seconds, remark=remark)
        if own and isinstance(error, ArgumentError):
            reason = error.remedy if error.argument == "problem" else str(error)
            return dataclasses.replace(row, reason=reason)
        return dataclasses.replace(row, error=f"{type(error).__name__}: {error}")


def copies(state: Any) -> Any:
    """The point `COPIES` times, as an ensemble of independent chains."""
    if is_ensemble(state):
        return state
    wide = lambda x: jnp.broadcast_to(x, (COPIES, *jnp.shape(x)))  # noqa: E731
    return Particles.from_positions(jax.tree.map(wide, state))
