"""The answer of one method: draws, what they cost, and how far they can be from the truth."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from ..errors import ArgumentError
from ..ledger import Ledger
from ..naming import flatten
from ..summary import load_arviz, summarise
from .certificate import Certificate
from .target import Target


@dataclasses.dataclass(frozen=True)
class Budget:
    """What a method may spend, and the error at which it may stop.

    `gradients`: of the energy over the whole data, at one point each. `tolerance`: nats of free
    energy.
    """

    gradients: int = 20_000
    tolerance: float = 0.01

    def __post_init__(self):
        if not (isinstance(self.gradients, int) and self.gradients >= 100):
            raise ArgumentError("budget", self.gradients, "an integer of at least 100 gradients")
        if not (math.isfinite(self.tolerance) and self.tolerance > 0):
            raise ArgumentError("tolerance", self.tolerance, "a positive number of nats")


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a method found.

    `draws` (chain, save, d): equally weighted draws for use, in the target's flat coordinates.
    `certificate`: what is known of their error. `gradients`: what was spent, all phases; `phases`
    (of samplers) and `seconds`: gradients and seconds of each ("tune", "run", ...; "compile").
    `law`: the fitted measure, if the method fits one.
    `free_energy` and its standard error: E_q[E] - S(q) of the fitted law, -log Z at best; NaN where
    there is none. `log_evidence`: (lower, upper) bounds on log Z at 95 %. `ledger`: of the flow
    that was run. `independent`: whether draws are independent (their ESS is their number).
    """

    method: str
    target: Target
    draws: np.ndarray
    certificate: Certificate
    gradients: int
    seconds: dict[str, float]
    law: Any = None
    free_energy: tuple[float, float] = (math.nan, math.nan)
    log_evidence: tuple[float, float] = (math.nan, math.nan)
    ledger: Ledger | None = None
    independent: bool = False
    notes: tuple[str, ...] = ()
    phases: dict[str, int] = dataclasses.field(default_factory=dict)

    @property
    def mean(self) -> np.ndarray:
        """Of each coordinate, (d,)."""
        return self.draws.mean(axis=(0, 1), dtype=float)

    @property
    def sd(self) -> np.ndarray:
        """Of each coordinate, (d,)."""
        return self.draws.std(axis=(0, 1), dtype=float)

    def summary(self) -> list[dict[str, Any]]:
        """ArviZ's summary of every quantity of the model: name, mean, sd, interval, errors."""
        problem = self.target.problem
        names, draws = flatten(self.target.constrained(self.draws), problem.dims, problem.coords)
        return summarise(names, draws)

    def to_arviz(self) -> Any:
        """An ArviZ InferenceData of the draws, in the quantities that the model speaks of.

        The statements of the certificate and the ledger are groups of their own.
        """
        import xarray

        arviz = load_arviz()
        problem = self.target.problem
        posterior = self.target.constrained(self.draws)
        data: Any = arviz.from_dict(
            posterior=posterior,
            coords={name: list(labels) for name, labels in problem.coords.items()},
            dims={name: list(axes) for name, axes in problem.dims.items() if name in posterior},
        )
        rows = self.certificate.rows()
        columns = {
            key: (("statement",), np.asarray([row[key] for row in rows], kind))
            for key, kind in (
                ("value", float),
                ("bound", float),
                ("floor", float),
                ("verdict", str),
            )
        }
        names = {"statement": [row["name"] for row in rows]}
        attrs = {"method": self.method, "verdict": self.certificate.verdict}
        groups = {"certificate": xarray.Dataset(columns, coords=names, attrs=attrs)}
        if self.ledger is not None:
            groups["ledger"] = self.ledger.to_xarray()
        data.add_groups(groups, warn_on_custom_groups=False)
        return data


Method = Callable[[Target, Budget, jax.Array], Answer]
