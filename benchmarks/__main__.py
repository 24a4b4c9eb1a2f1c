"""`python -m benchmarks NAME [--rounds N]` prints a table; `--all` prints every one."""

from __future__ import annotations

import argparse
import importlib
import platform

from .harness import device

NAMES = (
    "sampling",
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
    "evidence",
    "diffusion",
    "bridges",
    "sinkhorn",
    "light_bridges",
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", nargs="?", choices=NAMES)
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--case", help="only the cases whose name contains this")
    parser.add_argument("--out", help="a file to which all is appended as well, line by line")
    options = parser.parse_args()
    if not options.all and options.name is None:
        parser.error("name one of " + ", ".join(NAMES) + ", or --all")
    where = f"{platform.machine()}, {platform.system()}, Python {platform.python_version()}"
    _say(f"{where}, {device()}\n", options.out)
    for name in NAMES if options.all else (options.name,):
        module = importlib.import_module(f"benchmarks.{name}")
        for text in module.tables(options.rounds, options.case):
            _say(text, options.out)


def _say(text: str, out: str | None) -> None:
    print(text, flush=True)
    if out is not None:
        with open(out, "a") as file:
            file.write(text + "\n")


if __name__ == "__main__":
    main()
