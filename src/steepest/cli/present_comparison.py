"""From a finished comparison to its record, its pictures and its files."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .. import figures
from ..inference import Answer, Comparison
from ..inference.sampling_error import sampling_error
from ..naming import flatten
from ..problems import Problem
from ..report import Picture, Record, Sheet
from .pages import write_page, write_table


def record(
    title: str,
    problem: Problem,
    found: Comparison,
    spec: str,
    provenance: Any,
    command: str = "steepest compare",
) -> Record:
    """Everything that the report says."""
    best = found.best
    shown = best if best is not None else _least_bad(found)
    passed = best is not None
    ledger = {} if shown is None or shown.ledger is None else _columns(shown.ledger)
    return Record(
        title=title,
        passed=passed,
        verdict=f"certified by {best.method}" if best else "nothing could be certified",
        said=_said(found),
        facts=tuple(_facts(found, shown)),
        notes=(*problem.notes, *(shown.notes if shown else ())),
        warnings=tuple(_warnings(found, shown)),
        summary=tuple(shown.summary()) if shown else (),
        ledger=ledger,
        pictures=tuple(_pictures(found, shown)) if shown else (),
        spec=spec,
        provenance=provenance,
        sheets=tuple(_sheets(found)),
        command=command,
    )


def write(place: Path, record: Record, found: Comparison) -> None:
    """draws.nc of the recommended answer (the certified one, else the one that comes nearest),
    compare.csv, the pictures and the report."""
    rows = found.rows()
    if rows:
        write_table(place / "compare.csv", rows)
    shown = found.best or _least_bad(found)
    if shown is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # ArviZ announces its next version on import
            shown.to_arviz().to_netcdf(str(place / "draws.nc"), engine="h5netcdf")
    write_page(place, record)


def _least_bad(found: Comparison) -> Answer | None:
    """Without a certificate: the answer with the fewest objections, then the smaller bound."""

    def rank(answer: Answer) -> tuple[int, float]:
        error = max(answer.certificate.mean, answer.certificate.sd)
        return len(answer.certificate.failures), error if math.isfinite(error) else math.inf

    return min(found.answers, key=rank, default=None)


def _said(found: Comparison) -> str:
    best = found.best
    if best is None:
        return "The draws are given all the same, from the method that comes nearest."
    words = best.certificate.verdict.removeprefix("certified: ")
    return f"{words[0].upper()}{words[1:]}; its draws are in draws.nc."


def _facts(found: Comparison, shown: Answer | None) -> Iterator[tuple[str, str]]:
    yield "certified", f"{len(found.certified)} of {len(found.answers) + len(found.failed)} methods"
    if shown is None:
        return
    spread = sampling_error(shown.draws, shown.independent)
    yield "recommended", shown.method
    yield "draws", f"{shown.draws.shape[0] * shown.draws.shape[1]:,}"
    yield "least ESS", f"{np.min(spread.ess):,.0f}"
    yield "gradients", f"{shown.gradients:,}"
    yield "seconds", f"{sum(shown.seconds.values()):.1f}"
    lower, upper = shown.log_evidence
    if math.isfinite(lower) and math.isfinite(upper):
        yield "log Z, 95 %", f"{lower:.3f} to {upper:.3f}"


def _warnings(found: Comparison, shown: Answer | None) -> Iterator[str]:
    if not found.certified and shown is not None:
        yield f"{shown.method} is {shown.certificate.verdict}."
    if len(found.certified) > 1:
        gaps, floors = found.disagreement()
        order = [answer.method for answer in found.answers]
        chosen = [order.index(answer.method) for answer in found.certified]
        for i in chosen:
            for j in chosen:
                if i < j and gaps[i, j] > floors[i, j]:
                    yield (
                        f"{order[i]} and {order[j]} are both certified, and differ by "
                        f"{gaps[i, j]:.2g} sd where sampling explains {floors[i, j]:.2g}: "
                        "one of them is wrong"
                    )
    for name, why in found.failed:
        yield f"{name} gave no answer: {why}"


def _pictures(found: Comparison, shown: Answer) -> Iterator[Picture]:
    problem = found.target.problem
    names, draws = flatten(found.target.constrained(shown.draws), problem.dims, problem.coords)
    flat = draws.reshape(-1, draws.shape[2])
    yield Picture(
        "estimates",
        f"Intervals of {len(names)} quantities, sorted by median, by {shown.method}.",
        f"The recommended draws, by {shown.method}. Coloured where the 94 % interval excludes 0.",
        lambda theme: figures.estimates_figure(names, flat, theme=theme),
        wide=True,
    )
    methods = [answer.method for answer in found.answers]
    certified = [answer.certificate.certified for answer in found.answers]
    scale = np.where(shown.sd > 0, shown.sd, 1.0)
    gaps = [(answer.mean - shown.mean) / scale for answer in found.answers]
    own = sampling_error(shown.draws, shown.independent).mean
    floors = [
        math.hypot(own, sampling_error(answer.draws, answer.independent).mean)
        for answer in found.answers
    ]
    floors = [floor if math.isfinite(floor) else 0.0 for floor in floors]
    if len(methods) > 1:
        yield Picture(
            "disagreement",
            "Differences of the methods' means, in posterior sds: "
            + ", ".join(f"{m} {np.max(np.abs(g)):.2g}" for m, g in zip(methods, gaps, strict=True)),
            "A tick for each parameter; inside its band a difference is within sampling error.",
            lambda theme: figures.disagreement_figure(
                methods, gaps, floors, certified, shown.method, theme=theme
            ),
            wide=True,
        )
        bounds = [max(a.certificate.mean, a.certificate.sd) for a in found.answers]
        cost = [answer.gradients for answer in found.answers]
        yield Picture(
            "cost",
            "Bounds on the error against gradients spent.",
            "Filled: a bound is known. Blue: certified. The dashed line is what is asked.",
            lambda theme: figures.cost_figure(
                methods,
                cost,
                bounds,
                certified,
                shown.certificate.mean_tolerance,
                theme=theme,
            ),
        )


def _sheets(found: Comparison) -> Iterator[Sheet]:
    rows = tuple(found.rows())
    if rows:
        yield Sheet(
            "Methods",
            rows,
            "Errors are bounds at 95 % for the worst coordinate: of means in posterior sds, of sds "
            "relative. Gradients and seconds count tuning and warm-up; compilation stands apart.",
        )
    for answer in found.answers:
        yield Sheet(
            f"Certificate of {answer.method}",
            tuple(
                {
                    "statement": s.name,
                    "verdict": s.verdict,
                    "value": s.value,
                    "bound": s.bound,
                    "floor": s.floor,
                    "why": s.why,
                    "assumes": s.assumption,
                }
                for s in answer.certificate.statements
            ),
            answer.certificate.verdict,
        )
    if len(found.answers) > 1:
        gaps, floors = found.disagreement()
        names = [answer.method for answer in found.answers]
        yield Sheet(
            "Disagreement",
            tuple(
                {"": name}
                | {
                    other: "–" if i == j else f"{gaps[i, j]:.2g} ({floors[i, j]:.2g})"
                    for j, other in enumerate(names)
                }
                for i, name in enumerate(names)
            ),
            "The largest difference of two means in sds, and in brackets what sampling explains.",
        )


def _columns(ledger: Any) -> dict[str, np.ndarray]:
    return {name: np.asarray(column, float) for name, column in ledger.columns().items()}
