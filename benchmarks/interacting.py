"""All pairs of n particles: a blocked sum against the dense matrix and the peers' SVGD.

"pairs": one evaluation of the Gaussian interaction force sum_j w_j grad k(x_i - x_j), d = 10.
"svgd": steps of Stein variational gradient descent on a Gaussian, fixed bandwidth, d = 10: 200 at
1k particles, 40 at 4k and 10k, 14 at 50k; the peers and the dense matrix take one or two of
them where all would take minutes, and their seconds are scaled (the remark says so).
All in float32, products at full precision on every device. The remark is the most memory that the
contender took: of the device where that counts it, else its process's largest resident memory, of
which JAX itself is some 230 MB.
"""

from __future__ import annotations

import functools
import math
import resource

import jax
import jax.numpy as jnp

from .harness import Contender, Row, chosen, compare, table

SIZES = {"1k": 1_000, "4k": 4_000, "10k": 10_000, "50k": 50_000}
CASES = [f"{kind} n={size}" for kind in ("pairs", "svgd") for size in SIZES]
DIMENSION, STEP, WIDTH = 10, 0.1, 2.0
STEPS = {1_000: 200, 4_000: 40, 10_000: 40, 50_000: 14}
# Of those, what a contender without blocks is timed on.
SHARE = {1_000: 200, 4_000: 2, 10_000: 1}
# Up to where a contender fits into memory and patience, and why not beyond.
MOST = {"dense": 10_000, "blackjax_svgd": 10_000, "numpyro_svgd": 4_000}
REASONS = {
    "dense": "gradients of all pairs take 4 n^2 d bytes, 93 GiB",
    "blackjax_svgd": "gradients of all pairs take 4 n^2 d bytes, 93 GiB",
    "numpyro_svgd": "a step at 10k would take 100 times that at 1k, 14 s",
}

CONTENDERS = {
    "pairs": [
        Contender("hand-written blocked limit", __name__, "limit"),
        Contender("steepest", __name__, "steepest"),
        Contender("dense vmap of grad", __name__, "dense"),
    ],
    "svgd": [
        Contender("hand-written blocked limit", __name__, "limit"),
        Contender("steepest, ledger at saves", __name__, "steepest"),
        Contender("dense matrix", __name__, "dense"),
        Contender("blackjax svgd", __name__, "blackjax_svgd"),
        Contender("numpyro SVGD", __name__, "numpyro_svgd"),
    ],
}


def tables(rounds: int, only: str | None):
    for case in chosen(CASES, only):
        kind, n = _parse(case)
        few = min(rounds, {10_000: 3, 50_000: 1 if kind == "svgd" else 3}.get(n, rounds))
        rows = [c for c in CONTENDERS[kind] if n <= MOST.get(c.make, n)]
        left = [c for c in CONTENDERS[kind] if c not in rows]
        told = [Row(c.name, *5 * [math.nan], note=REASONS[c.make]) for c in left]
        yield table(case, [*compare(rows, case, few), *told])


product = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)


class Run:
    """A blocking call that can say how much memory its process took; of `share` of the work."""

    def __init__(self, fn, *args, share=1.0):
        self.fn, self.args, self.share = fn, args, share

    def __call__(self):
        jax.block_until_ready(self.fn(*self.args))

    @property
    def remark(self):
        counted = jax.devices()[0].memory_stats() or {}
        if "peak_bytes_in_use" in counted:
            taken = f"{counted['peak_bytes_in_use'] / 2**20:.0f} MB"
        else:
            taken = f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB"
        return taken if self.share == 1.0 else f"{taken}, timed on {self.share:.2g} of the steps"


def _parse(case):
    kind, _, size = case.partition(" n=")
    return kind, SIZES[size]


def _start(n):
    return jax.random.normal(jax.random.key(0), (n, DIMENSION), jnp.float32) + 1.0


def limit(case):
    """Blocks of rows, one matrix product for the distances, one for the sums."""
    kind, n = _parse(case)
    entries = 2**20 if jax.default_backend() == "cpu" else 2**24
    block = max(1, min(n, entries // n))
    block = -(-n // -(-n // block))

    def blocks(x):
        pad = -n % block
        rows = jnp.concatenate([x, jnp.zeros((pad, DIMENSION), x.dtype)])
        return rows.reshape(-1, block, DIMENSION)

    def gram(rows, x):
        square = jnp.sum(rows**2, 1)[:, None] + jnp.sum(x**2, 1) - 2 * product(rows, x.T)
        return jnp.exp(-square / (2 * WIDTH**2))

    def force(x):
        def one(rows):
            k = gram(rows, x)
            return (product(k, x) - jnp.sum(k, 1)[:, None] * rows) / (WIDTH**2 * n)

        return jax.lax.map(one, blocks(x)).reshape(-1, DIMENSION)[:n]

    def direction(x):
        score = -x

        def one(rows):
            k = gram(rows, x)
            total = jnp.sum(k, 1)[:, None]
            return (product(k, score) + (total * rows - product(k, x)) / WIDTH**2) / n

        return jax.lax.map(one, blocks(x)).reshape(-1, DIMENSION)[:n]

    if kind == "svgd":
        run = jax.jit(
            lambda x: jax.lax.fori_loop(0, STEPS[n], lambda _, y: y + STEP * direction(y), x)
        )
        return Run(run, _start(n))
    return Run(jax.jit(force), _start(n))


def steepest(case):
    import steepest as st

    kind, n = _parse(case)
    if kind != "svgd":
        energy = st.InteractionEnergy(st.GaussianKernel(WIDTH))
        return Run(jax.jit(lambda s: energy.differential(s).positions), st.Particles(_start(n)))
    flow = st.Flow(
        st.KL(lambda x: -0.5 * jnp.sum(x**2)), st.Stein(st.GaussianKernel(WIDTH), bandwidth=None)
    )
    options = dict(scheme=st.Euler(STEP), steps=STEPS[n], save_every=STEPS[n], ledger="saves")
    return Run(lambda x: st.solve(flow, st.Particles(x), **options).final.positions, _start(n))


def dense(case):
    """The whole matrix: what one writes first."""
    kind, n = _parse(case)
    kernel = lambda a, b: jnp.exp(-jnp.sum((a - b) ** 2) / (2 * WIDTH**2))  # noqa: E731
    slope = jax.grad(kernel)
    if kind != "svgd":
        force = jax.vmap(lambda a, x: jnp.mean(jax.vmap(lambda b: slope(a, b))(x), 0), (0, None))
        return Run(jax.jit(lambda x: force(x, x)), _start(n))

    def direction(x):
        k = jax.vmap(lambda a: jax.vmap(lambda b: kernel(a, b))(x))(x)
        repulsion = (jnp.sum(k, 1)[:, None] * x - product(k, x)) / WIDTH**2
        return (product(k, -x) + repulsion) / n

    run = jax.jit(lambda x: jax.lax.fori_loop(0, SHARE[n], lambda _, y: y + STEP * direction(y), x))
    return Run(run, _start(n), share=SHARE[n] / STEPS[n])


def blackjax_svgd(case):
    import blackjax
    import optax

    _, n = _parse(case)
    algorithm = blackjax.svgd(
        jax.grad(lambda x: -0.5 * jnp.sum(x**2)),
        optax.sgd(STEP),
        update_kernel_parameters=lambda state: state,
    )

    @jax.jit
    def run(x):
        state = algorithm.init(x, {"length_scale": 2 * WIDTH**2})
        return jax.lax.fori_loop(0, SHARE[n], lambda _, s: algorithm.step(s), state).particles

    return Run(run, _start(n), share=SHARE[n] / STEPS[n])


def numpyro_svgd(case):
    import numpyro
    import numpyro.distributions as dist
    from numpyro.contrib.einstein import RBFKernel, SteinVI
    from numpyro.infer.autoguide import AutoDelta
    from numpyro.infer.initialization import init_to_uniform

    _, n = _parse(case)

    def model():
        numpyro.sample("x", dist.Normal(jnp.zeros(DIMENSION), 1.0).to_event(1))

    guide = AutoDelta(model, init_loc_fn=init_to_uniform)
    stein = SteinVI(model, guide, numpyro.optim.SGD(STEP), RBFKernel(), num_stein_particles=n)
    state = stein.init(jax.random.key(0))

    @jax.jit
    def run(state):
        return jax.lax.fori_loop(0, SHARE[n], lambda _, s: stein.update(s)[0], state)

    return Run(run, state, share=SHARE[n] / STEPS[n])
