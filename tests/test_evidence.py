"""log Z from both sides, annealing and its certificate, Jarzynski's equality, convexity."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

import steepest as st
from steepest.errors import ArgumentError
from steepest.functionals import Interpolation
from steepest.inference import Target, fit, log_evidence
from steepest.inference.annealing import island_errors
from steepest.inference.bridge import Protocol, Sweep
from steepest.inference.convexity import convexity_bound, lowest_curvature, strong_convexity
from steepest.inference.evidence import bennett, thermodynamic
from steepest.inference.reference import find_reference, systematic
from steepest.problems.generalised_linear import (
    GeneralisedLinear,
    logistic_loss,
    poisson_loss,
)

SHARE = 0.8 / (0.8 + 0.2 * 0.5**1.5)


def gaussian():
    """In 5 dimensions, condition 40; log Z in closed form."""
    turn, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((5, 5)))
    hessian = turn @ np.diag(np.geomspace(0.5, 20.0, 5)) @ turn.T
    h = jnp.asarray(hessian, jnp.float32)
    exact = 1.5 + 2.5 * math.log(2 * math.pi) - 0.5 * np.linalg.slogdet(hessian)[1]
    return Target.of(lambda x: 0.5 * (x - 1.0) @ h @ (x - 1.0) - 1.5, jnp.zeros(5)), exact


def mixture():
    """Two modes 8 apart in 3 dimensions, masses 0.92 and 0.08, variances 1 and 1/2."""
    c = 4.0 / math.sqrt(3.0)

    def energy(x):
        one = jnp.log(0.8) - 0.5 * jnp.sum((x - c) ** 2)
        return -jnp.logaddexp(one, jnp.log(0.2) - jnp.sum((x + c) ** 2))

    exact = math.log((0.8 + 0.2 * 0.5**1.5) * (2 * math.pi) ** 1.5)
    return Target.of(energy, jnp.ones(3)), exact


def conjugate():
    """Linear regression with a normal prior: log Z is the density of the data."""
    random = np.random.default_rng(1)
    x, sigma, scale = random.standard_normal((30, 3)), 0.7, 2.0
    y = x @ np.array([1.0, -1.0, 0.5]) + sigma * random.standard_normal(30)
    a, b = jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32)
    constant = 15 * math.log(2 * math.pi * sigma**2) + 1.5 * math.log(2 * math.pi * scale**2)

    def energy(w):
        rest = jnp.sum((b - a @ w) ** 2) / (2 * sigma**2)
        return rest + jnp.sum(w**2) / (2 * scale**2) + constant

    covariance = sigma**2 * np.eye(30) + scale**2 * x @ x.T
    exact = stats.multivariate_normal(np.zeros(30), covariance).logpdf(y)
    return Target.of(energy, jnp.zeros(3, jnp.float32)), float(exact)


@pytest.fixture(scope="module")
def targets():
    return {"gaussian": gaussian(), "mixture": mixture(), "conjugate": conjugate()}


@pytest.fixture(scope="module")
def references(targets):
    """Found once for each target: the search is tested by itself."""
    return {name: find_reference(target, 0, 1000).law for name, (target, _) in targets.items()}


@pytest.mark.parametrize("name", ["gaussian", "mixture", "conjugate"])
def test_bracket_contains_log_z_and_narrows(targets, references, name):
    target, exact = targets[name]

    def evidence(budget, i):
        return log_evidence(target, budget, reference=references[name], key=jax.random.key(i))

    found = [evidence(2500, i) for i in range(15)]
    inside = sum(one.lower <= exact <= one.upper for one in found)
    # At 95 % three or more misses of 15 have probability 0.036; these bounds are of 99 %.
    assert inside >= 13
    # It is a bracket of log Z, not of anything near it.
    assert all(not one.lower <= exact + 1.0 <= one.upper for one in found)
    assert all(not one.lower <= exact - 1.0 <= one.upper for one in found)
    assert all(one.gradients <= 2500 for one in found)
    assert all(s.held for one in found for s in one.statements if s.name == "order of the bounds")
    more = [evidence(20_000, i) for i in range(3)]
    # The gap falls like 1 / sqrt(budget): by 2.8 here.
    assert np.mean([one.gap for one in more]) < 0.6 * np.mean([one.gap for one in found])
    # Standard errors are right within a factor of 2: chi-squared of 15 lies in (4.6, 32.8) at 99 %.
    for estimate, error in (
        ("estimate", "standard_error"),
        ("thermodynamic", "thermodynamic_error"),
    ):
        z = [(getattr(one, estimate) - exact) / getattr(one, error) for one in found]
        assert 2.0 < np.sum(np.square(z)) < 60.0


def test_draws_that_are_not_of_the_target_are_seen(targets, references):
    target, exact = targets["gaussian"]
    law = references["gaussian"]
    hessian = np.asarray(jax.hessian(target)(target.start), float)
    factor = np.linalg.inv(np.linalg.cholesky(hessian)).T
    white = np.random.default_rng(2).standard_normal((16, 300, 5)) @ factor.T
    right = log_evidence(target, 2500, draws=1.0 + white, reference=law)
    assert right.lower <= exact <= right.upper and all(s.held for s in right.statements)
    wrong = log_evidence(target, 2500, draws=1.0 + 0.6 * white, reference=law)
    assert abs(wrong.estimate - exact) > 0.2
    assert not next(s for s in wrong.statements if s.name == "estimates apart").held


def test_log_evidence_refuses_what_it_cannot_use(targets):
    target, _ = targets["gaussian"]
    with pytest.raises(ArgumentError, match="budget"):
        log_evidence(target, 50)
    with pytest.raises(ArgumentError, match="did not reach"):
        log_evidence(lambda x: jnp.sum(jnp.cosh(x) ** 2), 100, start=jnp.ones(20))
    with pytest.raises(ArgumentError, match="draws"):
        log_evidence(target, 5000, draws=np.zeros((4, 5)))
    with pytest.raises(ArgumentError, match="reference"):
        log_evidence(target, 5000, reference=st.Gaussian.standard(2))
    with pytest.raises(ArgumentError, match="islands"):
        log_evidence(target, 5000, islands=1)


def test_bennett_and_thermodynamic_integration_on_exact_draws():
    """From N(0, 1) to exp(-x^2 (1 + 8 s) / 2) through five levels: log Z_1/Z_0 = -log 3."""
    random = np.random.default_rng(3)
    shares = np.array([0.0, 0.05, 0.15, 0.35, 0.6, 1.0])
    draw = lambda s: random.standard_normal((4, 20_000)) / np.sqrt(1 + 8 * s)  # noqa: E731
    gaps = [[4.0 * draw(s) ** 2 for s in shares] for _ in range(2)]
    none = np.zeros(0)
    one, other = (
        Sweep(none, list(g), np.zeros((4, 1, 1)), np.zeros((4, 1)), none, none, none) for g in gaps
    )
    protocol = Protocol(shares, [], none)
    found = bennett(one, other, protocol)
    assert abs(found.mean() + math.log(3)) < 4 * stats.sem(found) + 1e-4
    line = thermodynamic(one, other, protocol)
    # The corrected trapezoidal rule: its error is that of -sum over the exact means, computed here.
    f, slope, h = -4 / (1 + 8 * shares), 32 / (1 + 8 * shares) ** 2, np.diff(shares)
    rule = np.sum(h / 2 * (f[1:] + f[:-1]) - h**2 / 12 * np.diff(slope))
    assert abs(line.mean() - rule) < 4 * stats.sem(line) + 1e-4
    assert abs(rule + math.log(3)) < 0.02


def test_systematic_resampling_gives_every_index_its_share():
    random = np.random.default_rng(4)
    weights = random.exponential(size=(3, 7))
    counts = np.stack(
        [
            [np.bincount(row, minlength=7) for row in systematic(weights, 20, random)]
            for _ in range(400)
        ]
    )
    due = 20 * weights / weights.sum(axis=1, keepdims=True)
    assert np.all(np.abs(counts - due) < 1.0)
    # Each is floor or ceil, of variance at most 1/4: the mean of 400 is within 5 sigma.
    assert np.max(np.abs(counts.mean(axis=0) - due)) < 5 * 0.5 / 20


def test_reference_covers_both_modes(targets):
    target, _ = targets["mixture"]
    found = find_reference(target, 0, 1000)
    means = np.asarray(found.law.means)
    assert found.gradients <= 1000 and len(means) == 2
    assert np.allclose(np.sort(means[:, 0]), [-4 / math.sqrt(3), 4 / math.sqrt(3)], atol=0.05)
    drawn = found.sample(np.random.default_rng(0), 2, 500)
    labels = found.label(drawn.reshape(-1, 3))
    side = drawn.reshape(-1, 3).sum(axis=1) > 0
    assert np.mean((labels == labels[0]) == (side == side[0])) > 0.99
    single = find_reference(gaussian()[0], 0, 500)
    assert isinstance(single.law, st.Gaussian)
    assert np.allclose(single.law.mean, 1.0, atol=0.02)


def test_masses_of_two_modes_are_right_within_the_certified_bound(targets):
    target, exact = targets["mixture"]
    c = 4 / math.sqrt(3)
    mean = c * (2 * SHARE - 1)
    sd = math.sqrt(SHARE * 1.0 + (1 - SHARE) * 0.5 + c**2 - mean**2)
    misses, bounds = 0, []
    for i in range(6):
        answer = fit(target, "annealing", 12_000, key=jax.random.key(i))
        certificate = answer.certificate
        found = np.mean(answer.draws[..., 0] > 0)
        # The mean moves by 2 c / sd for every share of mass.
        assert abs(found - SHARE) <= certificate.mean * sd / (2 * c) + 3 * certificate.mean * sd
        misses += np.max(np.abs(answer.mean - mean)) / sd > certificate.mean
        misses += np.max(np.abs(answer.sd / sd - 1)) > certificate.sd
        bounds.append(certificate.mean)
        assert answer.gradients <= 12_000
        assert answer.log_evidence[0] <= exact + 0.05 and answer.log_evidence[1] >= exact - 0.05
    # At 95 % three or more misses of 12 have probability 0.02, and bounds are joint over both.
    assert misses <= 2
    assert np.median(bounds) < 0.25
    assert "modes" in certificate and certificate["modes"].held is None
    ledger = answer.ledger
    assert ledger is not None and ledger.times[-1] == 1.0
    assert np.max(np.abs(ledger.closure)) < 1.0


def test_annealing_says_when_the_budget_is_too_small(targets):
    energy = lambda x: jnp.sum(jnp.cosh(x) ** 2)  # noqa: E731
    answer = fit(energy, "annealing", 100, start=jnp.ones(20))
    assert not answer.certificate.certified and "do not lead" in answer.certificate.verdict


def test_errors_by_islands():
    """Islands of one shifted mean each: the bound is Student's t of their spread."""
    random = np.random.default_rng(5)
    covered = 0
    for _ in range(200):
        shift = 0.3 * random.standard_normal((8, 1, 2))
        draws = shift + random.standard_normal((8, 400, 2))
        mean, _, spread, expected = island_errors(draws, np.zeros(8))
        covered += np.max(np.abs(draws.mean(axis=(0, 1)))) / math.sqrt(1.09) <= mean
        assert expected == pytest.approx(0.05) and spread > 0.05
    # At 97.5 % (half of the risk is for sds) at least 187 of 200 but for 1 in 1000.
    assert covered >= 187
    # An island that carries all the weight moves the answer: the bound knows.
    draws = random.standard_normal((8, 400, 1))
    draws[0] += 1.0
    even = island_errors(draws, np.zeros(8))[0]
    assert island_errors(draws, np.array([9.0] + [0.0] * 7))[0] > even + 0.5


def test_chains_shared_out_evenly_count_as_if_drawn_one_by_one():
    """Two modes, 12 chains an island: eleven or, rarely, ten of them are in the first.

    E[10.96/12] is the truth; where no island has ten there is no spread, and an error of half an
    sd of one chain's share. Without `chains` 30 % of the bounds are too small.
    """
    random = np.random.default_rng(3)
    share, covered = 0.913, []
    for chains in (12, 1):
        inside = 0
        for _ in range(100):
            many = np.where(random.random(16) < 12 * share - 10.0, 11, 10)
            sign = np.where(np.arange(12) < many[:, None], 1.0, -1.0)
            draws = np.repeat(sign, 50, axis=1)[..., None] + 0.1 * random.standard_normal(
                (16, 600, 1)
            )
            bound = island_errors(draws, np.zeros(16), chains)[0]
            error = abs(draws.mean() - (2.0 * share - 1.0)) / draws.std()
            inside += error <= bound
        covered.append(inside)
    assert covered[0] == 100 and covered[1] < 90


@pytest.fixture(scope="module")
def pulled():
    """2000 walkers from N(0, 1) to precisions (4, 1, 9) around 1, in two units of time."""
    first = st.Energy(lambda x: 0.5 * jnp.sum(x**2))
    wide = jnp.array([4.0, 1.0, 9.0])
    path = Interpolation(
        first, st.Energy(lambda x: 0.5 * jnp.sum(wide * (x - 1) ** 2)), lambda t: 0.5 * t
    )
    start = st.Particles.normal(jax.random.key(0), 2000, jnp.zeros(3))
    flow = st.Flow(path, st.Euclidean(), st.Thermal(1.0))
    scheme = st.Metropolis(st.Euler(0.05))
    options = {"steps": 40, "save_every": 20, "key": jax.random.key(1)}
    kinetic = st.Flow(path, st.Symplectic() + st.Friction(2.0), st.Thermal(1.0))
    momentum = jax.random.normal(jax.random.key(2), (2000, 3))
    phase = st.Particles(st.Phase(start.positions, momentum))
    return (
        st.solve(flow, start, scheme=scheme, **options),
        st.solve(kinetic, phase, scheme=st.Metropolis(st.OBABO(0.05)), **options),
    )


@pytest.mark.parametrize("which", [0, 1])
def test_jarzynski_gives_the_free_energy_and_the_audit_checks_it(pulled, which):
    run = pulled[which]
    works = run.ledger.works
    assert works.shape == (3, 2000)
    assert np.allclose(works.mean(axis=1), run.ledger.work, rtol=1e-5)
    weights = np.exp(-works[-1])
    error = weights.std() / weights.mean() / math.sqrt(2000)
    assert abs(run.ledger.free_energy_change()[-1] - math.log(6)) < 4 * error
    assert run.ledger.work[-1] > math.log(6) + 0.1  # the second law, and it is far from quasistatic
    check = next(c for c in run.audit().checks if c.name == "Jarzynski's equality")
    assert check.passed
    idle = dataclasses.replace(run.ledger, works=np.zeros_like(works))
    broken = dataclasses.replace(run, ledger=idle).audit()
    assert next(c for c in broken.checks if c.name == "Jarzynski's equality").passed is False


def test_metropolis_under_a_protocol_closes_its_books(pulled):
    ledger = pulled[0].ledger
    # Work at the switch and heat at the move are differences of the same energies.
    assert np.max(np.abs(ledger.closure)) < 1e-5 * np.max(np.abs(ledger.work))
    assert "work_error" in ledger.columns() and "works" not in ledger.columns()
    assert pulled[0].tail(1).ledger.works.shape == (2, 2000)


def test_convexity_bounds_hold_by_quadrature():
    random = np.random.default_rng(0)
    a = random.standard_normal((20, 2))
    y = np.sign(random.standard_normal(20) + a[:, 0])
    scale = jnp.array([1.0, 0.5])
    model = GeneralisedLinear(
        jnp.asarray(a, jnp.float32), jnp.asarray(y, jnp.float32), scale, logistic_loss
    )
    target = Target.of(st.Energy(model), jnp.zeros(2))
    curvature = strong_convexity(target)
    assert curvature is not None and np.allclose(curvature, [1.0, 4.0])
    grid = np.linspace(-5, 6, 221)
    x = np.stack(np.meshgrid(grid, grid, indexing="ij"), -1).reshape(-1, 2)
    cell = (grid[1] - grid[0]) ** 2
    energy = np.asarray(jax.vmap(target)(jnp.asarray(x, jnp.float32)), float)
    log_z = special.logsumexp(-energy) + math.log(cell)
    pi = np.exp(-energy - log_z) * cell
    mean = pi @ x
    sd = np.sqrt(pi @ (x - mean) ** 2)
    for shift in (0.0, 0.4):
        law = st.Gaussian(jnp.asarray(mean + shift), jnp.asarray(sd * (1 + shift)))
        log_q = np.asarray(law.log_prob(jnp.asarray(x, jnp.float32)), float)
        q = np.exp(log_q) * cell
        kl = float(q @ (log_q + energy + log_z))
        gap = jax.vmap(jax.grad(lambda z, law=law: law.log_prob(z) + target(z)))
        bound = convexity_bound(target, gap(law.sample(jax.random.key(0), 512)))
        assert bound is not None and 0 < kl <= bound.kl
        # By the information itself: 512 draws know it to their standard error.
        slope = np.asarray(gap(jnp.asarray(x, jnp.float32)), float)
        exact = 0.5 * float(q @ np.sum(slope**2 / curvature, axis=1))
        assert abs(bound.kl - exact) < 6 * bound.statement.floor
        assert np.all(np.abs(np.asarray(law.mean) - mean) <= bound.mean)
        assert np.all(np.abs(sd * (1 + shift) - sd) <= bound.sd)
    points = jnp.asarray(x[::3000], jnp.float32)
    assert lowest_curvature(target, points) >= 1.0


def test_convexity_is_claimed_only_where_the_structure_proves_it():
    design, response = jnp.ones((4, 2)), jnp.ones(4)
    heavy = lambda eta, y: jnp.log1p((eta - y) ** 2)  # noqa: E731

    def convex(scale, loss):
        model = GeneralisedLinear(design, response, jnp.asarray(scale), loss)
        return strong_convexity(Target.of(st.Energy(model), jnp.zeros(2)))

    assert np.allclose(convex([2.0, 1.0], poisson_loss), [0.25, 1.0])
    assert convex([1.0, 1.0], heavy) is None
    heavy.__name__ = "logistic_loss"
    assert convex([1.0, 1.0], heavy) is None
    assert convex([1.0, jnp.inf], logistic_loss) is None
    plain = Target.of(lambda x: jnp.sum(x**2), jnp.zeros(2))
    assert strong_convexity(plain) is None
    assert convexity_bound(plain, np.zeros((9, 2))) is None
