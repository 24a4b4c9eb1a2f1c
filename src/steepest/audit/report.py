"""A check is a residual held against a derived tolerance; an audit is a table of checks."""

from __future__ import annotations

import dataclasses
import math


@dataclasses.dataclass(frozen=True)
class Check:
    """One statement of the theory, held against one run.

    `passed` is True, False, or None where the run cannot decide; `why` says what was compared, or
    why nothing was. `residual` <= `tolerance` passes.
    """

    name: str
    residual: float
    tolerance: float
    passed: bool | None
    why: str

    @classmethod
    def compare(cls, name: str, residual: float, tolerance: float, why: str) -> Check:
        """Passed when residual <= tolerance; a NaN fails."""
        residual, tolerance = float(residual), float(tolerance)
        return cls(name, residual, tolerance, bool(residual <= tolerance), why)

    @classmethod
    def undecided(cls, name: str, why: str) -> Check:
        """Not judged, and why."""
        return cls(name, math.nan, math.nan, None, why)

    @property
    def verdict(self) -> str:
        """`passed`, `FAILED` or `not judged`."""
        return {True: "passed", False: "FAILED", None: "not judged"}[self.passed]


@dataclasses.dataclass(frozen=True)
class Audit:
    """The verdict: passed when no check failed and at least one was judged."""

    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        judged = [check.passed for check in self.checks if check.passed is not None]
        return bool(judged) and all(judged)

    def __getitem__(self, name: str) -> Check:
        for check in self.checks:
            if check.name == name:
                return check
        raise KeyError(f"{name!r}; this audit has {[check.name for check in self.checks]}")

    def __contains__(self, name: str) -> bool:
        return any(check.name == name for check in self.checks)

    def __str__(self) -> str:
        width = max([len(check.name) for check in self.checks], default=5)
        lines = [f"{'check':<{width}}  {'residual':>10}  {'tolerance':>10}  verdict     why"]
        for check in self.checks:
            numbers = "  ".join(
                f"{'-' if math.isnan(x) else format(x, '.3g'):>10}"
                for x in (check.residual, check.tolerance)
            )
            lines.append(f"{check.name:<{width}}  {numbers}  {check.verdict:<10}  {check.why}")
        lines.append("audit passed" if self.passed else "audit FAILED")
        return "\n".join(lines)
