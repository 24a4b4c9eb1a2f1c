"""Every algorithm of the registry, broken twice and resumed under other chunk sizes: the same bits.

python tests/faults/resume.py [--seed 0] [NAME...]      prints a line for each, ends with 1 if
                                                        one differs
"""

import argparse
import contextlib
import random
import sys
import tempfile
import time
from unittest import mock

import jax
import numpy as np

import steepest as st
from steepest import chunks, store
from steepest.atlas import copies
from steepest.registry import ALGORITHMS, Setting, by_name
from steepest.states.points import is_measure

STEPS, SAVE_EVERY = 150, 15  # a first chunk has 128 steps, those after it as few as one
SECONDS = (1e-9, 1e-4, 10.0)


class Broken(Exception):
    """What ends a run here."""


@contextlib.contextmanager
def broken_after(writes):
    """The next run ends once it has written that many checkpoints."""
    write, left = store.write, [writes]

    def counted(*arguments):
        write(*arguments)
        left[0] -= 1
        if left[0] == 0:
            raise Broken

    with mock.patch.object(store, "write", counted):
        yield


def bits(run):
    """All that a run returned."""
    leaves = jax.tree.leaves((run.times, run.states, run.ledger.columns()))
    return [np.asarray(leaf).tobytes() for leaf in leaves]


def resumes(algorithm, draw):
    """(whether the bits are the same, how often it was broken) of an algorithm of the registry."""
    flow, scheme, state = algorithm.compose(Setting.small())
    if flow.noisy and not is_measure(state):
        state = copies(state)
    key = jax.random.key(draw.randrange(2**31))
    options = dict(scheme=scheme, steps=STEPS, save_every=SAVE_EVERY, key=key)
    whole, times = st.solve(flow, state, **options), 0
    with tempfile.TemporaryDirectory() as folder:
        place = st.Checkpoint(folder, every=0)
        for seconds in (SECONDS[0], draw.choice(SECONDS[:2])):  # the first has writes enough
            pace = mock.patch.object(chunks, "CHUNK_SECONDS", seconds)
            with pace, broken_after(draw.randint(1, 5)), contextlib.suppress(Broken):
                st.solve(flow, state, **options, checkpoint=place)
                continue
            times += 1
        with mock.patch.object(chunks, "CHUNK_SECONDS", draw.choice(SECONDS)):
            again = st.solve(flow, state, **options, checkpoint=place)
        return bits(again) == bits(whole), times


def main():
    """Print a line for each algorithm, and end with 1 if one differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    wrong = []
    for algorithm in [by_name(name) for name in options.names] or ALGORITHMS:
        began = time.monotonic()
        same, times = resumes(algorithm, random.Random(f"{options.seed} {algorithm.name}"))
        good = same and times > 0
        wrong += [] if good else [algorithm.name]
        verdict = "the same bits" if same else "DIFFERS"
        seconds = time.monotonic() - began
        print(f"{algorithm.name}: broken {times} times, {verdict}, {seconds:.1f} s", flush=True)
        jax.clear_caches()
    told = f"{len(wrong)} differ, or were not broken: {', '.join(wrong)}"
    print(told if wrong else "all have the same bits")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
