"""Laws on a finite set: the replicator, its exact flow, and distances on the simplex."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

import steepest as st
from steepest.states.categorical import Categorical

P = np.array([0.1, 0.2, 0.4, 0.3])
Q = np.array([0.3, 0.3, 0.1, 0.3])
STATE, TARGET = Categorical.from_probabilities(P), Categorical.from_probabilities(Q)
VALUES = jnp.array([1.0, -2.0, 0.5, 3.0])
RING = np.array([[0, 1.0, 0, 2.0], [1.0, 0, 3.0, 0], [0, 3.0, 0, 1.0], [2.0, 0, 1.0, 0]])


def test_moments_and_entropy_against_numpy():
    np.testing.assert_allclose(STATE.probabilities, P, rtol=1e-14)
    np.testing.assert_allclose(STATE.expect(lambda i: VALUES[i]), P @ VALUES, rtol=1e-14)
    np.testing.assert_allclose(STATE.entropy(), -P @ np.log(P), rtol=1e-14)
    np.testing.assert_allclose(STATE.log_prob(jnp.array([2, 0])), np.log(P[[2, 0]]), rtol=1e-14)
    i = np.arange(4)
    np.testing.assert_allclose(STATE.mean(), P @ i, rtol=1e-14)
    np.testing.assert_allclose(STATE.covariance(), P @ i**2 - (P @ i) ** 2, rtol=1e-14)
    counts = np.bincount(STATE.sample(jax.random.key(0), 10_000), minlength=4)
    assert (np.abs(counts - 1e4 * P) < 4.5 * np.sqrt(1e4 * P * (1 - P))).all()
    shifted = Categorical(STATE.logits + 5.0)
    np.testing.assert_allclose(shifted.probabilities, P, rtol=1e-13)


def test_reweight_is_the_replicator():
    """p' = p (psi - <psi>) for F = <f>, psi = f; as p it is the derivative along the tangent."""
    covector = jax.grad(lambda c: c.expect(lambda i: VALUES[i]))(STATE)
    centred = np.asarray(VALUES) - P @ VALUES
    np.testing.assert_allclose(covector.logits, P * centred, atol=1e-14)
    tangent = STATE.reweight(covector)
    rate = jax.jvp(lambda c: c.probabilities, (STATE,), (tangent,))[1]
    np.testing.assert_allclose(rate, P * centred, atol=1e-14)
    # The Fisher metric sum p'^2 / p turns the tangent back into the covector.
    np.testing.assert_allclose(rate @ (rate / P), covector.logits @ tangent.logits, rtol=1e-12)
    # An Euler step on logits is exponentiated gradient.
    step = Categorical(STATE.logits - 0.3 * tangent.logits).probabilities
    expected = P * np.exp(-0.3 * np.asarray(VALUES))
    np.testing.assert_allclose(step, expected / expected.sum(), rtol=1e-13)


def test_fisher_rao_flow_of_kl_is_the_geometric_mean():
    """p_t ~ p_0^(e^-t) q^(1 - e^-t), to 1e-9."""
    velocity = jax.jit(lambda x: -_reweighted_kl(Categorical(x)))
    time = 1.3
    found = solve_ivp(
        lambda _, x: velocity(x), (0, time), STATE.logits, "DOP853", rtol=1e-12, atol=1e-13
    )
    share = math.exp(-time)
    expected = P**share * Q ** (1 - share)
    end = Categorical(found.y[:, -1]).probabilities
    np.testing.assert_allclose(end, expected / expected.sum(), rtol=0, atol=1e-9)


def _reweighted_kl(state):
    return state.reweight(jax.grad(lambda c: c.kl(TARGET))(state)).logits


def test_transport_on_a_graph_is_its_heat_flow():
    """Maas: with F = -S the logarithmic mean leaves the graph's Laplacian, -p' = (D - C) p."""
    state = Categorical.from_probabilities(P, RING)
    covector = jax.grad(lambda c: -c.entropy())(state)
    tangent = state.transport(covector, None)
    rate = jax.jvp(lambda c: c.probabilities, (state,), (tangent,))[1]
    laplacian = np.diag(RING.sum(axis=1)) - RING
    np.testing.assert_allclose(rate, laplacian @ P, atol=1e-13)
    assert covector.logits @ tangent.logits > 0


def test_distances():
    np.testing.assert_allclose(STATE.kl(TARGET), P @ np.log(P / Q), rtol=1e-13)
    np.testing.assert_allclose(STATE.symmetric_kl(TARGET), (P - Q) @ np.log(P / Q), rtol=1e-13)
    np.testing.assert_allclose(STATE.total_variation(TARGET), 0.5 * np.abs(P - Q).sum())
    chord = np.linalg.norm(np.sqrt(P) - np.sqrt(Q))
    np.testing.assert_allclose(STATE.hellinger_distance(TARGET), chord / math.sqrt(2))
    arc = 2 * math.acos(np.sum(np.sqrt(P * Q)))
    np.testing.assert_allclose(STATE.fisher_rao_distance(TARGET), arc, rtol=1e-12)
    # Close laws: the arc is the Fisher length of the step, where an arccosine would return noise.
    near = Categorical(STATE.logits + 1e-9 * VALUES)
    length = 1e-9 * math.sqrt(P @ (np.asarray(VALUES) - P @ VALUES) ** 2)
    np.testing.assert_allclose(STATE.fisher_rao_distance(near), length, rtol=1e-6)


def test_a_vanishing_probability_stays_finite():
    state = Categorical(jnp.array([0.0, 0.0, -2000.0]))
    covector = jax.grad(lambda c: c.expect(lambda i: VALUES[i]) - c.entropy())(state)
    assert jnp.isfinite(state.entropy()) and jnp.isfinite(covector.logits).all()
    assert jnp.isfinite(state.reweight(covector).logits).all()


def test_a_categorical_is_a_pytree_in_both_precisions():
    stack = jax.tree.map(lambda x: jnp.stack([x, 2 * x]), STATE)
    entropies = jax.jit(jax.vmap(lambda c: c.entropy()))(stack)
    np.testing.assert_allclose(entropies[0], STATE.entropy())
    small = Categorical(STATE.logits.astype(jnp.float32), RING)
    slope = jax.grad(lambda c: -c.entropy())(small)
    assert small.reweight(slope).logits.dtype == jnp.float32
    assert small.transport(slope, None).logits.dtype == jnp.float32
    assert hash(jax.tree.structure(small)) == hash(jax.tree.structure(slope))
    np.testing.assert_allclose(Categorical.uniform(3).probabilities, np.full(3, 1 / 3))


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Categorical(jnp.zeros((2, 2))), "logits"),
        (lambda: Categorical([0.0, jnp.nan]), "NaN"),
        (lambda: Categorical([]), "logits"),
        (lambda: Categorical({"a": jnp.zeros(2)}), "one array"),
        (lambda: Categorical.from_probabilities([0.5, 0.6]), "sum 1.1"),
        (lambda: Categorical.from_probabilities([1.5, -0.5]), "smallest -0.5"),
        (lambda: Categorical(jnp.zeros(4), np.triu(RING)), "graph"),
        (lambda: Categorical(jnp.zeros(3), RING), "graph"),
        (lambda: Categorical(jnp.zeros(4), -RING), "nonnegative"),
        (lambda: STATE.transport(STATE, st.Euclidean()), "no metric"),
        (lambda: STATE.kl(Categorical.uniform(3)), "4 elements"),
        (lambda: STATE.total_variation(3), "4 elements"),
    ],
)
def test_bad_categoricals(make, message):
    with pytest.raises(st.ArgumentError, match=message):
        make()
