"""Gaussian variational inference to 0.01 nats of the family's optimum: gradients and seconds.

The posterior of logistic regression on the breast-cancer data (d = 31, prior scale 1) from zero:

    python -m benchmarks variational

Peers: NumPyro's SVI (AutoMultivariateNormal, Adam, 16 particles, a rate that decays from 0.03 to a
thousandth of it by a cosine: fixed rates stall) and BlackJAX's full-rank VI (10 draws, the same
schedule); both are looked at every 200 steps, and Pathfinder at its end. The gap is that of the
exact free energy. The seconds are those of a second run, compiled; one process, one after the
other, so a ratio is good to about a factor of two. Gradients: one is the gradient of the log
posterior over all rows; one of steepest's quadratures costs 20. The search for the mode is
included.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from steepest import FisherRao, FreeEnergy, Gaussian
from steepest.inference.answer import Budget
from steepest.inference.newton import find_mode
from steepest.inference.target import Target
from steepest.inference.variational import fit, start
from steepest.problems import bayesian_logistic_regression

from .harness import chosen

DATA = Path(__file__).parents[1] / "examples" / "data" / "breast_cancer.csv"
EVERY, STEPS, GOAL = 200, 12_000, 0.01
Report = tuple[int, Any, Any]
"""Gradients spent, mean, lower factor."""


def target() -> Target:
    """The posterior, in 64-bit numbers."""
    return Target.of(bayesian_logistic_regression(DATA, "diagnosis", dtype=jnp.float64))


def steepest(posterior: Target, tolerance: float = GOAL) -> Iterator[Report]:
    """Newton's flow to the mode, then natural gradient by the structure of the model."""
    mode = find_mode(posterior, 10_000, 0.1 * tolerance)
    frame, law = start(mode, "full")
    run = fit(frame, law, FisherRao(), Budget(tolerance=tolerance), 0, jax.random.key(0))
    found = frame.law(run.state)
    yield mode.gradients + run.gradients, found.mean, found.lower


def schedule(rate: float) -> optax.GradientTransformation:
    """Adam with a rate that decays from 0.03 to a thousandth."""
    return optax.adam(optax.cosine_decay_schedule(rate, STEPS, 1e-3))


def numpyro_svi(posterior: Target, rate: float = 3e-2, particles: int = 16) -> Iterator[Report]:
    """AutoMultivariateNormal."""
    import numpyro
    import numpyro.distributions as dist
    from numpyro.infer import SVI, Trace_ELBO
    from numpyro.infer.autoguide import AutoMultivariateNormal

    def model() -> None:
        theta = numpyro.sample("theta", dist.Normal(0.0, 1.0).expand([d]).to_event(1))
        numpyro.factor("rows", -(posterior(theta) - 0.5 * jnp.sum(theta**2)))

    d = posterior.dimension
    guide = AutoMultivariateNormal(
        model, init_loc_fn=numpyro.infer.init_to_value(values={"theta": jnp.zeros(d)})
    )
    elbo = Trace_ELBO(num_particles=particles)
    svi = SVI(model, guide, numpyro.optim.optax_to_numpyro(schedule(rate)), elbo)
    state = svi.init(jax.random.key(0))
    some = jax.jit(
        lambda s: jax.lax.scan(lambda s, _: (svi.update(s)[0], None), s, None, length=EVERY)[0]
    )
    for k in range(STEPS // EVERY):
        state = some(state)
        found = svi.get_params(state)
        yield (k + 1) * EVERY * particles, found["auto_loc"], found["auto_scale_tril"]


def blackjax_full_rank(posterior: Target, rate: float = 3e-2, draws: int = 10) -> Iterator[Report]:
    """`blackjax.fullrank_vi`."""
    import blackjax
    from blackjax.vi import fullrank_vi as module

    d = posterior.dimension
    logdensity = lambda x: -posterior(x)  # noqa: E731
    vi = blackjax.fullrank_vi(logdensity, schedule(rate), draws)
    state = vi.init(jnp.zeros(d))
    some = jax.jit(
        lambda s, keys: jax.lax.scan(lambda s, key: (vi.step(key, s)[0], None), s, keys)[0]
    )
    for k in range(STEPS // EVERY):
        state = some(state, jax.random.split(jax.random.fold_in(jax.random.key(1), k), EVERY))
        yield (k + 1) * EVERY * draws, state.mu, module._unflatten_cholesky(state.chol_params, d)


def pathfinder(posterior: Target) -> Iterator[Report]:
    """BlackJAX's Pathfinder; its law by the moments of 50,000 draws, which are not counted."""
    from blackjax.vi import pathfinder as module

    logdensity = lambda x: -posterior(x)  # noqa: E731
    key, x = jax.random.key(2), jnp.zeros(posterior.dimension)
    state, _ = jax.jit(lambda: module.approximate(key, logdensity, x, num_samples=200))()
    drawn, _ = module.sample(key, state, 50_000)
    drawn = np.asarray(drawn)
    yield -1, drawn.mean(axis=0), np.linalg.cholesky(np.cov(drawn.T))


CONTENDERS: dict[str, Callable[[Target], Iterator[Report]]] = {
    "steepest natural-gradient": steepest,
    "NumPyro SVI": numpyro_svi,
    "BlackJAX full-rank VI": blackjax_full_rank,
    "BlackJAX Pathfinder": pathfinder,
}


def tables(rounds: int, only: str | None) -> Iterator[str]:
    """The table row by row; `rounds` is not used."""
    del rounds
    yield (
        "| contender | gradients to 0.01 nats | seconds | nats left at the end |\n"
        + "|---" * 4
        + "|"
    )
    with jax.enable_x64(True):
        posterior = target()
        functional = FreeEnergy(posterior)
        free = jax.jit(lambda law: functional(law))
        value = lambda mean, lower: float(free(Gaussian(jnp.asarray(mean), jnp.asarray(lower))))  # noqa: E731
        best = value(*next(iter(steepest(posterior, 1e-5)))[1:])
        for name in chosen(CONTENDERS, only):
            try:
                yield f"| {name} | {_line(CONTENDERS[name], posterior, value, best)} |"
            except Exception as error:  # a peer that does not run must not hide the others
                yield f"| {name} | did not run: {type(error).__name__}: {error} | | |"


def _line(contender: Any, posterior: Target, value: Any, best: float) -> str:
    reached, gap, stop = None, np.nan, 0
    for k, (gradients, mean, lower) in enumerate(contender(posterior)):  # compiles, and finds when
        gap, stop = value(mean, np.tril(np.asarray(lower))) - best, k
        if gap <= GOAL:
            reached = gradients
            break
    # Again to the same point. Peers' jitted scans are made anew by each generator, so their first
    # block, which compiles, is left out and counted by the mean of the others.
    began, marks = time.perf_counter(), []
    for k, _ in enumerate(contender(posterior)):
        marks.append(time.perf_counter())
        if k == stop:
            break
    if len(marks) > 1:
        seconds = (marks[-1] - marks[0]) * len(marks) / (len(marks) - 1)
    else:
        seconds = marks[-1] - began
    return f"{'not reached' if reached is None else reached} | {seconds:.3g} | {gap:.3g}"
