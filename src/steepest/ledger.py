"""The ledger of a run: what F was, what was dissipated, what work was done, what should be
conserved.

Deterministic flows: F(0) - F(t) = integral of <dF, K dF> (eq. 35, 40). Noisy paths are Sekimoto's:
F(t) - F(0) = work - heat, where `dissipated` is the heat given to the bath. Accumulation is at
every step; entries are at saves, the first is the initial state. On an ensemble every column is the
mean over points, with its standard error.
Source: Sekimoto, Stochastic Energetics, Springer 2010, chapter 4.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import logsumexp

from . import tree
from .flow import AbstractFlow
from .schemes import AbstractScheme, Entry, Metropolis, MinimizingMovement
from .states import Density
from .states.points import average, each, is_ensemble, points, standard_error


class Totals(eqx.Module):
    """What accumulates on the device between saves; per point, where it is ever written.

    What a flow or scheme never writes is one zero: every array of a run is carried and handed out.
    """

    dissipated: Any
    work: Any
    first: Any
    accepted: Any
    diverged: Any
    violation: Any
    residual: Any

    @classmethod
    def start(cls, flow: AbstractFlow, scheme: AbstractScheme, state: Any, time: Any) -> Totals:
        """Zero everywhere, and the initial value of F."""
        first = flow.account(state, flow.per_point(state, time))
        zero = jnp.zeros_like(first)
        scalar = jnp.zeros((), zero.dtype)
        work = zero if flow.time_dependent else scalar
        taken = zero if scheme.proposes else scalar
        return cls(zero, work, first, taken, taken, scalar - jnp.inf, scalar)

    def add(self, entry: Entry, work: Any | None) -> Totals:
        """The totals after one more step."""
        return Totals(
            self.dissipated + entry.dissipated.astype(self.dissipated.dtype),
            self.work if work is None else self.work + work.astype(self.work.dtype),
            self.first,
            self.accepted
            if entry.accepted is None
            else self.accepted + entry.accepted.astype(self.accepted.dtype),
            self.diverged
            if entry.diverged is None
            else self.diverged + entry.diverged.astype(self.diverged.dtype),
            self.violation
            if entry.violation is None
            else jnp.maximum(self.violation, entry.violation.astype(self.violation.dtype)),
            self.residual
            if entry.residual is None
            else jnp.maximum(self.residual, entry.residual.astype(self.residual.dtype)),
        )

    def merge(self, interval: Totals) -> Totals:
        """These totals and those of one interval: two short sums round less than a long one."""
        return Totals(
            self.dissipated + interval.dissipated,
            self.work + interval.work,
            self.first,
            interval.accepted,  # rates over the interval
            interval.diverged,
            interval.violation,
            interval.residual,
        )

    def restart(self) -> Totals:
        """Zero for a new interval, which has no use for the first value."""
        zero = jax.tree.map(jnp.zeros_like, self)
        scalar = jnp.zeros((), self.first.dtype)
        return dataclasses.replace(zero, first=scalar, violation=scalar - jnp.inf)


def work_of_step(flow: AbstractFlow, old: Any, new: Any, time: Any, step: Any) -> Any | None:
    """Work of the protocol over a step, dF/dt at fixed state (trapezoidal); None without one."""
    if not flow.time_dependent:
        return None
    later = time + step
    at_old = flow.per_point(old, later) - flow.per_point(old, time)
    at_new = flow.per_point(new, later) - flow.per_point(new, time)
    return 0.5 * (flow.account(old, at_old) + flow.account(new, at_new))


def record(flow: AbstractFlow, state: Any, time: Any, totals: Totals, steps: Any) -> dict[str, Any]:
    """One row of the ledger, computed on the device."""
    values = flow.per_point(state, time)
    closure = flow.account(state, values) - totals.first - totals.work + totals.dissipated
    row: dict[str, Any] = {
        "functional": average(state, values),
        "functional_error": standard_error(state, values),
        "dissipation_rate": average(state, flow.rate_per_point(state, time)),
        "dissipated": average(state, totals.dissipated),
        "dissipated_error": standard_error(state, totals.dissipated),
        "work": average(state, totals.work),
        "work_error": standard_error(state, totals.work),
        "closure": average(state, closure),
        "closure_error": standard_error(state, closure),
        "acceptance": average(state, totals.accepted) / jnp.maximum(steps, 1),
        "divergence": average(state, totals.diverged) / jnp.maximum(steps, 1),
        "violation": totals.violation,
        "residual": totals.residual,
    }
    good = tree.all_finite(points(state)) & jnp.all(jnp.isfinite(totals.dissipated))
    row["finite"] = good & jnp.isfinite(row["functional"])
    if flow.time_dependent and jnp.ndim(totals.work):
        row["works"] = totals.work
    for name, fn in flow.invariants.items():
        row[f"conserved_{name}"] = average(state, each(fn, state)(points(state)))
    if is_ensemble(state) and state.log_weights is not None:
        row["mass"] = jnp.exp(jax.nn.logsumexp(state.log_weights))
    elif isinstance(state, Density):
        row |= {"mass": state.mass, "minimum": jnp.min(state.values)}
    return row


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("numbers", "others"),
    meta_fields=("names",),
)
@dataclasses.dataclass(frozen=True)
class Rows:
    """Rows of the ledger with their numbers side by side in one array.

    Each array that goes in or out of a compiled program has a price, and a row is many numbers.
    """

    names: tuple[str, ...]
    numbers: Any
    others: dict[str, Any]

    @classmethod
    def of(cls, row: dict[str, Any]) -> Rows:
        """One row; what is no number, or of another precision than F, is left beside."""
        kind = row["functional"].dtype
        plain = tuple(k for k, x in row.items() if jnp.ndim(x) == 0 and x.dtype == kind)
        others = {k: x for k, x in row.items() if k not in plain}
        return cls(plain, jnp.stack([row[k] for k in plain]), others)

    def columns(self, own: Any = lambda x: x) -> dict[str, Any]:
        """The rows (leading axes) by name; `own` brings each array where it is wanted."""
        numbers = own(self.numbers)
        named = {name: numbers[..., i] for i, name in enumerate(self.names)}
        return named | {name: own(x) for name, x in self.others.items()}


@dataclasses.dataclass(frozen=True)
class Ledger:
    """Columns of equal length, the first entry being the initial state (eq. 31, 34).

    `functional`: F; `dissipation_rate`: <dF, K dF>; `dissipated`: its integral, or the heat given
    to the bath; `work`: done by a protocol; `closure`: F(t) - F(0) - work + dissipated, which
    theory wants zero; `*_error`: standard errors over an ensemble (zero for one state);
    `acceptance`: over the last interval (of proposals, or the share of a step that was taken; else
    None), and `divergence`: the share of its proposals that were thrown out (None without
    Metropolis); `minimum`: the smallest value of a density; `conserved`: named columns that must
    not move; `step`: of the interval before, where it may have been halved; `works` (saves,
    particles): the work of a protocol on each particle of an ensemble, kept beside the columns.
    """

    times: np.ndarray
    functional: np.ndarray
    functional_error: np.ndarray
    dissipation_rate: np.ndarray
    dissipated: np.ndarray
    dissipated_error: np.ndarray
    work: np.ndarray
    closure: np.ndarray
    closure_error: np.ndarray
    conserved: dict[str, np.ndarray]
    acceptance: np.ndarray | None = None
    divergence: np.ndarray | None = None
    violation: np.ndarray | None = None
    residual: np.ndarray | None = None
    minimum: np.ndarray | None = None
    work_error: np.ndarray | None = None
    works: np.ndarray | None = None
    step: np.ndarray | None = None

    @property
    def heat(self) -> np.ndarray:
        """Energy given to the bath: the same column as `dissipated`."""
        return self.dissipated

    def free_energy_change(self, temperature: float = 1.0) -> np.ndarray:
        """-T log <exp(-W/T)> at each save: Jarzynski's estimate, for a start in equilibrium.

        NaN for a run without a protocol on an ensemble.
        """
        if self.works is None:
            return np.full(len(self.times), np.nan)
        scaled = -np.asarray(self.works, float) / temperature
        return -temperature * (logsumexp(scaled, axis=1) - np.log(scaled.shape[1]))

    def columns(self) -> dict[str, np.ndarray]:
        """Every column by name, for tables and CSV files."""
        plain = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name not in ("conserved", "works") and getattr(self, field.name) is not None
        }
        plain["time"] = plain.pop("times")
        order = ["time", *(name for name in plain if name != "time")]
        extra = {f"conserved_{name}": column for name, column in self.conserved.items()}
        return {name: plain[name] for name in order} | extra

    def to_xarray(self, attrs: dict[str, str] | None = None) -> Any:
        """The columns over time as an xarray Dataset."""
        import xarray

        columns = {name: np.asarray(column) for name, column in self.columns().items()}
        times = columns.pop("time")
        variables = {name: (("time",), column) for name, column in columns.items()}
        return xarray.Dataset(variables, coords={"time": times}, attrs=attrs)

    @classmethod
    def assemble(cls, flow: AbstractFlow, scheme: Any, times: Any, rows: dict[str, Any]) -> Ledger:
        """From the recorded rows of a run."""
        conserved = {}
        if not flow.noisy and all(not p.geometry.dissipative for p in flow.parts):
            conserved["energy"] = rows["functional"] - rows["work"]
        conserved |= {name: rows[f"conserved_{name}"] for name in flow.invariants}
        if "mass" in rows:
            conserved["mass"] = rows["mass"]
        names = {field.name for field in dataclasses.fields(cls)}
        kept = {name: column for name, column in rows.items() if name in names}
        if not flow.time_dependent:
            kept["work_error"] = None
        if not scheme.proposes:
            kept["acceptance"] = None
        if not isinstance(scheme, Metropolis):
            kept["divergence"] = None
        if not isinstance(scheme, MinimizingMovement):
            kept["violation"] = kept["residual"] = None
        return cls(times=times, conserved=conserved, **kept)
