"""Two sets of colours, light and dark, for figures and for the page."""

from __future__ import annotations

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Theme:
    """Colours by role."""

    name: str
    page: str
    card: str
    ink: str
    muted: str
    line: str
    first: str
    second: str
    good: str
    bad: str
    soft: str


LIGHT = Theme(
    name="light",
    page="#f7f6f3",
    card="#ffffff",
    ink="#1d2733",
    muted="#5f6b78",
    line="#dcdfe3",
    first="#23658c",
    second="#c4642d",
    good="#20744f",
    bad="#b02a2a",
    soft="#eaf1f5",
)
DARK = Theme(
    name="dark",
    page="#11151a",
    card="#191f26",
    ink="#e7eaed",
    muted="#9aa6b2",
    line="#303842",
    first="#6fb4dc",
    second="#e99a63",
    good="#68c79a",
    bad="#ef8a80",
    soft="#1f2a33",
)


def rc(theme: Theme) -> Any:
    """matplotlib settings: quiet axes, readable text."""
    return {
        "figure.facecolor": theme.card,
        "savefig.facecolor": theme.card,
        "axes.facecolor": theme.card,
        "axes.edgecolor": theme.line,
        "axes.labelcolor": theme.muted,
        "axes.titlecolor": theme.ink,
        "axes.titlesize": 10.5,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.titlepad": 10,
        "axes.labelsize": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.linewidth": 0.8,
        "axes.axisbelow": True,
        "text.color": theme.ink,
        "xtick.color": theme.muted,
        "ytick.color": theme.muted,
        "xtick.labelsize": 8.5,
        "ytick.labelsize": 8.5,
        "xtick.major.size": 3,
        "ytick.major.size": 3,
        "lines.linewidth": 1.6,
        "lines.solid_capstyle": "round",
        "font.family": "DejaVu Sans",
        "font.size": 9,
        "text.parse_math": False,  # a column named "$x$" is text
    }
