"""Schroedinger bridges against iterations, quadrature, assignment and each other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
import scipy.optimize

import steepest as st
from steepest.bridges import (
    LinearBridge,
    SchrodingerBridge,
    anderson,
    audit,
    brownian,
    known_pair,
    ornstein_uhlenbeck,
    unexplained,
)
from steepest.bridges.audit import _markov, two_samples
from steepest.bridges.potential import drawn_ends, drawn_index, ends
from steepest.bridges.reference import linear_reference
from steepest.bridges.sinkhorn import _exp, sinkhorn, transform
from steepest.bridges.store import load, save
from steepest.errors import ArgumentError
from steepest.kernels import pairs


def law(rng, d, shift=0.0):
    root = rng.normal(size=(d, d)) / np.sqrt(d)
    mean, spread = shift + rng.normal(size=d), root @ root.T + 0.3 * np.eye(d)
    return st.Gaussian.from_moments(jnp.asarray(mean), jnp.asarray(spread)), mean, spread


def fitted_gaussians(stiffness, push, T, a, A, b, B):
    """The moments of (X_0, X_1) by scaling the two ends in turn, from dense matrices."""
    d = len(a)
    block = np.block([[-stiffness, 2 * T * np.eye(d)], [np.zeros((d, d)), stiffness.T]])
    step = scipy.linalg.expm(block)  # Van Loan
    Phi = step[:d, :d]
    Q = step[:d, d:] @ Phi.T
    whole = np.zeros((d + 1, d + 1))
    whole[:d, :d], whole[:d, d] = -stiffness, push
    shift = scipy.linalg.expm(whole)[:d, d]
    Qi = np.linalg.inv(Q)
    M11, M12 = Phi.T @ Qi @ Phi, -Phi.T @ Qi
    F, G = np.zeros((d, d)), np.zeros((d, d))
    for _ in range(600 if d < 64 else 100):
        F = np.linalg.inv(A) - M11 + M12 @ np.linalg.solve(G + Qi, M12.T)
        G = np.linalg.inv(B) - Qi + M12.T @ np.linalg.solve(F + M11, M12)
    joint = np.linalg.inv(np.block([[F + M11, M12], [M12.T, G + Qi]]))
    del shift  # the ends fix the means
    return np.concatenate([a, b]), joint


CASES = [(2, 0.1, "brownian"), (2, 10.0, "brownian"), (2, 0.1, "ou"), (2, 1.0, "ou")]
CASES += [(2, 0.1, "tilted")]


@pytest.mark.parametrize(("d", "temperature", "kind"), [*CASES, (16, 0.1, "ou")])
def test_closed_form_is_the_limit_of_fitting_in_turn(d, temperature, kind):
    """The least KL of paths with both ends given, against proportional fitting (eq. 71)."""
    rng = np.random.default_rng(d)
    (source, a, A), (target, b, B) = law(rng, d), law(rng, d, 1.0)
    P, push = np.zeros((d, d)), np.zeros(d)
    flow = brownian(temperature)
    if kind == "ou":
        P, flow = 0.7 * np.eye(d), ornstein_uhlenbeck(temperature, 0.7, 0.3)
    elif kind == "tilted":
        root = rng.normal(size=(d, d))
        P = root @ root.T / d + 0.2 * np.eye(d)
        matrix = jnp.asarray(P)
        energy = st.Energy(lambda x: 0.5 * x @ matrix @ x - x[0])
        flow = st.Flow(energy, st.Euclidean(), st.Thermal(temperature))
    bridge = SchrodingerBridge(flow, source, target).solve()
    assert bridge.method == "gaussian"
    mean, joint = bridge.coupling()
    want_mean, want = fitted_gaussians(P, push, temperature, a, A, b, B)
    np.testing.assert_allclose(mean, want_mean, atol=1e-10)
    np.testing.assert_allclose(joint, want, atol=1e-10 * np.abs(want).max())


def test_closed_form_in_64_dimensions():
    rng = np.random.default_rng(0)
    (source, a, A), (target, b, B) = law(rng, 64), law(rng, 64, 1.0)
    _, joint = SchrodingerBridge(brownian(1.0), source, target).solve().coupling()
    want = fitted_gaussians(np.zeros((64, 64)), np.zeros(64), 1.0, a, A, b, B)[1]
    np.testing.assert_allclose(joint, want, atol=1e-10 * np.abs(want).max())


@pytest.fixture(scope="module")
def tilted():
    """A bridge between Gaussians whose reference has axes of its own."""
    rng = np.random.default_rng(3)
    source, target = law(rng, 2)[0], law(rng, 2, 1.0)[0]
    matrix = jnp.asarray([[1.0, 0.4], [0.4, 0.5]])
    energy = st.Energy(lambda x: 0.5 * x @ matrix @ x - 0.3 * x[0])
    flow = st.Flow(energy, st.Euclidean(), st.Thermal(0.4))
    return SchrodingerBridge(flow, source, target).solve()


def test_marginals_solve_the_fokker_planck_equation_of_the_drift(tilted):
    """Eq. 45, 71: m' = b(m), S' = J S + S J' + 2 T, b being affine; differencing costs h^2."""
    t, h = 0.4, 1e-4
    now, before, after = (tilted.marginal(s) for s in (t, t - h, t + h))
    slope = tilted.drift(now.mean[None], t)[0]
    np.testing.assert_allclose((after.mean - before.mean) / (2 * h), slope, atol=1e-6)
    J = jax.jacfwd(lambda x: tilted.drift(x[None], t)[0])(now.mean)
    S = now.covariance
    want = J @ S + S @ J.T + 0.8 * jnp.eye(2)
    np.testing.assert_allclose((after.covariance - before.covariance) / (2 * h), want, atol=1e-6)
    # and backwards: m' = b_(m), S' = J_ S + S J_' - 2 T
    back = tilted.backward_drift(now.mean[None], t)[0]
    np.testing.assert_allclose(back, slope, atol=1e-9)
    K = jax.jacfwd(lambda x: tilted.backward_drift(x[None], t)[0])(now.mean)
    np.testing.assert_allclose(K @ S + S @ K.T - 0.8 * jnp.eye(2), want, atol=1e-6)
    flow = tilted.probability_flow(now.mean[None] + 0.3, t)
    half = 0.5 * (J + K) @ jnp.full(2, 0.3) + slope
    np.testing.assert_allclose(flow[0], half, atol=1e-9)


def test_paths_have_the_marginals(tilted):
    """4000 paths: mean and covariance within 5 standard errors."""
    n = 4000
    x = tilted.source.sample(jax.random.key(0), n)
    paths = tilted.sample_paths(x, jnp.asarray([0.3, 0.7, 1.0]), jax.random.key(1))
    for t, cloud in zip((0.3, 0.7, 1.0 - 1e-9), paths, strict=True):
        want = tilted.marginal(t)
        sd = np.sqrt(np.diag(want.covariance))
        assert np.all(np.abs(cloud.mean(0) - want.mean) < 5 * sd / np.sqrt(n))
        gap = np.abs(np.cov(np.asarray(cloud).T) - want.covariance)
        assert np.all(gap < 5 * np.sqrt(2 / n) * np.outer(sd, sd))


def line_bridge(T=0.5, full=False):
    """A mixture potential on a line under an Ornstein-Uhlenbeck reference."""
    reference = linear_reference(ornstein_uhlenbeck(T, 0.8, 0.2), jnp.asarray([0.1]), 1.0)
    scales = jnp.asarray([[0.6], [1.3]])
    w = st.GaussianMixture(
        jnp.asarray([0.0, 0.5]), jnp.asarray([[-2.0], [1.5]]), scales[..., None] if full else scales
    )
    starts = st.Particles(jnp.linspace(-1.0, 1.0, 50)[:, None])
    return LinearBridge(reference, w, starts)


@pytest.mark.parametrize("full", [False, True])
def test_potential_is_the_expectation_of_its_end(full):
    """phi_t(x) = integral p(y | x) g(y) dy by the trapezoid rule, and its slope the drift."""
    bridge, t, x = line_bridge(full=full), 0.35, 0.7
    v = jnp.linspace(-12.0, 12.0, 4001)
    mu, D, factor = bridge.reference.coming(bridge.reference.turned(jnp.asarray([[x]])), t)
    normal = jnp.exp(-0.5 * (v - mu[0]) ** 2 / D) / jnp.sqrt(2 * jnp.pi * D)
    g = jnp.exp(bridge.potential.log_prob(v[:, None]) + 0.5 * v**2)
    value = jnp.trapezoid(normal * g, v)
    np.testing.assert_allclose(bridge.log_potential(jnp.asarray([[x]]), t)[0], np.log(value), 1e-9)
    end = jnp.trapezoid(normal * g * v, v) / value
    pull = 2 * 0.5 * factor[0] / D[0] * (end - mu[0, 0])
    want = -0.8 * (x - 0.2) + pull
    np.testing.assert_allclose(bridge.drift(jnp.asarray([[x]]), t)[0, 0], want, rtol=1e-8)
    if full:
        y = bridge.sample(jnp.full((20000, 1), x), jax.random.key(0))
        mean, spread = bridge.conditional_moments(jnp.asarray([[x]]))
        assert abs(float(y.mean() - mean[0, 0])) < 5 * float(np.sqrt(spread[0, 0, 0] / 20000))


@pytest.fixture(scope="module")
def fitted():
    pair = known_pair(2, 0.5, jax.random.key(3))
    problem = SchrodingerBridge(brownian(0.5), pair.source, pair.target)
    options = dict(components=8, steps=1000, batch=256)
    return pair, problem, problem.solve("mixture", jax.random.key(7), **options)


def test_mixture_finds_a_known_bridge(fitted):
    pair, _, bridge = fitted
    x = pair.source.sample(jax.random.key(5), 200)
    variance = jnp.trace(jnp.cov(pair.target.sample(jax.random.key(6), 4000).T))
    found = unexplained(bridge, pair.bridge, x, variance)
    assert float(found.value) < 0.05  # percent: what is published for 10^4 steps
    # The metric tells: the independent coupling and a shifted end are far off.
    moved = LinearBridge(
        pair.bridge.reference,
        st.GaussianMixture(
            pair.bridge.potential.log_weights,
            pair.bridge.potential.means + 0.2,
            pair.bridge.potential.scales,
        ),
        pair.bridge.starts,
    )
    assert float(unexplained(moved, pair.bridge, x, variance).value) > 0.1
    assert float(unexplained(pair.bridge, pair.bridge, x, variance).value) < 1e-10


def test_path_kl_of_the_known_bridge_is_the_mean_of_conditional_ones(tilted):
    """KL(P | P_0) = E_x KL(N(r + S u, S) | N(u, 1)) between Gaussians, in white coordinates."""
    S = np.asarray(tilted.potential.component(0).covariance)
    r, reference = tilted.potential.means[0], tilted.reference
    found = tilted.path_kl(jax.random.key(2), 4000)
    u = np.asarray(reference.white_source(tilted.source.sample(jax.random.key(9), 4000)))
    gaps = np.asarray(r) + u @ S.T - u
    want = 0.5 * (np.trace(S) - 2 - np.linalg.slogdet(S)[1] + (gaps**2).sum(1))
    error = np.hypot(float(found.error), want.std() / np.sqrt(4000))
    assert abs(float(found.value) - want.mean()) < 5 * error


def test_mixture_of_full_covariances_between_gaussians_meets_the_closed_form():
    rng = np.random.default_rng(3)
    source, target = law(rng, 2)[0], law(rng, 2, 1.0)[0]
    problem = SchrodingerBridge(ornstein_uhlenbeck(1.0), source, target)
    exact = problem.solve()
    options = dict(components=2, covariance="full", steps=400, batch=256)
    found = problem.solve("mixture", jax.random.key(1), **options)
    x = source.sample(jax.random.key(2), 100)
    gap = unexplained(found, exact, x, jnp.trace(target.covariance))
    assert float(gap.value) < 0.2


def dense_sinkhorn(u, v, iterations=3000):
    cost = 0.5 * ((u[:, None] - v[None]) ** 2).sum(-1)
    f, g = np.zeros(len(u)), np.zeros(len(v))
    lse = scipy.special.logsumexp
    for _ in range(iterations):
        f = -lse(g[None] - cost, axis=1) + np.log(len(v))
        g = -lse(f[:, None] - cost, axis=0) + np.log(len(u))
    return f, g, f.mean() + g.mean()


def test_sinkhorn_is_the_dense_one_in_any_number_of_blocks(monkeypatch):
    rng = np.random.default_rng(0)
    u, v = 2 * rng.normal(size=(40, 3)), 2 * rng.normal(size=(31, 3)) + 1
    want = dense_sinkhorn(u, v)
    a, b = jnp.full(40, 1 / 40), jnp.full(31, 1 / 31)
    for entries, sketch in ((2**22, 1024), (4 * 31 * 7, 16)):  # whole; in blocks, from some points
        monkeypatch.setattr(pairs, "ENTRIES", entries)
        monkeypatch.setattr("steepest.bridges.sinkhorn.SKETCH", sketch)
        jax.clear_caches()
        found = sinkhorn(jnp.asarray(u), a, jnp.asarray(v), b, 1e-10, 20000)
        assert float(found.error) <= 1e-10
        np.testing.assert_allclose(found.value, want[2], atol=1e-8)
        shift = np.mean(want[1] - found.g)
        np.testing.assert_allclose(found.g + shift, want[1], atol=1e-7)
    again = transform(jnp.asarray(u), jnp.asarray(v), b, found.g)
    np.testing.assert_allclose(again, found.f, atol=1e-8)


def test_extrapolation_solves_what_is_linear_and_is_given_up_where_it_does_harm():
    """x -> x + R(x) of three coordinates: four steps. After harm 1, 2, 4, ... plain steps."""
    rng = np.random.default_rng(0)
    A, x = jnp.asarray(0.3 * rng.normal(size=(3, 3)) - np.eye(3)), jnp.asarray(rng.normal(size=3))
    memory = anderson.Memory.empty(x)
    for _ in range(5):
        residual = A @ x + 1.0
        memory = anderson.remembered(memory, x, residual, jnp.linalg.norm(residual))
        x = anderson.extrapolated(memory, jnp.full(3, 1 / 3))
    np.testing.assert_allclose(A @ x, -1.0, atol=1e-9)
    plain = []
    for error in (1.0, 2.0, 2.0, 3.0, 2.0, 2.0, 3.0):
        memory = anderson.remembered(memory, x, residual, jnp.asarray(error))
        plain.append(int(memory.plain))
        if plain[-1]:
            step = anderson.extrapolated(memory, jnp.full(3, 1 / 3)) - x
            np.testing.assert_array_equal(step, x + residual - x)
    assert plain == [1, 0, 0, 2, 1, 0, 4]


def test_exponentials_of_single_precision():
    """Rounding x costs |x| 2^-24, the polynomial 1e-7."""
    x = np.linspace(-80.0, 20.0, 20001, dtype=np.float32)
    found, want = np.asarray(_exp(jnp.asarray(x)), float), np.exp(x.astype(float))
    assert np.all(np.abs(found / want - 1.0) < 2e-7 + 2.0**-23 * np.abs(x))


class Given:
    """Uniform numbers chosen beforehand."""

    def __init__(self, share):
        self.share = share

    def uniform(self, shape, dtype):
        return jnp.asarray(self.share, dtype).reshape(shape)


def test_a_column_is_drawn_where_the_running_sum_passes_the_share():
    """In one group and in several; columns without weight are never drawn."""
    rng = np.random.default_rng(0)
    for k in (5, 300):
        weights = rng.exponential(size=(50, k)) * (rng.uniform(size=(50, k)) < 0.6)
        weights[:, :2], share = (0.0, 0.1), rng.uniform(size=50)
        share[:2] = 1e-300, 1.0 - 1e-16
        found = drawn_index(jnp.log(jnp.asarray(weights)), Given(share))
        sums = np.cumsum(weights, axis=1)
        want = np.sum(sums <= (np.minimum(share, 1 - 1e-15) * sums[:, -1])[:, None], axis=1)
        np.testing.assert_array_equal(found, want)
        assert np.all(weights[np.arange(50), found] > 0)


def test_cold_sinkhorn_is_the_optimal_assignment():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(30, 2)), rng.normal(size=(30, 2)) + 2
    cost = ((x[:, None] - y[None]) ** 2).sum(-1)
    _, order = scipy.optimize.linear_sum_assignment(cost)
    problem = SchrodingerBridge(brownian(5e-4), jnp.asarray(x), jnp.asarray(y))
    assert problem.choose()[0] == "sinkhorn"
    bridge = problem.solve(tolerance=1e-6, most=20000)
    gap = np.linalg.norm(np.asarray(bridge.expected_end(jnp.asarray(x))) - y[order], axis=1)
    # At this temperature 0.4 % of the mass is elsewhere, at distances up to 6.
    assert gap.mean() < 0.03
    warm = SchrodingerBridge(brownian(1e3), jnp.asarray(x), jnp.asarray(y)).solve()
    np.testing.assert_allclose(
        warm.expected_end(jnp.asarray(x)), np.tile(y.mean(0), (30, 1)), atol=0.01
    )


def test_a_cold_grid_bridge_is_the_closed_form_between_gaussians():
    """Potentials span 1e21, more than a semigroup with errors of one size everywhere can tell.

    The jump process of h = 0.09 is off by (v h/2T)^2/6 of the drift v, here up to 1.5: 0.1.
    """
    grid = st.Grid(-4.0, 5.0, 100)
    problem = SchrodingerBridge(brownian(0.1), density(grid, 0.0, 1.0), density(grid, 1.0, 0.8))
    bridge = problem.solve(tolerance=1e-6)
    assert float(bridge.halves.g.max() / bridge.halves.g.min()) > 1e18
    laws = [st.Gaussian(jnp.full(1, m), jnp.full(1, s)) for m, s in ((0.0, 1.0), (1.0, 0.8))]
    exact = SchrodingerBridge(brownian(0.1), *laws).solve()
    x = jnp.linspace(-1.0, 1.0, 9)[:, None]
    assert float(jnp.abs(bridge.drift(x, 0.0) - exact.drift(x, 0.0)).max()) < 0.1
    # Seventy cells to cross, some five jumps expected: 1e-60 is no number of single precision.
    ends = [density(grid, mean, 0.2).values.astype(jnp.float32) for mean in (-3.0, 4.0)]
    far = SchrodingerBridge(brownian(0.02), *[st.Density(grid, values) for values in ends])
    with pytest.raises(ArgumentError, match="higher temperature, or float64"):
        far.solve("grid", most=20)


def density(grid, mean, sd):
    return st.Density.from_log(grid, lambda x: -0.5 * jnp.sum((x - mean) ** 2) / sd**2)


def test_grid_bridge_is_the_closed_form_between_gaussians():
    """Cells of width h = 0.05: the generator is of order h^2 = 2.5e-3 in its coefficients."""
    grid = st.Grid(-5.0, 5.0, 200)
    flow = ornstein_uhlenbeck(0.5, 0.5)
    problem = SchrodingerBridge(flow, density(grid, -1.0, 0.6), density(grid, 1.0, 0.8))
    assert problem.choose()[0] == "grid"
    bridge = problem.solve()
    exact = SchrodingerBridge(
        flow,
        st.Gaussian(jnp.asarray([-1.0]), jnp.asarray([0.6])),
        st.Gaussian(jnp.asarray([1.0]), jnp.asarray([0.8])),
    ).solve()
    middle = exact.marginal(0.5)
    found = bridge.marginal(0.5)
    np.testing.assert_allclose(found.mean(), middle.mean, atol=2.5e-3)
    np.testing.assert_allclose(found.covariance(), middle.covariance, atol=2.5e-3)
    x = jnp.asarray([[-0.5], [0.0], [0.6]])
    np.testing.assert_allclose(bridge.drift(x, 0.5), exact.drift(x, 0.5), atol=0.02)
    back = bridge.backward_drift(x, 0.5)
    np.testing.assert_allclose(back, exact.backward_drift(x, 0.5), atol=0.02)
    start = exact.source.sample(jax.random.key(0), 2000)
    ends = bridge.sample(start, jax.random.key(1))
    assert abs(float(ends.mean()) - 1.0) < 5 * 0.8 / np.sqrt(2000) + 0.02


def test_double_well_as_reference_on_a_grid(tmp_path):
    """Both ends are met, and half-way the mass is split by the wells as the reference has it."""
    grid = st.Grid(-2.2, 2.2, 110)
    flow = st.Flow(lambda x: jnp.sum((x**2 - 1) ** 2), st.Euclidean(), st.Thermal(0.4))
    problem = SchrodingerBridge(flow, density(grid, -1.0, 0.25), density(grid, 1.0, 0.25))
    bridge = problem.solve()
    assert float(bridge.marginal(0.0).total_variation(problem.source)) < 1e-7
    assert float(bridge.marginal(1.0).total_variation(problem.target)) < 1e-7
    # Time reversal: reference reversible, ends mirror images, so rho_{1/2} is symmetric.
    half = np.asarray(bridge.marginal(0.5).values)
    np.testing.assert_allclose(half, half[::-1], atol=1e-5 * half.max())
    save(bridge, tmp_path)
    again = load(tmp_path)[0]
    np.testing.assert_array_equal(again.marginal(0.5).values, half)
    x = jnp.asarray([[-1.1], [0.2]])
    np.testing.assert_array_equal(again.drift(x, 0.3), bridge.drift(x, 0.3))


def ring(n, seed):
    rng = np.random.default_rng(seed)
    angle = rng.uniform(0, 2 * np.pi, n)
    return 3 * np.stack([np.cos(angle), np.sin(angle)], 1) + 0.1 * rng.normal(size=(n, 2))


class Bent(LinearBridge):
    """A drift that is not the gradient of its potential."""

    def drift(self, x, time):
        return super().drift(x, time) + 0.1 * x


def test_audit_fails_what_does_not_solve_the_problem():
    rng = np.random.default_rng(0)
    problem = SchrodingerBridge(brownian(0.5), rng.normal(size=(200, 2)), ring(200, 1))
    wrong = problem.solve("gaussian")
    assert any("replaced" in note for note in wrong.notes)
    report = audit(problem, wrong, jax.random.key(0))
    assert not report.passed
    assert report["end marginal, sliced W2"].passed is False
    assert report["dual gap"].passed is False
    assert report["drift consistency"].passed
    bent = Bent(wrong.reference, wrong.potential, wrong.starts, method="bent")
    points = jnp.asarray(rng.normal(size=(32, 2)))
    assert _markov(bent, points, jax.random.key(0)).passed is False


def test_two_samples_of_one_law_stay_below_their_floor():
    x, y = jax.random.normal(jax.random.key(0), (2, 500, 2))
    value, floor = two_samples(x, y, jax.random.key(1))
    assert np.all(np.asarray(value) < np.asarray(floor))
    value, floor = two_samples(x, y + 0.5, jax.random.key(1))
    assert np.all(np.asarray(value) > 1.25 * np.asarray(floor))


def test_saved_bridges_come_back(tmp_path, fitted):
    _, _, bridge = fitted
    rng = np.random.default_rng(0)
    atoms = SchrodingerBridge(brownian(0.5), rng.normal(size=(30, 2)), ring(30, 1)).solve()
    x = jnp.asarray(rng.normal(size=(5, 2)))
    for k, one in enumerate((bridge, atoms)):
        save(one, tmp_path / str(k), columns=["a", "b"])
        again, words = load(tmp_path / str(k))
        assert words["columns"] == ["a", "b"] and again.method == one.method
        np.testing.assert_array_equal(again.drift(x, 0.3), one.drift(x, 0.3))
    with pytest.raises(ArgumentError, match="no saved bridge"):
        load(tmp_path)
    np.savez(tmp_path / "0" / "model.npz", means=np.asarray([{}], object))
    with pytest.raises(ArgumentError, match="no saved bridge"):
        load(tmp_path / "0")


def test_wrong_input_is_told():
    x = np.random.default_rng(0).normal(size=(6, 2))
    for temperature in (0.0, -1.0, float("nan")):
        with pytest.raises(ArgumentError, match="temperature"):
            brownian(temperature)
    with pytest.raises(ArgumentError, match="temperature"):
        SchrodingerBridge(st.Flow(lambda x: 0.0 * x[0], st.Euclidean(), st.Thermal(0.0)), x, x)
    with pytest.raises(ArgumentError, match="bath"):
        SchrodingerBridge(st.Flow(lambda x: 0.0 * x[0], st.Euclidean()), x, x)
    with pytest.raises(ArgumentError, match="dimension 3"):
        SchrodingerBridge(brownian(), x, np.zeros((4, 3)))
    with pytest.raises(ArgumentError, match="finite"):
        SchrodingerBridge(brownian(), x, np.full((4, 2), np.nan))
    with pytest.raises(ArgumentError, match="method"):
        SchrodingerBridge(brownian(), x, x).solve("magic")
    with pytest.raises(ArgumentError, match="horizon"):
        SchrodingerBridge(brownian(), x, x, horizon=0.0)
    quartic = st.Flow(lambda x: jnp.sum(x**4), st.Euclidean(), st.Thermal(0.1))
    with pytest.raises(ArgumentError, match="not linear"):
        SchrodingerBridge(quartic, x, x).solve("sinkhorn")
    with pytest.raises(ArgumentError, match="Density"):
        SchrodingerBridge(quartic, x, x).solve("grid")
    notes = SchrodingerBridge(brownian(), np.zeros((3, 4)), np.ones((5, 4))).notes
    assert "3 points in 4 dimensions" in notes[0] and "repeat" in notes[1]
    first, second = st.Grid(-1.0, 1.0, 20), st.Grid(2.0, 3.0, 20)
    with pytest.raises(ArgumentError, match="grid"):
        SchrodingerBridge(brownian(), st.Density.uniform(first), st.Density.uniform(second)).solve()
    single = x.astype(np.float32)
    with pytest.raises(ArgumentError, match="float64"):
        SchrodingerBridge(brownian(1e-7), jnp.asarray(single), jnp.asarray(single)).solve()


@pytest.mark.parametrize("full", [False, True])
def test_drawn_ends_have_the_moments_of_their_mixture(full):
    """20,000 draws from one place half-way, five standard errors."""
    lower = jnp.asarray([[[0.6, 0.0], [0.3, 0.4]], [[1.3, 0.0], [-0.2, 0.5]]])
    scales = lower if full else jnp.diagonal(lower, axis1=1, axis2=2)
    means = jnp.asarray([[-1.0, 0.5], [1.5, 0.0]])
    w = st.GaussianMixture(jnp.asarray([0.0, 0.5]), means, scales)
    mu, D = jnp.asarray([[0.3, -0.4]]), jnp.asarray([0.7, 0.4])
    found = ends(w, mu, D)
    share = jax.nn.softmax(found.logs[0])
    mean = share @ found.means[0]
    L = found.scales
    own = L @ jnp.swapaxes(L, 1, 2) if full else jax.vmap(jnp.diag)(L**2)
    gaps = found.means[0] - mean
    spread = jnp.einsum("k,ki,kj->ij", share, gaps, gaps) + jnp.einsum("k,kij->ij", share, own)
    n = 20000
    y = drawn_ends(w, jnp.broadcast_to(mu, (n, 2)), D, jax.random.key(0))
    sd = np.sqrt(np.diag(spread))
    assert np.all(np.abs(y.mean(0) - mean) < 5 * sd / n**0.5)
    gap = np.abs(np.cov(np.asarray(y).T) - spread)
    assert np.all(gap < 5 * np.sqrt(3 / n) * np.outer(sd, sd))
