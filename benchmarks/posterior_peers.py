"""Samplers of other libraries on the posteriors of `targets`, each with its own tuning.

A peer is a function (case) -> run, where run(seed) gives a `Result`: what it needs is built and
compiled once. Defaults of the library throughout; four chains from near the case's start.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from .targets import Case

CHAINS, WARM_UP, SAVES = 4, 500, 1000
THIN = 10
"""Steps between the saves of samplers of which one step is one or two gradients."""
McLACHLAN = 2
"""Gradients of one step of the integrator that BlackJAX's microcanonical samplers use."""
WEIGHTED, PATH_DRAWS = 20_000, 200
"""Pathfinder's weighted draws, and those that it judges each point of its path by."""


@dataclasses.dataclass(frozen=True)
class Result:
    """Draws (chain, save, d) of one run and their cost; `tuning`: gradients before the draws.

    `weights`: (chain, save) of draws that are not equally weighted.
    """

    draws: np.ndarray
    tuning: int
    gradients: int
    tune: float
    run: float
    weights: np.ndarray | None = None


Run = Callable[[int], Result]


def numpyro_nuts(case: Case) -> Run:
    """NumPyro's NUTS with a dense metric, a chain at a time as by default on one device."""
    from numpyro.infer import MCMC, NUTS

    kernel = NUTS(potential_fn=case.energy, dense_mass=True)
    chain = MCMC(
        kernel,
        num_warmup=WARM_UP,
        num_samples=SAVES,
        num_chains=CHAINS,
        chain_method="sequential",
        progress_bar=False,
    )
    fields = ("num_steps",)

    def run(seed: int) -> Result:
        first, second = jax.random.split(jax.random.key(seed))
        before = time.perf_counter()
        chain.warmup(
            first, init_params=_starts(case, seed), extra_fields=fields, collect_warmup=True
        )
        jax.block_until_ready(chain.post_warmup_state)
        middle = time.perf_counter()
        tuning = int(np.sum(chain.get_extra_fields()["num_steps"]))
        between = time.perf_counter()
        chain.run(second, extra_fields=fields)
        jax.block_until_ready(chain.get_samples())
        seconds = middle - before, time.perf_counter() - between
        draws = np.asarray(chain.get_samples(group_by_chain=True))
        total = tuning + int(np.sum(chain.get_extra_fields()["num_steps"]))
        return Result(draws, tuning, total, *seconds)

    return run


def blackjax_nuts(case: Case) -> Run:
    """BlackJAX's NUTS after its window adaptation with a dense metric."""
    import blackjax

    density = _density(case)
    adapt = blackjax.window_adaptation(blackjax.nuts, density, is_mass_matrix_diagonal=False)

    def warm(key, x):
        (state, parameters), info = adapt.run(key, x, num_steps=WARM_UP)
        return state, parameters, jnp.sum(info.info.num_integration_steps)

    def step(key, state, parameters):
        state, info = blackjax.nuts(density, **parameters).step(key, state)
        return state, info.num_integration_steps

    return _chains(case, warm, step, 1)


def blackjax_mala(case: Case) -> Run:
    """BlackJAX's MALA, its step by dual averaging to an acceptance of 0.574."""
    import blackjax
    from blackjax.adaptation.step_size import dual_averaging_adaptation

    density = _density(case)
    kernel = blackjax.mala.build_kernel()
    begin, update, final = dual_averaging_adaptation(target=0.574)
    steps = THIN * WARM_UP

    def warm(key, x):
        def body(carry, key):
            state, tuner = carry
            state, info = kernel(key, state, density, jnp.exp(tuner.log_step_size))
            return (state, update(tuner, info.acceptance_rate)), None

        first = blackjax.mala.init(x, density), begin(0.1 / len(case.start))
        state, tuner = jax.lax.scan(body, first, jax.random.split(key, steps))[0]
        return state, final(tuner), jnp.asarray(steps)

    def step(key, state, size):
        return kernel(key, state, density, size)[0], jnp.asarray(1)

    return _chains(case, warm, step, THIN)


def blackjax_mclmc(case: Case) -> Run:
    """BlackJAX's unadjusted microcanonical Langevin after its own tuning."""
    import blackjax

    density, steps = _density(case), THIN * SAVES
    kernel = blackjax.mcmc.mclmc.build_kernel()

    def warm(key, x):
        first, second = jax.random.split(key)
        state = blackjax.mcmc.mclmc.init(x, density, first)
        state, parameters, spent = blackjax.mclmc_find_L_and_step_size(
            kernel, steps, state, second, logdensity_fn=density
        )
        return state, parameters, McLACHLAN * jnp.asarray(spent)

    def step(key, state, parameters):
        p = parameters
        state = kernel(key, state, density, p.inverse_mass_matrix, p.L, p.step_size)[0]
        return state, jnp.asarray(McLACHLAN)

    return _chains(case, warm, step, THIN)


def blackjax_adjusted_mclmc(case: Case) -> Run:
    """BlackJAX's Metropolis-adjusted microcanonical sampler, trajectories of random length."""
    import blackjax
    from blackjax.mcmc import adjusted_mclmc_dynamic as adjusted

    density = _density(case)
    lengths = adjusted.make_random_trajectory_length_fn(True)
    kernel = adjusted.build_kernel(integration_steps_fn=lengths)

    def move(key, state, parameters):
        p = parameters
        return kernel(
            key,
            state,
            density,
            p.step_size,
            inverse_mass_matrix=p.inverse_mass_matrix,
            integration_steps_params=(p.L / p.step_size,),
        )

    def warm(key, x):
        first, second = jax.random.split(key)
        state, parameters, spent = blackjax.adjusted_mclmc_find_L_and_step_size(
            kernel, density, THIN * SAVES, adjusted.init(x, density, first), second, target=0.65
        )
        return state, parameters, McLACHLAN * spent

    def step(key, state, parameters):
        state, info = move(key, state, parameters)
        return state, McLACHLAN * info.num_integration_steps

    return _chains(case, warm, step, THIN)


def blackjax_pathfinder(case: Case) -> Run:
    """BlackJAX's Pathfinder, its draws weighted by importance.

    Evaluations without a gradient, of its path and of the weights, count as gradients; those of
    its line searches are not reported and do not.
    """
    import blackjax

    density = _density(case)

    @jax.jit
    def fit(key, x):
        found, info = blackjax.vi.pathfinder.approximate(key, density, x, num_samples=PATH_DRAWS)
        return found, jnp.sum(jnp.isfinite(info.path.elbo))

    @jax.jit
    def draw(key, found):
        x, log_q = blackjax.vi.pathfinder.sample(key, found, WEIGHTED)
        return x, jax.nn.softmax(jax.vmap(density)(x) - log_q)

    def run(seed: int) -> Result:
        first, second = jax.random.split(jax.random.key(seed))
        before = time.perf_counter()
        found, length = jax.block_until_ready(fit(first, _starts(case, seed)[0]))
        middle = time.perf_counter()
        x, weights = jax.block_until_ready(draw(second, found))
        seconds = middle - before, time.perf_counter() - middle
        tuning = int(length) * (1 + PATH_DRAWS)
        return Result(
            np.asarray(x)[None], tuning, tuning + WEIGHTED, *seconds, np.asarray(weights)[None]
        )

    return run


def _density(case: Case) -> Callable:
    return lambda x: -case.energy(x)


def _starts(case: Case, seed: int) -> jax.Array:
    rng = np.random.default_rng(seed)
    return jnp.asarray(case.start + 0.1 * rng.standard_normal((CHAINS, len(case.start))))


def _chains(case: Case, warm: Callable, step: Callable, thin: int) -> Run:
    """Chains beside each other: warm(key, x) -> (state, parameters, gradients), then `step`.

    step(key, state, parameters) -> (state, gradients); every `thin`-th state is saved.
    """

    def chain(key, state, parameters):
        def one(state, key):
            return step(key, state, parameters)

        def save(state, key):
            state, spent = jax.lax.scan(one, state, jax.random.split(key, thin))
            return state, (state.position, jnp.sum(spent))

        return jax.lax.scan(save, state, jax.random.split(key, SAVES))[1]

    tuner, sampler = jax.jit(jax.vmap(warm)), jax.jit(jax.vmap(chain))

    def run(seed: int) -> Result:
        keys = jax.random.split(jax.random.key(seed), 2 * CHAINS)
        start = _starts(case, seed)
        before = time.perf_counter()
        state, parameters, tuning = jax.block_until_ready(tuner(keys[:CHAINS], start))
        middle = time.perf_counter()
        draws, spent = jax.block_until_ready(sampler(keys[CHAINS:], state, parameters))
        seconds = middle - before, time.perf_counter() - middle
        used = int(jnp.sum(tuning))
        return Result(np.asarray(draws), used, used + int(jnp.sum(spent)), *seconds)

    return run


PEERS: dict[str, Callable[[Case], Run]] = {
    "NumPyro NUTS, dense": numpyro_nuts,
    "BlackJAX NUTS, dense": blackjax_nuts,
    "BlackJAX MCLMC": blackjax_mclmc,
    "BlackJAX adjusted MCLMC": blackjax_adjusted_mclmc,
    "BlackJAX MALA": blackjax_mala,
    "BlackJAX Pathfinder, weighted": blackjax_pathfinder,
}
