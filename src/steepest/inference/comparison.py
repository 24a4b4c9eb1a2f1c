"""One target, one method or several: answers side by side, and which of them to use."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from ..checkpoint import Checkpoint
from ..errors import ArgumentError, SteepestError, Terminated
from .answer import Answer, Budget
from .methods import DEFAULT, method
from .sampling_error import sampling_error
from .target import Target


def fit(
    energy: Any,
    method: str = "hmc",
    budget: int = 20_000,
    *,
    start: Any = None,
    key: Any = None,
    tolerance: float = 0.01,
    checkpoint: Checkpoint | None = None,
) -> Answer:
    """The answer of one method for pi ~ exp(-E).

    `energy`: a `Problem`, or a function or functional of parameters, then with their `start`.
    `budget`: gradients of E. `key`: a `jax.random.key`, by default that of seed 0. `checkpoint`:
    where the runs of the method are kept; the same call goes on from there to the same answer, save
    that its seconds are those of the last part. Raises ArgumentError for input that cannot be used,
    Terminated after SIGTERM where there is a checkpoint.
    """
    target = Target.of(energy, start)
    return _run(method, target, Budget(budget, tolerance), _key(key), checkpoint)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The answers of several methods to one target.

    `answers`: in the order of the methods asked for. `failed`: (method, reason) of those that gave
    none. `best`: of the certified ones, that of the least error for its cost; None if none is.
    """

    target: Target
    budget: Budget
    answers: tuple[Answer, ...]
    failed: tuple[tuple[str, str], ...]

    @property
    def certified(self) -> tuple[Answer, ...]:
        """The answers with a certificate."""
        return tuple(answer for answer in self.answers if answer.certificate.certified)

    @property
    def best(self) -> Answer | None:
        """The certified answer with the smallest bound on its error; ties go to the cheaper."""
        rank = lambda a: (max(a.certificate.mean, a.certificate.sd), a.gradients)  # noqa: E731
        return min(self.certified, key=rank, default=None)

    def __getitem__(self, name: str) -> Answer:
        for answer in self.answers:
            if answer.method == name:
                return answer
        raise KeyError(name)

    def disagreement(self) -> tuple[np.ndarray, np.ndarray]:
        """(differences, floors), both (k, k): the largest gap of two answers' means over all
        coordinates, in sds, and what sampling alone makes of it at 95 %."""
        spread = [sampling_error(a.draws, a.independent) for a in self.answers]
        k = len(self.answers)
        gaps, floors = np.zeros((k, k)), np.zeros((k, k))
        for i, a in enumerate(self.answers):
            for j, b in enumerate(self.answers):
                if i == j:
                    continue
                scale = np.sqrt(0.5 * (a.sd**2 + b.sd**2))
                scale = np.where(scale > 0, scale, np.inf)
                gaps[i, j] = np.max(np.abs(a.mean - b.mean) / scale)
                floors[i, j] = math.hypot(_finite(spread[i].mean), _finite(spread[j].mean))
        return gaps, floors

    def rows(self) -> list[dict[str, Any]]:
        """A dictionary for each method, for tables."""
        return [_row(answer) for answer in self.answers]

    def __str__(self) -> str:
        lines = [f"{a.method:28} {a.certificate.verdict}" for a in self.answers]
        lines += [f"{name:28} gave no answer: {why}" for name, why in self.failed]
        return "\n".join(lines)


def compare(
    energy: Any,
    methods: Sequence[str] | None = None,
    budget: int = 20_000,
    *,
    start: Any = None,
    key: Any = None,
    tolerance: float = 0.01,
    progress: Callable[[str, Answer | None], None] | None = None,
    checkpoint: Checkpoint | None = None,
) -> Comparison:
    """The answers of several methods, each with the same budget of gradients.

    `methods`: names, by default a choice that suits most posteriors. `progress(name, answer)` is
    called when a method starts (with None) and when it has its answer. A method that fails is
    listed, not raised. Arguments as in `fit`.
    """
    chosen = tuple(methods or DEFAULT)
    for name in chosen:
        method(name)
    if len(set(chosen)) < len(chosen):
        raise ArgumentError("methods", ", ".join(chosen), "each once")
    target, spending = Target.of(energy, start), Budget(budget, tolerance)
    answers: list[Answer] = []
    failed: list[tuple[str, str]] = []
    for i, name in enumerate(chosen):
        if progress is not None:
            progress(name, None)
        try:
            answer = _run(name, target, spending, jax.random.fold_in(_key(key), i), checkpoint)
        except Terminated:
            raise
        except SteepestError as error:
            failed.append((name, str(error)))
            continue
        answers.append(answer)
        if progress is not None:
            progress(name, answer)
    return Comparison(target, spending, tuple(answers), tuple(failed))


def _run(
    name: str, target: Target, budget: Budget, key: Any, checkpoint: Checkpoint | None
) -> Answer:
    if checkpoint is None:
        return method(name)(target, budget, key)
    with checkpoint.part(name).of_every_solve():
        return method(name)(target, budget, key)


def _key(key: Any) -> Any:
    return jax.random.key(0) if key is None else key


def _finite(value: float) -> float:
    return value if math.isfinite(value) else 0.0


def _row(answer: Answer) -> dict[str, Any]:
    spread = sampling_error(answer.draws, answer.independent)
    certificate = answer.certificate
    ess = float(np.min(spread.ess))
    value, error = answer.free_energy
    return {
        "method": answer.method,
        "verdict": "certified" if certificate.certified else "not certified",
        "mean error": certificate.mean,
        "sd error": certificate.sd,
        "gradients": answer.gradients,
        "seconds": sum(s for phase, s in answer.seconds.items() if phase != "compile"),
        "compile": answer.seconds.get("compile", 0.0),
        "ESS": ess,
        "ESS / gradient": ess / max(answer.gradients, 1),
        "free energy": value,
        "± free energy": error,
        "log Z, lower": answer.log_evidence[0],
        "log Z, upper": answer.log_evidence[1],
    }
