"""`steepest run`: read the spec, run it, audit it, write the folder."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import environment, folder, unfinished
from .spec import Spec, read_spec

if TYPE_CHECKING:
    from ..checkpoint import Checkpoint


def run_command(
    path: Path,
    out: Path | None,
    settings: Sequence[str],
    seed: int | None,
    allow_code: bool,
    resume: bool,
    every: float,
    devices: int | None = None,
    distributed: str | None = None,
) -> int:
    """The whole command; returns the exit code. Raises SteepestError for wrong input."""
    spec = read_spec(path, settings, seed)
    out = Path("runs") / path.stem if out is None else out
    place = folder.check_place(out)
    command = ["steepest", "run", str(path), "--out", str(out)]
    command += [word for setting in settings for word in ("--set", setting)]
    command += [] if seed is None else ["--seed", str(seed)]
    command += ["--allow-code"] if allow_code else []
    command += unfinished.words(resume, every)
    command += [] if devices is None else ["--devices", str(devices)]
    command += [] if distributed is None else ["--distributed", distributed]
    environment.prepare(devices or 1)
    if distributed is not None:
        environment.connect(distributed)
    mesh = environment.mesh(devices)
    kept = unfinished.kept(place, resume, every)
    import jax

    wide = jax.enable_x64(spec.run.precision == "float64")
    with wide, unfinished.forgotten_if_it_fails(kept):
        return _run(spec, place, command, allow_code, kept, mesh)


def _run(
    spec: Spec, place: Path, command: list[str], allow_code: bool, kept: Checkpoint, mesh: Any
) -> int:
    import jax

    from . import present, screen
    from .build import build
    from .execute import execute
    from .provenance import data_file, provenance, resolved

    began, first = datetime.now(UTC), jax.process_index() == 0
    screen.only_here(first)
    screen.say(f"steepest run {spec.name}")
    job = build(spec, allow_code)
    screen.row(job.row)
    for note in job.problem.notes:
        screen.say(note, "dim")
    outcome = execute(spec, job, screen.interactive(), kept, mesh)
    if not first:  # one process writes the report
        return 0
    screen.audit(outcome.audit)
    tables = spec.tables()
    rows = provenance(
        command,
        "steepest run spec.toml --out again" + (" --allow-code" if allow_code else ""),
        began,
        outcome.seconds,
        seed=spec.run.seed,
        precision=spec.run.precision,
        data=data_file(tables, spec.folder),
    )
    toml = resolved(tables, spec.folder, place)
    record = present.record(Path(spec.name).stem, job, outcome, toml, rows)
    if record.summary:
        screen.summary(record.summary)
    for text in record.warnings[len(outcome.foreseen) :]:
        screen.say(f"warning: {text}", "yellow")
    with folder.new_folder(place) as scratch:
        present.write(scratch, record, job, outcome)
    if outcome.trajectory.ending != "interrupted":
        kept.discard()
    screen.say(record.verdict, "bold green" if record.passed else "bold red")
    screen.say(f"report: {screen.relative(place / 'report.html')}")
    return 0 if record.passed else 1
