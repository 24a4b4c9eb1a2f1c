"""kill -9 at random moments over five kinds of run; each must end with the bits of an unbroken one.

    python tests/faults/kill.py [--kills 10] [--size 4] [--seed 0] [KIND...]

A run is killed again and again, after random times since it has begun, until it comes to its end;
then its digest is compared. This goes on until the kind has had its number of kills. Compiled
programs are cached, so that moments are spread over runs and not over compilation alone.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

KINDS = ("density", "particles", "chains", "variational", "training")
PROGRAM = Path(__file__).with_name("kinds.py")


def begin(folder, size, kind, environment):
    """The process, once its run begins."""
    command = [sys.executable, str(PROGRAM), str(folder), str(size), kind]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    assert "begins" in process.stdout.readline()
    return process, time.monotonic()


def unbroken(folder, size, kind, environment):
    """(digest, seconds) of a run that nobody kills."""
    process, began = begin(folder, size, kind, environment)
    text, _ = process.communicate()
    assert process.returncode == 0, kind
    return text.split()[1], time.monotonic() - began


def broken(folder, size, kind, environment, draw, most):
    """(digest, moments of the kills) of one run that is killed until it ends."""
    moments = []
    while True:
        process, began = begin(folder, size, kind, environment)
        wait = draw() if len(moments) < most else 1e6
        try:
            text, _ = process.communicate(timeout=wait)
            assert process.returncode == 0, kind
            return text.split()[1], moments
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            moments.append(time.monotonic() - began)


def main():
    """Print a line for each broken run, and end with 1 if one differs."""
    parser = argparse.ArgumentParser()
    parser.add_argument("kinds", nargs="*", default=KINDS)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--size", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    numbers, wrong = random.Random(options.seed), 0
    with tempfile.TemporaryDirectory() as scratch:
        cache = {"JAX_COMPILATION_CACHE_DIR": f"{scratch}/cache"}
        cache["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
        environment = os.environ | cache
        for kind in options.kinds:
            size = options.size
            unbroken(Path(scratch) / "cold", size, kind, environment)
            expected, seconds = unbroken(Path(scratch) / "whole", size, kind, environment)
            kills = 0
            while kills < options.kills:
                folder = Path(scratch) / "broken"
                shutil.rmtree(folder, ignore_errors=True)
                draw = lambda most=0.7 * seconds: numbers.uniform(0.0, most)  # noqa: E731
                left = options.kills - kills
                found, moments = broken(folder, size, kind, environment, draw, left)
                kills += len(moments)
                wrong += found != expected
                told = ", ".join(f"{moment:.2f}" for moment in moments)
                verdict = "the same bits" if found == expected else f"DIFFERS {found}"
                print(f"{kind}: killed after {told} s of {seconds:.2f}: {verdict}", flush=True)
            shutil.rmtree(Path(scratch) / "whole")
            shutil.rmtree(Path(scratch) / "cold")
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
