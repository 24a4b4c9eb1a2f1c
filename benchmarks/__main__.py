"""`python -m benchmarks NAME [--case CASE] [--rounds N]` measures and prints one benchmark, and
with `--record` keeps it; `--all` records every part that has no complete record yet, one after the
other, each in a process of its own; `--render` writes RESULTS.md from the records."""

from __future__ import annotations

import argparse
import importlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator

from .harness import device
from .render import render
from .store import Part, Recorder, read

NAMES = (
    "sampling",
    "roofline",
    "scaling",
    "density",
    "jko",
    "dial",
    "interacting",
    "mechanics",
    "mixture_target",
    "optimizers",
    "calibration",
    "posteriors",
    "posterior_references",
    "variational",
    "evidence",
    "diffusion",
    "bridges",
    "sinkhorn",
    "light_bridges",
    "gaussian_bridges",
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", nargs="?", choices=NAMES)
    parser.add_argument("--all", action="store_true", help="every part without a complete record")
    parser.add_argument("--render", action="store_true", help="write RESULTS.md and stop")
    parser.add_argument("--list", action="store_true", help="print the parts and stop")
    parser.add_argument("--again", action="store_true", help="with --all: measured parts as well")
    parser.add_argument("--minutes", type=float, help="with --all: begin no part after these")
    parser.add_argument("--record", action="store_true", help="keep it, in benchmarks/results")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--case", help="the case of this name, or all that contain it")
    parser.add_argument("--out", help="a file to which all is appended as well, line by line")
    options = parser.parse_args()
    if options.list:
        for part in parts(options.name):
            print(part.label)
    elif options.render:
        print(render(parts()))
    elif options.all:
        everything(options)
    elif options.name is None:
        parser.error("name one of " + ", ".join(NAMES) + ", or --all")
    else:
        one(options)


def parts(name: str | None = None) -> Iterator[Part]:
    """What is measured and recorded by itself: of one benchmark, or of all."""
    for benchmark in NAMES if name is None else (name,):
        module = importlib.import_module(f"benchmarks.{benchmark}")
        for case in getattr(module, "PARTS", getattr(module, "CASES", (None,))):
            yield Part(benchmark, case)


def one(options: argparse.Namespace) -> None:
    """Measures and prints, and records a part that is to be kept."""
    part, here = Part(options.name, options.case), device()
    recorder = Recorder(part, here, options.rounds) if options.record else None
    if recorder is not None and part not in set(parts(part.benchmark)):
        sys.exit(
            f"--record keeps one part: give --case, one of {' | '.join(map(str, _cases(part)))}"
        )
    module = importlib.import_module(f"benchmarks.{part.benchmark}")
    for text in module.tables(options.rounds, options.case):
        _say(str(text), options.out)
        if recorder is not None:
            recorder.add(text)
    if recorder is not None:
        recorder.close()


def _cases(part: Part) -> list[str | None]:
    return [other.case for other in parts(part.benchmark)]


def everything(options: argparse.Namespace) -> None:
    """Part by part; one that fails does not keep the others from being measured."""
    began, here = time.monotonic(), device()
    for part in parts(options.name):
        path = part.path(here)
        if path.exists() and read(path)["complete"] and not options.again:
            continue
        if options.minutes is not None and time.monotonic() - began > 60 * options.minutes:
            print("the minutes are over; call again for the rest")
            break
        print(f"=== {part.label}", flush=True)
        command = [sys.executable, "-m", "benchmarks", part.benchmark, "--record"]
        command += [] if part.case is None else ["--case", part.case]
        subprocess.run([*command, "--rounds", str(options.rounds)], check=False)
    print(render(parts()))


def _say(text: str, out: str | None) -> None:
    print(text, flush=True)
    if out is not None:
        with open(out, "a") as file:
            file.write(text + "\n")


if __name__ == "__main__":
    # Several processes share an accelerator: none may take its memory beforehand.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    main()
