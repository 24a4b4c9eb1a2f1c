"""[run]: how far, what to keep, and with which numbers."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from .base import Section


class Run(Section):
    """How far, what to keep, and with which numbers."""

    steps: int | None = Field(None, ge=1, lt=2**32, description="an integer from 1 to 2^32 - 1")
    time: float | None = Field(None, gt=0, description="flow time, a number > 0")
    warmup: int = Field(0, ge=0, lt=2**32, description="steps before the run, an integer >= 0")
    save_every: int = Field(1, ge=1, description="steps between saves, an integer >= 1")
    seed: int = Field(0, ge=0, lt=2**32, description="an integer from 0 to 2^32 - 1")
    divergence: Literal["raise", "stop", "halve"] = Field(
        "raise", description="when numbers stop being finite: 'raise', 'stop' or 'halve' the step"
    )
    precision: Literal["float32", "float64"] = Field(
        "float32", description="'float32' or 'float64'"
    )
