"""Bridges by networks against the closed form between Gaussians that no diagonal mixture knows."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import steepest as st
from steepest.bridges import SchrodingerBridge, audit, ornstein_uhlenbeck
from steepest.bridges.audit import _reciprocal
from steepest.bridges.networks import stations
from steepest.bridges.store import load, save
from steepest.errors import ArgumentError

PAIRS = 4096
OPTIONS = dict(width=32, rounds=3, steps=300, pairs=PAIRS)
MIXTURE = dict(components=1, steps=200, batch=256)


@pytest.fixture(scope="module")
def fitted():
    """Correlations of opposite signs at the two ends, under an Ornstein-Uhlenbeck reference."""
    A, B = jnp.asarray([[1.0, 0.7], [0.7, 0.8]]), jnp.asarray([[0.6, -0.4], [-0.4, 0.9]])
    source = st.Gaussian.from_moments(jnp.zeros(2), A)
    target = st.Gaussian.from_moments(jnp.asarray([1.0, -1.0]), B)
    problem = SchrodingerBridge(ornstein_uhlenbeck(0.5, 0.8, 0.3), source, target)
    found = problem.solve("network", jax.random.key(1), mixture=MIXTURE, **OPTIONS)
    return problem, problem.solve(), found


def slope_error(found, exact, time, name):
    """The mean of D |s - s*|^2 over x and axes in white coordinates: what is minimised."""
    x = exact.marginal(time).sample(jax.random.key(3), 1000)
    _, D, factor = exact.reference.coming(x, time)
    D = 1.0 - D if name == "backward_drift" else D
    gap = (getattr(found, name)(x, time) - getattr(exact, name)(x, time)) / (2 * 0.5 * factor)
    return float(jnp.mean(D * gap**2))


def untrained(found):
    still = lambda half: eqx.tree_at(  # noqa: E731
        lambda h: h.network, half, jax.tree.map(jnp.zeros_like, half.network)
    )
    return eqx.tree_at(lambda b: (b.ahead, b.back), found, (still(found.ahead), still(found.back)))


def test_both_drifts_are_those_of_the_closed_form(fitted):
    """A regression on N pairs whose noise has the variance 1 leaves p/N, p what the network fits.

    With p = 64 (a smooth function of two coordinates and time) and N = 4096 that is 0.016. Without
    the network the mixture is off by several times as much.
    """
    _, exact, found = fitted
    plain = untrained(found)
    for name in ("drift", "backward_drift"):
        errors = [slope_error(found, exact, t, name) for t in (0.05, 0.5, 0.95)]
        assert max(errors) < 64 / PAIRS, (name, errors)
        worst = max(slope_error(plain, exact, t, name) for t in (0.05, 0.5, 0.95))
        assert worst > 4 * 64 / PAIRS


def test_paths_ends_and_path_divergence(fitted):
    """Of 4000 paths: five standard errors and the 0.016 above, in the variance of an end."""
    problem, exact, found = fitted
    x = problem.source.sample(jax.random.key(4), 4000)
    slack = 5 / np.sqrt(4000) + np.sqrt(64 / PAIRS) / 2

    def agree(cloud, mean, want):
        sd = np.sqrt(np.diag(want))
        assert np.all(np.abs(cloud.mean(0) - mean) < slack * sd)
        assert np.all(np.abs(np.cov(cloud.T) - want) < 1.5 * slack * np.outer(sd, sd))

    paths = np.asarray(found.sample_paths(x, jnp.asarray([0.0, 0.31, 1.0]), jax.random.key(5)))
    np.testing.assert_allclose(paths[0], x, atol=1e-9)
    middle = exact.marginal(0.31)
    agree(paths[1], middle.mean, middle.covariance)
    mean, want = exact.coupling()
    agree(np.concatenate([x, paths[2]], axis=1), mean, want)
    y = problem.target.sample(jax.random.key(6), 4000)
    back = found.sample_backward(y, jax.random.key(7))
    agree(np.concatenate([back, y], axis=1), mean, want)
    ends = found.expected_end(x) - exact.expected_end(x)
    assert float(jnp.sqrt(jnp.mean(ends**2))) < slack * np.sqrt(np.diag(want).max())
    # Girsanov's integral against the closed form of the divergence.
    ours, theirs = (b.path_kl(jax.random.key(8), 4000) for b in (found, exact))
    error = 5 * float(jnp.hypot(ours.error, theirs.error)) + 64 / PAIRS
    assert abs(float(ours.value - theirs.value)) < error
    left, times = stations(found.reference, 4)
    np.testing.assert_allclose(
        left[:, 0], np.linspace(1, 0, 5), atol=1e-5
    )  # of the table's spacing
    assert times[0] == 0.0 and times[-1] == 1.0


def test_the_audit_sees_what_is_no_bridge(fitted):
    """A mixture that misses the ends; and a drift that has the ends but is not reciprocal."""
    problem, _, found = fitted
    report = audit(problem, found, jax.random.key(0))
    assert report.passed, str(report)
    plain = audit(problem, untrained(found), jax.random.key(0))
    assert not plain.passed and plain["coupling ahead and back, marginal, MMD"].passed is False
    swirl = lambda half: eqx.tree_at(  # noqa: E731
        lambda h: h.network, half, Swirling(half.network), is_leaf=lambda x: x is half.network
    )
    bent = eqx.tree_at(lambda b: b.ahead, found, swirl(found.ahead))
    x = problem.source.sample(jax.random.key(1), 500)
    assert _reciprocal(bent, x, jax.random.key(0)).passed is False


class Swirling(eqx.Module):
    """A network with a rotation added."""

    network: eqx.Module

    def __call__(self, x, time, label=None):
        return self.network(x, time, label) + 2.0 * jnp.stack([-x[1], x[0]])


def test_a_saved_network_comes_back(fitted, tmp_path):
    _, _, found = fitted
    save(found, tmp_path, columns=["a", "b"])
    again, words = load(tmp_path)
    x = jax.random.normal(jax.random.key(0), (1000, 2))
    np.testing.assert_array_equal(again.drift(x, 0.3), found.drift(x, 0.3))
    np.testing.assert_array_equal(again.backward_drift(x, 0.3), found.backward_drift(x, 0.3))
    assert words["columns"] == ["a", "b"] and again.method == "network"
    code = eqx.tree_at(lambda b: b.ahead.network, found, Swirling(found.ahead.network))
    with pytest.raises(ArgumentError, match="code"):
        save(code, tmp_path / "no")


def test_wrong_input_is_told():
    x = np.random.default_rng(0).normal(size=(300, 2))
    problem = SchrodingerBridge(ornstein_uhlenbeck(), x, x)
    for options, said in (
        (dict(rounds=0), "rounds"),
        (dict(learning_rate=2.0), "learning_rate"),
        (dict(network=lambda x, time, label: x[:1], mixture=MIXTURE), "network"),
    ):
        with pytest.raises(ArgumentError, match=said):
            problem.solve("network", **options)
