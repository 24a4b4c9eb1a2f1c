"""Running a flow until what it can still lower F by is small, within a budget of gradients.

Under FisherRao() the rate of the ledger is the squared norm of the natural gradient, |dF|^2 in the
inverse Fisher metric, and half of it is Newton's estimate of F - min F; so too for Newton's flow on
points. The run stops there.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from ..driver import solve
from ..ledger import Ledger
from ..schemes import Backtracking

CHUNK = 4
HALVINGS = 8


@dataclasses.dataclass(frozen=True)
class Descent:
    """`remaining`: half of the last rate. `gradients`: spent. `why`: it stopped.

    Where the budget does not pay for one step nothing is spent, and there is no ledger.
    """

    state: Any
    remaining: float
    gradients: int
    steps: int
    ledger: Ledger | None
    why: str

    @property
    def converged(self) -> bool:
        """Whether it stopped because the remaining decrease is small."""
        return self.why == "converged"

    def after(self, earlier: Descent, between: int = 0) -> Descent:
        """This run as the end of one that began with `earlier`; `between`: gradients since."""
        return Descent(
            self.state,
            self.remaining if self.steps else earlier.remaining,
            earlier.gradients + between + self.gradients,
            earlier.steps + self.steps,
            joined([book for book in (earlier.ledger, self.ledger) if book is not None]),
            self.why,
        )


def descend(
    flow: Any,
    state: Any,
    *,
    cost: int,
    trial: int,
    budget: int,
    remaining: float,
    step: float = 1.0,
    most: int = 60,
    halvings: int = HALVINGS,
) -> Descent:
    """Run `flow` by `Backtracking(step)` until the rate is at most 2 `remaining`.

    `cost`: gradients for the slope at a new state; `trial`: for the value at one that is refused.
    """
    scheme = Backtracking(step, 2.0 * remaining, halvings=halvings)
    spent, done, books, why = cost, 0, [], "budget"
    rate = np.inf
    while done < most:
        steps = min((budget - spent) // (halvings * trial + max(cost, trial)), CHUNK, most - done)
        if steps < 1:
            break
        run = solve(flow, state, scheme=scheme, steps=int(steps))
        state, done = run.final, done + int(steps)
        books.append(run.ledger)
        rates = np.asarray(run.ledger.dissipation_rate, float)
        shares = np.asarray(run.ledger.acceptance, float)[1:]
        first = 1.0
        for before, share in zip(rates[:-1], shares, strict=True):
            if before > 2.0 * remaining:
                refused = halvings + 1 if share == 0 else round(np.log2(first / share))
                spent += refused * trial + (cost if share > 0 else 0)
                first = min(2.0 * share, 1.0) if share > 0 else 1.0
        rate = float(rates[-1])
        if rate <= 2.0 * remaining:
            why = "converged"
            break
        if shares[-1] == 0:
            why = "no step lowers F"
            break
    else:
        why = f"{most} steps"
    if not books:
        return Descent(state, np.inf, 0, 0, None, "budget")
    return Descent(state, 0.5 * rate, spent, done, joined(books), why)


def joined(books: list[Ledger]) -> Ledger | None:
    """One ledger of runs that go on from one another; F may jump where the quadrature changes."""
    if not books:
        return None
    first, columns = books[0], {}
    for field in dataclasses.fields(first):
        if not isinstance(getattr(first, field.name), np.ndarray):
            continue
        pieces, offset = [getattr(first, field.name)], 0.0
        for book in books[1:]:
            offset = pieces[-1][-1] if field.name in ("times", "dissipated", "work") else 0.0
            pieces.append(getattr(book, field.name)[1:] + offset)
        columns[field.name] = np.concatenate(pieces)
    return dataclasses.replace(first, **columns)
