"""[state]: where a run starts, and how many side by side."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from .base import Section, registry


class Point(Section):
    """One state."""

    kind: Literal["point"] = "point"
    initial: Literal["start", "normal"] | list[float] = Field(
        "start",
        description="'start' (the problem's own), 'normal' (around it) or a list of numbers",
    )
    scale: float | None = Field(
        None, gt=0, description="the standard deviation around the initial point, a number > 0"
    )
    momentum: Literal["auto", "rest", "thermal"] | list[float] = Field(
        "auto",
        description="'rest', 'thermal', a list of numbers, or 'auto' (the problem's own, or "
        "thermal where the flow has a bath)",
    )
    chains: Literal[1] = Field(1, description="1; more chains need kind = 'particles'")


class Particles(Point):
    """Many states side by side: chains."""

    kind: Literal["particles"] = "particles"  # pyright: ignore[reportIncompatibleVariableOverride]
    chains: int = Field(64, ge=2, le=10_000_000, description="the number of chains, at least 2")  # pyright: ignore[reportIncompatibleVariableOverride]
    initial: Literal["start", "normal"] | list[float] = Field(
        "normal",
        description="'start' (the problem's own), 'normal' (around it) or a list of numbers",
    )


STATES = registry(Point, Particles)
