"""The same run on 1, 2, 4 and 8 devices of the host: seconds, and how far the numbers differ.

Cases: particles that interact (all pairs travel round the devices), and independent chains. Every
contender is a process of its own, whose processor is divided into so many devices; each has the
same share of the cores, so that k devices are k times the machine, up to where the cores end.
"""

from __future__ import annotations

import os

from . import harness
from .harness import Contender

CASES = {"pairs n=4096 d=2": (4096, 20), "chains n=65536 d=2": (65536, 200)}
COUNTS = {"one": 1, "two": 2, "four": 4, "eight": 8}
CONTENDERS = [
    Contender(f"{count} device{'s' * (count > 1)}", __name__, name)
    for name, count in COUNTS.items()
]


def tables(rounds: int, only: str | None):
    return harness.tables(CONTENDERS, CASES, rounds, only, "{}, on devices of the host")


def _run(case: str, count: int):
    """A run on `count` devices; its remark is the largest difference from one of them alone."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    most = max((k for k in COUNTS.values() if k <= len(cores)), default=1)
    if cores:
        os.sched_setaffinity(0, cores[: min(count, most) * (len(cores) // most)])
    os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={count}"
    os.environ["NPROC"] = "32"
    import jax
    import jax.numpy as jnp
    import numpy as np

    import steepest as st

    jax.config.update("jax_enable_x64", True)
    n, steps = CASES[case]
    x = st.Particles(jax.random.normal(jax.random.key(0), (n, 2)))
    energy = st.Energy(lambda y: 0.5 * jnp.sum(y**2))
    if case.startswith("pairs"):
        free = st.ExpectedEnergy(energy) + st.InteractionEnergy(st.GaussianKernel(1.0))
        flow = st.Flow(free, st.Wasserstein())
    else:
        flow = st.Flow(energy, st.Euclidean(), st.Thermal(1.0))
    options = dict(scheme=st.Euler(0.01), steps=steps, save_every=steps, key=jax.random.key(1))

    def positions(number: int):
        mesh = jax.make_mesh((number,), ("particles",), devices=jax.devices()[:number])
        return np.asarray(st.solve(flow, x, mesh=mesh, **options).final.positions)

    alone = positions(1)

    def run():
        apart = np.abs(positions(count) - alone).max()
        run.remark = f"differs by {apart:.0e}"

    return run


def one(case: str):
    return _run(case, 1)


def two(case: str):
    return _run(case, 2)


def four(case: str):
    return _run(case, 4)


def eight(case: str):
    return _run(case, 8)
