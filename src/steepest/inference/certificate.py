"""What is certified of an answer: statements, each with its assumption, and bounds on the error.

The error of an answer is measured in the units that a reader of a posterior uses:

    mean error  max_j |mean_j - E x_j| / sd_j,      sd error  max_j |sd_j / sd(x_j) - 1|

over the d coordinates. A certificate bounds both at a stated confidence, or says why it cannot.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

CONFIDENCE = 0.95
MEAN_TOLERANCE = 0.1
SD_TOLERANCE = 0.1


@dataclasses.dataclass(frozen=True)
class Statement:
    """One thing that was checked.

    It holds where `value` <= `bound`; `held` is None where that could not be decided. `floor`: how
    large `value` comes out by sampling alone when all is right. `assumption`: what the statement
    takes for granted. `why`: a sentence. `needed`: whether the certificate rests on it.
    """

    name: str
    value: float
    bound: float
    floor: float
    assumption: str
    why: str
    held: bool | None
    needed: bool = True

    @classmethod
    def of(
        cls,
        name: str,
        value: float,
        bound: float,
        *,
        assumption: str,
        why: str,
        floor: float = math.nan,
        needed: bool = True,
    ) -> Statement:
        """The statement value <= bound; a value that is not finite does not hold."""
        held = math.isfinite(value) and value <= bound
        return cls(name, float(value), float(bound), float(floor), assumption, why, held, needed)

    @property
    def verdict(self) -> str:
        """ "held", "FAILED" or "not decided"."""
        return "not decided" if self.held is None else "held" if self.held else "FAILED"


@dataclasses.dataclass(frozen=True)
class Certificate:
    """Bounds on the error of an answer, and the statements that they rest on.

    `mean`, `sd`: at `confidence`, the bounds on the two errors above; NaN where there is none.
    `kl`: a bound on KL(law || target) in nats, of the fitted law or the draws; NaN where unknown.
    """

    statements: tuple[Statement, ...]
    mean: float = math.nan
    sd: float = math.nan
    kl: float = math.nan
    confidence: float = CONFIDENCE
    mean_tolerance: float = MEAN_TOLERANCE
    sd_tolerance: float = SD_TOLERANCE

    @property
    def failures(self) -> tuple[str, ...]:
        """What stands in the way of the certificate, in words; empty when it is given."""
        found = [
            f"{s.name} is {s.value:.3g}, beyond {s.bound:.3g}"
            if s.held is False
            else f"{s.name} could not be decided ({s.why})"
            for s in self.statements
            if s.needed and not s.held
        ]
        for name, value, tolerance in (
            ("mean", self.mean, self.mean_tolerance),
            ("sd", self.sd, self.sd_tolerance),
        ):
            if not math.isfinite(value):
                found.append(f"nothing bounds the error of the {name}s")
            elif value > tolerance:
                found.append(f"the {name}s are known to {value:.2g} only, {tolerance:g} is asked")
        return tuple(found)

    @property
    def certified(self) -> bool:
        """Whether both bounds are within tolerance and every needed statement holds."""
        return not self.failures

    @property
    def verdict(self) -> str:
        """One sentence: "certified: ..." or "not certified, because ..."."""
        if not self.certified:
            return "not certified, because " + "; ".join(self.failures[:2])
        return (
            f"certified: means within {self.mean:.2g} sd and sds within {100 * self.sd:.2g} %, "
            f"at {100 * self.confidence:g} %"
        )

    def __getitem__(self, name: str) -> Statement:
        for statement in self.statements:
            if statement.name == name:
                return statement
        raise KeyError(name)

    def __contains__(self, name: object) -> bool:
        return any(statement.name == name for statement in self.statements)

    def rows(self) -> list[dict[str, Any]]:
        """A dictionary for each statement, for tables."""
        return [{**dataclasses.asdict(s), "verdict": s.verdict} for s in self.statements]

    def __str__(self) -> str:
        lines = [self.verdict]
        for s in self.statements:
            floor = "" if math.isnan(s.floor) else f" (floor {s.floor:.3g})"
            lines.append(
                f"  {s.verdict:11} {s.name}: {s.value:.4g} <= {s.bound:.4g}{floor}; {s.why}"
            )
        return "\n".join(lines)


def uncertified(why: str, statements: Sequence[Statement] = ()) -> Certificate:
    """A certificate that only says why there is none."""
    nothing = Statement("answer", math.nan, math.nan, math.nan, "", why, None)
    return Certificate((*statements, nothing))
