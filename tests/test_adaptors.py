"""What is handed to other libraries, held against these: kernels and BlackJAX, flows and diffrax.

Others have files of their own: optax (test_optimizers, test_fisher), NumPyro (test_numpyro), ArviZ
and xarray (test_driver, test_cli, test_certify), scikit-learn (test_estimators).
"""

from __future__ import annotations

from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import steepest as st
from steepest.inference import as_kernel

KEY, STEP = jax.random.key(5), 0.3
START = jnp.asarray([1.0, -0.5, 0.2])


def energy(x):
    return 0.5 * jnp.sum(x**2) + 0.25 * jnp.sum((x[0] * x[1:]) ** 2)


def log_density(x):
    return -energy(x)


LANGEVIN = st.Flow(st.Energy(energy), st.Euclidean(), st.Thermal(1.0))


def test_the_loop_of_blackjax_runs_a_kernel_as_one_of_its_own():
    blackjax = pytest.importorskip("blackjax")
    kernel = as_kernel(LANGEVIN, st.Metropolis(st.Euler(STEP)))
    last, (positions, accepted) = blackjax.util.run_inference_algorithm(
        KEY, kernel, 6, initial_position=START, transform=lambda s, info: (s.position, info)
    )
    # Its protocol: one key for the start, one for each step.
    keys = jax.random.split(jax.random.split(KEY, 2)[0], 6)
    state, by_hand = kernel.init(START), []
    for key in keys:
        state, _ = kernel.step(key, state)
        by_hand.append(state.position)
    np.testing.assert_allclose(positions, jnp.stack(by_hand), rtol=1e-12)
    np.testing.assert_array_equal(last.position, positions[-1])
    moved = np.any(np.diff(positions, axis=0, prepend=START[None]) != 0, axis=1)
    np.testing.assert_array_equal(accepted.accepted == 1, moved)


def test_metropolis_on_euler_is_mala_of_blackjax(monkeypatch):
    """Given the noise of our proposals, BlackJAX accepts them with the same probabilities."""
    blackjax = pytest.importorskip("blackjax")
    from blackjax.mcmc import diffusions

    from steepest.schemes import metropolis

    ratios, accept = [], metropolis._accept
    monkeypatch.setattr(
        metropolis,
        "_accept",
        lambda source, ratio: (ratios.append(ratio), accept(source, ratio))[1],
    )
    plain, ours = (as_kernel(LANGEVIN, s) for s in (st.Euler(STEP), st.Metropolis(st.Euler(STEP))))
    theirs, both = blackjax.mala(log_density, STEP), 0
    for key in jax.random.split(KEY, 12):
        proposed = plain.step(key, plain.init(START))[0].position
        noise = (proposed - START + STEP * jax.grad(energy)(START)) / np.sqrt(2 * STEP)
        monkeypatch.setattr(diffusions, "generate_gaussian_noise", lambda *_, noise=noise: noise)
        found, info = theirs.step(key, theirs.init(START))
        state, entry = ours.step(key, ours.init(START))
        np.testing.assert_allclose(jnp.minimum(jnp.exp(ratios[-1]), 1.0), info.acceptance_rate)
        if info.is_accepted and entry.accepted:
            both += 1
            np.testing.assert_allclose(state.position, found.position, rtol=1e-12)
    assert both > 3 and float(min(ratios)) < -0.1  # both branches were met


def test_leapfrog_is_velocity_verlet_of_blackjax():
    pytest.importorskip("blackjax")
    from blackjax.mcmc import integrators, metrics

    metric = metrics.gaussian_euclidean(jnp.ones(3))
    verlet = integrators.velocity_verlet(log_density, metric.kinetic_energy)
    theirs: Any = integrators.new_integrator_state(log_density, START, START[::-1])
    kernel = as_kernel(st.Flow(st.Energy(energy), st.Symplectic()), st.Leapfrog(STEP))
    ours = kernel.init(st.Phase(START, START[::-1]))
    for _ in range(3):
        theirs, ours = verlet(theirs, STEP), kernel.step(KEY, ours)[0]
    np.testing.assert_allclose(ours.state.position, theirs.position, rtol=1e-12)
    np.testing.assert_allclose(ours.state.momentum, theirs.momentum, rtol=1e-12)


GAUSSIAN = st.Gaussian(START[:2], jnp.asarray([[0.8, 0.0], [0.2, 0.6]]))


@pytest.mark.parametrize(
    "flow, state",
    [
        (st.Flow(st.Energy(energy), st.Riemannian(lambda x: jnp.diag(1.0 + x**2))), START),
        (st.Flow(st.KL(lambda x: log_density(jnp.append(x, 0.1))), st.FisherRao()), GAUSSIAN),
    ],
    ids=["parameters", "a law"],
)
def test_the_velocity_of_a_flow_is_a_term_of_diffrax(flow, state):
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, y, args: flow.velocity(y, t)),
        diffrax.Dopri8(),
        t0=0.0, t1=1.0, dt0=0.1, y0=state,
        stepsize_controller=diffrax.PIDController(rtol=1e-11, atol=1e-12),
    )  # fmt: skip
    assert solution.ys is not None
    # Another method than theirs, and a solver object of diffrax in ours.
    run = st.solve(flow, state, scheme=st.RungeKutta(diffrax.Tsit5(), 1e-9, 1e-11), time=1.0)
    for a, b in zip(jax.tree.leaves(run.final), jax.tree.leaves(solution.ys), strict=True):
        np.testing.assert_allclose(a, b[-1], rtol=1e-7, atol=1e-8)


def test_a_noisy_flow_is_a_pair_of_terms_of_diffrax():
    """dx = velocity dt + sqrt(2 T) dW, W being what a flow without energy makes of the same key."""
    options: dict[str, Any] = dict(scheme=st.Euler(0.05), steps=8, key=KEY)
    still = st.Flow(st.Energy(lambda x: 0.0 * x[0]), st.Euclidean(), st.Thermal(0.5))
    free = st.solve(still, jnp.zeros(3), **options)
    path = diffrax.LinearInterpolation(free.times, free.states)  # sqrt(2 T) W, with 2 T = 1
    flow = st.Flow(st.Energy(energy), st.Euclidean(), st.Thermal(0.5))
    terms = diffrax.MultiTerm(
        diffrax.ODETerm(lambda t, x, args: flow.velocity(x, t)),
        diffrax.ControlTerm(lambda t, x, args: jnp.eye(3), path),
    )
    solution = diffrax.diffeqsolve(
        terms, diffrax.Euler(), 0.0, 0.4, None, START,
        saveat=diffrax.SaveAt(steps=True, t0=True), stepsize_controller=diffrax.StepTo(free.times),
    )  # fmt: skip
    assert solution.ys is not None
    run = st.solve(flow, START, **options)
    np.testing.assert_allclose(run.states, solution.ys[: len(run)], rtol=1e-10)
