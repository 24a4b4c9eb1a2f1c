"""Geometries side by side: one loss, one start, one budget (section 7.1).

Every contender is an optax transformation run by `solve` under the ledger; so what it gained is
known step by step, and set against what it cost.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import math
import time as clock
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
import optax

from .. import tree
from ..driver import solve
from ..errors import ArgumentError, Diverged
from ..flow import Flow
from ..functionals import AbstractFunctional, Energy
from ..geometries import AbstractGeometry, Euclidean
from ..noise import Minibatch
from .scheme import from_optax
from .transformation import as_optax

RATES = (1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0)
SAVES = 50


@dataclasses.dataclass(frozen=True)
class Curve:
    """One contender at its best learning rate.

    `gradients`: full gradients or their equivalents at each save; `seconds`: without compilation;
    `loss` and `dissipated` at the saves. `tried`: final loss at every learning rate (infinite where
    it diverged).
    """

    name: str
    learning_rate: float
    gradients: np.ndarray
    seconds: np.ndarray
    loss: np.ndarray
    dissipated: np.ndarray
    compile_seconds: float
    tried: dict[float, float]

    def reach(self, loss: float) -> tuple[float, float]:
        """(gradients, seconds) at which the loss first is below; infinite where it never is."""
        below = np.nonzero(self.loss <= loss)[0]
        if not len(below):
            return math.inf, math.inf
        return float(self.gradients[below[0]]), float(self.seconds[below[0]])


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The curves of all contenders, best final loss first."""

    curves: tuple[Curve, ...]
    budget: str

    def __getitem__(self, name: str) -> Curve:
        return next(curve for curve in self.curves if curve.name == name)

    def rows(self) -> list[dict[str, Any]]:
        """The table, a dictionary a contender."""
        rows = []
        for curve in self.curves:
            fallen = float(curve.loss[0] - curve.loss[-1]) if len(curve.loss) > 1 else math.nan
            rows.append(
                {
                    "geometry": curve.name,
                    "rate": curve.learning_rate,
                    "loss": float(curve.loss[-1]),
                    "dissipated": float(curve.dissipated[-1]),
                    "per gradient": fallen / max(float(curve.gradients[-1]), 1.0),
                    "gradients": float(curve.gradients[-1]),
                    "seconds": float(curve.seconds[-1]),
                    "compile": curve.compile_seconds,
                }
            )
        return rows

    def to_csv(self) -> str:
        """The curves: name, gradients, seconds, loss, dissipated."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["geometry", "gradients", "seconds", "loss", "dissipated"])
        for c in self.curves:
            for row in zip(c.gradients, c.seconds, c.loss, c.dissipated, strict=True):
                writer.writerow([c.name, *(f"{value:.8g}" for value in row)])
        return out.getvalue()

    def plot(self, **options: Any) -> Any:
        """The losses against gradients and against seconds, a matplotlib Figure."""
        from ..figures import comparison_figure

        return comparison_figure(self.curves, **options)

    def __str__(self) -> str:
        width = max(8, *(len(curve.name) for curve in self.curves))
        lines = [
            f"{'geometry':<{width}}  {'rate':>8}  {'loss':>10}  {'dissipated':>10}  "
            f"{'gradients':>9}  {'seconds':>8}  {'compile':>7}"
        ]
        for row in self.rows():
            lines.append(
                f"{row['geometry']:<{width}}  {row['rate']:>8.3g}  {row['loss']:>10.4g}  "
                f"{row['dissipated']:>10.4g}  {row['gradients']:>9.0f}  {row['seconds']:>8.3g}  "
                f"{row['compile']:>7.2f}"
            )
        return "\n".join([*lines, f"budget for each: {self.budget}; learning rates tuned"])


def compare_geometries(
    risk: AbstractFunctional | Any,
    theta: Any,
    geometries: Mapping[str, Any] | Sequence[Any],
    budget: int | None = 1000,
    *,
    seconds: float | None = None,
    rates: Sequence[float] | Mapping[str, Sequence[float]] = RATES,
    key: Any = None,
) -> Comparison:
    """Train `theta` on `risk` under each geometry, each at the best of the learning rates `rates`.

    `geometries`: a mapping name -> contender, or a sequence. A contender is a geometry (or a pytree
    prefix of them), or a function learning_rate -> optax transformation. `budget`: gradients for
    each run, where a Fisher metric's products count as the gradients they cost; or `seconds` of run
    time without compilation, kept to within a step or two. The rate is chosen by the final loss. A
    risk with `batch_size` is trained on minibatches, a gradient then being that of a batch.

    Raises ArgumentError for an empty list, a budget below ten gradients, or a contender that fits
    no parameters; a rate that diverges counts as an infinite loss.
    """
    if not isinstance(risk, AbstractFunctional):
        risk = Energy(risk)
    contenders = _named(geometries)
    if seconds is None and (budget is None or budget < 10):
        raise ArgumentError("budget", budget, "at least 10 gradients, or seconds=")
    theta = tree.as_float(theta, "theta")
    key = jax.random.key(0) if key is None else key
    curves = []
    for name, make in contenders.items():
        own = rates[name] if isinstance(rates, Mapping) else rates
        runs = [_run(name, make, rate, risk, theta, budget, seconds, key) for rate in own]
        tried = {curve.learning_rate: float(curve.loss[-1]) for curve in runs}
        best = min(runs, key=lambda curve: curve.loss[-1])
        # The rates share a program, compiled in the first run.
        compiled = max(curve.compile_seconds for curve in runs)
        curves.append(dataclasses.replace(best, tried=tried, compile_seconds=compiled))
    curves.sort(key=lambda curve: curve.loss[-1])
    said = f"{budget} gradients" if seconds is None else f"{seconds:g} seconds"
    return Comparison(tuple(curves), said)


def _named(geometries: Any) -> dict[str, Any]:
    if not isinstance(geometries, Mapping):
        geometries = {getattr(g, "name", f"contender {i}"): g for i, g in enumerate(geometries)}
    if not geometries:
        raise ArgumentError("geometries", "none", "at least one")
    made = {}
    for name, given in geometries.items():
        if isinstance(given, AbstractGeometry) or not callable(given):
            made[name] = _Maker(given)
        else:
            made[name] = given
    return made


@dataclasses.dataclass(frozen=True)
class _Maker:
    """learning rate -> transformation, of a geometry."""

    geometry: Any

    def __call__(self, rate: float) -> Any:
        return as_optax(self.geometry, rate)

    @property
    def cost(self) -> float:
        """Gradients an update costs beyond its own."""
        return float(getattr(self.geometry, "cost", 0.0))


def _run(
    name: str, make: Any, rate: float, risk: Any, theta: Any, budget: Any, seconds: Any, key: Any
) -> Curve:
    transform = make(rate)
    if not isinstance(transform, optax.GradientTransformation):
        raise ArgumentError(name, type(transform).__name__, "rate -> optax.GradientTransformation")
    price = 1.0 + getattr(make, "cost", 0.0)
    flow = Flow(risk, Euclidean(), Minibatch() if risk.subsamples else None)
    scheme = from_optax(make if _traceable(make, rate, theta) else transform, rate)

    def run(steps: int, every: int, limit: float | None = None) -> tuple[Any, float]:
        before = clock.perf_counter()
        done = solve(
            flow, theta, scheme=scheme, steps=steps, save_every=every, key=key, seconds=limit
        )
        return done, clock.perf_counter() - before

    first = 0.0
    try:
        if seconds is None:
            steps = max(2, int(budget / price))
            every = max(1, steps // SAVES)
            _, first = run(every, every)
            done, taken = run(steps - steps % every, every)
        else:
            done, taken, first = _within(run, seconds)
    except Diverged:
        none = np.array([0.0]), np.array([0.0]), np.array([np.inf]), np.array([0.0])
        return Curve(name, rate, *none, first, {})
    share = np.arange(len(done)) * done.save_every
    pace = taken / max(share[-1], 1)
    return Curve(
        name,
        rate,
        share * price,
        share * pace,
        np.asarray(done.ledger.functional, float),
        np.asarray(done.ledger.dissipated, float),
        first,
        {},
    )


def _within(run: Any, seconds: float) -> tuple[Any, float, float]:
    """(trajectory, its seconds, those of compilation) of a run that spends that time and no more.

    Its length is guessed from the pace of a shorter one, a little too long, and its end is the
    clock's. All have as many saves, and an even interval: they share one program.
    """
    every = 2
    _, first = run(SAVES * every, every, 1e-9)
    done, taken = run(SAVES * every, every, seconds)
    # The pace of a longer run: a short one's seconds are not those of its steps.
    while not done.ending and taken < seconds / 4:
        every *= 4
        done, taken = run(SAVES * every, every, seconds)
    if not done.ending:
        every = 2 * math.ceil(0.6 * every * seconds / taken)
        done, taken = run(SAVES * every, every, seconds)
    return done, taken, first


def _traceable(make: Any, rate: float, theta: Any) -> bool:
    """Whether `make` takes a traced rate, so that all rates are one program."""
    try:
        jax.eval_shape(lambda r: make(r).init(theta), rate)
    except (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError):
        return False
    return True
