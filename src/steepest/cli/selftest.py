"""`steepest selftest`: exact solutions on this machine, in both precisions."""

from __future__ import annotations

import time

from . import environment


def command(precision: str) -> int:
    """Prints a table for each precision; the exit code is 1 where a check failed."""
    environment.prepare()
    import jax

    from ..errors import ArgumentError
    from ..selftest import selftest
    from . import screen

    if precision not in ("both", "float32", "float64"):
        raise ArgumentError("--precision", repr(precision), "float32, float64 or both")
    asked = ("float32", "float64") if precision == "both" else (precision,)
    began, passed = time.monotonic(), True
    for dtype in asked:
        with jax.enable_x64(dtype == "float64"):
            screen.say(f"{dtype} on {jax.devices()[0].device_kind}", "bold")
            found = selftest(dtype)
        screen.audit(found)
        passed = passed and found.passed
    verdict = "self test passed" if passed else "self test FAILED"
    screen.say(f"{verdict} in {time.monotonic() - began:.0f} s", "green" if passed else "bold red")
    return 0 if passed else 1
