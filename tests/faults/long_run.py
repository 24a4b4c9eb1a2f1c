"""A long run with many saves: resident memory must not grow with them.

    python tests/faults/long_run.py FOLDER [--count N] [--steps N] [--saves N] [--memory]

Prints the resident memory of the process, what is its own and what is mapped from files, while the
run goes on. With --memory the saves stay in memory, for comparison.
"""

import argparse
import time

import jax
import jax.numpy as jnp

import steepest as st
from steepest import chunks


def resident():
    """(own, mapped) MiB of this process."""
    with open("/proc/self/status") as file:
        lines = dict(line.split(":", 1) for line in file)
    own, mapped = (int(lines[name].split()[0]) / 1024 for name in ("RssAnon", "RssFile"))
    return own, mapped


def main():
    """Run, and print a row for every tenth of it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--saves", type=int, default=1_000)
    parser.add_argument("--memory", action="store_true")
    options = parser.parse_args()
    flow = st.Flow(st.Energy(lambda x: jnp.sum((x**2 - 1.0) ** 2)), st.Euclidean(), st.Thermal(0.4))
    start = st.Particles(jax.random.normal(jax.random.key(0), (options.count, 2), jnp.float32))
    update, shown, began = chunks.Progress.update, [0.0], time.monotonic()

    def told(self, done):
        update(self, done)
        if done >= shown[0] * options.steps:
            shown[0] += 0.1
            own, mapped = resident()
            seconds = time.monotonic() - began
            print(f"{done:>8} steps {seconds:6.1f} s  {own:7.0f} + {mapped:5.0f} MiB", flush=True)

    chunks.Progress.update = told
    run = st.solve(
        flow,
        start,
        scheme=st.Euler(0.002),
        steps=options.steps,
        save_every=options.steps // options.saves,
        key=jax.random.key(1),
        checkpoint=None if options.memory else st.Checkpoint(options.folder, every=5.0),
    )
    own, mapped = resident()
    work = options.count * options.steps
    print(f"{work:.1e} particle-steps, {len(run) - 1} saves: {own:.0f} + {mapped:.0f} MiB")
    print(f"F from {run.ledger.functional[0]:.4f} to {run.ledger.functional[-1]:.4f}")


if __name__ == "__main__":
    main()
