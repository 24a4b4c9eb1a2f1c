"""Minimizing movements of mixtures (eq. 50, 59, 62), merging, and ten Gaussians from one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import steepest as st
from steepest.errors import ArgumentError, Diverged

RULE = st.GaussHermite(8)
START = st.GaussianMixture(
    [0.2, -0.4],
    [[-1.5, 0.3], [1.2, -0.5]],
    [[[0.9, 0.0], [0.2, 0.6]], [[0.7, 0.0], [-0.3, 0.8]]],
    RULE,
)
TARGET = st.GaussianMixture([0.0, 0.5], [[-2.0, 0.0], [2.0, 0.5]], [[0.6, 0.8], [0.7, 0.5]])


def one_step(geometry, h):
    flow = st.Flow(st.KL(TARGET), geometry)
    return st.solve(flow, START, scheme=st.MinimizingMovement(h), steps=1)


def test_components_move_to_the_minimum_of_energy_plus_distance():
    """The gradient of F + sum w W2^2/(2 h) vanishes: 1e-6, a hundred times the solver's 1e-8."""
    h = 0.3
    run = one_step(2.0 * st.Wasserstein(), h)
    new = run.final
    np.testing.assert_array_equal(new.log_weights, START.log_weights)
    assert run.ledger.violation is not None and run.ledger.violation[1:].max() < 0

    @jax.jit
    @jax.grad
    def slope(parts):
        law = START.tangent(START.log_weights, *parts)
        square = jax.vmap(
            lambda m, s, a, b: st.Gaussian(m, s).wasserstein_distance(st.Gaussian(a, b)) ** 2
        )(law.means, law.scales, START.means, START.scales)
        return st.KL(TARGET)(law) + jnp.sum(START.weights * square) / (2 * 2.0 * h)

    means, scales = slope((new.means, new.scales))
    assert jnp.abs(means).max() < 1e-6 and jnp.abs(jnp.tril(scales)).max() < 1e-6
    assert jnp.abs(new.means - START.means).max() > 0.05  # it has moved


def test_weights_move_to_the_minimum_of_energy_plus_kl():
    """Along the simplex dF/dw + log(w/w_k)/h is constant at the minimum."""
    h = 0.3
    run = one_step(st.FisherRao(), h)
    new = run.final
    np.testing.assert_array_equal(new.means, START.means)
    psi = new.per_weight(jax.grad(st.KL(TARGET))(new)).log_weights
    gaps = psi + (jnp.log(new.weights) - jnp.log(START.weights)) / h
    assert jnp.ptp(gaps) < 1e-7 and jnp.abs(new.weights - START.weights).max() > 0.01
    assert run.ledger.violation is not None and run.ledger.violation[1:].max() < 0


def test_one_component_takes_the_step_of_the_gaussian():
    gaussian = st.Gaussian([1.0, -1.0], [[1.0, 0.0], [0.3, 0.5]], RULE)
    target = st.Gaussian([0.0, 0.5], [[0.8, 0.0], [0.4, 0.7]])
    flow = st.Flow(st.KL(target), st.Wasserstein())
    scheme = st.MinimizingMovement(0.2)
    alone = st.solve(flow, gaussian, scheme=scheme, steps=1).final
    mixture = st.GaussianMixture.from_gaussian(gaussian)
    mixed = st.solve(flow, mixture, scheme=scheme, steps=1).final
    np.testing.assert_allclose(mixed.means[0], alone.mean, atol=1e-7)
    np.testing.assert_allclose(mixed.component(0).covariance, alone.covariance, atol=1e-7)


def test_components_that_collapse_leave_the_others_alone():
    """A weight below the smallest number: its component rests; a scale stepped through zero: told.

    The other component steps as the Gaussian it is: m+ = m/(1 + h), (1 + h) s+ - h/s+ = s.
    """
    dead = st.GaussianMixture([0.0, -900.0], [[-1.0], [1.0]], [[0.5], [0.5]])
    bowl = lambda x: -0.5 * jnp.sum(x**2)  # noqa: E731
    flow = st.Flow(st.KL(bowl), st.Wasserstein())
    new = st.solve(flow, dead, scheme=st.MinimizingMovement(0.1), steps=1).final
    scale = (0.5 + np.sqrt(0.25 + 4 * 1.1 * 0.1)) / 2.2
    np.testing.assert_allclose([new.means[0, 0], new.scales[0, 0]], [-1 / 1.1, scale], atol=1e-7)
    assert new.means[1, 0] == 1.0 and all(jnp.isfinite(x).all() for x in jax.tree.leaves(new))
    pair = st.GaussianMixture([0.0, 0.0], [[-1.0], [1.0]], [[0.5], [0.5]])
    narrow = st.Flow(st.KL(lambda x: 100 * bowl(x)), st.Wasserstein())
    with pytest.raises(Diverged, match="smaller step"):
        st.solve(narrow, pair, scheme=st.Euler(0.1), steps=5)


def test_merging_keeps_moments_and_what_differs():
    """Twins become one exactly; the cost of joining far ones is more than is allowed."""
    order = jnp.array([0, 1, 0])
    twins = st.GaussianMixture(
        START.log_weights[order], START.means[order], START.scales[order], RULE
    )
    merged = twins.merged(1e-9)
    assert merged.count == 2
    x = jax.random.normal(jax.random.key(0), (50, 2))
    np.testing.assert_allclose(merged.log_prob(x), twins.log_prob(x), rtol=1e-10)
    one = START.merged(10.0)
    assert one.count == 1
    np.testing.assert_allclose(one.means[0], START.mean(), rtol=1e-12)
    np.testing.assert_allclose(one.component(0).covariance, START.covariance(), rtol=1e-12)
    # Runnalls's bound: no more nats are lost than what joining both may cost.
    w, logs = START.weights, [np.linalg.slogdet(START.component(i).covariance)[1] for i in (0, 1)]
    bound = 0.5 * (np.linalg.slogdet(START.covariance())[1] - w @ jnp.array(logs))
    assert START.kl(one) <= bound and START.merged(float(bound) - 1e-9).count == 2
    with pytest.raises(ArgumentError, match="loss"):
        START.merged(-1.0)
    with pytest.raises(ArgumentError, match="traced"):
        jax.jit(lambda m: m.merged())(START)


@pytest.fixture(scope="module")
def ten_gaussians():
    from benchmarks import mixture_target as bench

    target = bench.target_of(2, 0)
    return target, bench.langevin(target, 2, 0, 4096, 1.0)


@pytest.mark.parametrize("merge", [True, False], ids=["merged", "sixteen"])
def test_ten_gaussians_from_one_in_the_plane(merge, ten_gaussians):
    """The benchmark `mixture_target` at a small size; 0.05 is the goal that was set for it."""
    from benchmarks import mixture_target as bench

    target, particles = ten_gaussians
    start = bench.fitted(particles, 2, 0, merge)
    end = bench.settled(start, target, step=0.5, steps=4)
    before, after = (m.symmetric_kl(target, jax.random.key(0), 8192) for m in (start, end))
    assert after.value + 3 * after.error < 0.05 < before.value
