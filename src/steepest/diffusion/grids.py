"""Grids of forward times along which a reverse process is solved, from noise to data.

Every rule places sigma/alpha and then asks the process for the times, so that it means the same for
every process. Sources: Karras et al., NeurIPS 2022, (5); Lu et al., NeurIPS 2022 (log-SNR).
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from ..errors import ArgumentError
from .processes import AbstractProcess

RULES = ("angle", "karras", "log-snr", "time")


def ratios(high: float, low: float, steps: int, rule: str, *, to_zero: bool, power: float = 7.0):
    """steps + 1 decreasing values of sigma/alpha from `high`.

    They end at `low`, or with `to_zero` at 0 after `low`: the last step then jumps to the estimate
    of the clean point.
    """
    count = steps if to_zero else steps + 1
    if count == 1:
        values = np.asarray([high])
    else:
        u = np.linspace(0.0, 1.0, count)
        if rule == "karras":
            a, b = high ** (1 / power), low ** (1 / power)
            values = (a + u * (b - a)) ** power
        elif rule == "log-snr":
            values = np.exp(np.log(high) + u * (np.log(low) - np.log(high)))
        else:
            raise ArgumentError("rule", repr(rule), f"one of {RULES}")
        values[0], values[-1] = high, low
    return np.append(values, 0.0) if to_zero else values


def times(
    process: AbstractProcess,
    steps: int,
    scheme: Any = None,
    *,
    rule: str | None = None,
    to_zero: bool | None = None,
) -> np.ndarray:
    """steps + 1 decreasing times from `process.end`.

    `rule`: "karras" (uniform in (sigma/alpha)^(1/7)), "log-snr", "time" (uniform in time), or
    "angle" (uniform in atan(sigma/(alpha scale)), scale the data's, always to 0); by default what
    suits the scheme. `to_zero`: whether the last time is 0.
    """
    if not isinstance(steps, (int, np.integer)) or steps < 1:
        raise ArgumentError("steps", steps, "an integer >= 1")
    rule = getattr(scheme, "rule", "karras") if rule is None else rule
    if rule not in RULES:
        raise ArgumentError("rule", repr(rule), f"one of {RULES}")
    to_zero = bool(getattr(scheme, "to_zero", False)) if to_zero is None else to_zero
    if rule == "time":
        last = 0.0 if to_zero else process.start
        return np.linspace(process.end, last, steps + 1)
    high, low = (float(process.ratio(jnp.asarray(t))) for t in (process.end, process.start))
    if rule == "angle":
        from .anchored import angle_grid

        values = angle_grid(high, int(steps), getattr(scheme, "scale", 1.0))
    else:
        values = ratios(high, low, steps, rule, to_zero=to_zero)
    found = np.array(process.time_of(jnp.asarray(values)), float)
    found[0] = process.end
    found[-1] = found[-1] if values[-1] > 0 else 0.0
    return found
