"""The driver: chunks, compilation, randomness, divergence, differentiation, files, bad input."""

import dataclasses
import gc
import itertools
import types
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import steepest as st
from steepest import chunks, driver
from steepest.errors import ArgumentError
from steepest.ledger import Totals

KEY = jax.random.key(11)


def quadratic(x):
    return 0.5 * jnp.sum(x**2)


GRADIENT = st.Flow(st.Energy(quadratic), st.Euclidean())
LANGEVIN = st.Flow(st.Energy(quadratic), st.Euclidean(), st.Thermal(1.0))
KINETIC = st.Flow(st.Energy(quadratic), st.Symplectic() + st.Friction(1.0), st.Thermal(1.0))


def ensemble(dtype=jnp.float64, count=8):
    return st.Particles.from_positions(jax.random.normal(jax.random.key(0), (count, 3), dtype))


@pytest.mark.parametrize("save_every", [1, 5, 10, 50])
@pytest.mark.parametrize("chunk_seconds", [1e-9, 10.0])
def test_the_same_run_however_it_is_cut(save_every, chunk_seconds, monkeypatch):
    """Chunks of two steps or of the whole run, saves often or seldom: the same numbers."""
    monkeypatch.setattr(chunks, "CHUNK_SECONDS", chunk_seconds)
    run = st.solve(
        LANGEVIN, ensemble(), scheme=st.Euler(0.05), steps=100, save_every=save_every, key=KEY
    )
    reference = st.solve(LANGEVIN, ensemble(), scheme=st.Euler(0.05), steps=100, key=KEY)
    np.testing.assert_allclose(
        run.states.positions, reference.states.positions[::save_every], rtol=1e-13, atol=1e-13
    )
    np.testing.assert_allclose(run.ledger.dissipated, reference.ledger.dissipated[::save_every])
    np.testing.assert_allclose(run.times, 0.05 * save_every * np.arange(100 // save_every + 1))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_chunks_are_bit_exact(dtype, monkeypatch):
    runs = []
    for seconds in (1e-9, 10.0):
        monkeypatch.setattr(chunks, "CHUNK_SECONDS", seconds)
        runs.append(
            st.solve(
                LANGEVIN, ensemble(dtype), scheme=st.Euler(0.05), steps=400, save_every=40, key=KEY
            )
        )
    np.testing.assert_array_equal(runs[0].states.positions, runs[1].states.positions)
    np.testing.assert_array_equal(runs[0].ledger.functional, runs[1].ledger.functional)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize(
    "scheme", [st.BAOAB(0.1), st.OBABO(0.1), st.Metropolis(st.OBABO(0.1))], ids=lambda s: s.name
)
def test_dtype_is_kept(dtype, scheme):
    start = st.Particles.from_positions(st.Phase.at_rest(ensemble(dtype).positions))
    run = st.solve(KINETIC, start, scheme=scheme, steps=4, key=KEY)
    assert run.final.positions.position.dtype == dtype
    assert run.ledger.functional.dtype == dtype


def test_compiles_once_for_all_chunks_and_not_again(monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK_SECONDS", 1e-9)
    counted = []

    def energy(x):
        counted.append(1)  # runs only while tracing
        return quadratic(x)

    flow = st.Flow(st.Energy(energy), st.Euclidean(), st.Thermal(1.0))
    options = dict(scheme=st.Euler(0.01), steps=600, save_every=100, key=KEY)
    st.solve(flow, ensemble(), **options)
    first = len(counted)
    st.solve(flow, ensemble(), **options)
    assert len(counted) == first
    # Turning a dial or taking another seed does not compile either.
    hotter = st.Flow(st.Energy(energy), st.Euclidean(), st.Thermal(2.0))
    st.solve(hotter, ensemble(), **(options | dict(scheme=st.Euler(0.02), key=jax.random.key(2))))
    assert len(counted) == first


def test_what_was_checked_is_not_checked_again_and_not_kept(monkeypatch):
    """Checks run once for a flow, a scheme and a state, by identity; nothing outlives them."""
    counted = []
    check = st.Euler.check
    monkeypatch.setattr(st.Euler, "check", lambda *a: (counted.append(1), check(*a))[1])
    flow, scheme, start = st.Flow(st.Energy(quadratic), st.Euclidean()), st.Euler(0.1), ensemble()
    first, second = (st.solve(flow, start, scheme=scheme, steps=4) for _ in range(2))
    assert len(counted) == 1
    np.testing.assert_array_equal(first.final.positions, second.final.positions)
    st.solve(flow, ensemble(), scheme=scheme, steps=4)
    assert len(counted) == 2
    # What can be overwritten is looked at each time.
    moving = st.Particles.from_positions(np.ones((8, 3)))
    moving = dataclasses.replace(moving, positions=np.ones((8, 3)))
    st.solve(flow, moving, scheme=scheme, steps=4)
    moving.positions[0] = np.nan
    with pytest.raises(ArgumentError, match="NaN"):
        st.solve(flow, moving, scheme=scheme, steps=4)
    alive = [weakref.ref(x) for x in (flow, scheme, start)]
    del flow, scheme, start, first, second
    gc.collect()
    assert [ref() for ref in alive] == [None] * 3


def test_a_run_carries_only_what_its_flow_writes():
    """Per particle: what a protocol or a proposal never writes is one number in the carry."""
    cloud = st.Particles(jnp.linspace(-1.0, 1.0, 5)[:, None])
    still = st.Energy(lambda x: jnp.sum(x**2))
    pulled = st.Energy(lambda x, t: t * jnp.sum(x**2), time_dependent=True)
    sizes = {}
    for name, energy, scheme in (
        ("plain", still, st.Euler(0.1)),
        ("protocol", pulled, st.Euler(0.1)),
        ("proposals", still, st.Metropolis(st.Euler(0.1))),
    ):
        flow = st.Flow(energy, st.Euclidean(), st.Thermal(1.0)).bind(cloud)
        totals = Totals.start(flow, scheme, cloud, 0.0)
        sizes[name] = totals.dissipated.size, totals.work.size, totals.accepted.size
    assert sizes == {"plain": (5, 1, 1), "protocol": (5, 5, 1), "proposals": (5, 1, 5)}


def test_seeds_differ_and_repeat():
    runs = [
        st.solve(LANGEVIN, ensemble(), scheme=st.Euler(0.1), steps=10, key=jax.random.key(k)).final
        for k in (1, 1, 2)
    ]
    np.testing.assert_array_equal(runs[0].positions, runs[1].positions)
    assert np.abs(runs[0].positions - runs[2].positions).min() > 1e-6


def test_gradient_through_solve_in_functional_and_geometry():
    def final(stiffness, scale):
        flow = st.Flow(
            st.Energy(lambda x: stiffness * quadratic(x)),
            st.Riemannian(lambda x: scale * jnp.eye(2)),
        )
        return jnp.sum(st.solve(flow, jnp.ones(2), scheme=st.Euler(0.1), steps=10).final)

    # x_10 = (1 - 0.1 k/s)^10, differentiated by hand.
    k, s = 1.3, 2.0
    value = 2 * (1 - 0.1 * k / s) ** 10
    slope = 2 * 10 * (1 - 0.1 * k / s) ** 9
    np.testing.assert_allclose(final(k, s), value, rtol=1e-12)
    got = jax.grad(final, argnums=(0, 1))(k, s)
    np.testing.assert_allclose(got, [-0.1 / s * slope, 0.1 * k / s**2 * slope], rtol=1e-12)
    np.testing.assert_allclose(jax.jit(final)(k, s), value, rtol=1e-12)
    np.testing.assert_allclose(
        jax.vmap(lambda a: final(a, s))(jnp.array([k, 1.0])), [value, 2 * 0.95**10], rtol=1e-12
    )


def test_gradient_through_a_noisy_run():
    def spread(temperature):
        flow = st.Flow(st.Energy(quadratic), st.Euclidean(), st.Thermal(temperature))
        run = st.solve(flow, jnp.zeros(4), scheme=st.Euler(0.1), steps=6, key=KEY, save_every=2)
        return jnp.sum(run.final**2)

    # The path is proportional to sqrt(temperature).
    np.testing.assert_allclose(jax.grad(spread)(2.0), spread(2.0) / 2.0, rtol=1e-6)


def test_divergence_keeps_what_is_good():
    flow = st.Flow(st.Energy(lambda x: jnp.sum(x**4)), st.Euclidean())
    with pytest.raises(st.Diverged) as caught:
        st.solve(flow, 2.0 * jnp.ones(2), scheme=st.Euler(0.2), steps=100)
    error = caught.value
    assert "smaller step" in str(error)
    kept = error.trajectory
    assert kept.times[-1] == error.time and np.isfinite(kept.states).all()
    assert np.isfinite(kept.ledger.functional).all() and 1 <= len(kept) < 100


def test_interruption_returns_what_is_done(monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK_SECONDS", 1e-9)
    calls = []

    def update(self, done):
        calls.append(done)
        if len(calls) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(chunks.Progress, "update", update)
    run = st.solve(GRADIENT, jnp.ones(2), scheme=st.Euler(0.001), steps=10**6)
    assert run.interrupted and 2 <= len(run) < 10**6
    assert len(run.times) == len(run.states) == len(run.ledger.functional)


def test_a_budget_of_seconds_ends_a_run_that_a_checkpoint_goes_on_with(monkeypatch, tmp_path):
    """A clock that moves by a second whenever it is read: no chance, and no waiting."""
    now = itertools.count()
    clock = types.SimpleNamespace(monotonic=lambda: next(now), perf_counter=lambda: next(now))
    flow = st.Flow(GRADIENT.functional, GRADIENT.geometry, st.Thermal(0.3))
    options = dict(scheme=st.Euler(0.001), steps=3999, save_every=3, key=jax.random.key(2))
    whole = st.solve(flow, jnp.ones(2), **options)
    monkeypatch.setattr(chunks, "clock", clock)
    monkeypatch.setattr(driver, "clock", clock)
    place = st.Checkpoint(tmp_path, every=1e9)
    cut = st.solve(flow, jnp.ones(2), **options, seconds=5, checkpoint=place)
    assert cut.ending == "out of time" and 1 <= len(cut) < len(whole)
    np.testing.assert_array_equal(cut.states, whole.states[: len(cut)])
    rest = st.solve(flow, jnp.ones(2), **options, checkpoint=place)
    assert not rest.ending
    np.testing.assert_array_equal(rest.states, whole.states)
    np.testing.assert_array_equal(rest.ledger.dissipated, whole.ledger.dissipated)
    with pytest.raises(st.ArgumentError, match="seconds"):
        st.solve(flow, jnp.ones(2), **options, seconds=0.0)


def test_temperature_and_friction_schedules_follow_flow_time():
    optax = pytest.importorskip("optax")
    cooling = optax.linear_schedule(4.0, 0.0, transition_steps=20.0)
    start = st.Particles.from_positions(2.0 * ensemble(count=4000).positions)
    flow = st.Flow(st.Energy(quadratic), st.Euclidean(), st.Thermal(cooling))
    run = st.solve(flow, start, scheme=st.Euler(0.02), time=20.0, save_every=100, key=KEY)
    # d/dt v = -2 v + 2 T(t) with T = 4 - t/5 has v = T + 1/10 after the start is forgotten.
    late = np.asarray(run.states.positions)[5:].var(axis=(1, 2))
    expected = 4.0 - run.times[5:] / 5 + 0.1
    np.testing.assert_allclose(late, expected, rtol=4 * np.sqrt(2 / 12000) + 0.015)
    damping = st.Symplectic() + st.Friction(lambda t: 3.0 / (t + 1.0))
    run = st.solve(
        st.Flow(st.Energy(quadratic), damping),
        st.Phase.at_rest(jnp.ones(2)),
        scheme=st.BAOAB(0.02),
        time=20.0,
        save_every=10,
    )
    assert run.audit().passed


def test_protocol_does_work():
    """A moving trap: E(t) - E(0) = work - heat, with work the sum of dE/dt along the path."""

    def energy(x, t):
        return 0.5 * jnp.sum((x - t) ** 2)

    flow = st.Flow(st.Energy(energy, time_dependent=True), st.Euclidean())
    run = st.solve(flow, jnp.zeros(1), scheme=st.Euler(0.001), time=5.0, save_every=10)
    # x = t - 1 + exp(-t): lag 1 - exp(-t), power = lag.
    np.testing.assert_allclose(run.ledger.work[-1], 5 - 1 + np.exp(-5), rtol=2e-3)
    assert np.abs(run.ledger.closure).max() < 3e-3
    assert run.audit().passed


def test_sum_of_flows_and_composition():
    pull = st.Flow(st.Energy(quadratic), st.Euclidean())
    push = st.Flow(st.Energy(lambda x: -jnp.sum(x)), st.Euclidean())
    both = pull + push
    run = st.solve(both, jnp.zeros(2), scheme=st.Euler(0.01), time=2.0)
    np.testing.assert_allclose(run.final, 1 - np.exp(-2), atol=5e-3)
    assert run.audit().passed
    errors = []
    for h in (0.1, 0.05):
        scheme = st.Composition(st.MinimizingMovement(h), st.Euler(h), symmetric=False)
        final = st.solve(both, jnp.zeros(2), scheme=scheme, time=2.0).final
        errors.append(np.abs(final - (1 - np.exp(-2))).max())
    assert 1.7 < errors[0] / errors[1] < 2.3
    noisy = LANGEVIN + LANGEVIN  # twice the drift, twice the variance of the noise: the same law
    start = st.Particles.normal(jax.random.key(0), 4000, jnp.zeros(1))
    final = st.solve(noisy, start, scheme=st.Euler(0.05), steps=100, key=KEY, save_every=100).final
    assert abs(final.positions.var() - 1 / (1 - 0.05)) < 4 * np.sqrt(2 / 4000) * 1.06


def test_metropolis_is_exact_where_euler_is_biased():
    start = st.Particles.normal(jax.random.key(0), 5000, jnp.zeros(1))
    options = dict(steps=400, save_every=400, key=KEY)
    adjusted = st.solve(LANGEVIN, start, scheme=st.Metropolis(st.Euler(0.5)), **options)
    assert abs(adjusted.final.positions.var() - 1) < 4 * np.sqrt(2 / 5000)
    assert 0.5 < adjusted.ledger.acceptance[-1] < 1
    plain = st.solve(LANGEVIN, start, scheme=st.Euler(0.5), **options)
    assert plain.final.positions.var() > 1.2


def test_round_trip_through_a_file(tmp_path):
    start = st.Particles.from_positions(st.Phase.at_rest({"a": jnp.ones((4, 2)), "b": jnp.ones(4)}))
    flow = st.Flow(
        st.Energy(lambda q: quadratic(q["a"]) + quadratic(q["b"])),
        st.Symplectic() + st.Friction(1.0),
        st.Thermal(1.0),
    )
    run = st.solve(flow, start, scheme=st.BAOAB(0.1), steps=10, key=KEY)
    path = run.save(tmp_path / "run")
    back = st.Trajectory.load(path)
    assert jax.tree.structure(back.states) == jax.tree.structure(run.states)
    for a, b in zip(jax.tree.leaves(back.states), jax.tree.leaves(run.states), strict=True):
        np.testing.assert_array_equal(a, b)
    for name, column in run.ledger.columns().items():
        np.testing.assert_array_equal(back.ledger.columns()[name], column)
    assert back.row == run.row
    with pytest.raises(st.ArgumentError, match="flow"):
        back.audit()
    bad = tmp_path / "bad.npz"
    bad.write_bytes(b"not a zip")
    with pytest.raises(st.ArgumentError, match="not a saved trajectory"):
        st.Trajectory.load(bad)
    with pytest.raises(st.ArgumentError, match="does not exist"):
        st.Trajectory.load(tmp_path / "none.npz")
    with pytest.raises(st.ArgumentError, match="cannot be written"):
        run.save(bad / "run")  # a file is no folder
    assert not list(tmp_path.glob("*.partial"))


def test_exports_and_figure(tmp_path):
    run = st.solve(LANGEVIN, ensemble(), scheme=st.Euler(0.1), steps=20, key=KEY)
    data = run.to_xarray()
    assert data["theta"].dims == ("chain", "time", "theta_dim_0")
    assert data.sizes["chain"] == 8 and data.sizes["time"] == 21
    draws = run.to_arviz(warmup=1)
    assert draws.posterior["theta"].shape == (8, 20, 3)
    assert "ledger" in draws.groups()
    run.plot(tmp_path / "ledger.png")
    assert (tmp_path / "ledger.png").stat().st_size > 1000


def test_a_flow_prints_itself_as_one_row():
    text = str(KINETIC)
    for part in ("(q, p)", "Symplectic + Friction(1)", "thermal(T=1)", "exp(-(", "free energy"):
        assert part in text
    assert "conserves: H" in str(st.Flow(st.Energy(quadratic), st.Symplectic()))
    assert "critical points" in str(GRADIENT)
    assert "\n" not in text


BAD = [
    (dict(state=jnp.array([1.0, jnp.nan])), "state: got NaN"),
    (dict(state=jnp.array([jnp.inf, 0.0])), "state: got NaN or infinite"),
    (dict(state={}), "no arrays"),
    (dict(state=jnp.ones(2) * 1j), "complex"),
    (dict(state="abc"), "state"),
    (dict(steps=0), "steps"),
    (dict(steps=None), "exactly one"),
    (dict(steps=10, time=1.0), "exactly one"),
    (dict(steps=None, time=0.25), "not a multiple of step"),
    (dict(steps=None, time=-1.0), "positive"),
    (dict(save_every=3), "divide"),
    (dict(save_every=0), "save_every"),
    (dict(ledger="never"), "ledger"),
    (dict(flow="flow"), "flow"),
    (dict(scheme="euler"), "scheme"),
    (dict(flow=LANGEVIN), "pass key=jax.random.key"),
    (dict(flow=KINETIC, key=KEY), "Phase"),
    (dict(scheme=st.BAOAB(0.1)), "not kinetic"),
    (dict(flow=LANGEVIN, key=KEY, scheme=st.RungeKutta(), steps=None, time=1.0), "noisy"),
    (dict(flow=LANGEVIN, key=KEY, scheme=st.MinimizingMovement(0.1)), "without noise"),
    (dict(flow=GRADIENT, scheme=st.Metropolis(st.Euler(0.1))), "Thermal"),
    (dict(scheme=st.RungeKutta(), steps=None), "give time"),
    (dict(flow=st.Flow(st.Energy(lambda x: x), st.Euclidean())), "scalar"),
    (
        dict(flow=st.Flow(st.Energy(lambda x: jnp.log(-jnp.sum(x))), st.Euclidean())),
        "initial state",
    ),
    (dict(flow=st.Flow(st.Energy(quadratic), st.Riemannian(lambda x: -jnp.eye(2)))), "definite"),
    (
        dict(
            flow=st.Flow(
                st.Energy(quadratic), st.Riemannian(lambda x: jnp.ones((2, 2)).at[0, 1].set(0.0))
            )
        ),
        "symmetric",
    ),
    (dict(flow=st.Flow(st.Energy(quadratic), st.Riemannian(lambda x: jnp.eye(3)))), "shape"),
    (dict(flow=st.Flow(st.ExpectedEnergy(st.Energy(quadratic)), st.Wasserstein())), "Particles"),
]


@pytest.mark.parametrize("change, message", BAD, ids=[message for _, message in BAD])
def test_bad_input_is_refused_at_once(change, message):
    options = dict(flow=GRADIENT, state=jnp.ones(2), scheme=st.Euler(0.1), steps=10) | change
    flow, state = options.pop("flow"), options.pop("state")
    with pytest.raises(st.ArgumentError, match=message):
        st.solve(flow, state, **options)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: st.Thermal(-1.0), "temperature"),
        (lambda: st.Thermal(float("nan")), "temperature"),
        (lambda: st.Thermal(1.0, "gauss"), "increments"),
        (lambda: st.Friction(-0.1), "gamma"),
        (lambda: st.Euler(0.0), "step"),
        (lambda: st.Euler(-0.1), "step"),
        (lambda: st.BAOAB(float("inf")), "step"),
        (lambda: st.Splitting(0.1, "AXB"), "word"),
        (lambda: st.RungeKutta("rk99"), "solver"),
        (lambda: st.Diffusion(), "sigma"),
        (lambda: -1.0 * st.Euclidean(), "factor"),
        (lambda: st.Symplectic() + st.Euclidean(), "same kind"),
        (lambda: st.Flow(st.Energy(quadratic), st.Symplectic(), st.Thermal(1.0)), "friction"),
        (lambda: st.Flow(st.Energy(quadratic), st.Euclidean(), st.Minibatch()), "batch_size"),
        (lambda: st.Flow(st.Energy(quadratic), "flat"), "geometry"),
        (lambda: st.Flow(3.0, st.Euclidean()), "functional"),
        (lambda: st.Energy(3.0), "fn"),
        (lambda: st.Thermal(1.0) + st.Thermal(2.0), "one noise of each kind"),
        (lambda: st.Phase(jnp.ones(2), jnp.ones(3)), "momentum"),
        (lambda: st.Particles({"a": jnp.ones(2), "b": jnp.ones(3)}), "positions"),
    ],
)
def test_bad_ingredients_are_refused_at_construction(make, message):
    with pytest.raises(st.ArgumentError, match=message):
        make()


def test_heavy_and_light_coordinates_have_their_own_momentum_spread():
    """Masses as an array: Var p_i = m_i T, and the position law does not see them."""
    mass = jnp.array([0.5, 1.0, 4.0])
    flow = st.Flow(
        st.Hamiltonian(st.Energy(quadratic), mass),
        st.Symplectic() + st.Friction(1.0),
        st.Thermal(0.7),
    )
    start = st.Particles.from_positions(st.Phase.at_rest(ensemble(count=4000).positions))
    run = st.solve(flow, start, scheme=st.BAOAB(0.1), steps=400, save_every=400, key=KEY)
    p, q = run.final.positions.momentum, run.final.positions.position
    error = 4 * np.sqrt(2 / 4000)
    # BAOAB's own bias of the momenta is step^2/(4 m), at most half a percent here.
    np.testing.assert_allclose(p.var(axis=0) / (0.7 * mass), 1.0, atol=error + 0.005)
    np.testing.assert_allclose(q.var(axis=0) / 0.7, 1.0, atol=error)
