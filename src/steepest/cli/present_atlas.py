"""The pages of an atlas: one with every row, and one for each row."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

FAMILIES = (
    ("points", "Optimizers of a point"),
    ("motions", "Integrators of Hamilton's equations"),
    ("chains", "Samplers"),
    ("laws", "Flows of a law"),
    ("clouds", "Particles that feel one another"),
    ("diffusions", "Samplers of diffusion models"),
)


ROWS = "rows"
KEPT = ("law", "cloud", "plane", "paths", "phase", "estimates", "functional", "balance")


def slug(row: Any) -> str:
    """The folder of a row."""
    return re.sub(r"[^a-z0-9]+", "-", row.algorithm.name.lower()).strip("-")


def write_row(scratch: Path, row: Any, setting: Any, spec: str, provenance: Any) -> None:
    """The page of one algorithm: that of a run, with fewer pictures."""
    import jax

    from ..problems import Problem
    from . import present
    from .build import Job
    from .execute import Outcome
    from .pages import write_page

    run = row.run
    first = run.at(0)
    problem = Problem(run.flow.functional, _centre(first))
    job = Job(problem, run.flow, run.scheme, first, jax.random.key(0))
    outcome = Outcome(None, run, row.audit, {"run": row.seconds})
    whole = present.record(row.algorithm.name, job, outcome, spec, provenance)
    notes = [row.algorithm.citation]
    if row.remark:
        notes.append(f"This row moves {row.remark}.")
    record = dataclasses.replace(
        whole,
        pictures=tuple(picture for picture in whole.pictures if picture.name in KEPT),
        frames=(),
        notes=tuple(notes),
        row=whole.row | {"known as": row.card["known as"]},
        command="steepest atlas",
    )
    place = scratch / ROWS / slug(row)
    place.mkdir(parents=True)
    write_page(place, record)


def _centre(state: Any) -> Any:
    """A point of the parameters' space: the first position."""
    import jax

    from ..states.points import is_ensemble, points

    place = points(state)
    if is_ensemble(state):
        place = jax.tree.map(lambda x: x[0], place)
    return getattr(place, "position", place)


def record(rows: list[Any], name: str, spec: str, told: Any, setting: Any) -> Any:
    """Everything that the page says."""
    from ..report import Record, Sheet

    count = {name: sum(row.verdict == name for row in rows) for name in VERDICTS}
    passed = count["FAILED"] == count["error"] == 0
    families = [(name, title, _family(rows, name)) for name, title in FAMILIES]
    sheets = [_failures(rows)] if not passed else []
    absent = [row for row in rows if row.reason]
    title, facts = "Atlas of known algorithms", []
    if setting is not None:
        title = f"Atlas on {name.removesuffix('.toml')}"
        facts = [
            ("parameters", f"{setting.start.size}"),
            ("temperature", f"{setting.temperature:.4g}"),
            ("steps times", f"{setting.factor:.3g}"),
        ]
    sheets += [Sheet(title, tuple(map(_linked, own))) for _, title, own in families if own]
    if absent:
        lines = [{"algorithm": row.algorithm.name, "why": row.reason} for row in absent]
        sheets.append(Sheet("What does not apply", tuple(lines)))
    sheets.append(Sheet("Sources", tuple(map(_source, rows))))
    return Record(
        title=title,
        passed=passed,
        verdict="every audit passed" if passed else "some audits failed",
        said=", ".join(f"{number} {name}" for name, number in count.items() if number)
        + "; a row is not judged where no check can decide.",
        facts=(
            ("algorithms", f"{len(rows)}"),
            ("checks that hold", _held(rows)),
            *facts,
            ("seconds", f"{sum(row.seconds for row in rows):.0f}"),
        ),
        pictures=tuple(
            _picture(name, title, own)
            for name, title, own in families
            if any(not row.reason for row in own)
        ),
        spec=spec,
        provenance=told,
        sheets=tuple(sheets),
        command="steepest atlas",
    )


VERDICTS = ("passed", "FAILED", "not judged", "not applicable", "error")


def _family(rows: list[Any], name: str) -> list[Any]:
    from .. import registry

    names = {algorithm.name for algorithm in getattr(registry, name).ALGORITHMS}
    return [row for row in rows if row.algorithm.name in names]


def _held(rows: list[Any]) -> str:
    checks = [check.passed for row in rows if row.audit is not None for check in row.audit.checks]
    judged = [passed for passed in checks if passed is not None]
    return f"{sum(judged)} of {len(judged)}"


def _line(row: Any) -> dict[str, Any]:
    keys = ("state", "functional", "geometry", "noise", "scheme", "conserves", "dissipates")
    card = {key: row.card.get(key, "–") for key in (*keys, "equilibrium")}
    judged = {"audit": row.verdict, "checks": row.held, "seconds": f"{row.seconds:.1f}"}
    return {"algorithm": row.algorithm.name, **judged, **card}


def _linked(row: Any) -> dict[str, Any]:
    """The line, with its name leading to the row's own page where there is one."""
    from ..report import Link

    line = _line(row)
    if row.audit is not None:
        line["algorithm"] = Link(row.algorithm.name, f"{ROWS}/{slug(row)}/report.html")
    return line


def _source(row: Any) -> dict[str, str]:
    return {"algorithm": row.algorithm.name, "source": row.algorithm.citation}


def _failures(rows: list[Any]) -> Any:
    """What was raised and which checks failed, with their numbers."""
    from ..report import Sheet
    from ..report.page import number

    lines = []
    for row in rows:
        if row.error:
            lines.append((row.algorithm.name, "raised", "–", "–", row.error))
        for check in () if row.audit is None else row.audit.checks:
            if check.passed is False:
                sizes = number(check.residual), number(check.tolerance)
                lines.append((row.algorithm.name, check.name, *sizes, check.why))
    keys = ("algorithm", "check", "residual", "tolerance", "what was compared")
    return Sheet("What did not hold", tuple(dict(zip(keys, line, strict=True)) for line in lines))


def _picture(name: str, title: str, rows: list[Any]) -> Any:
    from .. import figures
    from ..report import Picture

    rows = [row for row in rows if not row.reason]
    panels = [(row.algorithm.name, row.times, row.values, row.verdict) for row in rows]
    failed = [row.algorithm.name for row in rows if row.verdict in ("FAILED", "error")]
    ending = f" Orange, not held: {', '.join(failed)}." if failed else ""
    return Picture(
        name,
        f"{title}: the functional over time in {len(rows)} small panels.",
        f"{title}: the functional over flow time.{ending}",
        lambda theme: figures.multiples_figure(panels, theme=theme),
        wide=True,
    )


def write(place: Path, record: Any, rows: list[Any]) -> None:
    """atlas.csv, the pictures, the spec and the page."""
    from .pages import write_page, write_table

    rest = ("error", "reason", "remark")
    lines = [_line(row) | _source(row) | {key: getattr(row, key) for key in rest} for row in rows]
    write_table(place / "atlas.csv", lines)
    write_page(place, record)
