"""`steepest bridge` and `steepest transport`: clouds in, the most likely flow through them."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ArgumentError
from . import environment, folder

METHODS = ("auto", "gaussian", "mixture", "sinkhorn", "network")
REFERENCES = ("brownian", "ou")
MODEL = "bridge"


@dataclasses.dataclass(frozen=True)
class Options:
    """What the command line says, but for the files and where to write."""

    times: str | None
    temperature: float
    reference: str
    method: str
    growth: float | None
    masses: str | None
    smooth: float | None
    seed: int

    def check(self) -> None:
        """Raises ArgumentError for what cannot be."""
        if self.method not in METHODS:
            raise ArgumentError("--method", self.method, f"one of {', '.join(METHODS)}")
        if self.reference not in REFERENCES:
            raise ArgumentError("--reference", self.reference, f"one of {', '.join(REFERENCES)}")
        if not 0 < self.temperature < float("inf"):
            what = "a number > 0, in squared data units"
            raise ArgumentError("--temperature", self.temperature, what)
        if self.growth is not None and not 0 < self.growth < float("inf"):
            raise ArgumentError("--growth", self.growth, "a price > 0, or leave it out")
        if self.smooth is not None and not 0 < self.smooth < float("inf"):
            raise ArgumentError("--smooth", self.smooth, "a temperature > 0, or leave it out")
        if self.masses is not None and self.growth is None:
            raise ArgumentError("--masses", self.masses, "with --growth PRICE: else mass is kept")

    def words(self) -> list[str]:
        """As they are typed."""
        found = ["--temperature", repr(self.temperature), "--reference", self.reference]
        found += ["--method", self.method, "--seed", str(self.seed)]
        names = ("times", "growth", "masses", "smooth")
        given = [(f"--{name}", getattr(self, name)) for name in names]
        return found + [str(w) for pair in given if pair[1] is not None for w in pair]


def command(files: Sequence[Path], options: Options, out: Path | None) -> int:
    """The whole command; returns the exit code. Raises SteepestError for wrong input."""
    if len(files) < 2:
        raise ArgumentError("FILES", f"{len(files)} of them", "two or more, in the order of time")
    options.check()
    if options.smooth is not None and len(files) < 3:
        raise ArgumentError("--smooth", f"{len(files)} files", "three or more")
    at = read_times(options.times, len(files))
    masses = read_masses(options.masses, len(files))
    if out is None:
        out = Path("runs") / f"{files[0].stem}_to_{files[-1].stem}"
    place = folder.check_place(out)
    words = ["steepest", "bridge", *[str(file) for file in files]]
    words += [*options.words(), "--out", str(out)]
    clouds, names = read_clouds(files)
    environment.prepare()
    import jax

    with jax.enable_x64(True):
        return _run(files, at, masses, clouds, names, options, place, words)


def read_times(text: str | None, count: int) -> tuple[float, ...]:
    """Times of `count` files, increasing: 0, 1, 2, ... where none are given."""
    if text is None:
        return tuple(float(k) for k in range(count))
    times = _numbers(text)
    steps = np.diff(times)
    if len(times) != count or not (np.all(np.isfinite(times)) and np.all(steps > 0)):
        raise ArgumentError("--times", text, f"{count} increasing numbers, as in 0,1,2.5")
    return times


def read_masses(text: str | None, count: int) -> tuple[float, ...]:
    """Masses of `count` files: one each where none are given."""
    masses = (1.0,) * count if text is None else _numbers(text)
    if len(masses) != count or not all(0 < mass < float("inf") for mass in masses):
        raise ArgumentError("--masses", text, f"{count} numbers > 0, as in 1,1.5,4")
    return masses


def _numbers(text: str) -> tuple[float, ...]:
    """Of words between commas; none where one is no number."""
    try:
        return tuple(float(word) for word in text.split(","))
    except ValueError:
        return ()


def read_clouds(files: Sequence[Path]) -> tuple[list[np.ndarray], tuple[str, ...]]:
    """Points of CSV files with the same columns, in the order of the first."""
    from ..problems.csv_text import MAX_BYTES, read_text
    from ..problems.points import read_points

    first, names = read_points(files[0])
    clouds = [first]
    for file in files[1:]:
        check_columns(file.name, read_text(file, ",", MAX_BYTES)[0], files[0].name, names)
        clouds.append(read_points(file, names)[0])
    return clouds, names


def check_columns(name: str, found: Sequence[str], other: str, wanted: Sequence[str]) -> None:
    """Raises ArgumentError unless two files have the same columns."""
    missing = [c for c in wanted if c not in found]
    extra = [c for c in found if c not in wanted]
    if missing or extra:
        said = [f"no column {missing[0]!r}"] if missing else []
        said += [f"a column {extra[0]!r} that {other} has not"] if extra else []
        raise ArgumentError(name, " and ".join(said), f"both need the same columns as {other}")


def _run(
    files: Sequence[Path],
    times: tuple[float, ...],
    masses: tuple[float, ...],
    clouds: list[np.ndarray],
    names: tuple[str, ...],
    options: Options,
    place: Path,
    words: list[str],
) -> int:
    import time

    import jax

    from ..bridges import SchrodingerChain, audit, brownian, ornstein_uhlenbeck
    from . import present_bridge, screen
    from .provenance import provenance
    from .spec import to_toml

    began, before = datetime.now(UTC), time.perf_counter()
    screen.say(" ".join(["steepest bridge", *[str(file) for file in files]]))
    centre = np.mean([cloud.mean(axis=0) for cloud in clouds], axis=0)
    flow = (
        brownian(options.temperature)
        if options.reference == "brownian"
        else ornstein_uhlenbeck(options.temperature, 1.0, centre)
    )
    problem: Any = SchrodingerChain(flow, clouds, times, growth=options.growth, masses=masses)
    if len(clouds) == 2:
        problem = problem.legs[0]
    fit, check, paths = jax.random.split(jax.random.key(options.seed), 3)
    how = {} if options.smooth is None else {"smooth": options.smooth}
    bridge = problem.solve(options.method, fit, **how)
    seconds = {"solve": time.perf_counter() - before}
    screen.say(f"method {bridge.method}: {bridge.why}", "dim")
    for note in bridge.notes:
        screen.say(note, "yellow")
    before = time.perf_counter()
    found = audit(problem, bridge, check)
    seconds["audit"] = time.perf_counter() - before
    settings = {
        "bridge": {
            "files": [os.path.relpath(file, place) for file in files],
            "times": list(times),
            "temperature": options.temperature,
            "reference": options.reference,
            "method": options.method,
            "seed": options.seed,
        }
    }
    if options.growth is not None:
        settings["bridge"] |= {"growth": options.growth, "masses": list(masses)}
    settings["bridge"] |= how
    rows = provenance(
        words, " ".join(words[:2]) + " with the files and numbers of spec.toml", began, seconds,
        seed=options.seed, precision="float64", data=files[0],
    )  # fmt: skip
    for file in files[1:]:
        rows = (*rows, *provenance([], "", began, {}, seed=0, precision="", data=file)[-1:])
    screen.audit(found)
    drawn = present_bridge.Drawn.of(bridge, times, clouds, names, paths)
    title = f"{files[0].stem} to {files[-1].stem}"
    record = present_bridge.record(title, problem, bridge, found, drawn, to_toml(settings), rows)
    with folder.new_folder(place) as scratch:
        present_bridge.write(scratch, record, bridge, drawn)
    screen.say(record.verdict, "bold green" if record.passed else "bold red")
    screen.say(f"report: {screen.relative(place / 'report.html')}")
    return 0 if record.passed else 1


def transport(run: Path, new: Path, out: Path | None, mean: bool, seed: int) -> int:
    """Ends for the points of a CSV file, by the bridge of a run folder."""
    from ..problems.csv_text import MAX_BYTES, read_text
    from ..problems.points import read_points

    out = Path(f"{new.stem}_transported.csv") if out is None else out
    if out.exists():
        raise ArgumentError("--out", out, "it exists already; choose another name")
    environment.prepare()
    import jax

    from ..bridges.store import load
    from . import screen

    with jax.enable_x64(True):
        bridge, words = load(run / MODEL)
        names = tuple(str(name) for name in words.get("columns", ()))
        check_columns(new.name, read_text(new, ",", MAX_BYTES)[0], "the bridge", names)
        x, _ = read_points(new, names)
        points = jax.numpy.asarray(x)
        if not mean:
            found = bridge.sample(points, jax.random.key(seed))
        elif hasattr(bridge, "expected_end"):
            found = bridge.expected_end(points)
        else:
            raise ArgumentError("--mean", "a chain of bridges", "draws: leave --mean out")
    try:
        write_points(out, names, np.asarray(found))
    except OSError as error:
        raise ArgumentError("--out", out, f"cannot be written: {error.strerror}") from None
    screen.say(f"{len(x):,} points, {'their mean ends' if mean else 'an end each'}: {out}")
    return 0


def write_points(path: Path, names: Sequence[str], points: Any) -> None:
    """Rows of numbers under a header, as `read_points` reads them."""
    import csv

    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(names)
        writer.writerows([f"{value:.10g}" for value in row] for row in np.asarray(points))
