"""`steepest atlas`: every known algorithm on one problem, audited and shown on one page."""

from __future__ import annotations

import dataclasses
import shlex
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..errors import ArgumentError
from . import environment, folder
from .ingredients import FUNCTIONALS, LAW_FUNCTIONALS
from .spec import Spec, override, parse_spec, read_tables

PRECISION, SAVE_EVERY, STEP = "float64", 4, 0.05
DEFAULTS: dict[str, Any] = {
    "geometry": {"kind": "euclidean"},
    "scheme": {"kind": "euler", "step": STEP},
    "run": {"steps": 400, "precision": PRECISION},
}
"""What the spec of an atlas need not have."""


@dataclasses.dataclass(frozen=True)
class Asked:
    """What to run on: the registry's problem where `spec` is None."""

    spec: Spec | None
    factor: float | None
    seed: int

    @property
    def precision(self) -> str:
        """`float64`, or what the spec says."""
        return PRECISION if self.spec is None else self.spec.run.precision

    @property
    def steps(self) -> int | None:
        """Of every row."""
        return None if self.spec is None else self.spec.run.steps


def command(
    out: Path | None,
    seed: int | None,
    problem: Path | None = None,
    settings: Sequence[str] = (),
    allow_code: bool = False,
) -> int:
    """The whole command; returns the exit code. Raises SteepestError for wrong input."""
    asked = _asked(problem, settings, seed)
    out = (
        Path("runs") / ("atlas" if problem is None else f"{problem.stem}_atlas")
        if out is None
        else out
    )
    place = folder.check_place(out)
    words = ["--problem", str(problem)] if problem is not None else []
    words += [word for setting in settings for word in ("--set", setting)]
    words += ["--seed", str(asked.seed)] + ["--allow-code"] * allow_code
    environment.prepare()
    import jax

    with jax.enable_x64(asked.precision == "float64"):
        return _run(place, out, asked, words, allow_code)


def _asked(problem: Path | None, settings: Sequence[str], seed: int | None) -> Asked:
    """The spec with what it need not say; the factor of the steps, where it says its step."""
    if problem is None:
        if settings:
            raise ArgumentError("--set", settings[0], "the keys of a spec; add --problem my.toml")
        return Asked(None, 1.0, 0 if seed is None else seed)
    tables = read_tables(problem)
    for setting in settings:
        override(tables, setting)
    scheme, given = tables.get("scheme"), tables.get("run")
    told = isinstance(scheme, dict) and "step" in scheme
    if isinstance(given, dict):
        for key in ("time", "save_every", "warmup"):  # every row has the same number of steps
            given.pop(key, None)
    for section, default in DEFAULTS.items():
        table = tables.setdefault(section, {})
        if isinstance(table, dict) and ("kind" not in table or section == "run"):
            tables[section] = default | table
    spec = parse_spec(tables, problem.parent, problem.name)
    if spec.run.steps is None or spec.run.steps % SAVE_EVERY:
        what = f"a multiple of {SAVE_EVERY}: every row takes that many"
        raise ArgumentError("run.steps", spec.run.steps, what)
    if spec.functional[0].kind in LAW_FUNCTIONALS:
        known = "an energy of parameters: " + ", ".join(FUNCTIONALS)
        raise ArgumentError("functional.kind", repr(spec.functional[0].kind), known)
    step = getattr(spec.scheme, "step", STEP)
    return Asked(spec, step / STEP if told else None, spec.run.seed if seed is None else seed)


def _setting(asked: Asked, allow_code: bool) -> Any:
    """The registry's problem, or the one of the spec with its start, spread and temperature."""
    import jax

    from ..noise import Thermal
    from ..registry import OwnSetting
    from .build import build

    if asked.spec is None:
        return None
    job = build(asked.spec, allow_code)
    scale = getattr(asked.spec.state, "scale", None) or 1.0
    thermal = job.flow.thermal
    if thermal is not None and callable(thermal.temperature):
        raise ArgumentError("noise.temperature", "a schedule", "a number: one for all rows")
    assert thermal is None or isinstance(thermal, Thermal)
    return OwnSetting.of(
        job.problem.functional,
        _start(asked.spec, job.problem.start),
        temperature=1.0 if thermal is None else float(thermal.temperature),
        spread=scale,
        factor=asked.factor,
        key=jax.random.fold_in(jax.random.key(asked.seed), 1),
    )


def _start(spec: Spec, start: Any) -> Any:
    """The problem's own start, or the numbers of [state]."""
    import jax.numpy as jnp
    from jax.flatten_util import ravel_pytree

    if not isinstance(spec.state.initial, list):
        return start
    flat, unravel = ravel_pytree(start)
    return unravel(jnp.asarray(spec.state.initial, flat.dtype))


def _run(place: Path, out: Path, asked: Asked, words: list[str], allow_code: bool) -> int:
    import jax

    from ..atlas import STEPS, atlas
    from ..registry import ALGORITHMS
    from . import present_atlas, screen
    from .provenance import data_file, provenance, resolved

    began, before = datetime.now(UTC), time.perf_counter()
    spec, setting = asked.spec, _setting(asked, allow_code)
    name = "one problem" if spec is None else spec.name
    screen.say(f"steepest atlas: {len(ALGORITHMS)} known algorithms on {name}")
    text = f"seed = {asked.seed}\n"
    data = None
    if spec is not None:
        text = resolved(spec.tables(), spec.folder, place)
        data = data_file(spec.tables(), spec.folder)
    again = [word if word != words[1] else "spec.toml" for word in words] if spec else words
    rows = []

    def told(seconds: float) -> Any:
        return provenance(
            ["steepest", "atlas", *words, "--out", str(out)],
            shlex.join(["steepest", "atlas", *again, "--out", "again"]),
            began,
            {"atlas": seconds},
            seed=asked.seed,
            precision=asked.precision,
            data=data,
        )

    with folder.new_folder(place) as scratch:
        for row in atlas(setting, key=jax.random.key(asked.seed), steps=asked.steps or STEPS):
            style = {"passed": "green", "FAILED": "bold red", "error": "bold red"}
            said = f"{row.verdict:<14}  {row.held:>8}  {row.seconds:5.1f} s  {row.algorithm.name}"
            why = row.error or row.reason or row.remark
            screen.say(said + (f": {why}" if why else ""), style.get(row.verdict, "dim"))
            if row.run is not None:
                present_atlas.write_row(scratch, row, setting, text, told(row.seconds))
            rows.append(dataclasses.replace(row, run=None))
        seconds = told(time.perf_counter() - before)
        record = present_atlas.record(rows, name, text, seconds, setting)
        present_atlas.write(scratch, record, rows)
    screen.say(record.verdict, "bold green" if record.passed else "bold red")
    screen.say(f"report: {screen.relative(place / 'report.html')}")
    return 0 if record.passed else 1
