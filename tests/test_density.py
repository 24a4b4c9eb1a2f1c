"""Densities on grids: the state, its functionals and the flows of a law (eq. 45-49, 57-62)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import steepest as st
from steepest.errors import ArgumentError, NotConverged
from steepest.states import sinkhorn
from steepest.states.fluxes import log_mean

GRID = st.Grid(-5.0, 5.0, 80)
PLANE = st.Grid((-3.0, -4.0), (3.0, 4.0), (12, 16), boundary=("reflecting", "periodic"))
ENERGY = st.Energy(lambda x: 0.5 * jnp.sum(x**2))


def normal(grid, mean=0.0, variance=1.0):
    return st.Density.from_log(grid, lambda x: -0.5 * jnp.sum((x - mean) ** 2) / variance)


def rough(grid, seed=0):
    values = jax.random.uniform(jax.random.key(seed), grid.shape, minval=0.1, maxval=2.0)
    return st.Density.normalised(grid, values)


# --- the grid and the state --------------------------------------------------------------------


def test_grid_knows_its_cells():
    assert PLANE.dimension == 2 and PLANE.spacing == (0.5, 0.5) and PLANE.cell_volume == 0.25
    points = PLANE.points()
    assert points.shape == (12, 16, 2)
    np.testing.assert_allclose(points[0, 0], [-2.75, -3.75])
    np.testing.assert_allclose(PLANE.points(face=0)[0, 0], [-2.5, -3.75])
    assert hash(PLANE) == hash(st.Grid((-3, -4), (3, 4), (12, 16), ("reflecting", "periodic")))
    phase = st.Grid(-1, 1, (4, 4), phase=True)
    assert isinstance(phase.point(jnp.zeros(2)), st.Phase)


@pytest.mark.parametrize(
    ("arguments", "argument"),
    [
        ((0.0, 0.0, 10), "upper"),
        ((0.0, np.nan, 10), "upper"),
        ((0.0, 1.0, 1), "shape"),
        ((0.0, 1.0, (2, 2, 2, 2)), "shape"),
        ((0.0, 1.0, (10**5, 10**5)), "shape"),
        (((0.0, 0.0), 1.0, 8), "lower"),
        ((0.0, 1.0, 8, "open"), "boundary"),
        ((0.0, 1.0, 8, "reflecting", True), "phase"),
    ],
)
def test_grid_refuses(arguments, argument):
    with pytest.raises(ArgumentError) as caught:
        st.Grid(*arguments)
    assert caught.value.argument == argument


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (jnp.ones(7), "shape"),
        (jnp.ones(80), "normalised"),
        (jnp.full(80, 0.1).at[3].set(-0.1).at[4].set(0.3), "nonnegative"),
        (jnp.full(80, jnp.nan), "finite"),
    ],
)
def test_density_refuses(values, words):
    with pytest.raises(ArgumentError, match=words):
        st.Density(GRID, values)


def test_density_refuses_what_cannot_be_normalised():
    with pytest.raises(ArgumentError, match="positive mass"):
        st.Density.normalised(GRID, jnp.zeros(80))
    with pytest.raises(ArgumentError, match="everywhere"):
        st.Density.from_log(GRID, lambda x: jnp.where(x[0] > 99, 0.0, -jnp.inf))
    with pytest.raises(ArgumentError, match="2 of 3 particles"):
        st.Density.from_particles(jnp.array([[0.0], [9.0], [-7.0]]), GRID)


def test_moments_entropy_and_distances_have_their_closed_forms():
    # The midpoint rule on a smooth law that vanishes at the walls errs by far less than h^2: 1e-5
    # covers what the box cuts off (5 standard deviations: 1e-6, weighted by x^2).
    rho, sigma = normal(GRID, 0.0, 1.0), normal(GRID, 0.5, 0.8)
    assert abs(rho.mass - 1) < 1e-14
    assert abs(rho.entropy() - 0.5 * np.log(2 * np.pi * np.e)) < 5e-5
    np.testing.assert_allclose(rho.covariance(), [[1.0]], atol=5e-5)
    exact = 0.5 * (1 / 0.8 + 0.25 / 0.8 - 1 + np.log(0.8))
    assert abs(rho.kl(sigma) - exact) < 1e-4
    overlap = np.sqrt(2 * np.sqrt(0.8) / 1.8) * np.exp(-0.25 * 0.25 / 1.8)
    assert abs(rho.fisher_rao_distance(sigma) - 2 * np.arccos(overlap)) < 1e-4
    assert rho.kl(st.Density.normalised(GRID, jnp.arange(80) > 40)) == jnp.inf
    shifted = normal(GRID, 4 * 0.125)
    assert abs(rho.total_variation(shifted) - (2 * 0.598706 - 1)) < 1e-3  # 2 Phi(0.25) - 1


def test_sample_and_log_prob_are_of_the_same_law():
    rho = rough(PLANE)
    x = rho.sample(jax.random.key(0), 20_000)
    mean = jnp.mean(jnp.exp(-rho.log_prob(x)))  # E[1/rho] = volume of the box
    error = jnp.std(jnp.exp(-rho.log_prob(x))) / np.sqrt(20_000)
    assert abs(mean - 48.0) < 4 * error
    assert rho.log_prob(jnp.array([9.0, 0.0])) == -jnp.inf
    np.testing.assert_allclose(
        rho.log_prob(jnp.array([0.1, 0.1])), rho.log_prob(jnp.array([0.1, 8.1]))
    )


def test_histogram_smoothing_and_regridding_keep_mass():
    x = jax.random.normal(jax.random.key(1), (2000, 2)) * 0.6
    for width in (0.0, 0.4):
        rho = st.Density.from_particles(x, PLANE, bandwidth=width)
        assert abs(rho.mass - 1) < 1e-14
        spread = 0.36 + width**2
        np.testing.assert_allclose(jnp.diagonal(rho.covariance()), spread, rtol=0.15)
    fine = rho.to_grid(PLANE.refined())
    np.testing.assert_allclose(fine.to_grid(PLANE).values, rho.values, atol=1e-13)
    fine = st.Grid(-3.0, 3.0, 1920)
    hole = st.Density.normalised(fine, jnp.maximum(0.1 - fine.axes[0] ** 2 / 12, 0.0) ** (1 / 3))
    coarse = hole.to_grid(st.Grid(-3.0, 3.0, 60))  # 1/32 of the cells: round-off below zero
    assert coarse.values.min() >= 0 and abs(coarse.mass - 1) < 1e-14
    np.testing.assert_allclose(rho.marginal(1).values, rho.values.sum(0) * 0.5, atol=1e-14)


# --- functionals and their first variations ----------------------------------------------------


@pytest.mark.parametrize(
    "functional",
    [
        st.FreeEnergy(ENERGY, 0.7),
        st.KL(lambda x: -jnp.sum(x**4)),
        st.NegativeEntropy(),
        st.InternalEnergy(2.0),
        0.5 * st.InternalEnergy(0.5) + st.ExpectedEnergy(ENERGY),
        st.InteractionEnergy(lambda z: jnp.sum(jnp.cos(z))),
    ],
    ids=lambda functional: functional.name,
)
@pytest.mark.parametrize("grid", [GRID, PLANE], ids=["line", "plane"])
def test_first_variation_is_the_gradient_over_the_cell_volume(functional, grid):
    rho = rough(grid)
    gradient = jax.grad(functional)(rho).values / grid.cell_volume
    by_hand = grid.evaluate(functional.first_variation(rho))
    # Equal up to a constant in general; here to round-off of sums over the cells.
    if isinstance(functional, st.InteractionEnergy) and grid is PLANE:
        # The periodic axis sees the nearest image, the function on space does not: cos of an axis
        # of length 8 has no such period, so the two differ there and agree on the line.
        return
    np.testing.assert_allclose(gradient, by_hand, rtol=1e-10, atol=1e-10)


def test_interaction_by_fft_is_the_double_sum():
    rho, kernel = rough(PLANE), lambda z: jnp.exp(-jnp.sum(z**2))
    x, m = PLANE.points().reshape(-1, 2), rho.masses.reshape(-1)
    z = x[:, None] - x[None]
    z = z.at[..., 1].set((z[..., 1] + 4) % 8 - 4)  # nearest image along the periodic axis
    exact = 0.5 * m @ jnp.exp(-jnp.sum(z**2, -1)) @ m
    np.testing.assert_allclose(st.InteractionEnergy(kernel)(rho), exact, rtol=1e-12)
    with pytest.raises(ArgumentError, match="zero displacement"):
        st.InteractionEnergy(lambda z: -jnp.log(jnp.sum(z**2)))(rho)


def test_wasserstein_distance_in_the_plane_and_in_space(monkeypatch):
    """Against the closed form of Gaussians, with the order in the blur, and exact for shifts."""
    grid = st.Grid(-5.0, 5.0, (32, 32))

    def normal(mean, deviation):
        return st.Density.from_log(
            grid, lambda x: -0.5 * jnp.sum(((x - jnp.array(mean)) / jnp.array(deviation)) ** 2)
        )

    a, b = normal([1.0, -0.5], [0.6, 0.9]), normal([-0.3, 0.4], [1.0, 0.7])
    exact = 1.3**2 + 0.9**2 + 0.4**2 + 0.2**2  # diagonal covariances commute
    square = jax.jit(lambda other, blur: a.wasserstein_distance(other, blur) ** 2)
    wide, narrow = (abs(float(square(b, k * grid.spacing[0])) - exact) for k in (2.0, 1.0))
    # Measured at 48^2: 1.3e-2, 1e-3, 8e-5 relative at 4 h, 2 h, h; a fourth order is 16.
    assert 8 < wide / narrow < 24 and narrow < 1e-3 * exact
    assert square(a, grid.spacing[0]) < 1e-6
    box = jnp.zeros((8, 8, 8)).at[1:4, 2:5, 3:5].set(1.0)
    space = st.Grid(0.0, 1.0, (8, 8, 8))
    here, there = (st.Density.normalised(space, jnp.roll(box, k, (0, 1))) for k in ((0, 0), (3, 1)))
    np.testing.assert_allclose(here.wasserstein_distance(there), np.sqrt(10) / 8, rtol=1e-4)
    with pytest.raises(ArgumentError, match="reflecting walls"):
        rough(PLANE).wasserstein_distance(rough(PLANE))
    monkeypatch.setattr(sinkhorn, "MOST_ITERATIONS", 10)
    small = st.Grid(0.0, 1.0, (4, 4))
    with pytest.raises(NotConverged, match="raise blur"):
        rough(small).wasserstein_distance(rough(small, 1), 0.02)


@pytest.mark.parametrize("power", [1.0, 0.0, -1.0, np.nan, "two"])
def test_internal_energy_refuses(power):
    with pytest.raises(ArgumentError, match="power"):
        st.InternalEnergy(power)


def test_resolve_finds_the_linear_and_the_entropic_part():
    pair = st.InteractionEnergy(jnp.sum)
    found = (2.0 * (st.FreeEnergy(ENERGY, 0.3) + pair) + st.KL(lambda x: -x[0])).resolve()
    assert found.temperature == pytest.approx(1.6)
    assert found.potential(jnp.array([3.0])) == pytest.approx(2 * 4.5 + 3.0)
    assert len(found.rest) == 1 and found.rest[0].factor == 2.0


# --- motions: symmetry, positivity of the rate, exactness --------------------------------------


def test_log_mean_is_the_logarithmic_mean():
    a, b = jnp.array([1.0, 1.0, 1e-9, 0.0, 2.0]), jnp.array([1.0, 1 + 1e-7, 3.0, 1.0, 1.98])
    exact = [1.0, 1 + 5e-8, (3 - 1e-9) / np.log(3e9), 0.0, 0.02 / np.log(2 / 1.98)]
    np.testing.assert_allclose(log_mean(a, b), exact, rtol=1e-12, atol=1e-300)


@pytest.mark.parametrize("geometry", [st.Wasserstein(), st.FisherRao()], ids=lambda g: g.name)
def test_onsager_operators_are_symmetric_positive_and_keep_mass(geometry):
    """Eq. 54 and 62: what moves and what is reweighted sums to zero over the cells."""
    rho, a, b = rough(PLANE), rough(PLANE, 1), rough(PLANE, 2)
    ka, kb = geometry.sharp(rho, a), geometry.sharp(rho, b)
    np.testing.assert_allclose(jnp.sum(a.values * kb.values), jnp.sum(b.values * ka.values))
    assert jnp.sum(a.values * ka.values) > 0
    assert abs(ka.mass) < 1e-12 * jnp.abs(ka.values).max()


def test_gibbs_law_is_exactly_stationary_and_free_energy_is_kl():
    """Eq. 44, 47-48, 60 on the grid: F - F_inf = T KL, and the Gibbs law does not move."""
    flow = st.Flow(lambda x: jnp.sum(x**4) / 4 + x[0], st.Euclidean(), st.Thermal(0.6))
    gibbs = st.Density.gibbs(GRID, flow.functional, 0.6)
    assert jnp.abs(flow.velocity(gibbs).values).max() < 1e-10  # psi is constant to round-off
    rho = normal(GRID, 1.0, 0.5)
    free = st.FreeEnergy(flow.functional, 0.6)
    np.testing.assert_allclose(free(rho) - free(gibbs), 0.6 * rho.kl(gibbs), rtol=1e-11)


def test_metric_of_the_ground_enters_the_flux():
    """With K = 1/G the mean drifts by -E[K grad E] + T E[div K] (eq. 42, 55), to order h^2."""
    metric = lambda x: jnp.diag(1.0 / (1.0 + 0.3 * jnp.sin(x)))  # noqa: E731
    flow = st.Flow(ENERGY, st.Riemannian(metric), st.Thermal(0.5))
    errors = []
    for cells in (80, 160):
        rho = normal(st.Grid(-5.0, 5.0, cells), 0.4, 0.5)
        moved = jnp.sum(flow.velocity(rho).values * rho.grid.points()[:, 0]) * rho.grid.cell_volume
        drift = lambda x: -(1 + 0.3 * jnp.sin(x[0])) * x[0] + 0.15 * jnp.cos(x[0])  # noqa: E731
        errors.append(abs(float(moved - rho.expect(drift))))
    assert errors[1] < 0.2 * (1 / 16) ** 2 and 3.5 < errors[0] / errors[1] < 4.5


def test_ground_off_the_diagonal_is_refused_on_a_grid():
    metric = lambda x: jnp.array([[2.0, 0.5], [0.5, 1.0]])  # noqa: E731
    flow = st.Flow(ENERGY, st.Riemannian(metric), st.Thermal(1.0))
    with pytest.raises(ArgumentError, match="off the diagonal"):
        flow.velocity(rough(PLANE))
    with pytest.raises(ArgumentError, match="phase"):
        kinetic = st.Symplectic() + st.Friction(1.0)
        st.Flow(ENERGY, kinetic, st.Thermal(1.0)).velocity(rough(PLANE))


# --- runs --------------------------------------------------------------------------------------


def test_semi_discrete_balance_closes_and_the_audit_passes(tmp_path):
    """Eq. 49: with log-mean fluxes F(0) - F(t) is the dissipation, here to 1e-8 relative."""
    flow = st.Flow(ENERGY, st.Euclidean(), st.Thermal(1.0))
    scheme = st.RungeKutta("kvaerno5", rtol=1e-9, atol=1e-11)
    run = st.solve(flow, normal(GRID, 1.5, 0.3), scheme=scheme, time=1.0, steps=4)
    assert np.abs(run.ledger.closure).max() < 1e-8 * run.ledger.dissipated[-1]
    audit = run.audit()
    assert audit.passed and {"mass", "positivity", "Gibbs identity"} <= {
        check.name for check in audit.checks
    }
    exact = 1.5 * np.exp(-1.0)  # the mean of an Ornstein-Uhlenbeck law; order h^2 in space
    np.testing.assert_allclose(run.final.mean(), [exact], atol=0.3 * GRID.spacing[0] ** 2)
    again = st.Trajectory.load(run.save(tmp_path / "run"))
    assert again.at(2).grid == GRID
    np.testing.assert_array_equal(again.at(2).values, run.at(2).values)


def test_audit_sees_lost_mass_negative_values_and_a_wrong_free_energy():
    flow = st.Flow(ENERGY, st.Euclidean(), st.Thermal(1.0))
    scheme = st.RungeKutta("kvaerno5")
    run = st.solve(flow, normal(GRID, 0.5, 0.6), scheme=scheme, time=0.2, steps=2)
    book = run.ledger
    leaky = {"mass": book.conserved["mass"] - np.array([0, 0, 1e-9])}
    import dataclasses

    def with_ledger(**changes):
        return dataclasses.replace(run, ledger=dataclasses.replace(book, **changes)).audit()

    assert with_ledger()["mass"].passed
    assert with_ledger(conserved=leaky)["mass"].passed is False
    assert with_ledger(minimum=book.minimum - 1e-10)["positivity"].passed is False
    assert with_ledger(functional=book.functional + 1e-9)["Gibbs identity"].passed is False


def test_fisher_rao_flow_is_the_geometric_path():
    """Eq. 62: rho_t ~ rho_0^exp(-t) pi^(1 - exp(-t)), to the tolerance of the solver."""
    target = lambda x: jnp.sum(jnp.cos(2 * x))  # noqa: E731
    rho = normal(GRID, 1.0, 0.5)
    scheme = st.RungeKutta("dopri8", rtol=1e-11, atol=1e-14)
    flow = st.Flow(st.KL(target), st.FisherRao())
    run = st.solve(flow, rho, scheme=scheme, time=0.7, steps=1)
    decay = np.exp(-0.7)
    exact = st.Density.normalised(
        GRID, rho.values**decay * jnp.exp((1 - decay) * GRID.evaluate(target))
    )
    assert jnp.abs(run.final.values - exact.values).max() < 1e-9


def test_noise_without_a_gibbs_law_is_refused_on_a_density():
    flow = st.Flow(ENERGY, st.Euclidean(), st.Diffusion(0.3))
    with pytest.raises(ArgumentError, match="thermal noise only"):
        flow.velocity(rough(GRID))


def test_thermal_noise_on_a_lifted_flow_is_entropy():
    lifted = st.Flow(st.ExpectedEnergy(ENERGY), st.Wasserstein(), st.Thermal(0.4))
    plain = st.Flow(st.FreeEnergy(ENERGY, 0.4), st.Wasserstein())
    rho = rough(GRID)
    np.testing.assert_allclose(lifted.velocity(rho).values, plain.velocity(rho).values, atol=1e-12)


ONE = st.Gaussian(jnp.zeros(1), jnp.eye(1))


@pytest.mark.parametrize(
    ("state", "geometry", "scheme"),
    [
        (rough(GRID), st.FisherRao(), st.Euler(0.01)),
        (rough(GRID), st.FisherRao(), st.Exponential(0.1)),
        (rough(GRID), st.Wasserstein(), st.FiniteVolume(0.1)),
        (rough(GRID), st.Wasserstein(), st.MinimizingMovement(0.1)),
        (ONE, st.Wasserstein(), st.MinimizingMovement(0.1)),
        (st.GaussianMixture.from_gaussian(ONE, 2), st.Wasserstein(), st.Euler(0.01)),
        (st.Particles(jnp.linspace(-1, 1, 8)[:, None]), st.Wasserstein(), st.Euler(0.01)),
    ],
    ids=lambda x: getattr(x, "name", type(x).__name__),
)
def test_target_that_vanishes_where_mass_is_is_refused(state, geometry, scheme):
    target = lambda x: jnp.where(x[0] > 0, 0.0, -jnp.inf)  # noqa: E731
    key = jax.random.key(0) if isinstance(state, st.Particles) else None
    with pytest.raises(ArgumentError, match="finite"):
        st.solve(st.Flow(st.KL(target), geometry), state, scheme=scheme, steps=1, key=key)
