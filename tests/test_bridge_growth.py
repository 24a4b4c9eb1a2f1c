"""Bridges with growth against a general optimiser and against quadratic potentials of Gaussians."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

import steepest as st
from steepest.bridges import SchrodingerBridge, audit, brownian
from steepest.bridges.growth import duality_gap
from steepest.bridges.sinkhorn import sinkhorn
from steepest.bridges.store import load, save
from steepest.errors import ArgumentError


def test_plan_is_the_least_of_a_general_optimiser():
    """The primal over 5 x 4 positive entries by L-BFGS in their logarithms."""
    rng = np.random.default_rng(0)
    u, v = rng.normal(size=(5, 2)), 1.0 + rng.normal(size=(4, 2))
    a, b = rng.dirichlet(np.ones(5)), rng.dirichlet(np.ones(4))
    masses, price = np.asarray([0.7, 2.0]), 1.5
    r = np.sqrt(masses.prod())
    A, B = masses[0] * a, masses[1] * b
    K = A[:, None] * B * np.exp(-0.5 * ((u[:, None] - v) ** 2).sum(-1)) / r

    def kl(p, q):
        return np.sum(p * np.log(p / q) - p + q)

    def primal(logs):
        p = np.exp(logs.reshape(5, 4))
        rows, columns = p.sum(1), p.sum(0)
        value = kl(p, K) + price * (kl(rows, A) + kl(columns, B))
        slope = np.log(p / K) + price * (np.log(rows / A)[:, None] + np.log(columns / B))
        return value, (p * slope).ravel()

    options = dict(maxiter=5000, ftol=1e-15, gtol=1e-12)
    least = scipy.optimize.minimize(
        primal, np.log(K).ravel(), jac=True, method="L-BFGS-B", options=options
    )
    want = np.exp(least.x.reshape(5, 4))
    clouds, masses = map(jnp.asarray, (u, a, v, b)), jnp.asarray(masses)
    given = (*clouds, 1e-12, 5000, masses, 1.0 / price)
    found = sinkhorn(*given)
    plan = K * np.exp(np.asarray(found.f)[:, None] + np.asarray(found.g))
    np.testing.assert_allclose(plan, want, atol=1e-6)
    shares = given[1], given[3], masses, jnp.asarray(price)
    assert abs(float(duality_gap(*shares, found))) < 1e-9
    # Far from converged the gap is seen.
    early = sinkhorn(*given[:5], 1, *given[6:])
    assert float(duality_gap(*shares, early)) > 1e-4


def gaussian_growth(mean, spread, target_mean, target_spread, masses, price):
    """f and g of two Gaussians on a line stay quadratic: three numbers each, iterated.

    f(u) = -lambda log(int b(v) exp(g(v) - (u - v)^2/2) dv / r). A quadratic is (c, l, q) for
    c + l x - q x^2/2.
    """
    r, soft = np.sqrt(masses[0] * masses[1]), price / (1 + price)

    def integrate(m, s, mass, h):
        """c, l, q of log int mass N(v; m, s) exp(h(v) - (u - v)^2/2) dv as a function of u."""
        q = 1 / s + h[2] + 1
        l0, c0 = m / s + h[1], h[0] - m**2 / (2 * s) - 0.5 * np.log(s) + np.log(mass)
        return np.asarray([c0 + l0**2 / (2 * q) - 0.5 * np.log(q), l0 / q, 1 - 1 / q])

    f, g = np.zeros(3), np.zeros(3)
    for _ in range(3000):
        f = -soft * integrate(target_mean, target_spread, masses[1] / r, g)
        g = -soft * integrate(mean, spread, masses[0] / r, f)

    def quadratic(h, x):
        return h[0] + h[1] * x - 0.5 * h[2] * x**2

    # E[exp(g/price) | u] is a ratio of two such integrals.
    def growth(u):
        now = quadratic(integrate(target_mean, target_spread, 1.0, g), u)
        later = quadratic(integrate(target_mean, target_spread, 1.0, g * (1 + 1 / price)), u)
        return np.exp(later - now - quadratic(f, u) / price)

    def moments(m, s, mass, h):
        """Mass, mean and variance of mass N(m, s) exp(-h/price)."""
        q = 1 / s - h[2] / price
        l0 = m / s - h[1] / price
        logs = l0**2 / (2 * q) - m**2 / (2 * s) - h[0] / price
        return mass * np.exp(logs) / np.sqrt(s * q), l0 / q, 1 / q

    ends = (mean, spread, masses[0], f), (target_mean, target_spread, masses[1], g)
    return growth, *[moments(*end) for end in ends]


@pytest.fixture(scope="module")
def line():
    """Two Gaussians as fine quadratures on a line (the trapezoid rule: exact to round-off)."""
    x = np.linspace(-7.0, 9.0, 400)
    clouds = [
        st.Particles(jnp.asarray(x)[:, None], jnp.asarray(-0.5 * (x - m) ** 2 / s))
        for m, s in ((-0.5, 1.2), (1.5, 0.6))
    ]
    problem = SchrodingerBridge(brownian(0.5), *clouds, growth=2.0, masses=(1.0, 3.0))
    return problem, problem.solve(tolerance=1e-10)


def test_gaussians_keep_the_quadratic_potentials(line):
    _, bridge = line
    growth, first, last = gaussian_growth(-0.5, 1.2, 1.5, 0.6, (1.0, 3.0), 2.0)
    x = np.linspace(-3.0, 2.0, 7)
    np.testing.assert_allclose(bridge.growth(jnp.asarray(x)[:, None]), growth(x), rtol=1e-7)
    assert first[0] == pytest.approx(last[0], rel=1e-9)  # pi has one mass
    assert float(bridge.joined()) == pytest.approx(first[0], rel=1e-7)
    starts = bridge.lineages.starts
    assert float(starts.mean()[0]) == pytest.approx(first[1], abs=1e-7)
    ends = bridge.lineages.expected_end(starts.positions)[:, 0]
    assert float(starts.weights @ ends) == pytest.approx(last[1], abs=1e-7)


def test_the_moving_mass_is_both_laws_and_dear_growth_keeps_it(line):
    """Weights at the end have the target's moments: five standard errors of 4000 weighted paths."""
    problem, bridge = line
    assert float(bridge.mass(0.0)) == pytest.approx(1.0, abs=1e-8)
    assert float(bridge.mass(1.0)) == pytest.approx(3.0, abs=1e-8)
    for time, mean, spread in ((0.0, -0.5, 1.2), (1.0, 1.5, 0.6)):
        law = bridge.marginal(time, jax.random.key(0), 4000)
        error = 5 * np.sqrt(spread / float(law.effective_size))
        assert abs(float(law.mean()[0]) - mean) < error
    dear = SchrodingerBridge(brownian(0.5), problem.source, problem.target, growth=1e4)
    kept = dear.solve(tolerance=1e-8)
    x = problem.source.positions[100:300]
    np.testing.assert_allclose(kept.growth(x), 1.0, atol=1e-3)
    plain = SchrodingerBridge(brownian(0.5), problem.source, problem.target).solve("sinkhorn")
    np.testing.assert_allclose(
        kept.lineages.expected_end(x), plain.expected_end(x), atol=5e-3
    )  # 1/price, and Sinkhorn's own 1e-4


def test_a_dying_cloud_is_audited_saved_and_lineages_may_be_a_mixture(tmp_path):
    """Half of the source is far from every target: it dies. A growth that is doctored is seen."""
    rng = np.random.default_rng(0)
    near, far = rng.normal(size=(100, 2)), rng.normal(size=(100, 2)) + np.asarray([12.0, 0.0])
    x, y = np.concatenate([near, far]), rng.normal(size=(220, 2)) + 1.0
    problem = SchrodingerBridge(brownian(0.5), x, y, growth=3.0)
    bridge = problem.solve()
    grown = np.asarray(bridge.growth(jnp.asarray(x)))
    assert grown[:100].mean() > 1.9 and grown[100:].mean() < 0.1
    assert "a unit at the start becomes" in bridge.notes[-1]
    report = audit(problem, bridge, jax.random.key(0), 200)
    assert report.passed, str(report)
    save(bridge, tmp_path / "bridge", columns=["a", "b"])
    again, words = load(tmp_path / "bridge")
    np.testing.assert_allclose(again.growth(jnp.asarray(x)), grown, rtol=1e-9)
    assert words["columns"] == ["a", "b"]
    early = problem.solve(most=1)
    assert any("masses stopped" in note for note in early.notes)
    seen = audit(problem, early, jax.random.key(0), 200)
    assert seen["mass at the end"].passed is False and seen["duality gap of growth"].passed is False
    mixed = problem.solve("mixture", components=3, steps=200, batch=128)
    assert mixed.method == "mixture"
    np.testing.assert_allclose(mixed.growth(jnp.asarray(x)), grown, rtol=1e-6)
    ends = mixed.sample(jnp.asarray(near), jax.random.key(1))
    np.testing.assert_allclose(ends.mean(0), [1.0, 1.0], atol=0.6)


def test_wrong_input_is_told():
    x = np.random.default_rng(0).normal(size=(6, 2))
    for options, said in (
        (dict(growth=0.0), "growth"),
        (dict(growth=float("inf")), "growth"),
        (dict(growth=1.0, masses=(1.0, 0.0)), "masses"),
        (dict(masses=(1.0, 2.0)), "masses"),
    ):
        with pytest.raises(ArgumentError, match=said):
            SchrodingerBridge(brownian(), x, x, **options)
