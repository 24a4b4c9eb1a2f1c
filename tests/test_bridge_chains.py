"""Bridges through several snapshots, against the law of the process that the snapshots are of."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import steepest as st
from steepest.bridges import BridgeChain, SchrodingerChain, audit, brownian, ornstein_uhlenbeck
from steepest.bridges.store import load, save
from steepest.errors import ArgumentError

TIMES = (0.5, 1.0, 2.0, 2.5)


@pytest.fixture(scope="module")
def process():
    """Snapshots of an Ornstein-Uhlenbeck process, the chain through them, and 20000 paths."""
    flow = ornstein_uhlenbeck(0.3, 0.8, 0.4)
    start = st.Gaussian(jnp.asarray([2.0, -1.0]), jnp.asarray([[0.5, 0.0], [0.2, 0.3]]))
    laws = [law(start, t - TIMES[0]) for t in TIMES]
    problem = SchrodingerChain(flow, laws, TIMES)
    chain = problem.solve()
    x = start.sample(jax.random.key(0), 20000)
    paths = chain.sample_paths(x, jnp.asarray([0.75, 1.0, 1.7, 2.2, 2.5]), jax.random.key(1))
    return problem, chain, np.asarray(x), np.asarray(paths)


def law(start, time):
    """N(m, S) of the process: m = c + f (m_0 - c), S = f^2 S_0 + (T/k)(1 - f^2)."""
    f = np.exp(-0.8 * time)
    spread = f**2 * start.covariance + 0.3 / 0.8 * (1 - f**2) * jnp.eye(2)
    return st.Gaussian.from_moments(0.4 + f * (start.mean - 0.4), spread)


def test_snapshots_of_the_reference_itself_give_it_back(process):
    """KL(P | P_0) = 0, the drift is the reference's, marginals between snapshots are its own."""
    problem, chain, _, _ = process
    assert chain.method == "gaussian" and chain.horizon == 2.5 and chain.dimension == 2
    x = jnp.asarray([[0.0, 1.0], [2.0, -3.0]])
    for t in (0.5, 0.9, 1.0, 1.6, 2.0, 2.4):
        np.testing.assert_allclose(chain.drift(x, t), -0.8 * (x - 0.4), atol=1e-9)
        found, want = chain.marginal(t), law(problem.source, t - 0.5)
        np.testing.assert_allclose(found.mean, want.mean, atol=1e-9)
        np.testing.assert_allclose(found.covariance, want.covariance, atol=1e-9)
    traced = jax.jit(lambda t: chain.drift(x, t))(1.6)
    np.testing.assert_allclose(traced, chain.drift(x, 1.6), atol=1e-12)
    back = chain.backward_drift(x, 1.0)
    np.testing.assert_allclose(back, jax.jit(lambda t: chain.backward_drift(x, t))(1.0), atol=1e-12)
    value = chain.path_kl(jax.random.key(0))
    assert abs(float(value.value)) < 1e-9


def test_paths_have_the_correlations_of_the_process(process):
    """Cov(X_s, X_t) = exp(-k (t - s)) Var X_s across snapshots; five standard errors."""
    _, chain, x, paths = process
    at = [0.5, 0.75, 1.0, 1.7, 2.2, 2.5]
    clouds = [x, *paths]
    for i, j in ((0, 5), (1, 3), (2, 4), (1, 2)):
        a, b = clouds[i], clouds[j]
        want = np.exp(-0.8 * (at[j] - at[i])) * np.cov(a.T)
        found = (a - a.mean(0)).T @ (b - b.mean(0)) / len(a)
        size = np.sqrt(np.outer(a.var(0), b.var(0)))
        assert np.all(np.abs(found - want) < 5 * 1.4 * size / np.sqrt(len(a)))
    # The first time is allowed, and is where the paths start.
    again = chain.sample_paths(jnp.asarray(x[:5]), [0.5, 2.0], jax.random.key(3))
    np.testing.assert_allclose(again[0], x[:5], atol=1e-12)
    assert again.shape == (2, 5, 2)


def test_a_chain_through_a_turn_is_audited_leg_by_leg_and_saved(tmp_path):
    """Three clouds round a corner: the way leads through the middle, and an audit sees a detour."""
    rng = np.random.default_rng(0)
    clouds = [rng.normal(size=(90, 2)) * 0.4 + c for c in ([0.0, 0.0], [2.0, 0.0], [2.0, 2.0])]
    problem = SchrodingerChain(brownian(0.2), clouds, (0.0, 1.0, 3.0))
    chain = problem.solve()
    found = audit(problem, chain, jax.random.key(0), 200)
    assert found.passed, str(found)
    assert "leg 2, dual gap" in found and "whole chain, end marginal, MMD" in found
    x = jnp.asarray(clouds[0])
    middle = chain.sample_paths(x, [1.0], jax.random.key(1))[0]
    np.testing.assert_allclose(middle.mean(0), clouds[1].mean(0), atol=5 * 0.4 / np.sqrt(90))
    back = chain.sample_backward(jnp.asarray(clouds[2]), jax.random.key(2))
    np.testing.assert_allclose(back.mean(0), clouds[0].mean(0), atol=5 * 0.4 / np.sqrt(90))
    wrong = BridgeChain((chain.legs[0], chain.legs[0]), (0.0, 1.0, 2.0))
    report = audit(problem, wrong, jax.random.key(0), 200)
    assert report["leg 1, end marginal, MMD"].passed
    assert report["leg 2, end marginal, MMD"].passed is False
    assert report["whole chain, end marginal, sliced W2"].passed is False

    save(chain, tmp_path / "chain", columns=["a", "b"])
    again, words = load(tmp_path / "chain")
    assert again.times == chain.times and words["columns"] == ["a", "b"]
    ends = again.sample(x, jax.random.key(4)), chain.sample(x, jax.random.key(4))
    np.testing.assert_array_equal(*ends)
    (tmp_path / "chain" / "leg_2" / "model.npz").unlink()
    with pytest.raises(ArgumentError, match="no saved bridge"):
        load(tmp_path / "chain")


def test_wrong_input_is_told():
    x = np.random.default_rng(0).normal(size=(6, 2))
    for snapshots, times, said in (
        ([x], None, "two or more"),
        ([x, x, x], (0.0, 1.0), "times"),
        ([x, x, x], (0.0, 2.0, 1.0), "times"),
        ([x, x], (0.0, np.inf), "times"),
        ([x, x, x[:, :1]], None, "dimension"),
    ):
        with pytest.raises(ArgumentError, match=said):
            SchrodingerChain(brownian(), snapshots, times)
    chain = SchrodingerChain(brownian(1.0), [x, x]).solve()
    with pytest.raises(ArgumentError, match="times"):
        chain.sample_paths(jnp.asarray(x), [0.5, 1.5], jax.random.key(0))
