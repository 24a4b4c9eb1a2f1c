"""Digits to training loss 0.01, and what an update of `as_optax` costs beside optax's own.

Training: softmax regression and a perceptron with 32 tanh units on the 1797 images, float32, pixels
over 16; and the perceptron on standardised pixels, where plain gradients have an easier time. One
run is one compiled loop for each of three starts; steps and seconds are to the first loss <= 0.01,
which the loop itself looks at (after every update of a full batch, every 10 of minibatches), so its
cost counts for all. Adam, momentum and muon are at the best of 13 learning rates by steps from the
first start, full batch or minibatches of 256; natural gradient with all rows at the best of 4, on
minibatches at the best of 3, else at 1; L-BFGS has none, and on minibatches searches along the line
on the batch at hand. Tuning and compilation come before the clock, so the column of compilation
says nothing here. (kfac-jax 0.0.8 imports but does not train under jax 0.10: its tracer takes a
primitive's parameters apart in the way of older versions, and raises ValueError.)

Overhead: 1000 updates of the perceptron on fixed batches of 64, ours against optax's own.
"""

from __future__ import annotations

from pathlib import Path

from . import harness
from .harness import Contender

DATA = Path(__file__).parent.parent / "examples" / "data" / "digits.csv"
TARGET, MOST, SEEDS, EVERY, BATCH = 0.01, 3000, (0, 1, 2), 10, 256
CASES = {
    "softmax regression": ((), False),
    "perceptron": ((32,), False),
    "perceptron on standardised pixels": ((32,), True),
}
GRID = (0.001, 0.003, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 4.0)
OVERHEAD = ("descent", "heavy ball", "sign", "muon")

PARTS = (*CASES, *OVERHEAD)
TRAINING = [
    Contender("Fisher, all rows, 10 products", __name__, "fisher_full"),
    Contender("Fisher, 512 rows, 4 products", __name__, "fisher_rows"),
    Contender("Fisher, 256 rows, 2 products", __name__, "fisher_few"),
    Contender("Fisher on minibatches, 3 products", __name__, "fisher_batches"),
    Contender("optax.lbfgs", __name__, "lbfgs"),
    Contender("optax.lbfgs, minibatches", __name__, "lbfgs_batches"),
    Contender("optax.adam, tuned", __name__, "adam"),
    Contender("optax.adam, tuned, minibatches", __name__, "adam_batches"),
    Contender("optax.sgd with momentum 0.9, tuned", __name__, "momentum"),
    Contender("optax.sgd with momentum 0.9, tuned, minibatches", __name__, "momentum_batches"),
    Contender("optax.contrib.muon, tuned", __name__, "muon"),
    Contender("optax.contrib.muon, tuned, minibatches", __name__, "muon_batches"),
]
UPDATES = [
    Contender("optax", __name__, "theirs"),
    Contender("steepest.as_optax", __name__, "ours"),
]


def tables(rounds: int, only: str | None):
    yield from harness.tables(TRAINING, CASES, rounds, only, f"digits, {{}}, to {TARGET}")
    yield from harness.tables(UPDATES, OVERHEAD, rounds, only, "1000 updates, {}")


def problem(case, seed):
    """(model, start): pixels over 16, or each standardised (which already preconditions)."""
    import jax.numpy as jnp
    import numpy as np

    import steepest as st
    from steepest.problems import classifier
    from steepest.problems.network import perceptron

    hidden, standardised = CASES[case]
    found = classifier(DATA, "digit", hidden=hidden, seed=seed, drop=["p00", "p40", "p47"])
    if standardised:
        return found.functional, found.start
    pixels = np.delete(np.loadtxt(DATA, delimiter=",", skiprows=1)[:, :64], [0, 32, 39], axis=1)
    x = jnp.asarray(pixels / 16.0, jnp.float32)
    return st.NegativeLogLikelihood(perceptron, (x, found.functional.data[1])), found.start


def loop(model, make, batch=None):
    """(theta, rate, seed) -> steps until the loss over all rows is <= TARGET, compiled."""
    import jax
    import jax.numpy as jnp
    import optax

    x, y = model.data

    def full(theta, rate, seed):
        del seed
        transform = optax.with_extra_args_support(make(rate))

        def body(carry):
            theta, state, value, gradient, k = carry
            extra = {"value": value, "grad": gradient, "value_fn": model}
            updates, state = transform.update(gradient, state, theta, **extra)
            theta = optax.apply_updates(theta, updates)
            value, gradient = again(theta, state)
            return theta, state, value, gradient, k + 1

        def again(theta, state):
            if optax.tree.get(state, "value") is None:
                return jax.value_and_grad(model)(theta)
            # The line search of L-BFGS knows both.
            known = optax.value_and_grad_from_state(model)
            return known(theta, state=state)

        start = theta, transform.init(theta), *jax.value_and_grad(model)(theta), 0
        return jax.lax.while_loop(going, body, start)[-1]

    def going(carry):
        *_, value, _, k = carry
        return (value > TARGET) & (k < MOST)

    def batches(theta, rate, seed):
        transform = optax.with_extra_args_support(make(rate))

        def one(carry, key):
            theta, state = carry
            index = jax.random.randint(key, (batch,), 0, y.shape[0])
            rows = x[index], y[index]

            def mean(t, batch=rows):  # a line search hands all that it is given to its function
                return jnp.mean(jax.vmap(lambda r: model.loss(t, r))(batch))

            value, gradient = jax.value_and_grad(mean)(theta)
            extra = {"value": value, "grad": gradient, "value_fn": mean, "batch": rows}
            updates, state = transform.update(gradient, state, theta, **extra)
            return (optax.apply_updates(theta, updates), state), None

        def body(carry):
            theta, state, _, _, k = carry
            keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), k), EVERY)
            (theta, state), _ = jax.lax.scan(one, (theta, state), keys)
            return theta, state, model(theta), 0, k + EVERY

        start = theta, transform.init(theta), jnp.float32(jnp.inf), 0, 0
        return jax.lax.while_loop(going, body, start)[-1]

    return jax.jit(full if batch is None else batches)


def trained(case, make, rates=(1.0,), batch=None):
    """A run over all starts at the best rate; its remark says steps and rate."""
    model, _ = problem(case, 0)
    starts = [problem(case, seed)[1] for seed in SEEDS]
    steps = loop(model, lambda rate: make(rate, model), batch)

    best = rates[0]
    if len(rates) > 1:
        best = min(rates, key=lambda rate: int(steps(starts[0], rate, SEEDS[0])))

    def run():
        found = [steps(theta, best, seed) for seed, theta in zip(SEEDS, starts, strict=True)]
        return [int(k) for k in found]

    counts = sorted(run())
    said = [f"{k}" if k < MOST else "never" for k in counts]
    run.remark = f"{said[1]} steps ({said[0]}-{said[-1]})"
    run.remark += f", rate {best:g}" if len(rates) > 1 else ""
    return run


def fisher(case, batch=None, adaptive=True, rates=(1.0,), **options):
    import steepest as st

    def make(rate, model):
        return st.as_optax(
            st.Fisher(model, solver="cg", adaptive_damping=adaptive, **options), rate
        )

    return trained(case, make, rates, batch)


def fisher_full(case):
    return fisher(case, adaptive=0.1, rates=(1.0, 1.2, 1.35, 1.5), damping=0.5, iterations=10)


def fisher_rows(case):
    return fisher(case, adaptive=0.1, damping=0.03, rows=512, iterations=4)


def fisher_few(case):
    return fisher(case, damping=0.3, rows=256, iterations=2)


def fisher_batches(case):
    rates = (0.3, 0.6, 1.0)
    return fisher(case, batch=BATCH, adaptive=False, rates=rates, damping=0.03, iterations=3)


def lbfgs(case, batch=None):
    import optax

    return trained(case, lambda rate, model: optax.lbfgs(), batch=batch)


def lbfgs_batches(case):
    return lbfgs(case, BATCH)


def adam(case, batch=None):
    import optax

    return trained(case, lambda rate, model: optax.adam(rate), GRID, batch)


def adam_batches(case):
    return adam(case, BATCH)


def momentum(case, batch=None):
    import optax

    return trained(case, lambda rate, model: optax.sgd(rate, momentum=0.9), GRID, batch)


def momentum_batches(case):
    return momentum(case, BATCH)


def muon(case, batch=None):
    from optax import contrib

    return trained(case, lambda rate, model: contrib.muon(rate), GRID, batch)


def muon_batches(case):
    return muon(case, BATCH)


def pairs(case):
    """(ours, optax's own) of an update."""
    import jax
    import optax
    from optax import contrib

    import steepest as st
    from steepest.optimizers import friction_of

    if case == "descent":
        return st.as_optax(st.Euclidean(), 0.1), optax.sgd(0.1)
    if case == "heavy ball":
        ours = st.as_optax(st.Euclidean(), 0.1, friction=friction_of(0.9, 0.1))
        return ours, optax.sgd(0.1, momentum=0.9)
    if case == "sign":
        return st.as_optax(st.Norm("sup", unit=True), 1e-3), optax.sign_sgd(1e-3)
    # Both leave vectors to Adam: the difference is the matrices' update alone.
    muon_of_ours = st.as_optax(
        st.Norm("spectral", unit=True, iterations=5),
        0.01,
        friction=friction_of(0.95, 0.01),
        nesterov=True,
        average=True,
    )
    labels = lambda p: jax.tree.map(lambda x: "m" if x.ndim == 2 else "v", p)  # noqa: E731
    scaled = optax.partition({"m": muon_of_ours, "v": optax.nadam(0.01)}, labels)
    return scaled, contrib.muon(0.01)


def updates(transform):
    import jax
    import jax.numpy as jnp
    import optax

    model, theta = problem("perceptron", 0)
    x, y = (leaf[:1792].reshape(28, 64, *leaf.shape[1:]) for leaf in model.data)
    transform = optax.with_extra_args_support(transform)

    @jax.jit
    def run(theta):
        def one(carry, k):
            theta, state = carry
            rows = x[k % 28], y[k % 28]
            mean = lambda t: jnp.mean(jax.vmap(lambda r: model.loss(t, r))(rows))  # noqa: E731
            updates, state = transform.update(jax.grad(mean)(theta), state, theta)
            return (optax.apply_updates(theta, updates), state), None

        return jax.lax.scan(one, (theta, transform.init(theta)), jnp.arange(1000))[0][0]

    return lambda: jax.block_until_ready(run(theta))


def ours(case):
    return updates(pairs(case)[0])


def theirs(case):
    return updates(pairs(case)[1])
