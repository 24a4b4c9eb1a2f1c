"""Smooth chains against cubic splines, dense Gaussian conditioning and a root finder."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.interpolate

import steepest as st
from steepest.bridges import SchrodingerChain, SmoothChain, audit, brownian
from steepest.bridges.smooth import between, roughness
from steepest.bridges.store import load, save
from steepest.errors import ArgumentError

TIMES = (0.0, 1.0, 1.5, 3.0)


def test_paths_through_points_are_natural_splines():
    """Means and slopes against scipy; M is the integral of the squared second derivative."""
    x = np.asarray([0.3, -1.0, 2.0, 0.5])
    spline = scipy.interpolate.CubicSpline(TIMES, x, bc_type="natural")
    at = np.linspace(0.0, 3.0, 13)
    weights, root = between(TIMES, at)
    found = weights @ (x[1:] - x[0])
    np.testing.assert_allclose(x[0] + found[:13], spline(at), atol=1e-12)
    np.testing.assert_allclose(found[13:], spline(at, 1), atol=1e-12)
    np.testing.assert_allclose(root[[0, 4, 6, 12]], 0.0, atol=1e-7)  # the snapshots are met
    fine = np.linspace(0.0, 3.0, 60001)
    np.testing.assert_allclose(
        x @ roughness(TIMES) @ x, np.trapezoid(spline(fine, 2) ** 2, fine), rtol=1e-6
    )


def test_the_spread_between_snapshots_is_that_of_a_conditioned_gaussian():
    """Integrated Brownian motion with a prior of variance 1e8 on place and speed, densely."""
    at = np.asarray([0.4, 1.2, 2.0])
    t = np.concatenate([TIMES, at])
    s, u = np.minimum.outer(t, t), np.maximum.outer(t, t)
    prior = s**2 * (3 * u - s) / 6 + 1e8 * (1.0 + np.outer(t, t))
    a, b = slice(0, 4), slice(4, None)
    want = prior[b, b] - prior[b, a] @ np.linalg.solve(prior[a, a], prior[a, b])
    root = between(TIMES, at)[1][:3]
    np.testing.assert_allclose(root @ root.T, want, atol=1e-6)  # 1e8 leaves eight digits


@pytest.fixture(scope="module")
def gaussian():
    """Four Gaussian snapshots in a plane."""
    rng, laws = np.random.default_rng(1), []
    for _ in TIMES:
        root = rng.normal(size=(2, 2))
        laws.append(st.Gaussian.from_moments(rng.normal(size=2), root @ root.T + 0.3 * np.eye(2)))
    problem = SchrodingerChain(brownian(), laws, TIMES)
    return problem, problem.solve(smooth=0.5)


def test_the_joint_law_of_gaussians_is_the_nearest(gaussian):
    """What makes it so: the precision differs from M/(2 T) in its diagonal blocks alone (eq. 71).

    Off them it is M/(2 T), off-diagonal entries within a block excepted. The least KL under linear
    constraints on blocks has this form and no other law has (strict convexity).
    """
    _, chain = gaussian
    K = np.kron(roughness(TIMES) / (2 * 0.5), np.eye(2))
    gap = (np.linalg.inv(chain.joined.covariance) - K).reshape(4, 2, 4, 2)
    for i in range(4):
        gap[i, :, i] = 0.0
    np.testing.assert_allclose(gap, 0.0, atol=1e-9 * np.abs(K).max())


def test_gaussian_paths_have_the_marginals_and_are_smooth(gaussian):
    """Blocks to 1e-10; 4000 paths within five standard errors; the audit differences them."""
    problem, chain = gaussian
    assert isinstance(chain, SmoothChain) and float(chain.gap) < 1e-11
    for i, law in enumerate(problem.snapshots):
        found = chain.marginal(TIMES[i])
        np.testing.assert_allclose(found.mean, law.mean, atol=1e-10)
        np.testing.assert_allclose(found.covariance, law.covariance, atol=1e-9)
    spline = scipy.interpolate.CubicSpline(TIMES, chain.joined.mean, bc_type="natural")
    want = chain.marginal(2.3)
    np.testing.assert_allclose(want.mean, spline(2.3), atol=1e-12)
    n = 4000
    x = problem.source.sample(jax.random.key(0), n)
    cloud = np.asarray(chain.sample_paths(x, [2.3], jax.random.key(1))[0])
    sd = np.sqrt(np.diag(want.covariance))
    assert np.all(np.abs(cloud.mean(0) - want.mean) < 5 * sd / n**0.5)
    gap = np.abs(np.cov(cloud.T) - want.covariance)
    assert np.all(gap < 5 * np.sqrt(2 / n) * np.outer(sd, sd))


class Rough(SmoothChain):
    """Velocities that are not those of its paths."""

    def sample_states(self, x, times, key):
        position, velocity = super().sample_states(x, times, key)
        return position, velocity + 0.5


def test_points_are_joined_by_the_chain_and_saved(gaussian, tmp_path):
    """Stations are points of the snapshots, velocities pass through them without a jump."""
    rng = np.random.default_rng(0)
    clouds = [rng.normal(size=(30, 2)) * 0.3 + c for c in ([0.0, 0.0], [2.0, 0.0], [2.0, 2.0])]
    problem = SchrodingerChain(brownian(0.2), clouds, (0.0, 1.0, 3.0))
    chain = problem.solve(smooth=0.05)
    assert chain.method == "smooth, sinkhorn" and "smooth" in chain.notes[-1]
    x = jnp.asarray(clouds[0])
    at = [0.0, 1.0 - 1e-6, 1.0, 1.0 + 1e-6, 3.0]
    place, speed = (np.asarray(part) for part in chain.sample_states(x, at, jax.random.key(1)))
    np.testing.assert_allclose(place[0], x, atol=1e-6)
    nearest = np.linalg.norm(place[2][:, None] - clouds[1], axis=2).min(1)
    assert nearest.max() < 1e-6
    assert np.abs(speed[3] - speed[1]).max() < 8 * np.sqrt(2 * 0.05 * 2e-6)
    found = audit(problem, chain, jax.random.key(0), 100)
    assert found.passed, str(found)
    assert "snapshot 3, marginal, MMD" in found
    rough = Rough(*[getattr(chain, f.name) for f in dataclasses.fields(chain)])
    assert audit(problem, rough, jax.random.key(0), 100)["paths are smooth"].passed is False
    save(chain, tmp_path / "a", columns=["a", "b"])
    again = load(tmp_path / "a")[0]
    ends = again.sample(x, jax.random.key(4)), chain.sample(x, jax.random.key(4))
    np.testing.assert_array_equal(*ends)
    save(gaussian[1], tmp_path / "b")
    back = load(tmp_path / "b")[0]
    np.testing.assert_array_equal(back.joined.covariance, gaussian[1].joined.covariance)


def test_wrong_input_is_told():
    x = np.random.default_rng(0).normal(size=(6, 2))
    with pytest.raises(ArgumentError, match="three snapshots"):
        SchrodingerChain(brownian(), [x, x]).solve(smooth=1.0)
    for bad in (0.0, float("nan"), -1.0):
        with pytest.raises(ArgumentError, match="smooth"):
            SchrodingerChain(brownian(), [x, x, x]).solve(smooth=bad)
