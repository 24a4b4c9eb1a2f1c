"""`steepest dial`: one spec at several positions between two settings (section 7.8).

A dial moves keys of a spec together: at position s in [0, 1] a key that goes from a to b has the
value a + s (b - a), or a^(1 - s) b^s on a logarithmic dial. `geometry=A,B` is the sum
(1 - s) A + s B of two geometries.
"""

from __future__ import annotations

import copy
import dataclasses
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ArgumentError, Diverged, NotConverged
from . import environment, folder
from .spec import Spec, override, parse_spec, read_tables

MOST_POSITIONS = 101


@dataclasses.dataclass(frozen=True)
class Track:
    """What one `--between` says: `key` goes from `begin` to `end`, numbers or two geometries."""

    key: str
    begin: float | str
    end: float | str

    @classmethod
    def parse(cls, text: str) -> Track:
        """From "SECTION.KEY=FROM,TO"; raises ArgumentError."""
        key, equals, ends = text.partition("=")
        parts = [part.strip() for part in ends.split(",")]
        would = "KEY=FROM,TO, e.g. noise.temperature=0.1,1 or geometry=wasserstein,fisher-rao"
        if not equals or len(parts) != 2 or not all(parts):
            raise ArgumentError("--between", text, would)
        key = key.strip()
        if key == "geometry":
            kinds = [part.replace("_", "-") for part in parts]
            return cls(key, kinds[0], kinds[1])
        try:
            begin, end = map(float, parts)
        except ValueError:
            raise ArgumentError("--between", text, would) from None
        if not np.isfinite([begin, end]).all() or begin == end:
            raise ArgumentError("--between", text, "two different finite numbers")
        return cls(key, begin, end)

    def __str__(self) -> str:
        ends = (v if isinstance(v, str) else f"{v:g}" for v in (self.begin, self.end))
        return f"{self.key}, {' to '.join(ends)}"

    def at(self, position: float, logarithmic: bool) -> dict[str, float]:
        """The keys at this position, with their values."""
        if isinstance(self.begin, str) or isinstance(self.end, str):
            shares = (1.0 - position, position)
            kinds = (self.begin, self.end)
            return {f"share of {k}": s for k, s in zip(kinds, shares, strict=True)}
        if not logarithmic:
            return {self.key: self.begin + position * (self.end - self.begin)}
        if not (self.begin > 0 and self.end > 0):
            ends = f"{self.begin:g},{self.end:g}"
            raise ArgumentError(f"--between {self.key}", ends, "two positive numbers for --log")
        return {self.key: float(self.begin ** (1.0 - position) * self.end**position)}

    def apply(self, tables: dict[str, Any], values: dict[str, float]) -> None:
        """Put the values of `at` into the tables of a spec."""
        if self.key == "geometry":
            kinds = (self.begin, self.end)
            shares = zip(kinds, values.values(), strict=True)
            tables["geometry"] = [{"kind": kind, "factor": share} for kind, share in shares]
        else:
            override(tables, f"{self.key}={values[self.key]!r}")


@dataclasses.dataclass(frozen=True)
class Stop:
    """One position of the dial: the spec there, and what its run did."""

    values: dict[str, float]
    spec: Spec
    ledger: dict[str, np.ndarray]
    verdict: str

    def row(self) -> dict[str, Any]:
        """A line of the table: where the functional went, when, and through what."""
        row: dict[str, Any] = dict(self.values)
        numbers = ("start", "late", "half time", "dissipated", "late rate", "work")
        if not self.ledger:
            return row | dict.fromkeys(numbers, float("nan")) | {"audit": self.verdict}
        values = self.ledger["functional"]
        late = slice(-max(1, len(values) // 4), None)
        end = float(np.mean(values[late]))
        near = np.abs(values - end) <= 0.5 * abs(values[0] - end)
        found = (
            float(values[0]),
            end,
            float(self.ledger["time"][int(np.argmax(near))]),
            float(self.ledger["dissipated"][-1]),
            float(np.mean(self.ledger["dissipation_rate"][late])),
            float(self.ledger["work"][-1]),
        )
        return row | dict(zip(numbers, found, strict=True)) | {"audit": self.verdict}


def command(
    path: Path,
    between: Sequence[str],
    positions: int,
    logarithmic: bool,
    out: Path | None,
    settings: Sequence[str],
    allow_code: bool,
) -> int:
    """The whole command; returns the exit code. Raises SteepestError for wrong input."""
    if not between:
        raise ArgumentError("--between", "nothing", "what to turn, e.g. noise.temperature=0.1,1")
    if not 2 <= positions <= MOST_POSITIONS:
        raise ArgumentError("--steps", positions, f"a whole number from 2 to {MOST_POSITIONS}")
    tracks = [Track.parse(text) for text in between]
    tables = read_tables(path)
    for setting in settings:
        override(tables, setting)
    places = []
    for position in np.linspace(0.0, 1.0, positions):
        here, values = copy.deepcopy(tables), {}
        for track in tracks:
            moved = track.at(float(position), logarithmic)
            track.apply(here, moved)
            values |= moved
        places.append((values, parse_spec(here, path.parent, path.name)))
    out = Path("runs") / f"{path.stem}_dial" if out is None else out
    place = folder.check_place(out)
    words = ["steepest", "dial", str(path), "--steps", str(positions), "--out", str(out)]
    words += [word for text in between for word in ("--between", text)]
    words += [word for setting in settings for word in ("--set", setting)]
    words += ["--log"] * logarithmic + ["--allow-code"] * allow_code
    environment.prepare()
    import jax

    with jax.enable_x64(places[0][1].run.precision == "float64"):
        turned = "; ".join(map(str, tracks))
        return _run(tables, places, turned, place, words, allow_code)


def _run(
    tables: Any, places: Any, turned: str, place: Path, words: list[str], allow_code: bool
) -> int:
    from . import screen
    from .provenance import data_file, provenance, resolved

    spec = places[0][1]
    began, before = datetime.now(UTC), time.perf_counter()
    screen.say(f"steepest dial {spec.name}: {len(places)} positions")
    stops = []
    for values, at in places:
        stops.append(_stop(values, at, allow_code))
        here = ", ".join(f"{key} {value:.4g}" for key, value in values.items())
        screen.say(f"{here}: {stops[-1].verdict}")
    told = provenance(
        words,
        f"steepest dial spec.toml {' '.join(words[3:])}",
        began,
        {"dial": time.perf_counter() - before},
        seed=spec.run.seed,
        precision=spec.run.precision,
        data=data_file(spec.tables(), spec.folder),
    )
    record = _record(stops, turned, resolved(tables, spec.folder, place), told)
    with folder.new_folder(place) as scratch:
        _write(scratch, record, stops)
    screen.say(record.verdict, "bold green" if record.passed else "bold red")
    screen.say(f"report: {screen.relative(place / 'report.html')}")
    return 0 if record.passed else 1


def _stop(values: dict[str, float], spec: Spec, allow_code: bool) -> Stop:
    """A run at one position; where it diverges the others still run."""
    from .build import build
    from .execute import execute
    from .shared import columns_of

    try:
        outcome = execute(spec, build(spec, allow_code))
    except (Diverged, NotConverged) as error:
        return Stop(values, spec, {}, f"diverged: {error}")
    verdict = "passed" if outcome.audit.passed else "FAILED"
    if not outcome.audit.passed:
        verdict += ": " + ", ".join(c.name for c in outcome.audit.checks if c.passed is False)
    return Stop(values, spec, columns_of(outcome.trajectory), verdict)


def _record(stops: list[Stop], turned: str, spec: str, told: Any) -> Any:
    from .. import figures
    from ..report import Picture, Record, Sheet

    rows = [stop.row() for stop in stops]
    held = sum(stop.verdict == "passed" for stop in stops)
    passed = held == len(stops)
    labels = [", ".join(f"{value:.3g}" for value in stop.values.values()) for stop in stops]
    curves = [
        (label, stop.ledger["time"], stop.ledger["functional"])
        for label, stop in zip(labels, stops, strict=True)
        if stop.ledger
    ]
    first, last = rows[0]["late"], rows[-1]["late"]
    return Record(
        title=f"{stops[0].spec.name}: a dial",
        passed=passed,
        verdict="every audit passed" if passed else "some audits failed",
        said=f"{held} of {len(stops)} positions hold. Turned: {turned}.",
        facts=(
            ("turned", turned),
            ("positions", f"{len(stops)}"),
            ("late functional, first and last", f"{first:.4g}, {last:.4g}"),
        ),
        pictures=(
            Picture(
                "dial",
                f"The functional over time at {len(curves)} positions of the dial, and where it "
                "ends against the position.",
                "Left, the functional over time, from the first position in blue to the last in "
                "orange; right, its mean over the last quarter and the time to half of the way.",
                lambda theme: figures.dial_figure(
                    curves,
                    np.array([row["late"] for row in rows]),
                    np.array([row["half time"] for row in rows]),
                    turned,
                    theme=theme,
                ),
                wide=True,
            ),
        ),
        spec=spec,
        provenance=told,
        sheets=(
            Sheet(
                "Positions",
                tuple(rows),
                "Late: the functional's mean over the last quarter. Half time: when half of the "
                "way there is done. Dissipated: what the ledger added up (heat, in a bath); late "
                "rate: of dissipation, over the last quarter.",
            ),
        ),
        command="steepest dial",
    )


def _write(place: Path, record: Any, stops: list[Stop]) -> None:
    """dial.csv, the spec and the page."""
    from .pages import write_page, write_table

    write_table(place / "dial.csv", [stop.row() for stop in stops])
    write_page(place, record)
