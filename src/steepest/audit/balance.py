"""Does the ledger close, and at the order of the scheme? (eq. 29, 31, 34-37, 40)

The tolerance of the balance is not chosen but measured: the scheme takes one step, alone, from a
few saved states at step, step/4 and step/16, and its defect F+ - F - work + dissipated is
extrapolated over the run; in float64, whatever the run used. A flow that is wrong (a gradient of
the wrong sign, a rate that is not <dF, K dF>) has a defect that does not vanish at the order of the
scheme, whatever its size.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from ..schemes import Euler, Metropolis
from ..schemes.base import scaled
from .context import Context
from .envelope import GROWTH, envelope
from .report import Check

SAMPLES, NOISY_SAMPLES = 10, 24
NEGLIGIBLE = 1e-3
EPSILON = float(np.finfo(np.float64).eps)


@dataclasses.dataclass
class Defects:
    """Of single steps: mean and root mean square over points, a column for each step size."""

    times: np.ndarray
    mean: np.ndarray
    rms: np.ndarray
    exchanged: np.ndarray


def balance_checks(context: Context) -> list[Check]:
    """The checks of F against what was dissipated, for the kind of flow at hand (eq. 31, 35)."""
    return _acceptance(context) + _closing(context)


def _acceptance(context: Context) -> list[Check]:
    """Does a Metropolis chain move? One proposal in ten is taken as the least."""
    if context.ledger.acceptance is None or not isinstance(context.scheme, Metropolis):
        return []
    late = context.ledger.acceptance[1 + len(context.ledger.acceptance) // 2 :]
    share = float(np.mean(late)) if len(late) else float(context.ledger.acceptance[-1])
    why = f"{share:.1%} of the proposals were accepted; if few are, take a smaller step"
    return [Check.compare("rejection", 1.0 - share, 0.9, why)]


def _closing(context: Context) -> list[Check]:
    """F against what was exchanged."""
    if not context.trajectory.balanced:
        return [Check.undecided("balance", 'the run kept ledger="saves": nothing was accumulated')]
    if context.flow.subsamples:
        return [Check.undecided("balance", "the gradient is subsampled, so heat is not defined")]
    if not all(part.functional.exact for part in context.flow.parts):
        why = "the score is estimated by an estimator that has no potential"
        return [Check.undecided("balance", why)]
    if isinstance(context.scheme, Metropolis) and context.flow.time_dependent:
        why = "what a Metropolis step dissipates beyond heat changes along the protocol"
        return [Check.undecided("balance", why)]
    if isinstance(context.scheme, Metropolis) and context.explicit:
        return [
            Check.undecided("balance", "a Metropolis step is heat as a whole: nothing to close")
        ]
    name = "heat balance" if context.flow.warm else "energy-dissipation balance"
    if not any(part.geometry.dissipative for part in context.flow.parts):
        name = "energy conservation"
    closure = np.abs(context.ledger.closure)
    residual = float(closure.max())
    if context.adaptive:
        rtol, atol = context.tolerances
        tolerance = 10 * context.steps * (rtol * context.scale + atol) + context.roundoff
        why = "10 (atol + rtol |F|) for every ledger interval"
        checks = [Check.compare(name, residual, tolerance, why)]
    else:
        defects = measure(context)
        tolerance = expected(context, defects) + context.roundoff
        why = f"F(0) - F(t) against what was exchanged, at step {context.step:g}"
        early = envelope(context, np.asarray(context.ledger.closure, float))
        if early is not None and GROWTH * early + context.roundoff < tolerance:
            tolerance = GROWTH * early + context.roundoff
            why += f"; {early:.1e} in the first quarter, which must not grow"
        checks = [Check.compare(name, residual, tolerance, why), order_check(context, defects)]
    checks += descent_checks(context, tolerance)
    return checks


def descent_checks(context: Context, tolerance: float) -> list[Check]:
    """Monotone descent, De Giorgi's inequality, and no trend where F is conserved."""
    ledger, checks = context.ledger, []
    dissipative = any(part.geometry.dissipative for part in context.flow.parts)
    if not dissipative and not context.flow.noisy and not context.flow.time_dependent:
        checks.append(_trend(context))
    if dissipative and not context.flow.warm and not context.flow.time_dependent:
        rise = float(max(np.max(np.diff(ledger.functional)), 0.0))
        slack = 10 * context.epsilon * context.scale
        kinetic = any(part.geometry.kinetic for part in context.flow.parts)
        if kinetic or context.adaptive:
            slack += tolerance  # H itself oscillates by the scheme's own error
        checks.append(Check.compare("monotone descent", rise, slack, "largest rise between saves"))
    if ledger.violation is not None and not np.isfinite(np.max(ledger.violation)):
        why = 'what each step lost is not in the books: ledger="steps"'
        checks.append(Check.undecided("De Giorgi inequality", why))
    elif ledger.violation is not None:
        worst = float(max(np.max(ledger.violation), 0.0))
        slack = 10 * context.epsilon * context.scale
        why = "F(x+) + cost/step - F(x) at every step"
        checks.append(Check.compare("De Giorgi inequality", worst, slack, why))
    return checks


def _trend(context: Context) -> Check:
    """Slope of the energy over the run against four of its standard errors, by block means."""
    energy = np.asarray(context.ledger.functional, float)
    times = np.asarray(context.trajectory.times, float)
    count = min(20, len(energy))
    if count < 8:
        return Check.undecided("energy drift", "fewer than 8 saves show no trend")
    y = np.array([piece.mean() for piece in np.array_split(energy, count)])
    t = np.array([piece.mean() for piece in np.array_split(times, count)])
    t = (t - t.mean()) / (t[-1] - t[0])
    slope = float(np.sum(t * y) / np.sum(t**2))
    rest = y - y.mean() - slope * t
    error = float(np.sqrt(np.sum(rest**2) / (count - 2) / np.sum(t**2)))
    # A random walk of rounding errors, one a step, has a trend of its own; and swings of the energy
    # that the ends of the run cut leave one of their size divided by their number.
    tolerance = 4 * error + 10 * context.epsilon * np.sqrt(context.steps) * context.scale
    tolerance += 0.05 * float(np.ptp(energy))
    return Check.compare("energy drift", abs(slope), tolerance, "linear trend over the run")


def order_check(context: Context, defects: Defects) -> Check:
    """The exponent of the one-step defect between step/4 and step/16."""
    noisy_path = context.flow.noisy and isinstance(context.inner_scheme, Euler)
    # Trapezoidal heat along a rough path errs by the cube of a displacement of order sqrt(step).
    expected_exponent = 1.5 if noisy_path else context.scheme.starting_order + 1.0
    middle, fine = (float(np.sqrt(np.mean(defects.rms[:, i] ** 2))) for i in (1, 2))
    exchanged = float(np.sqrt(np.mean(defects.exchanged[:, 2] ** 2)))
    name = "order of the balance"
    if middle <= 200 * EPSILON * context.scale:
        return Check.compare(name, 0.0, 0.5, "the defect of a step is at round-off")
    if fine <= NEGLIGIBLE * exchanged:
        why = f"defect {fine / exchanged:.1e} of what a step of {context.step / 16:.2g} exchanges"
        return Check.compare(name, 0.0, 0.5, why)
    exponent = float(np.log(middle / fine) / np.log(4.0)) if fine > 0 else np.inf
    why = f"defect ~ step^{exponent:.2f}, theory {expected_exponent:g}"
    if exponent < expected_exponent - 0.5 and middle <= 200 * context.epsilon * context.scale:
        return Check.undecided(name, "a functional in float32 hides the defect of so small a step")
    if exponent < expected_exponent - 0.5 and not all(
        part.functional.smooth for part in context.flow.parts
    ):
        return Check.undecided(name, f"{why}: the force is singular where particles meet")
    return Check.compare(name, max(expected_exponent - exponent, 0.0), 0.5, why)


def expected(context: Context, defects: Defects) -> float:
    """The bound on the closure that the measured one-step defects allow.

    Three times the sum of the mean defects over the run (trapezoidal in time between the samples),
    plus five standard deviations of the sum of their independent parts. Without noise, at most
    three quarters of what was exchanged: a balance that misses more is no balance.
    """
    span = float(context.trajectory.times[-1] - context.trajectory.times[0])
    weights = defects.mean[:, 0] if context.flow.noisy else np.abs(defects.mean[:, 0])
    if len(weights) > 1:
        steady = abs(float(np.trapezoid(weights, defects.times))) / context.step
    else:
        steady = float(weights[0]) * span / context.step
    spread = 0.0
    if context.flow.noisy:
        rms = float(np.sqrt(np.mean(defects.rms[:, 0] ** 2)))
        # One account for all particles is an average already.
        chains = 1 if context.flow.whole(context.trajectory.at(0)) else context.trajectory.chains
        # Defects of neighbouring steps are correlated over a momentum's life, hence the 5.
        spread = 5 * rms * np.sqrt(context.steps / chains)
    if not context.flow.noisy and any(part.geometry.dissipative for part in context.flow.parts):
        change = abs(float(context.ledger.functional[-1] - context.ledger.functional[0]))
        return min(3 * steady, 0.75 * (abs(float(context.ledger.dissipated[-1])) + change))
    return 3 * steady + spread


def measure(context: Context) -> Defects:
    """One step from a few saved states at three step sizes."""
    count = NOISY_SAMPLES if context.flow.noisy else SAMPLES
    index = _sampled(context, count)
    times = np.asarray(context.trajectory.times, float)[index]
    schemes = [scaled(context.scheme, 1.0 / ratio) for ratio in (1, 4, 16)]
    columns = [
        [
            _defect(context.single_step(int(i), float(time), scheme)[1], context.trajectory.chains)
            for scheme in schemes
        ]
        for i, time in zip(index, times, strict=True)
    ]
    table = np.asarray(columns, float)  # (samples, step sizes, three numbers)
    return Defects(times, table[..., 0], table[..., 1], table[..., 2])


def _sampled(context: Context, count: int) -> np.ndarray:
    """Saves evenly spread, half in time and half in what F has fallen: transients are short."""
    steady = np.linspace(0.0, 1.0, len(context.trajectory))
    pace = steady
    if not context.flow.noisy:
        fallen = np.abs(np.diff(np.asarray(context.ledger.functional, float)))
        share = np.append(0.0, np.cumsum(fallen))
        pace = 0.5 * (steady + (share / share[-1] if share[-1] > 0 else steady))
    found = np.searchsorted(pace, np.linspace(0.0, 1.0, count) * pace[-1])
    return np.unique(np.minimum(found, len(steady) - 1))


def _defect(row: dict[str, Any], chains: int) -> tuple[float, float, float]:
    """(mean, rms, rms exchanged) of the defect of a step over points, from a row of the ledger.

    What closes the books after a single step is its defect; the standard error of a mean of n has
    the variance of one, (n - 1)/n of it, divided by n - 1.
    """
    mean, error, exchanged, spread = (
        float(row[name][0])
        for name in ("closure", "closure_error", "dissipated", "dissipated_error")
    )
    others = max(chains - 1, 0)
    rms = np.sqrt(mean**2 + others * error**2), np.sqrt(exchanged**2 + others * spread**2)
    return mean, *rms
