"""scikit-learn estimators: its own checks, and its own mixture and a pipeline beside ours."""

import jax
import numpy as np
import pytest
from sklearn.mixture import GaussianMixture
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from steepest.estimators import BridgeTransformer, MixtureDensity


@pytest.fixture(scope="module")
def clusters():
    draw = np.random.default_rng(0)
    far = draw.normal([4.0, 0.0], [0.5, 1.0], (90, 2))
    return np.concatenate([draw.normal(size=(60, 2)), far])


@pytest.mark.parametrize("estimator", [MixtureDensity(), BridgeTransformer()], ids=str)
def test_scikit_learns_own_checks_pass(estimator):
    """All of them, none is expected to fail; JAX is left at 32 bits, as users mostly have it."""
    with jax.enable_x64(False):
        results = check_estimator(estimator, on_fail=None, on_skip=None)
    failed = {r["check_name"]: r["exception"] for r in results if r["status"] == "failed"}
    assert failed == {} and sum(r["status"] == "passed" for r in results) > 25


def test_a_mixture_is_the_one_of_scikit_learn(clusters):
    """Both stop at a mean log likelihood that gains 1e-8: so far are they from one another."""
    ours = MixtureDensity(2, random_state=0).fit(clusters)
    theirs = GaussianMixture(2, tol=1e-10, reg_covar=0.0, max_iter=500, random_state=0)
    theirs.fit(clusters)
    order, other = np.argsort(ours.means_[:, 0]), np.argsort(theirs.means_[:, 0])
    np.testing.assert_allclose(ours.score(clusters), theirs.score(clusters), atol=1e-7)
    # The likelihood is flat at its top: an error of 1e-7 in it is one of 1e-3.5 in what it fits.
    np.testing.assert_allclose(ours.means_[order], theirs.means_[other], atol=1e-3)
    np.testing.assert_allclose(ours.covariances_[order], theirs.covariances_[other], atol=1e-3)
    assert (np.argsort(order)[ours.predict(clusters)] == (clusters[:, 0] > 2.2)).mean() > 0.97
    np.testing.assert_allclose(ours.predict_proba(clusters).sum(axis=1), 1.0, atol=1e-12)
    x = ours.sample(4000, random_state=1)
    # Standard errors of a mean and of a mean log density of 4000 independent draws.
    error = 4 * x.std(axis=0) / np.sqrt(len(x))
    assert (np.abs(x.mean(axis=0) - clusters.mean(axis=0)) < error).all()
    logs = ours.score_samples(x)
    assert abs(logs.mean() - theirs.score(x)) < 1e-3 + 4 * logs.std() / np.sqrt(len(x)) * 0.01


def test_a_bridge_is_a_step_of_a_pipeline(clusters):
    """In the cold limit the mean end is the map of optimal transport between the Gaussians."""
    line = make_pipeline(StandardScaler(), BridgeTransformer(temperature=1e-6))
    moved = line.fit_transform(clusters)
    # E[x1 | x0] = m + A (x0 - m0) with A the symmetric map; A S A = 1 up to O(T).
    np.testing.assert_allclose(np.cov(moved.T), np.eye(2), atol=1e-4)
    np.testing.assert_allclose(moved.mean(axis=0), 0.0, atol=1e-6)
    target = clusters[:40] + 10.0
    warm = BridgeTransformer(target, temperature=0.5, random_state=0).fit(clusters)
    ends = warm.sample(clusters)
    error = 4 * ends.std(axis=0) / np.sqrt(len(ends))
    assert (np.abs(ends.mean(axis=0) - target.mean(axis=0)) < error).all()
