"""Verlet against a hand-written scan and diffrax; many trajectories; long stationary paths.

Hénon-Heiles in float64. The scan is the least that any leapfrog can do: no ledger, no checks. The
numbers that matter are ratios; `scaling` compares a stationary path with itself at other lengths.

Many trajectories are held with the particles along the last axis, those of the scan along the
first: four kernels a step each, of which ours take 1.8 times as long for this energy. A run also
has a fixed cost of some 30 ms here (the first save, the books at the end, two chunks), which shows
in 200 steps.
"""

from __future__ import annotations

from benchmarks.harness import Contender
from benchmarks.harness import tables as paired

STEP = 0.05
BATCHES = {f"100000 trajectories, {steps} steps": steps for steps in (200, 2000)}
CASES = ("one trajectory, 10000000 steps", *BATCHES)
PATHS = ("stationary path, 10000 nodes", "stationary path, 100000 nodes")
PARTS = (*CASES, *PATHS)


def _setup(case: str):
    """(steps, q, p): positions with a trailing batch axis where there are many."""
    import jax

    jax.config.update("jax_enable_x64", True)
    import jax.numpy as jnp

    q, p = jnp.array([0.1, -0.2]), jnp.array([0.35, 0.2])
    if case == CASES[0]:
        return 10_000_000, q, p
    count = 100_000
    shift = 0.01 * jnp.linspace(-1.0, 1.0, count)[:, None]
    return BATCHES[case], q + shift, jnp.broadcast_to(p, (count, 2))


def _energy(q):
    return 0.5 * (q[0] ** 2 + q[1] ** 2) + q[0] ** 2 * q[1] - q[1] ** 3 / 3.0


def steepest_verlet(case: str):
    """`solve`, ledger at saves."""
    import jax

    steps, q, p = _setup(case)
    import steepest as st

    flow = st.Flow(st.Energy(_energy), st.Symplectic())
    state = st.Phase(q, p)
    if q.ndim == 2:
        state = st.Particles.from_positions(state)

    def run():
        made = st.solve(
            flow, state, scheme=st.Leapfrog(STEP), steps=steps, save_every=steps, ledger="saves"
        )
        jax.block_until_ready(made.states)

    return run


def steepest_ledger(case: str):
    """`solve` with its ledger at every step."""
    import jax

    steps, q, p = _setup(case)
    import steepest as st

    flow = st.Flow(st.Energy(_energy), st.Symplectic())
    state = st.Phase(q, p)
    if q.ndim == 2:
        state = st.Particles.from_positions(state)

    def run():
        made = st.solve(flow, state, scheme=st.Leapfrog(STEP), steps=steps, save_every=steps)
        jax.block_until_ready(made.states)

    return run


def hand_scan(case: str):
    """The loop that one would write: kick, drift, kick, with the gradient kept.

    Kept as it is and subtracted: with its negative in the carry XLA's loop on a CPU takes 4-5 times
    as long for many trajectories.
    """
    steps, q, p = _setup(case)
    import jax

    slope = jax.grad(_energy)

    def one(carry, _):
        q, p, g = carry
        p = p - 0.5 * STEP * g
        q = q + STEP * p
        g = slope(q)
        return (q, p - 0.5 * STEP * g, g), None

    def path(q, p):
        return jax.lax.scan(one, (q, p, slope(q)), None, length=steps)[0][:2]

    compiled = jax.jit(path if q.ndim == 1 else jax.vmap(path))
    return lambda: jax.block_until_ready(compiled(q, p))


def diffrax_verlet(case: str):
    """diffrax `SemiImplicitEuler` (one force a step, order 1), constant steps, end state only."""
    steps, q, p = _setup(case)
    import diffrax
    import jax

    terms = (
        diffrax.ODETerm(lambda t, p, args: p),
        diffrax.ODETerm(lambda t, q, args: -jax.grad(_energy)(q)),
    )

    def path(q, p):
        return diffrax.diffeqsolve(
            terms,
            diffrax.SemiImplicitEuler(),
            0.0,
            STEP * steps,
            STEP,
            (q, p),
            saveat=diffrax.SaveAt(t1=True),
            max_steps=None,
        ).ys

    compiled = jax.jit(path if q.ndim == 1 else jax.vmap(path))
    return lambda: jax.block_until_ready(compiled(q, p))


def stationary(case: str):
    """A pendulum's path by Newton on the discrete action."""
    import jax

    jax.config.update("jax_enable_x64", True)
    import jax.numpy as jnp

    from steepest.mechanics import Lagrangian, stationary_path

    pendulum = Lagrangian(lambda q, v: 0.5 * v**2 + jnp.cos(q))
    nodes = int(case.split(",")[1].split()[0])

    def run():
        found = stationary_path(pendulum, 0.0, 1.0, 0.0, 2.0, nodes)
        assert found.morse_index == 0
        run.remark = f"residual {found.residual:.0e}"

    return run


CONTENDERS = [
    Contender("hand-written scan", "benchmarks.mechanics", "hand_scan"),
    Contender("steepest, ledger at saves", "benchmarks.mechanics", "steepest_verlet"),
    Contender("steepest, ledger at every step", "benchmarks.mechanics", "steepest_ledger"),
    Contender("diffrax SemiImplicitEuler", "benchmarks.mechanics", "diffrax_verlet"),
]


def tables(rounds: int, only: str | None):
    """Steps of Verlet for both cases, then the seconds of two long paths."""
    yield from paired(CONTENDERS, CASES, rounds, only, "Verlet, {}")
    path = [Contender("stationary_path", "benchmarks.mechanics", "stationary")]
    yield from paired(path, PATHS, rounds, only)
