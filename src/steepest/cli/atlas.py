"""`steepest atlas`: every known algorithm on one problem, audited, as one page."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from . import environment, folder

PRECISION = "float64"
FAMILIES = (
    ("points", "Optimizers of a point"),
    ("motions", "Integrators of Hamilton's equations"),
    ("chains", "Samplers"),
    ("laws", "Flows of a law"),
    ("clouds", "Particles that feel one another"),
    ("diffusions", "Samplers of diffusion models"),
)


def command(out: Path | None, seed: int) -> int:
    """The whole command; returns the exit code. Raises SteepestError for wrong input."""
    out = Path("runs") / "atlas" if out is None else out
    place = folder.check_place(out)
    environment.prepare()
    import jax

    with jax.enable_x64(PRECISION == "float64"):
        return _run(place, out, seed)


def _run(place: Path, out: Path, seed: int) -> int:
    import jax

    from ..atlas import atlas
    from ..registry import ALGORITHMS
    from . import screen
    from .provenance import provenance

    began, before = datetime.now(UTC), time.perf_counter()
    screen.say(f"steepest atlas: {len(ALGORITHMS)} known algorithms on one problem")
    rows = []
    for row in atlas(key=jax.random.key(seed)):
        style = {"passed": "green", "not judged": "dim"}.get(row.verdict, "bold red")
        said = f"{row.verdict:<10}  {row.held:>8}  {row.seconds:5.1f} s  {row.algorithm.name}"
        screen.say(said + (f": {row.error}" if row.error else ""), style)
        rows.append(row)
    told = provenance(
        ["steepest", "atlas", "--out", str(out), "--seed", str(seed)],
        f"steepest atlas --out again --seed {seed}",
        began,
        {"atlas": time.perf_counter() - before},
        seed=seed,
        precision=PRECISION,
        data=None,
    )
    record = _record(rows, seed, told)
    with folder.new_folder(place) as scratch:
        _write(scratch, record, rows)
    screen.say(record.verdict, "bold green" if record.passed else "bold red")
    screen.say(f"report: {screen.relative(place / 'report.html')}")
    return 0 if record.passed else 1


def _record(rows: list[Any], seed: int, told: Any) -> Any:
    """Everything that the page says."""
    from ..report import Record, Sheet

    count = {name: sum(row.verdict == name for row in rows) for name in VERDICTS}
    passed = count["FAILED"] == count["error"] == 0
    families = [(name, title, _family(rows, name)) for name, title in FAMILIES]
    sheets = [_failures(rows)] if not passed else []
    sheets += [Sheet(title, tuple(map(_line, own))) for _, title, own in families if own]
    sheets.append(Sheet("Sources", tuple(map(_source, rows))))
    return Record(
        title="Atlas of known algorithms",
        passed=passed,
        verdict="every audit passed" if passed else "some audits failed",
        said=", ".join(f"{number} {name}" for name, number in count.items() if number)
        + "; a row is not judged where no check can decide.",
        facts=(
            ("algorithms", f"{len(rows)}"),
            ("checks that hold", _held(rows)),
            ("seconds", f"{sum(row.seconds for row in rows):.0f}"),
        ),
        pictures=tuple(_picture(name, title, own) for name, title, own in families if own),
        spec=f"seed = {seed}\n",
        provenance=told,
        sheets=tuple(sheets),
        command="steepest atlas",
    )


VERDICTS = ("passed", "FAILED", "not judged", "error")


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


def _write(place: Path, record: Any, rows: list[Any]) -> None:
    """atlas.csv, the pictures, the spec and the page."""
    from .pages import write_page, write_table

    lines = [_line(row) | _source(row) | {"error": row.error} for row in rows]
    write_table(place / "atlas.csv", lines)
    write_page(place, record)
