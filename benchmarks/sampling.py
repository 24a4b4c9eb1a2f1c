"""Langevin and BAOAB: steepest against a hand-written limit, a plain scan and the peers.

Cases: 10,000 chains of a double well in d = 2, and 1,000 chains of a Gaussian in d = 100;
overdamped (Euler-Maruyama) and kinetic (BAOAB, or the peer's own second-order method). All run the
same number of steps in float32 and return the last state.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from . import harness, limits
from .harness import Contender

CASES = {
    "langevin d=2": (10_000, 2, 4000),
    "langevin d=100": (1_000, 100, 800),
    "baoab d=2": (10_000, 2, 4000),
    "baoab d=100": (1_000, 100, 800),
}
STEP, FRICTION, SAVES = 0.01, 1.0, 4
PRECISION = np.linspace(0.5, 2.0, 100, dtype=np.float32)

CONTENDERS = [
    Contender("hand-written limit", __name__, "limit"),
    Contender("hand-written, inverse error function", __name__, "limit_quantile"),
    Contender("steepest, ledger at saves", __name__, "steepest_saves"),
    Contender("steepest, ledger at every step", __name__, "steepest_steps"),
    Contender("plain scan, jax.random.normal", __name__, "plain"),
    Contender("blackjax (sgld / ghmc)", __name__, "blackjax_kernel"),
    Contender("diffrax (Euler / ALIGN)", __name__, "diffrax_solver"),
    Contender("torch loop", __name__, "torch_loop"),
]


def tables(rounds: int, only: str | None):
    return harness.tables(CONTENDERS, CASES, rounds, only)


def energy(d):
    if d == 2:
        return lambda x: 0.25 * jnp.sum((x * x - 1.0) ** 2)
    return lambda x: 0.5 * jnp.sum(PRECISION * x * x)


def start(n, d):
    return jax.random.normal(jax.random.key(0), (n, d), jnp.float32)


def blocking(fn, *args):
    return lambda: jax.block_until_ready(fn(*args))


def limit(case):
    """The fastest loop that we can write by hand."""
    return _hand_written(case, limits.polar)


def limit_quantile(case):
    """The same with normals by the inverse error function."""
    return _hand_written(case, limits.quantile)


def _hand_written(case, make):
    n, d, steps = CASES[case]
    precision = jnp.asarray(np.tile(PRECISION, n)) if d > 2 else None
    force = (lambda x: x - x * x * x) if d == 2 else (lambda x: -precision * x)
    friction = None if case.startswith("langevin") else FRICTION
    return blocking(make(start(n, d).reshape(-1), force, steps, STEP, friction))


def _steepest(case, ledger):
    import steepest as st

    n, d, steps = CASES[case]
    x0, key = start(n, d), jax.random.key(1)
    if case.startswith("langevin"):
        flow = st.Flow(st.Energy(energy(d)), st.Euclidean(), st.Thermal(1.0))
        state, scheme = st.Particles.from_positions(x0), st.Euler(STEP)
    else:
        geometry = st.Symplectic() + st.Friction(FRICTION)
        flow = st.Flow(st.Energy(energy(d)), geometry, st.Thermal(1.0))
        state = st.Particles.from_positions(st.Phase.at_rest(x0))
        scheme = st.BAOAB(STEP)
    options = dict(scheme=scheme, steps=steps, save_every=steps // SAVES, key=key, ledger=ledger)
    return lambda: st.solve(flow, state, **options)


def steepest_saves(case):
    return _steepest(case, "saves")


def steepest_steps(case):
    return _steepest(case, "steps")


def plain(case):
    """What one writes first: a scan, jax.grad, jax.random.normal."""
    n, d, steps = CASES[case]
    gradient = jax.vmap(jax.grad(energy(d)))
    c = np.exp(-FRICTION * STEP)

    def overdamped(x, key):
        noise = jax.random.normal(key, x.shape)
        return x - STEP * gradient(x) + np.sqrt(2 * STEP) * noise, None

    def kinetic(state, key):
        q, p, g = state
        p = p - 0.5 * STEP * g
        q = q + 0.5 * STEP * p
        p = c * p + np.sqrt(1 - c**2) * jax.random.normal(key, p.shape)
        q = q + 0.5 * STEP * p
        g = gradient(q)
        return (q, p - 0.5 * STEP * g, g), None

    first = case.startswith("langevin")

    @jax.jit
    def run(x, key):
        state = x if first else (x, jnp.zeros_like(x), gradient(x))
        keys = jax.random.split(key, steps)
        return jax.lax.scan(overdamped if first else kinetic, state, keys)[0]

    return blocking(run, start(n, d), jax.random.key(1))


def blackjax_kernel(case):
    import blackjax

    n, d, steps = CASES[case]
    x0 = start(n, d)
    log_density = lambda x: -energy(d)(x)  # noqa: E731
    if case.startswith("langevin"):
        gradient = jax.grad(log_density)
        kernel = blackjax.sgld(lambda x, _: gradient(x))

        def one(x, key):
            return kernel.step(key, x, None, STEP)

        begin = lambda x: x  # noqa: E731
    else:
        kernel = blackjax.ghmc(
            log_density, STEP, jnp.ones(d), alpha=1 - np.exp(-2 * FRICTION * STEP), delta=0.0
        )

        def one(state, key):
            return kernel.step(key, state)[0]

        begin = lambda x: kernel.init(x, jax.random.key(3))  # noqa: E731

    @jax.jit
    def run(x, key):
        state = jax.vmap(begin)(x)

        def body(state, key):
            return jax.vmap(one)(state, jax.random.split(key, n)), None

        return jax.lax.scan(body, state, jax.random.split(key, steps))[0]

    return blocking(run, x0, jax.random.key(1))


def diffrax_solver(case):
    import diffrax

    n, d, steps = CASES[case]
    gradient = jax.grad(energy(d))
    length = steps * STEP
    shape = jax.ShapeDtypeStruct((d,), jnp.float32)

    def one(x, key):
        if case.startswith("langevin"):
            noise = diffrax.UnsafeBrownianPath(shape=shape, key=key)
            drift = diffrax.ODETerm(lambda t, y, _: -gradient(y))
            scale = lambda t, y, _: diffrax_identity(np.float32(np.sqrt(2.0)), d)  # noqa: E731
            terms = diffrax.MultiTerm(drift, diffrax.ControlTerm(scale, noise))
            solver, state = diffrax.Euler(), x
        else:
            noise = diffrax.UnsafeBrownianPath(
                shape=shape, key=key, levy_area=diffrax.SpaceTimeLevyArea
            )
            terms = diffrax.MultiTerm(
                diffrax.UnderdampedLangevinDriftTerm(
                    jnp.float32(FRICTION), jnp.float32(1.0), lambda x, _: gradient(x)
                ),
                diffrax.UnderdampedLangevinDiffusionTerm(
                    jnp.float32(FRICTION), jnp.float32(1.0), noise
                ),
            )
            solver, state = diffrax.ALIGN(), (x, jnp.zeros_like(x))
        return diffrax.diffeqsolve(
            terms,
            solver,
            0.0,
            length,
            STEP,
            state,
            max_steps=None,
            adjoint=diffrax.ForwardMode(),
            saveat=diffrax.SaveAt(t1=True),
        ).ys

    run = jax.jit(lambda x, key: jax.vmap(one)(x, jax.random.split(key, n)))
    return blocking(run, start(n, d), jax.random.key(1))


def diffrax_identity(scale, d):
    import lineax

    return lineax.DiagonalLinearOperator(jnp.full((d,), scale))


def torch_loop(case):
    import torch

    n, d, steps = CASES[case]
    x0 = torch.randn(n, d)
    precision = torch.tensor(PRECISION)
    force = (lambda x: x - x * x * x) if d == 2 else (lambda x: -precision * x)
    c = float(np.exp(-FRICTION * STEP))

    def run():
        with torch.no_grad():
            q, p = x0.clone(), torch.zeros_like(x0)
            f = force(q)
            for _ in range(steps):
                if case.startswith("langevin"):
                    q = q + STEP * force(q) + (2 * STEP) ** 0.5 * torch.randn_like(q)
                else:
                    p = p + 0.5 * STEP * f
                    q = q + 0.5 * STEP * p
                    p = c * p + (1 - c * c) ** 0.5 * torch.randn_like(p)
                    q = q + 0.5 * STEP * p
                    f = force(q)
                    p = p + 0.5 * STEP * f
        return q

    return run
