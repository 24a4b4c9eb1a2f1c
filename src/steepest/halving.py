"""Where a run that diverged goes on with half its step.

It goes back to the save where F began its last rise: what blows up rises until it overflows, and
nothing of that is kept. The state there is computed again from the last one that is held. All of it
is a function of the saves, not of the chunks.
"""

from __future__ import annotations

from typing import Any

import numpy as np

MOST_HALVINGS = 20
HELD = 4


def last_fall(functional: Any) -> int:
    """The save from which F only rose, to the last one."""
    falls = np.flatnonzero(~(np.diff(functional) > 0.0))
    return int(falls[-1]) + 1 if len(falls) else 0


class Halvings:
    """At which saves the step of a run was halved, and carries from which to begin again.

    `run` advances a carry by saves, and halves its step; its `halvings` is how often it has.
    """

    def __init__(self, run: Any, first: Any):
        self.run, self.points = run, {0: 0}
        self.held = {0: (0, first)}

    def restore(self, points: Any) -> None:
        """The points of a checkpoint."""
        self.points = {int(save): int(halvings) for save, halvings in points}

    def words(self) -> list[tuple[int, int]]:
        """The points as plain data."""
        return sorted(self.points.items())

    def hold(self, save: int, carry: Any) -> None:
        """A carry of the current step at a save; the oldest between the points are let go."""
        self.held[save] = self.run.halvings, carry
        between = sorted(save for save in self.held if save not in self.points)
        for save in between[:-HELD]:
            del self.held[save]

    def back(self, save: int) -> Any:
        """The carry at a save, with half of the present step."""
        target = self.run.halvings + 1
        at = max(place for place in self.held if place <= save)
        halvings, carry = self.held[at]
        self.run.to(halvings)
        while at < save:
            stop = min(save, *(place for place in self.points if place > at), save)
            carry, at = self.run.forward(carry, stop - at), stop
            if at < save:
                carry = self.halved(carry, self.points[at])
        carry = self.halved(carry, target)
        self.points = {p: h for p, h in self.points.items() if p < save} | {save: target}
        self.held = {p: held for p, held in self.held.items() if p < save}
        self.hold(save, carry)
        return carry

    def halved(self, carry: Any, halvings: int) -> Any:
        """The carry with the step halved until it was so often."""
        while self.run.halvings < halvings:
            carry = self.run.halved(carry)
        return carry
