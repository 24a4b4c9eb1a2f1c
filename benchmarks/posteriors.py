"""Samplers on posteriors: what they spend until means of squares are right, and on a draw.

`python -m benchmarks posteriors [--case NAME] [--rounds N]`. *Low error*: the squared error of
E[x^2] over Var[x^2] is at most 0.01 in the worst dimension, in the median of N repeats. Every
gradient counts, those of tuning too. Seconds are those of the run that the effective draws are of:
tuning, sampling and compilation apart. All run in float64 on the CPU.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np

from steepest.inference import Answer, fit
from steepest.inference.sampling_error import sampling_error

from .targets import CASES, Case, truth

LOW = 0.01
BUDGETS = tuple(int(1000 * 1.5**k) for k in range(3, 17))
OWN = ("hmc", "langevin", "kinetic-langevin", "microcanonical")
SAMPLE_BUDGET = 50_000
CHAINS, WARM_UP, SAVES = 4, 500, 1000


@dataclasses.dataclass(frozen=True)
class Result:
    """Draws (chain, save, d) of one run and their cost; `tuning`: gradients before the draws."""

    draws: np.ndarray
    tuning: int
    gradients: int
    tune: float
    run: float
    compile: float


def tables(rounds: int, only: str | None) -> Iterator[str]:
    for name, make in CASES.items():
        if only is None or only in name:
            with jax.enable_x64(True):
                yield _table(name, make(), max(1, rounds // 3))


def _table(name: str, case: Case, repeats: int) -> str:
    # First of all, while nothing is compiled that they share.
    cold = {method: _go(method, case, SAMPLE_BUDGET, 0).seconds["compile"] for method in OWN}
    exact = truth(case)
    lines = [
        f"### {name}",
        "",
        "| sampler | gradients to low error | ESS / 1000 gradients | ESS / s | tune, s | run, s |"
        " compile, s | said |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for method in OWN:
        lines.append(_own(method, case, exact, repeats, cold[method]))
    for label, run in PEERS.items():
        lines.append(_peer(label, run, case, exact, repeats))
    return "\n".join([*lines, ""])


def error(draws: np.ndarray, exact: tuple[np.ndarray, np.ndarray]) -> float:
    """The largest squared error of E[x^2] over Var[x^2]."""
    off = np.mean(draws**2, axis=tuple(range(draws.ndim - 1))) - exact[0]
    return float(np.max(off**2 / exact[1]))


def _go(method: str, case: Case, budget: int, seed: int) -> Answer:
    start, key = jnp.asarray(case.start), jax.random.key(seed)
    return fit(case.energy, method, budget, start=start, key=key)


def _own(
    method: str, case: Case, exact: tuple[np.ndarray, np.ndarray], repeats: int, cold: float
) -> str:
    answer = _go(method, case, SAMPLE_BUDGET, 1)
    reached = "not by " + f"{BUDGETS[-1]:,}"
    for budget in BUDGETS:
        found = [_go(method, case, budget, seed) for seed in range(2, 2 + repeats)]
        if np.median([error(a.draws, exact) for a in found]) <= LOW:
            reached = f"{int(np.median([a.gradients for a in found])):,}"
            break
    ess = float(np.min(sampling_error(answer.draws).ess))
    run, tune = answer.seconds.get("run", np.nan), answer.seconds.get("tune", np.nan)
    said = "certified" if answer.certificate.certified else answer.certificate.failures[0]
    return (
        f"| {method} | {reached} | {1000 * ess / answer.gradients:.1f} | {ess / (run + tune):,.0f}"
        f" | {tune:.2f} | {run:.2f} | {cold:.1f} | {said} |"
    )


def _peer(
    label: str,
    run: Callable[[Case, int], Result],
    case: Case,
    exact: tuple[np.ndarray, np.ndarray],
    repeats: int,
) -> str:
    try:
        found = [run(case, seed) for seed in range(repeats)]
    except Exception as reason:
        return f"| {label} | not run: {type(reason).__name__} | | | | | | |"
    last = found[-1]
    reached = "not by " + f"{last.gradients:,}"
    saves = last.draws.shape[1]
    for count in np.unique(np.geomspace(5, saves, 40).astype(int)):
        if np.median([error(r.draws[:, :count], exact) for r in found]) <= LOW:
            share = [r.tuning + (r.gradients - r.tuning) * count / saves for r in found]
            reached = f"{int(np.median(share)):,}"
            break
    spread = sampling_error(last.draws)
    ess = float(np.min(spread.ess))
    said = f"R-hat {np.max(spread.r_hat):.3f}"
    return (
        f"| {label} | {reached} | {1000 * ess / last.gradients:.1f}"
        f" | {ess / (last.run + last.tune):,.0f} | {last.tune:.2f} | {last.run:.2f}"
        f" | {last.compile:.1f} | {said} |"
    )


def numpyro_nuts(case: Case, seed: int) -> Result:
    """NumPyro's NUTS with a dense metric, chains vectorised."""
    from numpyro.infer import MCMC, NUTS

    kernel = NUTS(potential_fn=case.energy, dense_mass=True)
    options = dict(num_chains=CHAINS, chain_method="vectorized", progress_bar=False)
    chain = MCMC(kernel, num_warmup=WARM_UP, num_samples=SAVES, **options)
    rng = np.random.default_rng(seed)
    start = jnp.asarray(case.start + 0.1 * rng.standard_normal((CHAINS, len(case.start))))
    fields = ("num_steps",)

    def both() -> tuple[float, float, int]:
        before = time.perf_counter()
        chain.warmup(
            jax.random.key(seed), init_params=start, extra_fields=fields, collect_warmup=True
        )
        jax.block_until_ready(chain.post_warmup_state)
        middle = time.perf_counter()
        spent = int(np.sum(chain.get_extra_fields()["num_steps"]))
        chain.run(jax.random.key(seed + 1), extra_fields=fields)
        jax.block_until_ready(chain.get_samples())
        return middle - before, time.perf_counter() - middle, spent

    cold = both()
    tune, run, tuning = both()
    draws = np.asarray(chain.get_samples(group_by_chain=True))
    total = tuning + int(np.sum(chain.get_extra_fields()["num_steps"]))
    return Result(draws, tuning, total, tune, run, max(cold[0] + cold[1] - tune - run, 0.0))


def blackjax_nuts(case: Case, seed: int) -> Result:
    """BlackJAX's NUTS after its window adaptation with a dense metric, a chain at a time mapped."""
    import blackjax

    log_density = lambda x: -case.energy(x)  # noqa: E731
    adapt = blackjax.window_adaptation(blackjax.nuts, log_density, is_mass_matrix_diagonal=False)

    @jax.jit
    def warm(keys, start):
        def one(key, x):
            (state, parameters), info = adapt.run(key, x, num_steps=WARM_UP)
            return state, parameters, jnp.sum(info.info.num_integration_steps)

        return jax.vmap(one)(keys, start)

    @jax.jit
    def sample(keys, states, parameters):
        def chain(key, state, parameters):
            kernel = blackjax.nuts(log_density, **parameters)

            def body(state, key):
                state, info = kernel.step(key, state)
                return state, (state.position, info.num_integration_steps)

            return jax.lax.scan(body, state, jax.random.split(key, SAVES))[1]

        return jax.vmap(chain)(keys, states, parameters)

    return _warm_then_sample(case, seed, warm, sample)


def blackjax_mclmc(case: Case, seed: int) -> Result:
    """BlackJAX's unadjusted microcanonical Langevin with its own tuning; two gradients a step."""
    import blackjax
    from blackjax.mcmc.integrators import isokinetic_mclachlan

    log_density = lambda x: -case.energy(x)  # noqa: E731
    steps = 10 * SAVES

    def kernel(inverse_mass_matrix):
        return blackjax.mcmc.mclmc.build_kernel(
            logdensity_fn=log_density,
            integrator=isokinetic_mclachlan,
            inverse_mass_matrix=inverse_mass_matrix,
        )

    @jax.jit
    def warm(keys, start):
        def one(key, x):
            state = blackjax.mcmc.mclmc.init(x, log_density, key)
            found = blackjax.mclmc_find_L_and_step_size(
                mclmc_kernel=kernel, num_steps=steps, state=state, rng_key=key
            )
            # Its tuning takes about 40 % of `steps` steps.
            return found[0], found[1], jnp.asarray(2 * int(0.4 * steps))

        return jax.vmap(one)(keys, start)

    @jax.jit
    def sample(keys, states, parameters):
        def chain(key, state, parameters):
            step = blackjax.mclmc(
                log_density,
                L=parameters.L,
                step_size=parameters.step_size,
                inverse_mass_matrix=parameters.inverse_mass_matrix,
            ).step

            def body(state, key):
                state, _ = step(key, state)
                return state, state.position

            path = jax.lax.scan(body, state, jax.random.split(key, steps))[1]
            return path[9::10], jnp.full(SAVES, 20)

        return jax.vmap(chain)(keys, states, parameters)

    return _warm_then_sample(case, seed, warm, sample)


def _warm_then_sample(case: Case, seed: int, warm: Callable, sample: Callable) -> Result:
    keys = jax.random.split(jax.random.key(seed), 2 * CHAINS)
    rng = np.random.default_rng(seed)
    start = jnp.asarray(case.start + 0.1 * rng.standard_normal((CHAINS, len(case.start))))
    seconds = []
    for _ in range(2):
        before = time.perf_counter()
        states, parameters, tuning = jax.block_until_ready(warm(keys[:CHAINS], start))
        middle = time.perf_counter()
        draws, spent = jax.block_until_ready(sample(keys[CHAINS:], states, parameters))
        seconds.append((middle - before, time.perf_counter() - middle))
    (tune, run), cold = seconds[1], sum(seconds[0])
    used = int(jnp.sum(tuning))
    total = used + int(jnp.sum(spent))
    return Result(np.asarray(draws), used, total, tune, run, max(cold - tune - run, 0.0))


PEERS = {
    "NumPyro NUTS, dense": numpyro_nuts,
    "BlackJAX NUTS, dense": blackjax_nuts,
    "BlackJAX MCLMC": blackjax_mclmc,
}
