"""Does a run do what the theory says? Structure, balance, descent, equilibrium.

Each check has a name, a residual, a tolerance that is derived (its docstring says how) and a
verdict; an audit that cannot fail would be a defect, so every check has a test with a flow that
breaks it.
"""

from __future__ import annotations

from typing import Any

from ..errors import ArgumentError
from .balance import balance_checks
from .concentration import concentration_checks
from .context import Context
from .free_energy import FreeEnergySeries as FreeEnergySeries
from .free_energy import free_energy as free_energy
from .free_energy import second_law_checks
from .law import law_checks
from .protocol import protocol_checks
from .report import Audit as Audit
from .report import Check as Check
from .structure import structure_checks
from .thermal import thermal_checks


def audit(
    trajectory: Any, *, equilibrium: bool | None = None, bias_tolerance: float = 0.1
) -> Audit:
    """Hold a trajectory against the theory of its flow.

    `equilibrium`: None judges the stationary law where the run has become stationary; True also
    fails a run that has not; False leaves it out (for relaxation studies). `bias_tolerance`: the
    relative discretisation bias that the reader accepts.
    Raises ArgumentError for a trajectory without its flow (loaded from a file).
    """
    if trajectory.flow is None:
        raise ArgumentError(
            "trajectory", "loaded from a file", "set its flow: dataclasses.replace(t, flow=...)"
        )
    if len(trajectory) < 2:
        raise ArgumentError("trajectory", f"{len(trajectory)} saves", "nothing has run yet")
    context = Context(trajectory, bias_tolerance)
    checks = structure_checks(context) + balance_checks(context) + law_checks(context)
    checks += concentration_checks(context)
    if context.flow.noisy:
        checks += second_law_checks(context) + protocol_checks(context)
        if equilibrium is not False:
            found = thermal_checks(context)
            if equilibrium is None:
                found = [
                    Check.undecided(c.name, c.why)
                    if c.name == "stationarity" and c.passed is False
                    else c
                    for c in found
                ]
            checks += found
    return Audit(tuple(checks))
