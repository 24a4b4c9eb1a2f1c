"""Paired timing: one process a contender, runs in turn, median ratio, compile time apart.

Every contender lives in a process of its own (so that no import or thread pool helps or hurts
another) and runs when it is told to, one after the other: A B C A B C ... A drift of the machine
then hits all alike, and the ratio of one round is fair where two absolute times are not. A run that
is shorter than SHORTEST seconds is repeated until these have passed, and their mean counts: a
single one would measure how cold the others have left the caches.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator

SHORTEST = 0.05


@dataclasses.dataclass(frozen=True)
class Contender:
    """`make(case)` in `module` returns a function that does the work once and blocks until done.

    Its `remark` is printed beside its name; its seconds are divided by its `share` of the work.
    """

    name: str
    module: str
    make: str


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of a table: seconds and the ratio to the reference, round by round."""

    name: str
    seconds: float
    ratio: float
    low: float
    high: float
    compile_seconds: float
    note: str = ""
    remark: str = ""


class Worker:
    """A contender in its process."""

    def __init__(self, contender: Contender, case: str):
        self.name = contender.name
        command = [
            sys.executable,
            "-m",
            "benchmarks.harness",
            contender.module,
            contender.make,
            case,
        ]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # Several processes share an accelerator: none may take its memory beforehand. The last
            # line of an error is to be the error.
            env={
                "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
                "JAX_TRACEBACK_FILTERING": "off",
                **os.environ,
            },
        )
        self.note = ""
        first = self.ask("warm")
        self.compile_seconds = first if first is not None else float("nan")

    def ask(self, word: str) -> float | None:
        """Seconds of one run; None if the contender is not available."""
        if self.note:
            return None
        try:
            self.process.stdin.write(word + "\n")
            self.process.stdin.flush()
            answer = json.loads(self.process.stdout.readline())
        except (BrokenPipeError, json.JSONDecodeError):
            lines = self.process.stderr.read().strip().splitlines()
            self.note = lines[-1] if lines else "ended without a word"
            return None
        return float(answer)

    def remark(self) -> str:
        """What the contender says of its result, e.g. its error."""
        if self.note:
            return ""
        self.process.stdin.write("remark\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def compare(contenders: list[Contender], case: str, rounds: int = 9) -> list[Row]:
    """All contenders on one case; the first is the reference of the ratios."""
    workers = [Worker(contender, case) for contender in contenders]
    times: dict[str, list[float]] = {worker.name: [] for worker in workers}
    for _ in range(rounds):
        for worker in workers:
            seconds = worker.ask("run")
            if seconds is not None:
                times[worker.name].append(seconds)
    rows = []
    reference = times[workers[0].name]
    if len(reference) < rounds:
        raise RuntimeError(f"the reference, {workers[0].name}, failed: {workers[0].note}")
    for worker in workers:
        remark = worker.remark()
        worker.close()
        own = times[worker.name]
        if len(own) < rounds:
            nan = float("nan")
            rows.append(Row(worker.name, nan, nan, nan, nan, nan, worker.note))
            continue
        ratios = [a / b for a, b in zip(own, reference, strict=True)]
        median = statistics.median(own)
        warm = max(worker.compile_seconds - median, 0.0)
        rows.append(
            Row(
                worker.name,
                median,
                statistics.median(ratios),
                min(ratios),
                max(ratios),
                warm,
                remark=remark,
            )
        )
    return rows


def tables(
    contenders: list[Contender],
    cases: Iterable[str],
    rounds: int,
    only: str | None,
    title: str = "{}",
) -> Iterator[Table]:
    """A table for each chosen case; `title` frames its name."""
    for case in chosen(cases, only):
        yield table(title.format(case), compare(contenders, case, rounds))


def chosen(cases: Iterable[str], only: str | None) -> list[str]:
    """The case of that name; where there is none, those that have it in their name; None: all."""
    cases = list(cases)
    if only is None or only in cases:
        return cases if only is None else [only]
    return [case for case in cases if only in case]


@dataclasses.dataclass(frozen=True)
class Table:
    """Paired timings under a title; its text is Markdown."""

    title: str
    rows: tuple[Row, ...]

    def __str__(self) -> str:
        lines = [
            f"### {self.title}",
            "",
            "| contender | seconds (median) | ratio to the first (median, min-max) | compile, s |",
            "|---|---|---|---|",
        ]
        for row in self.rows:
            if row.note:
                lines.append(f"| {row.name} | not run | {row.note} | |")
            else:
                name = f"{row.name}: {row.remark}" if row.remark else row.name
                lines.append(
                    f"| {name} | {row.seconds:.4g} | {row.ratio:.2f} ({row.low:.2f}-{row.high:.2f})"
                    f" | {row.compile_seconds:.2f} |"
                )
        return "\n".join([*lines, ""])


def table(title: str, rows: list[Row]) -> Table:
    """The rows under a title."""
    return Table(title, tuple(rows))


def device() -> str:
    """The kind of device that the contenders run on; asked in a process of its own."""
    ask = "import jax; print(jax.devices()[0].device_kind)"
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def serve(module: str, make: str, case: str) -> None:
    """The worker's side: build once, then run whenever a line comes in."""
    run = getattr(importlib.import_module(module), make)(case)
    for line in sys.stdin:
        if line.strip() == "remark":
            print(json.dumps(getattr(run, "remark", "")), flush=True)
            continue
        before, count, passed = time.perf_counter(), 0, 0.0
        while not count or (line.strip() == "run" and passed < SHORTEST):
            run()
            count, passed = count + 1, time.perf_counter() - before
        # Who does a part of the work alone, and says so, is timed as if for the whole.
        print(json.dumps(passed / count / getattr(run, "share", 1.0)), flush=True)


if __name__ == "__main__":
    serve(*sys.argv[1:4])
