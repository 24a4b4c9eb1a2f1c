"""Geometries as optax transformations: against optax's own, closed forms, and a ledger."""

import types

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optax import contrib

import steepest as st
from steepest import chunks, driver
from steepest.optimizers import comparison, friction_of

RATE = 1e-3
PARAMETERS = {
    "w": jax.random.normal(jax.random.key(0), (5, 4)),
    "b": jax.random.normal(jax.random.key(1), (4,)),
}
MATRIX = {"w": PARAMETERS["w"]}
DECAY = 0.9


def loss(p):
    return jnp.sum((p["w"] @ jnp.arange(4.0)) ** 2) + sum(jnp.sum(x**4) for x in jax.tree.leaves(p))


def trained(transform, parameters=PARAMETERS, steps=6, function=loss, **extra):
    transform = optax.with_extra_args_support(transform)
    state = transform.init(parameters)
    for _ in range(steps):
        gradient = jax.grad(function)(parameters)
        updates, state = transform.update(gradient, state, parameters, **extra)
        parameters = optax.apply_updates(parameters, updates)
    return parameters


def trained_long(transform, parameters, steps, function):
    """The same, compiled as one loop."""

    def step(_, carry):
        parameters, state = carry
        updates, state = transform.update(jax.grad(function)(parameters), state, parameters)
        return optax.apply_updates(parameters, updates), state

    start = parameters, transform.init(parameters)
    return jax.jit(lambda carry: jax.lax.fori_loop(0, steps, step, carry))(start)[0]


def gap(a, b):
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return max(float(jnp.max(jnp.abs(x - y))) for x, y in pairs)


FRICTION = friction_of(DECAY, RATE)
TWINS = {
    "sgd": (st.as_optax(st.Euclidean(), RATE), optax.sgd(RATE), 0.0),
    "heavy ball": (
        st.as_optax(st.Euclidean(), RATE, friction=FRICTION),
        optax.sgd(RATE, momentum=DECAY),
        1e-15,
    ),
    "nesterov": (
        st.as_optax(st.Euclidean(), RATE, friction=FRICTION, nesterov=True),
        optax.sgd(RATE, momentum=DECAY, nesterov=True),
        1e-15,
    ),
    "sign": (st.as_optax(st.Norm("sup", unit=True), RATE), optax.sign_sgd(RATE), 0.0),
    "rmsprop": (
        st.as_optax(st.Diagonal(st.SecondMoment(10.0, unbiased=False)), RATE),
        optax.rmsprop(RATE, decay=0.9, eps=1e-8, eps_in_sqrt=False),
        1e-15,
    ),
    "adam": (
        st.as_optax(st.Diagonal(st.SecondMoment(1000.0)), RATE, friction=FRICTION, average=True),
        optax.adam(RATE),
        1e-14,
    ),
    "nadam": (
        st.as_optax(
            st.Diagonal(st.SecondMoment(1000.0)),
            RATE,
            friction=FRICTION,
            average=True,
            nesterov=True,
        ),
        optax.nadam(RATE),
        1e-14,
    ),
    "a schedule": (
        st.as_optax(st.Euclidean(), optax.linear_schedule(RATE, 0.0, 6)),
        optax.sgd(optax.linear_schedule(RATE, 0.0, 6)),
        0.0,
    ),
}


@pytest.mark.parametrize("name", TWINS)
def test_optaxs_own_are_points_of_the_space(name):
    """Bit for bit, or to a rounding of exp(-gamma h) against the decay."""
    ours, theirs, tolerance = TWINS[name]
    assert gap(trained(theirs), PARAMETERS) > 1e-4
    assert gap(trained(ours), trained(theirs)) <= tolerance


def test_sgd_is_bit_for_bit_in_float32_too():
    single = jax.tree.map(lambda x: x.astype(jnp.float32), PARAMETERS)
    ours = trained(st.as_optax(st.Euclidean(), 0.01), single)
    assert gap(ours, trained(optax.sgd(0.01), single)) == 0.0
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(ours))


@pytest.mark.parametrize("nesterov", [False, True])
def test_orthogonalised_momentum_is_muon(nesterov):
    """Five quintic steps amplify a rounding by 3.44^5 = 500 at most: 1e-12 of updates of size 1."""
    ours = st.as_optax(
        st.Norm("spectral", unit=True, iterations=5),
        RATE,
        friction=friction_of(0.95, RATE),
        nesterov=nesterov,
        average=nesterov,
    )
    theirs = contrib.muon(RATE, nesterov=nesterov)
    expected = trained_long(theirs, MATRIX, 6, loss)
    assert gap(trained_long(ours, MATRIX, 6, loss), expected) < 1e-12
    assert gap(expected, MATRIX) > 1e-3


def test_mirror_descent_on_the_simplex_is_exponentiated_gradient():
    c, rate = jnp.array([1.0, 2.0, 300.0]), 0.3
    transform = st.as_optax(st.Bregman("simplex"), rate)
    x = jnp.array([0.2, 0.3, 0.5])
    state = transform.init(x)
    expected = x
    for _ in range(200):
        updates, state = transform.update(c, state, x)
        x = optax.apply_updates(x, updates)
        expected = expected * jnp.exp(-rate * (c - c.min()))
        expected = expected / expected.sum()
        np.testing.assert_allclose(x, expected, atol=1e-14)
        np.testing.assert_allclose(x.sum(), 1.0, atol=1e-13)
        assert float(x.min()) >= 0.0


def test_parts_have_their_own_geometry():
    """Stiefel beside Euclidean: the frame stays a frame, the rest is plain descent."""
    frame = st.Stiefel().random(jax.random.key(2), (5, 2))
    parameters = {"frame": frame, "rest": {"b": jnp.ones(3), "c": jnp.ones(2)}}
    target = jax.random.normal(jax.random.key(3), (5, 2))

    def function(p):
        return -jnp.vdot(p["frame"], target) + sum(jnp.sum(x**2) for x in p["rest"].values())

    transform = st.as_optax({"frame": st.Stiefel(), "rest": st.Euclidean()}, 0.1)
    found = trained_long(transform, parameters, 100, function)
    np.testing.assert_allclose(found["frame"].T @ found["frame"], np.eye(2), atol=1e-12)
    u, _, vt = np.linalg.svd(np.asarray(target), full_matrices=False)
    np.testing.assert_allclose(found["frame"], u @ vt, atol=1e-3)
    np.testing.assert_allclose(found["rest"]["b"], 0.8**100, rtol=1e-6)
    with pytest.raises(st.ArgumentError, match="prefix"):
        st.as_optax({"frame": st.Stiefel(), "more": st.Euclidean()}, 0.1).init(parameters)


def test_it_composes_with_chain_masks_and_injected_hyperparameters():
    clipped = optax.chain(optax.clip_by_global_norm(0.1), st.as_optax(st.Euclidean(), 1.0))
    moved = trained(clipped, steps=1)
    step = jnp.sqrt(sum(jnp.sum((moved[k] - PARAMETERS[k]) ** 2) for k in PARAMETERS))
    np.testing.assert_allclose(step, 0.1, rtol=1e-6)
    masked = optax.masked(st.as_optax(st.Euclidean(), 0.1), {"w": True, "b": False})
    state = masked.init(PARAMETERS)
    updates, _ = masked.update(PARAMETERS, state, PARAMETERS)
    np.testing.assert_allclose(updates["w"], -0.1 * PARAMETERS["w"])
    np.testing.assert_allclose(updates["b"], PARAMETERS["b"])
    make = optax.inject_hyperparams(
        lambda learning_rate: st.as_optax(st.Euclidean(), learning_rate)
    )
    transform = make(learning_rate=0.5)
    state = transform.init(MATRIX)
    state.hyperparams["learning_rate"] = 0.25
    updates, _ = transform.update(MATRIX, state, MATRIX)
    np.testing.assert_allclose(updates["w"], -0.25 * MATRIX["w"])

    @eqx.filter_jit
    def step_of(parameters, state):
        gradient = jax.grad(loss)(parameters)
        return st.as_optax(st.Norm("sup"), 0.01).update(gradient, state, parameters)

    step_of(PARAMETERS, st.as_optax(st.Norm("sup"), 0.01).init(PARAMETERS))


def test_nesterovs_friction_is_faster_than_none():
    """gamma = 3/t on curvatures from 1 to 1e-4: E(t) <= 2 |x0|^2 / t^2; descent is slower."""
    scale = jnp.array([1.0, 1e-2, 1e-4])
    function = lambda x: 0.5 * jnp.sum(scale * x**2)  # noqa: E731
    start, rate = jnp.ones(3), 0.3
    friction = lambda t: 3.0 / jnp.maximum(t, 1e-9)  # noqa: E731
    accelerated = st.as_optax(st.Euclidean(), rate, friction=friction)
    for steps in (50, 200, 800):
        fast = float(function(trained_long(accelerated, start, steps, function)))
        assert fast <= 2.0 * 3.0 / (steps**2 * rate)
    slow = trained_long(st.as_optax(st.Euclidean(), rate), start, steps, function)
    assert fast < 0.01 * float(function(slow))


def test_a_step_with_friction_contracts_the_symplectic_form_by_exp_minus_gamma_h():
    """M^T J M = exp(-gamma h) J of the map (theta, p), h = sqrt(rate): conformal symplectic."""
    rate, gamma, dimension = 0.04, 0.7, 3
    h = rate**0.5
    transform = st.as_optax(st.Euclidean(), rate, friction=gamma)
    function = lambda x: jnp.sum(jnp.cosh(x)) + x[0] * x[1]  # noqa: E731

    def step(z):
        theta, p = z[:dimension], z[dimension:]
        state = transform.init(theta)._replace(momentum=-p / h)
        updates, state = transform.update(jax.grad(function)(theta), state, theta)
        return jnp.concatenate([theta + updates, -h * state.momentum])

    m = jax.jit(jax.jacfwd(step))(jnp.array([0.3, -0.5, 0.8, 1.0, 0.2, -0.4]))
    unit, zero = jnp.eye(dimension), jnp.zeros((dimension, dimension))
    form = jnp.block([[zero, unit], [-unit, zero]])
    np.testing.assert_allclose(m.T @ form @ m, jnp.exp(-gamma * h) * form, atol=1e-14)


def test_noise_gives_the_gibbs_law():
    """Variance of Langevin and of kinetic Langevin on a unit quadratic at T = 0.5.

    Euler at rate h: T/(1 - h/2) exactly. The kinetic step (symplectic Euler with an exact O) errs
    by O(h) of sqrt(rate) = 0.1: 5 %. Monte-Carlo: 4000 chains, 2.2 % of a variance; 4 of them.
    """
    temperature, rate, count = 0.5, 0.01, 4000

    def variance(transform, steps):
        x = jnp.zeros(count)
        state = transform.init(x)

        def body(carry, _):
            x, state = carry
            updates, state = transform.update(x, state, x)
            return (optax.apply_updates(x, updates), state), None

        (x, _), _ = jax.lax.scan(body, (x, state), None, length=steps)
        return float(jnp.var(x))

    langevin = variance(st.as_optax(st.Euclidean(), rate, noise=temperature), 600)
    np.testing.assert_allclose(langevin, temperature / (1 - rate / 2), rtol=0.09)
    kinetic = variance(
        st.as_optax(st.Euclidean(), rate, friction=1.0, noise=st.Thermal(temperature)), 400
    )
    np.testing.assert_allclose(kinetic, temperature, rtol=0.14)
    # Annealed to nothing at t = 4: what is left has decayed by exp(-2 (6 - 4)).
    cooled = st.Thermal(lambda t: temperature * jnp.maximum(1.0 - t / 4.0, 0.0))
    cold = variance(st.as_optax(st.Euclidean(), rate, noise=cooled), 600)
    assert 0.0 < cold < 0.5 * temperature * np.exp(-4.0)
    one, two = (st.as_optax(st.Euclidean(), rate, noise=0.5, seed=seed) for seed in (0, 1))
    assert gap(trained(one, steps=2), trained(one, steps=2)) == 0.0
    assert gap(trained(one, steps=2), trained(two, steps=2)) > 1e-3


def test_any_optax_optimizer_has_a_ledger():
    """Adam's balance closes and its numbers are its own; at another rate nothing compiles again."""
    flow, made = st.Flow(st.Energy(loss), st.Euclidean()), []
    adam = lambda rate: made.append(rate) or optax.adam(rate)  # noqa: E731
    one, two = (st.from_optax(adam, rate) for rate in (0.02, 0.05))
    run = st.solve(flow, MATRIX, scheme=one, steps=100, save_every=5)
    assert len(made) > 3
    assert run.audit()["energy-dissipation balance"].passed, str(run.audit())
    made.clear()
    fast = st.solve(flow, MATRIX, scheme=two, steps=100, save_every=5)
    assert not made, "traced again"
    expected = trained_long(optax.adam(0.05), MATRIX, 100, loss)
    assert gap(fast.final, expected) < 1e-12
    lbfgs = st.solve(flow, MATRIX, scheme=st.from_optax(optax.lbfgs()), steps=30)
    assert float(lbfgs.ledger.functional[-1]) < 1e-4


def test_a_comparison_has_curves_costs_and_a_verdict():
    rows = jax.random.normal(jax.random.key(0), (50, 3)) * jnp.array([1.0, 0.1, 3.0])
    target = rows @ jnp.array([1.0, -2.0, 0.5])
    risk = st.EmpiricalRisk(lambda w, row: 0.5 * (row[0] @ w - row[1]) ** 2, (rows, target))
    found = st.compare_geometries(
        risk,
        jnp.zeros(3),
        {"descent": st.Euclidean(), "sign": st.Norm("sup", unit=True), "adam": optax.adam},
        100,
        rates=(0.01, 0.1, 10.0),
    )
    assert {curve.name for curve in found.curves} == {"descent", "sign", "adam"}
    assert found["descent"].tried[10.0] == np.inf and found["descent"].learning_rate == 0.1
    losses = [curve.loss[-1] for curve in found.curves]
    assert losses == sorted(losses)
    for curve in found.curves:
        assert curve.gradients[-1] == 100 and curve.seconds[-1] > 0
        # Losses that jump between updates are not resolved by the trapezoid: a tenth of the fall.
        fallen = curve.loss[0] - curve.loss[-1]
        assert abs(curve.dissipated[-1] - fallen) < 0.1 * curve.loss[0]
    assert "learning rates tuned" in str(found) and "geometry,gradients" in found.to_csv()
    found.plot()


def test_seconds_of_a_comparison_are_spent_and_not_overrun(monkeypatch):
    """On a clock by which a chunk takes 50 ms and a step 30 us, on a machine that slows down."""
    now, advance = [0.0], chunks.Run._advance

    def slow(self, carry, size):
        now[0] += 0.05 + 3e-5 * (1.0 + now[0]) * size[0] * size[1]
        return advance(self, carry, size)

    clock = types.SimpleNamespace(monotonic=lambda: now[0], perf_counter=lambda: now[0])
    for module in (chunks, driver, comparison):
        monkeypatch.setattr(module, "clock", clock)
    monkeypatch.setattr(chunks.Run, "_advance", slow)
    for seconds in (0.5, 6.0):  # a few chunks, and many steps
        found = st.compare_geometries(
            lambda x: jnp.sum(x**2), jnp.ones(2), [st.Euclidean()], seconds=seconds, rates=(0.01,)
        )
        curve = found.curves[0]
        assert 0.5 * seconds <= curve.seconds[-1] <= 1.15 * seconds
        assert len(curve.loss) > 2 and curve.loss[-1] < curve.loss[0]


def test_bad_input():
    bad = {
        "geometry": lambda: st.as_optax(st.Symplectic(), 0.1),
        "parts": lambda: st.as_optax({"w": 3.0}, 0.1),
        "learning_rate": lambda: st.as_optax(st.Euclidean(), -1.0),
        "friction": lambda: st.as_optax(st.Euclidean(), 0.1, friction=-1.0),
        "noise": lambda: st.as_optax(st.Norm("sup"), 0.1, noise=1.0),
        "decay": lambda: friction_of(1.5, 0.1),
        "transform": lambda: st.from_optax("adam"),
        "budget": lambda: st.compare_geometries(loss, PARAMETERS, [st.Euclidean()], 1),
        "geometries": lambda: st.compare_geometries(loss, PARAMETERS, []),
        "params": lambda: st.as_optax(st.Bregman("simplex"), 0.1).update(
            jnp.ones(3), st.as_optax(st.Bregman("simplex"), 0.1).init(jnp.ones(3) / 3)
        ),
    }
    for name, call in bad.items():
        with pytest.raises(st.ArgumentError, match=name):
            call()
    flow = st.Flow(st.Energy(loss), st.Norm("sup"))
    with pytest.raises(st.ArgumentError, match="own geometry"):
        st.solve(flow, PARAMETERS, scheme=st.from_optax(optax.sgd(0.1)), steps=2)
    # A loss that returns a vector, and a minibatch larger than the data.
    with pytest.raises(st.ArgumentError, match="scalar"):
        st.compare_geometries(lambda p: p["b"], PARAMETERS, [st.Euclidean()], 20)
    with pytest.raises(st.ArgumentError, match="batch_size"):
        st.EmpiricalRisk(lambda w, x: w * x, jnp.ones(5), batch_size=6)


def test_a_flax_model_trains_by_natural_gradient():
    """Its parameters are a pytree like any other; the loss halves in 20 steps."""
    linen = pytest.importorskip("flax.linen")
    x = jax.random.normal(jax.random.key(0), (40, 3))
    classes = jnp.argmax(x, axis=1)
    network = linen.Sequential([linen.Dense(5), jnp.tanh, linen.Dense(3)])
    theta = network.init(jax.random.key(1), x[0])
    model = st.NegativeLogLikelihood(network.apply, (x, classes))
    flow = st.Flow(model, st.Fisher(model, damping=0.1))
    run = st.solve(flow, theta, scheme=st.Euler(0.3), steps=20)
    assert run.ledger.functional[-1] < 0.5 * run.ledger.functional[0]
    assert jax.tree.structure(run.final) == jax.tree.structure(theta)
