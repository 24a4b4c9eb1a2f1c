"""Minimizing movements of a law (eq. 50, 59, 62): JKO on a line and on Gaussians, mirror steps."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
import scipy.optimize

import steepest as st
from steepest.errors import ArgumentError, NotConverged
from steepest.states.monotone import quantile_shift, wasserstein_squared

BOWL = st.Energy(lambda x: 0.5 * jnp.sum(x**2))
OU = st.Flow(BOWL, st.Euclidean(), st.Thermal(1.0))
BENT = st.Energy(lambda x: 0.25 * jnp.sum(x**4) + x[0] * x[1])
START = st.Gaussian(jnp.array([1.0, 2.0]), jnp.array([[1.0, 0.0], [0.3, 0.5]]))

PLANE = st.Density.uniform(st.Grid(0, 1, (9, 9)))


def normal(grid, mean, variance):
    return st.Density.from_log(grid, lambda x: -0.5 * jnp.sum((x - mean) ** 2 / variance))


def slopes(errors):
    return np.log2(np.array(errors[:-1]) / errors[1:])


# --- transport on a line -----------------------------------------------------------------------


def test_wasserstein_on_a_line_is_exact_for_piecewise_constant_laws():
    """Against scipy's quadrature of the quantile functions, and a shift by whole cells."""
    rng = np.random.default_rng(0)
    a, b = rng.random((2, 12))
    a[3], b[7:9] = 0.0, 0.0
    a, b = a / a.sum(), b / b.sum()
    found = float(wasserstein_squared(jnp.asarray(a), jnp.asarray(b), -1.0, 0.25))
    levels = (np.arange(400_000) + 0.5) / 400_000

    def quantile(masses):
        edges = -1.0 + 0.25 * np.arange(13)
        return np.interp(levels, np.append(0, np.cumsum(masses)), edges)

    assert abs(found - np.mean((quantile(a) - quantile(b)) ** 2)) < 1e-6
    shifted = np.roll(np.append(a, np.zeros(4)), 4)
    moved = wasserstein_squared(
        jnp.asarray(np.append(a, np.zeros(4))), jnp.asarray(shifted), 0, 0.5
    )
    np.testing.assert_allclose(moved, 4.0, rtol=1e-12)
    grid = st.Grid(-6.0, 6.0, 300)
    one, other = normal(grid, -0.5, 0.5), normal(grid, 1.0, 1.0)
    exact = np.sqrt(1.5**2 + (1 - np.sqrt(0.5)) ** 2)  # Gaussians, to the h^2 of the cells
    np.testing.assert_allclose(one.wasserstein_distance(other), exact, rtol=1e-3)


def test_quantiles_invert_the_cumulative_mass_even_in_the_tails():
    grid = st.Grid(-9.0, 9.0, 90)
    masses = normal(grid, 0.0, 1.0).masses
    crossed = 0.4 * jnp.minimum(masses[1:], masses[:-1])  # within a cell of each face
    ahead, slope = quantile_shift(masses, crossed, 0.2)
    back, _ = quantile_shift(masses, -crossed, 0.2)
    assert (ahead > 0).all() and (back < 0).all()
    # dQ/dN is one over the density, which at 8.8 standard deviations is 1e-17 of the largest.
    x = grid.axes[0][:-1] + 0.1
    middle, rate = quantile_shift(masses, jnp.zeros(89), 0.2)
    np.testing.assert_allclose(middle, 0.0, atol=1e-12)
    inner = np.abs(x) < 4
    np.testing.assert_allclose((1 / rate)[inner], np.exp(-0.5 * x**2)[inner] / 2.5066, rtol=0.02)
    assert np.isfinite(slope).all()


# --- JKO to Fokker-Planck ----------------------------------------------------------------------


@pytest.mark.parametrize("order", [1, 2])
def test_jko_tends_to_fokker_planck_at_its_order(order):
    """Eq. 50, 59 against the Ornstein-Uhlenbeck law on the line; h^2 of the grid stays below."""
    grid = st.Grid(-6.0, 6.0, 400)
    exact = normal(grid, 1.5 * np.exp(-0.5), 1 - 0.7 * np.exp(-1.0))
    errors, runs = [], []
    for h in (0.1, 0.05, 0.025):
        scheme = st.MinimizingMovement(h, order=order)
        runs.append(st.solve(OU, normal(grid, 1.5, 0.3), scheme=scheme, time=0.5))
        errors.append(float(runs[-1].final.total_variation(exact)))
    np.testing.assert_allclose(slopes(errors), order, atol=0.4)
    assert runs[-1].audit().passed, str(runs[-1].audit())
    if order == 1:
        assert max(run.ledger.violation[1:].max() for run in runs) < 0


def test_equation_50_60_one_step_is_the_minimum_of_free_energy_plus_distance():
    """Perturbing the result along mass-preserving moves raises F + W2^2/(2 step)."""
    grid, h = st.Grid(-4.0, 4.0, 100), 0.3
    functional = st.FreeEnergy(BOWL, 1.0)
    rho = normal(grid, 1.0, 0.3)
    new = st.solve(OU, rho, scheme=st.MinimizingMovement(h), steps=1).final

    def objective(masses):
        cost = wasserstein_squared(masses, rho.masses, -4.0, 0.08)
        return functional(rho.tangent(masses / 0.08)) + cost / (2 * h)

    least = objective(new.masses)
    for seed in range(4):
        wave = jnp.sin((seed + 1) * jnp.pi * jnp.arange(100) / 25.0 + seed)
        wave = new.masses * wave - new.masses * jnp.sum(new.masses * wave)
        rises = [float(objective(new.masses + eps * wave) - least) for eps in (-0.1, 0.1)]
        assert min(rises) > 0


def test_gaussian_step_is_the_exact_minimiser_in_twelve_dimensions():
    """H and S_0 do not commute; against the proximal equation and a matrix Riccati solver."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 12, 12))
    hessian, start = a @ a.T / 12 + 0.2 * np.eye(12), b @ b.T / 12 + 0.1 * np.eye(12)
    h, temperature = 0.2, 0.7
    flow = st.Flow(
        st.Energy(lambda x: 0.5 * x @ jnp.asarray(hessian) @ x - x[0]),
        st.Euclidean(),
        st.Thermal(temperature),
    )
    law = st.Gaussian.from_moments(jnp.ones(12), jnp.asarray(start))
    new = st.solve(flow, law, scheme=st.MinimizingMovement(h), steps=1).final
    # X = S+^-1 solves B X^-1 B - 2 h T B + h^2 T^2 X = S_0: a Riccati equation in P = S+.
    bend = np.eye(12) + h * hessian
    covariance = np.asarray(new.covariance)
    back = bend - h * temperature * np.linalg.inv(covariance)
    np.testing.assert_allclose(back @ covariance @ back, start, atol=1e-10)
    np.testing.assert_allclose(bend @ new.mean, np.ones(12) + h * np.eye(12)[0], atol=1e-10)
    assert np.linalg.eigvalsh(0.5 * (back + back.T)).min() > 0  # the map back is optimal
    # The flow itself against matrix exponentials, and ten steps where H and S_0 commute against
    # the scalar equation (1 + h k) s+ - h T/s+ = s of each direction (Wibisono, COLT 2018).
    scheme = st.RungeKutta("dopri8", rtol=1e-12, atol=1e-13)
    flowed = st.solve(flow, law, scheme=scheme, time=0.8, steps=1).final
    decay, rest = scipy.linalg.expm(-0.8 * hessian), temperature * np.linalg.inv(hessian)
    well = np.linalg.solve(hessian, np.eye(12)[0])
    np.testing.assert_allclose(
        flowed.covariance, decay @ (start - rest) @ decay + rest, rtol=0, atol=1e-10
    )
    np.testing.assert_allclose(flowed.mean, well + decay @ (1 - well), rtol=0, atol=1e-10)
    bends, turn = np.linalg.eigh(hessian)
    scales = np.linspace(0.3, 2.0, 12)
    law = st.Gaussian.from_moments(jnp.ones(12), jnp.asarray(turn * scales**2 @ turn.T))
    new = st.solve(flow, law, scheme=st.MinimizingMovement(h), steps=10).final
    for _ in range(10):
        b = 1 + h * bends
        scales = (scales + np.sqrt(scales**2 + 4 * b * h * temperature)) / (2 * b)
    np.testing.assert_allclose(new.covariance, turn * scales**2 @ turn.T, rtol=0, atol=1e-10)


def test_the_second_order_step_keeps_its_own_inequality_where_the_functional_rises():
    """At a step of twice the relaxation time BDF2 oscillates; what it minimises does not.

    From F+ + d+^2/step - d(+, k-1)^2/(4 step) <= F_k - d^2/(4 step) follows that F + d^2/(4 step)
    falls; the distances here are taken from the saved laws.
    """
    grid, h = st.Grid(-5.0, 5.0, 80), 2.0
    law = normal(grid, 1.5, 0.3)
    run = st.solve(OU, law, scheme=st.MinimizingMovement(h, order=2), steps=8)
    assert np.diff(run.ledger.functional).max() > 1e-8
    assert run.ledger.violation[1:].max() < 0
    assert run.audit()["De Giorgi inequality"].passed
    laws = [run.at(k) for k in range(9)]
    moves = [float(a.wasserstein_distance(b)) ** 2 for a, b in itertools.pairwise(laws)]
    lyapunov = run.ledger.functional[1:] + np.array(moves) / (4 * h)
    assert np.diff(lyapunov).max() < 0


def test_tails_below_round_off_do_not_stop_the_step():
    """A quartic well in a wide box wants exp(-264) at the walls, where 1e-31 is: no NaN."""
    well = st.Energy(lambda x: jnp.sum((x**2 - 2) ** 2) / 4)
    flow = st.Flow(well, st.Euclidean(), st.Thermal(0.5))
    law = normal(st.Grid(-5.0, 5.0, 80), 1.5, 0.3)
    run = st.solve(flow, law, scheme=st.MinimizingMovement(0.4), steps=3)
    assert run.ledger.violation[1:].max() < 0 and run.ledger.minimum.min() > 0
    assert abs(float(run.final.mass) - 1) < 1e-12
    inner = normal(st.Grid(-3.5, 3.5, 56), 1.5, 0.3)  # the same cells, without the tails
    near = st.solve(flow, inner, scheme=st.MinimizingMovement(0.4), steps=3)
    np.testing.assert_allclose(run.final.values[12:68], near.final.values, atol=2e-3)


@pytest.mark.parametrize(("order", "diagonal"), [(1, False), (2, False), (1, True), (2, True)])
def test_gaussian_jko_tends_to_the_exact_flow(order, diagonal):
    hessian = np.diag([1.0, 3.0]) if diagonal else np.array([[1.0, 0.4], [0.4, 3.0]])
    flow = st.Flow(
        st.Energy(lambda x: 0.5 * x @ jnp.asarray(hessian) @ x), st.Euclidean(), st.Thermal(0.5)
    )
    law = st.Gaussian(START.mean, jnp.array([1.0, 0.4]) if diagonal else START.scale)
    decay = scipy.linalg.expm(-0.4 * hessian)
    rest = 0.5 * np.linalg.inv(hessian)
    exact = decay @ (np.asarray(law.covariance) - rest) @ decay + rest
    errors = [
        float(
            jnp.abs(
                st.solve(
                    flow, law, scheme=st.MinimizingMovement(h, order=order), time=0.4
                ).final.covariance
                - exact
            ).max()
        )
        for h in (0.1, 0.05)
    ]
    np.testing.assert_allclose(slopes(errors), order, atol=0.25)


@pytest.mark.parametrize("geometry", [st.Wasserstein(), st.FisherRao()], ids=lambda g: g.name)
def test_steps_to_a_target_that_is_not_gaussian(geometry):
    """The fixed point solves the proximal problem: no nearby Gaussian has a lower objective."""
    h, functional = 0.2, st.KL(BENT)
    flow = st.Flow(functional, geometry)
    run = st.solve(flow, START, scheme=st.MinimizingMovement(h), steps=3)
    audit = run.audit()
    assert audit.passed, str(audit)
    old, new = run.at(0), run.at(1)

    def objective(flat):
        law = st.Gaussian(flat[:2], jnp.array([[flat[2], 0.0], [flat[3], flat[4]]]))
        distance = 0.5 * law.wasserstein_distance(old) ** 2
        cost = distance if isinstance(geometry, st.Wasserstein) else law.kl(old)
        return functional(law) + cost / h

    flat = jnp.array([*new.mean, new.scale[0, 0], new.scale[1, 0], new.scale[1, 1]])
    assert jnp.abs(jax.grad(objective)(flat)).max() < 1e-6


# --- the mirror step ---------------------------------------------------------------------------


def test_kl_proximal_steps_are_mirror_descent():
    """Linear F on a finite set: exponentiated gradient, exactly; and on a grid with entropy."""
    energies = jnp.array([0.0, 1.0, 3.0])
    start = st.Categorical(jnp.array([0.5, 0.0, 2.0]))
    flow = st.Flow(st.ExpectedEnergy(lambda i: energies[i]), 2.0 * st.FisherRao())
    run = st.solve(flow, start, scheme=st.MinimizingMovement(0.3), steps=2)
    exact = jax.nn.softmax(start.logits - 2 * 2.0 * 0.3 * energies)
    np.testing.assert_allclose(run.final.probabilities, exact, atol=1e-12)
    grid = st.Grid(-3.0, 3.0, 50)
    rho = normal(grid, 0.5, 0.4)
    run = st.solve(
        st.Flow(st.KL(BOWL), st.FisherRao()), rho, scheme=st.MinimizingMovement(0.5), steps=1
    )
    exact = st.Density.from_log(
        grid, lambda x: (-1.25 * jnp.sum((x - 0.5) ** 2) - 0.25 * jnp.sum(x**2)) / 1.5
    )
    np.testing.assert_allclose(run.final.values, exact.values, atol=1e-12)
    assert run.audit().passed


def test_mirror_step_with_interaction_solves_its_fixed_point():
    grid = st.Grid(-3.0, 3.0, 40)
    functional = st.KL(BOWL) + st.InteractionEnergy(lambda z: jnp.sum(jnp.cos(z)))
    rho = normal(grid, 0.5, 0.4)
    run = st.solve(
        st.Flow(functional, st.FisherRao()), rho, scheme=st.MinimizingMovement(0.2), steps=2
    )
    psi = jax.grad(functional)(run.at(1)).values / grid.cell_volume
    psi = psi + (jnp.log(run.at(1).values) - jnp.log(rho.values)) / 0.2
    assert jnp.ptp(psi) < 1e-5
    assert run.ledger.violation[1:].max() < 0


# --- porous medium, aggregation ----------------------------------------------------------------


def barenblatt(grid, time, power):
    """Averages over the cells, of 32 points each: the front is steeper than the grid."""
    alpha = 1.0 / (power + 1.0)
    k = alpha * (power - 1.0) / (2.0 * power)
    fine = st.Grid(grid.lower, grid.upper, (32 * grid.shape[0],))
    profile = fine.evaluate(
        lambda x: (
            time**-alpha
            * jnp.maximum(0.1 - k * (x[0] / time**alpha) ** 2, 0.0) ** (1.0 / (power - 1.0))
        )
    )
    return st.Density.normalised(fine, profile).to_grid(grid), float(profile.mean() * 6.0)


@pytest.mark.parametrize("power", [2.0, 4.0])
def test_barenblatt_by_jko(power):
    """Order 1 in the step, compact support, no negative mass."""
    grid = st.Grid(-3.0, 3.0, 240)
    start, mass = barenblatt(grid, 1.0, power)
    exact, _ = barenblatt(grid, 2.0, power)
    # Unit mass runs the same profile at another speed.
    flow = st.Flow(st.InternalEnergy(power), mass ** (power - 1.0) * st.Wasserstein())
    errors = []
    for h in (0.2, 0.1):
        run = st.solve(flow, start, scheme=st.MinimizingMovement(h), time=1.0)
        errors.append(float(2 * run.final.total_variation(exact)))
        assert run.ledger.minimum.min() >= 0 and run.ledger.violation[1:].max() < 0
        front = np.abs(grid.axes[0][np.asarray(exact.values) > 0]).max()
        outside = np.abs(grid.axes[0]) > front + 0.1
        assert np.asarray(run.final.masses)[outside].sum() < 1e-6
    assert errors[1] < 0.006 and 0.8 < slopes(errors)[0] < 1.2


def test_aggregation_contracts_as_in_closed_form():
    """W = |z|^2/2: every point falls to the mean, X+ - m = (X - m)/(1 + step)."""
    grid = st.Grid(-3.0, 3.0, 300)
    pair = st.InteractionEnergy(lambda z: 0.5 * jnp.sum(z**2))
    rho = normal(grid, 0.4, 0.2)
    run = st.solve(st.Flow(pair, st.Wasserstein()), rho, scheme=st.MinimizingMovement(0.2), steps=1)
    expected = rho.covariance()[0, 0] / 1.2**2
    np.testing.assert_allclose(run.final.covariance()[0, 0], expected, rtol=0.01)
    np.testing.assert_allclose(run.final.mean(), rho.mean(), atol=1e-3)


def test_aggregation_and_diffusion_rest_at_a_gaussian():
    """F = 1/2 W + T rho log rho with W = |z|^2/2: variance T at rest."""
    grid = st.Grid(-4.0, 4.0, 160)
    pair = st.InteractionEnergy(lambda z: 0.5 * jnp.sum(z**2)) + 0.5 * st.NegativeEntropy()
    run = st.solve(
        st.Flow(pair, st.Wasserstein()),
        normal(grid, 0.0, 1.5),
        scheme=st.MinimizingMovement(0.5),
        time=8.0,
    )
    np.testing.assert_allclose(run.final.covariance(), [[0.5]], atol=2e-3)
    assert run.ledger.violation[1:].max() < 1e-12
    assert np.diff(run.ledger.functional).max() < 1e-12


# --- refusals ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "geometry", "options", "message"),
    [
        (START, st.Wasserstein(), dict(method="quantile"), "moves a Density"),
        (START, st.Wasserstein() + st.FisherRao(), {}, "one cost at a time"),
        (START, st.Wasserstein(), dict(method="mirror"), "FisherRao"),
        (START, st.FisherRao(), dict(order=2), "order"),
        (START, st.Wasserstein(), dict(method="newton"), "method"),
        (st.Density.uniform(st.Grid(0, 1, 9, "periodic")), st.Wasserstein(), {}, "periodic"),
        (PLANE, st.Wasserstein(), dict(method="quantile"), "for a line"),
        (PLANE, st.Wasserstein(), dict(order=2), "on a line"),
    ],
)
def test_steps_that_do_not_exist_are_refused(state, geometry, options, message):
    flow = st.Flow(st.KL(lambda x: -jnp.sum(x**2)), geometry)
    with pytest.raises(ArgumentError, match=message):
        st.solve(flow, state, scheme=st.MinimizingMovement(0.1, **options), steps=1)


def test_an_inner_problem_that_stops_early_is_told():
    with pytest.raises(NotConverged, match="missed its tolerance"):
        scheme = st.MinimizingMovement(0.5, max_iterations=2)
        st.solve(OU, normal(st.Grid(-4.0, 4.0, 60), 1.5, 0.2), scheme=scheme, steps=1)
