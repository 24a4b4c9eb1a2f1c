"""JKO of a density in the plane and in space (eq. 50, 59), without regularisation, and entropic.

The step of a Barenblatt profile rho(x) = r^-d f(x/r), f(y) = (A (1 - |y|^2))_+^(1/(m - 1)), is
another one, for p = psi(rho) is quadratic inside: the optimal map is linear and the new radius
solves r - step k/r^(d (m - 1) + 1) = r_k, k = 2 m A/(m - 1). That is the reference here.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.special

import steepest as st
from steepest.errors import ArgumentError, NotConverged
from steepest.schemes.proximal import Problem, entropic, monge_ampere

BOWL = st.ExpectedEnergy(lambda x: 0.5 * jnp.sum(x**2))
PAIR = st.InteractionEnergy(lambda z: 0.5 * jnp.sum(z**2))


class Barenblatt:
    """Profiles of mass 1 in `dimension`, and how their radius grows."""

    def __init__(self, m, dimension=2):
        q, d = 1 / (m - 1), dimension
        mass = np.pi ** (d / 2) * scipy.special.gamma(q + 1) / scipy.special.gamma(q + 1 + d / 2)
        self.m, self.d, self.q, self.height = m, d, q, mass ** (1 - m)
        self.k = 2 * m * self.height / (m - 1)
        self.power = d * (m - 1) + 1

    def values(self, grid, r):
        square = np.sum(np.asarray(grid.points()) ** 2, -1) / r**2
        return (self.height * np.maximum(1 - square, 0)) ** self.q / r**self.d

    def density(self, grid, r):
        return st.Density.normalised(grid, jnp.asarray(self.values(grid, r)))

    def time(self, r):
        """r' = k/r^power from radius 0."""
        return r ** (self.power + 1) / (self.k * (self.power + 1))

    def moved(self, r, step):
        return scipy.optimize.brentq(lambda x: x - r - step * self.k / x**self.power, r, 9 * r)

    def square(self):
        """The integral of |y|^2 f: the mean of a beta law of |y|^2."""
        return self.d / 2 / (self.d / 2 + self.q + 1)


def expanded(m, cells, steps, dimension=2):
    """(run, the profile, radii of exact JKO steps, step) from r = 0.33 to about 0.42."""
    profile, grid = Barenblatt(m, dimension), st.Grid(-0.5, 0.5, [cells] * dimension)
    step = (profile.time(0.42) - profile.time(0.33)) / steps
    radii = [0.33]
    for _ in range(steps):
        radii.append(profile.moved(radii[-1], step))
    run = st.solve(
        st.Flow(st.InternalEnergy(m), st.Wasserstein()),
        profile.density(grid, 0.33),
        scheme=st.MinimizingMovement(step),
        steps=steps,
    )
    return run, profile, radii, step


def stepper(functional, step):
    """The solver of one step alone: a smaller program to compile than a run."""

    @jax.jit
    def move(law):
        return monge_ampere.minimise(
            Problem(functional, st.Wasserstein(), law, None, step, None, 500)
        )

    return move


def repeated(functional, step, law, steps):
    """(the law after `steps`, the worst residual and increase of De Giorgi's inequality)."""
    move, residuals, increases = stepper(functional, step), [], []
    for _ in range(steps):
        law, increase, residual, _ = move(law)
        residuals.append(float(residual))
        increases.append(float(increase))
    return law, max(residuals), max(increases)


def distance(values, exact):
    return float(np.abs(np.asarray(values) - exact).sum() / exact.sum())


@pytest.fixture(scope="module")
def squares():
    return {steps: expanded(2.0, 64, steps) for steps in (3, 6, 12)}


@pytest.fixture(scope="module")
def fourths():
    return {steps: expanded(4.0, 64, steps) for steps in (3, 6, 12)}


@pytest.mark.parametrize("power", [2, 4])
def test_steps_are_those_of_the_exact_minimum_and_tend_to_barenblatt_at_order_one(power, request):
    """Against exact JKO profiles what is left is the grid's error, against Barenblatt the step's.

    The first, relative in L1, was 6.9e-3, 3.1e-3, 1.8e-3 on 32^2, 48^2, 64^2 for m = 2 (h^2) and
    1.5e-2, 8.4e-3, 6.1e-3 for m = 4, where the slope at the front is infinite (h^(4/3)), whatever
    the number of steps: bounded by 1.2 times that at 64^2. Its share in the second, at twelve steps
    1.8e-3 in 9.8e-3 and 5.8e-3 in 2.0e-2, bends the measured order below 1.
    """
    runs = request.getfixturevalue("squares" if power == 2 else "fourths")
    limit = 2.2e-3 if power == 2 else 7.3e-3
    errors = []
    for run, profile, radii, _ in runs.values():
        grid, values = run.final.grid, np.asarray(run.final.values)
        assert distance(values, profile.values(grid, radii[-1])) < limit
        errors.append(distance(values, profile.values(grid, 0.42)))
        # Compact support: a cell beyond the exact front next to nothing, further out nothing.
        beyond = 64 * (np.linalg.norm(np.asarray(grid.points()), axis=-1) - radii[-1])
        assert values[beyond > 1].max() < 1e-3 * values.max()
        assert values[beyond > 6].size > 300 and values[beyond > 6].max() == 0.0
        assert values.min() == 0.0 and abs(float(run.final.mass) - 1) < 1e-13
    np.testing.assert_allclose(np.log2(np.divide(errors[:-1], errors[1:])), 0.9, atol=0.15)


@pytest.mark.parametrize("power", [2, 4])
def test_the_energy_falls_by_at_least_the_cost_and_the_cost_is_the_squared_distance(power, request):
    """W2 between two profiles is (r+ - r) (integral |y|^2 f)^(1/2), their map being linear."""
    run, profile, radii, step = request.getfixturevalue("squares" if power == 2 else "fourths")[6]
    cost = run.ledger.violation[1:] - np.diff(run.ledger.functional)
    exact = np.diff(radii) ** 2 * profile.square() / (2 * step)
    np.testing.assert_allclose(cost, exact, rtol=0.02)
    assert run.ledger.violation[1:].max() < 0
    assert (np.diff(run.ledger.functional) + exact < 0).all()
    if power == 2:
        assert run.audit().passed, str(run.audit())


def test_the_same_step_in_space():
    """2.2e-2 is the grid's error at 16^3, (h/r)^2 being 2.2e-2; the step moves 0.5."""
    profile, grid = Barenblatt(2.0, 3), st.Grid(-0.5, 0.5, (16, 16, 16))
    step = profile.time(0.42) - profile.time(0.33)
    law, residual, increase = repeated(st.InternalEnergy(2.0), step, profile.density(grid, 0.33), 1)
    assert distance(law.values, profile.values(grid, profile.moved(0.33, step))) < 3e-2
    assert distance(law.values, profile.values(grid, 0.33)) > 0.3
    assert residual <= 1 and increase < 0 and abs(float(law.mass) - 1) < 1e-13
    assert float(law.values.min()) == 0.0


def test_aggregation_and_diffusion_rest_at_a_paraboloid():
    """2 rho + |x - mean|^2/2 = C where rho > 0: C = (2/pi)^(1/2), variance C/3 along each axis."""
    grid = st.Grid(-2.0, 2.0, (40, 40))
    inside = jnp.max(jnp.abs(grid.points() - jnp.array([0.3, 0.0])), -1) < 1.2
    box = st.Density.normalised(grid, jnp.where(inside, 1.0, 0.0))
    law, residual, increase = repeated(st.InternalEnergy(2.0) + PAIR, 0.4, box, 8)
    # Of 0.48 - 0.27 exact steps would leave 1.4^-16 (rate 2); cells have a variance of h^2/12 =
    # 8e-4, and the front is known to a cell or h = 0.1 with next to no mass.
    rest = np.sqrt(2 / np.pi) / 3
    np.testing.assert_allclose(np.diag(law.covariance()), rest, atol=4e-3)
    np.testing.assert_allclose(law.mean(), box.mean(), atol=1e-6)
    assert residual <= 1 and increase < 0 and float(law.values.min()) == 0.0


def test_an_entropy_is_handled_where_the_grid_resolves_the_law():
    """Ornstein-Uhlenbeck: mean and deviation s of the exact step, (1 + h) s+ - h/s+ = s.

    Second differences see s^2 with an error of h_x^2/6 relative to s^2 at most, 1 percent.
    """
    grid, h = st.Grid(-5.0, 5.0, (48, 48)), 0.1
    mean, deviation = np.array([1.0, -0.5]), np.sqrt([0.4, 0.8])
    law = st.Density.from_log(grid, lambda x: -0.5 * jnp.sum(((x - mean) / deviation) ** 2))
    energy = st.FreeEnergy(lambda x: 0.5 * jnp.sum(x**2), 1.0)
    law, residual, increase = repeated(energy, h, law, 3)
    for _ in range(3):
        mean = mean / (1 + h)
        deviation = (deviation + np.sqrt(deviation**2 + 4 * (1 + h) * h)) / (2 + 2 * h)
    np.testing.assert_allclose(law.mean(), mean, rtol=1e-3)
    np.testing.assert_allclose(np.diag(law.covariance()), deviation**2, rtol=1e-2)
    assert residual <= 1 and increase < 0 and float(law.values.min()) > 0


def test_an_entropy_from_a_box_is_refused_with_what_would_do():
    """A jump is not resolved by any grid: no wrong law is returned, finite volumes run it."""
    grid = st.Grid(-5.0, 5.0, (24, 24))
    inside = jnp.max(jnp.abs(grid.points()), -1) < 1.5
    box = st.Density.normalised(grid, jnp.where(inside, 1.0, 0.0))
    flow = st.Flow(st.FreeEnergy(lambda x: 0.5 * jnp.sum(x**2), 1.0), st.Wasserstein())
    with pytest.raises(NotConverged, match=r"not solved.*FiniteVolume\(step\)"):
        st.solve(flow, box, scheme=st.MinimizingMovement(0.1), steps=1)
    run = st.solve(flow, box, scheme=st.FiniteVolume(0.1), steps=1)
    assert run.ledger.functional[1] < run.ledger.functional[0]
    assert abs(float(run.final.mass) - 1) < 1e-13 and float(run.final.values.min()) > 0


def test_a_potential_alone_moves_every_cell_to_its_proximal_point():
    grid = st.Grid(-5.0, 5.0, (32, 32))
    law = st.Density.from_log(grid, lambda x: -jnp.sum((x - 1.0) ** 2))
    new, _, increase = repeated(BOWL, 0.5, law, 2)
    # x -> x/1.5 twice; sharing out between cells keeps means, but a move that would not pay, less
    # than about a cell near the minimum, is not made: cells of a third by 1e-2 of the mass.
    np.testing.assert_allclose(new.mean(), law.mean() / 2.25, rtol=5e-3)
    assert increase <= 0


def test_the_entropic_step_blurs_by_the_square_of_its_length():
    """With hardly any energy a step only blurs: variance + blur^2 with each."""
    grid, blur = st.Grid(-0.5, 0.5, (40, 40)), 0.05
    law = Barenblatt(2.0).density(grid, 0.2)
    problem = Problem(st.InternalEnergy(2.0), st.Wasserstein(), law, None, 1e-6, 1e-3, 500)
    new, increase, residual, _ = jax.jit(lambda: entropic.minimise(problem, blur))()
    gain = np.diag(new.covariance() - law.covariance()) / blur**2
    np.testing.assert_allclose(gain, 1.0, atol=0.1)
    # Its plan costs more than the energy falls, and the ledger says so.
    assert residual <= 1 and increase > 0


def test_float32_runs_and_keeps_its_type():
    profile, grid = Barenblatt(2.0), st.Grid(-0.5, 0.5, (32, 32))
    start = st.Density(grid, profile.density(grid, 0.33).values.astype(jnp.float32))
    step = profile.time(0.42) - profile.time(0.33)
    law, residual, _ = repeated(st.InternalEnergy(2.0), step, start, 1)
    assert law.values.dtype == jnp.float32 and residual <= 1
    assert distance(law.values, profile.values(grid, profile.moved(0.33, step))) < 1e-2


@pytest.mark.parametrize(
    ("functional", "boundary", "message"),
    [
        (st.InternalEnergy(2.0), "periodic", "periodic axis"),
        (st.InternalEnergy(0.8), "reflecting", "fast diffusion"),
        (PAIR, "reflecting", "internal energy beside it"),
    ],
)
def test_what_the_step_in_a_box_does_not_know_is_refused(functional, boundary, message):
    law = st.Density.uniform(st.Grid(0.0, 1.0, (8, 8), boundary))
    with pytest.raises(ArgumentError, match=message):
        st.solve(
            st.Flow(functional, st.Wasserstein()), law, scheme=st.MinimizingMovement(0.1), steps=1
        )
