"""Norms, Bregman potentials, products and diagonal metrics, each against what defines it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linprog

import steepest as st

COVECTOR = jax.random.normal(jax.random.key(0), (4, 3))
KINDS = ["euclidean", "sup", "l1", "spectral", "row", "column"]


def norm_of(kind, v):
    """|v| by its own definition."""
    v = np.asarray(v)
    return {
        "euclidean": np.linalg.norm(v),
        "sup": np.abs(v).max(),
        "l1": np.abs(v).sum(),
        "spectral": np.linalg.norm(v, 2),
        "row": np.linalg.norm(v, axis=1).max(),
        "column": np.linalg.norm(v, axis=0).max(),
    }[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_steepest_means_steepest(kind):
    """|sharp(c)| = |c|_*, <c, sharp(c)> = |c|_*^2, and no other vector of norm 1 does better."""
    geometry = st.Norm(kind)
    v = geometry.sharp(COVECTOR, COVECTOR)
    dual = float(geometry.norm_sq(COVECTOR, COVECTOR)) ** 0.5
    np.testing.assert_allclose(norm_of(kind, v), dual, rtol=1e-12)
    np.testing.assert_allclose(jnp.vdot(COVECTOR, v), dual**2, rtol=1e-12)
    others = jax.random.normal(jax.random.key(1), (2000, 4, 3))
    best = max(float(jnp.vdot(COVECTOR, u)) / norm_of(kind, u) for u in np.asarray(others))
    assert best <= dual * (1 + 1e-12)
    unit = st.Norm(kind, unit=True)
    np.testing.assert_allclose(norm_of(kind, unit.sharp(COVECTOR, COVECTOR)), 1.0, rtol=1e-12)
    np.testing.assert_allclose(unit.norm_sq(COVECTOR, COVECTOR), dual, rtol=1e-12)


def test_the_dual_of_the_sup_norm_by_linear_programming():
    c = np.asarray(COVECTOR).reshape(-1)
    found = linprog(-c, bounds=[(-1, 1)] * c.size)
    np.testing.assert_allclose(-(found.fun**1), float(st.Norm("sup").norm_sq(c, c)) ** 0.5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", [{}, {"unit": True}, {"joint": True}])
def test_norms_close_the_balance_with_the_dual_norm_as_rate(kind, options):
    flow = st.Flow(
        st.Energy(lambda p: jnp.sum(p["a"] ** 2) + jnp.sum((p["b"] - 1.0) ** 4)),
        st.Norm(kind, **options),
    )
    state = {"a": 3.0 * COVECTOR, "b": jnp.full((2, 2), 3.0) + jnp.eye(2)}
    scheme = st.Euler(2e-3)
    run = st.solve(flow, state, scheme=scheme, steps=60, save_every=3)
    audit = run.audit()
    assert audit.passed, str(audit)
    covector = flow.functional.differential(state)
    rate = float(flow.dissipation_rate(state))
    np.testing.assert_allclose(rate, flow.geometry.norm_sq(state, covector), rtol=1e-10)


class Unsteep(st.Norm):
    """A direction that is not the steepest of its norm."""

    def sharp(self, state, covector):
        right = super().sharp(state, covector)
        return jax.tree.map(lambda v: 0.9 * v, right)


def test_a_direction_that_is_not_steepest_fails_the_audit():
    flow = st.Flow(st.Energy(lambda x: jnp.sum(x**2)), Unsteep("sup"))
    run = st.solve(flow, COVECTOR, scheme=st.Euler(1e-3), steps=10)
    assert not run.audit()["duality of the norm"].passed


def test_newton_schulz_is_near_the_polar_factor():
    """Jordan's quintic leaves singular values between 0.7 and 1.2, with the right directions."""
    x = st.Norm("spectral", unit=True, iterations=5).sharp(COVECTOR, COVECTOR)
    u, _, vt = np.linalg.svd(np.asarray(COVECTOR), full_matrices=False)
    sizes = np.diagonal(u.T @ np.asarray(x) @ vt.T)
    assert sizes.min() > 0.65 and sizes.max() < 1.25


POTENTIALS = {
    "simplex": (st.Bregman("simplex"), jnp.array([0.2, 0.5, 0.3])),
    "entropy": (st.Bregman("entropy"), jnp.array([0.2, 1.5, 3.0])),
    "hyperbolic": (st.Bregman(st.HyperbolicEntropy(0.3)), jnp.array([-0.2, 1.5, 3.0])),
    "p-norm": (st.Bregman(st.PNorm(1.4)), jnp.array([-0.2, 1.5, 3.0])),
    "user": (
        st.Bregman(lambda x: jnp.sum(jnp.cosh(x)) + 0.5 * jnp.sum(x) ** 2),
        jnp.array([-0.2, 1.5, 1.0]),
    ),
}


@pytest.mark.parametrize("name", POTENTIALS)
def test_the_metric_is_the_hessian_and_the_step_is_the_mirror_step(name):
    """K = Hess phi^{-1} and grad phi(x+) = grad phi(x) + Hess phi v, by autodiff of phi itself."""
    geometry, x = POTENTIALS[name]
    value = geometry.potential.value
    hessian = jax.hessian(value)(x)
    c = jnp.array([0.3, -0.7, 0.4])
    v = geometry.sharp(x, c)
    if name == "simplex":  # along the simplex: up to a constant covector
        np.testing.assert_allclose(v.sum(), 0.0, atol=1e-15)
        back = hessian @ v - c
        np.testing.assert_allclose(back, back.mean(), atol=1e-12)
    else:
        np.testing.assert_allclose(hessian @ v, c, rtol=1e-10)
    new = geometry.retract(x, -0.4 * v)
    moved = jax.grad(value)(new) - jax.grad(value)(x) + 0.4 * c
    expected = moved.mean() if name == "simplex" else 0.0
    np.testing.assert_allclose(moved, expected, atol=1e-8)
    root = (
        jax.vmap(lambda e: geometry.sqrt(x, (e,)), out_axes=1)(jnp.eye(3))
        if (name != "p-norm")
        else None
    )
    if root is not None:
        k = jax.vmap(lambda e: geometry.sharp(x, e), out_axes=1)(jnp.eye(3))
        np.testing.assert_allclose(root @ root.T, k, atol=1e-12)
    run = st.solve(
        st.Flow(st.Energy(lambda x: jnp.sum(x**4) + c @ x), geometry),
        x,
        scheme=st.Euler(2e-3),
        steps=50,
        save_every=2,
    )
    assert run.audit().passed, str(run.audit())


def test_mirror_langevin_reaches_the_dirichlet_law():
    """exp(-E/T) dx with E = -sum (a - 1) log x at T = 1 is Dirichlet(a): means a/|a|.

    2000 chains: standard errors 0.002 of a mean and 3 % of a variance, 4 of them, and the bias of
    a step of 0.001 against a rate of 30, 3 %.
    """
    a = jnp.array([6.0, 9.0, 15.0])
    flow = st.Flow(
        st.Energy(lambda x: -jnp.sum((a - 1.0) * jnp.log(x))),
        st.Bregman("simplex"),
        st.Thermal(1.0),
    )
    state = st.Particles(jnp.full((2000, 3), 1.0 / 3.0))
    run = st.solve(
        flow, state, scheme=st.Euler(0.001), time=0.6, save_every=100, key=jax.random.key(0)
    )
    final = run.final.positions
    np.testing.assert_allclose(final.mean(axis=0), a / a.sum(), atol=0.015)
    variance = a * (30 - a) / (900 * 31)
    np.testing.assert_allclose(final.var(axis=0), variance, rtol=0.2)
    assert "volume" not in str(flow.equilibrium())


def test_the_rate_of_a_product_is_the_sum_over_its_parts():
    """Simplex, frame, sup norm and plain parts in one state: the balance closes for all at once."""
    target = jax.random.normal(jax.random.key(3), (4, 2))
    cost = jnp.array([0.3, -0.7, 0.4])

    def energy(p):
        coupled = jnp.sum(p["frame"] @ p["rest"]["b"]) * p["mixture"][0]
        plain = jnp.sum((p["sign"] - 1.0) ** 2) + jnp.sum(p["rest"]["b"] ** 2)
        return cost @ p["mixture"] - jnp.vdot(target, p["frame"]) + plain + 0.1 * coupled

    state = {
        "mixture": jnp.array([0.2, 0.5, 0.3]),
        "frame": st.Stiefel().random(jax.random.key(2), (4, 2)),
        "sign": 3.0 * COVECTOR,
        "rest": {"b": jnp.array([1.0, 2.0])},
    }
    parts = {
        "mixture": st.Bregman("simplex"),
        "frame": st.Stiefel(),
        "sign": st.Norm("sup"),
        "rest": st.Euclidean(),
    }
    flow = st.Flow(st.Energy(energy), st.Product(parts))
    run = st.solve(flow, state, scheme=st.Euler(1e-3), steps=31)
    assert run.audit().passed, str(run.audit())
    covector = flow.functional.differential(state)
    each = [parts[k].norm_sq(state[k], covector[k]) for k in parts]
    np.testing.assert_allclose(flow.dissipation_rate(state), sum(each), rtol=1e-10)
    np.testing.assert_allclose(run.final["mixture"].sum(), 1.0, rtol=1e-12)


def test_a_potential_that_stops_being_convex_on_the_way_stops_the_run():
    """phi = x^4/12 - x^2/2 is convex for |x| > 1; E = x drives x from 2 down to it."""
    potential = lambda x: jnp.sum(x**4 / 12.0 - x**2 / 2.0)  # noqa: E731
    flow = st.Flow(st.Energy(lambda x: jnp.sum(x)), st.Bregman(potential))
    with pytest.raises(st.Diverged):
        st.solve(flow, jnp.array([2.0]), scheme=st.Euler(0.05), steps=100)


def test_rmsprop_as_a_metric_that_moves_with_the_flow():
    """The averages solve a linear equation; the balance closes with the metric of the moment."""
    scale = jnp.array([1.0, 100.0])
    function = lambda x: 0.5 * jnp.sum(scale * x**2)  # noqa: E731
    theta = jnp.array([1.0, 1.0])
    geometry = st.Diagonal(st.SecondMoment(0.5))
    state = st.Adaptive.start(theta, jax.grad(function)(theta))
    flow = st.Flow(st.Energy(function), geometry)
    run = st.solve(flow, state, scheme=st.Euler(1e-3), steps=400, save_every=10)
    assert run.audit().passed, str(run.audit())
    # Scales drop out: both coordinates go the same way.
    path = np.asarray(run.states.position)
    np.testing.assert_allclose(path[:, 0], path[:, 1], rtol=1e-6)
    fixed = st.Diagonal({"a": jnp.array([2.0, 4.0])})
    moved = fixed.sharp({"a": theta}, {"a": theta})
    np.testing.assert_allclose(moved["a"], [0.5, 0.25])


def test_bad_input():
    x = jnp.ones(3)
    flow = lambda g, f=lambda x: jnp.sum(x**2): st.Flow(st.Energy(f), g)  # noqa: E731
    solve = lambda g, s: st.solve(flow(g), s, scheme=st.Euler(0.1), steps=1)  # noqa: E731
    cases = [
        (lambda: st.Norm("l7"), "kind"),
        (lambda: st.Norm("sup", iterations=3), "iterations"),
        (lambda: solve(st.Norm("spectral"), x), "matrices"),
        (lambda: st.Bregman("cube"), "potential"),
        (lambda: st.Bregman(3.0), "potential"),
        (lambda: st.PNorm(3.0), "p"),
        (lambda: solve(st.Bregman(st.PNorm(1.5)), jnp.array([0.0, 1.0])), "1 coordinates of 2"),
        (lambda: st.HyperbolicEntropy(-1.0), "scale"),
        (lambda: solve(st.Bregman("simplex"), x), "probabilities"),
        (lambda: solve(st.Bregman("entropy"), -x), "positive"),
        (lambda: solve(st.Bregman(lambda x: -jnp.sum(x**2)), x), "convex"),
        (lambda: solve(st.Bregman(lambda x: x), x), "one number"),
        (lambda: st.Diagonal(jnp.array([1.0, -1.0])), "estimator"),
        (lambda: st.SecondMoment(-1.0), "time"),
        (lambda: solve(st.Diagonal(st.SecondMoment(1.0)), x), "Adaptive"),
        (lambda: st.Product({"a": 3.0}), "parts"),
        (lambda: st.Flow(st.Energy(lambda x: x), st.Norm("sup"), st.Thermal(1.0)), "noise"),
    ]
    for call, message in cases:
        with pytest.raises(st.ArgumentError, match=message):
            call()
