"""Plans against what runs take, and the longest stable step where it is known."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import steepest as st
from steepest.schemes.splitting import Splitting

CURVATURES = jnp.array([1.0, 5.0, 40.0])
QUADRATIC = st.Energy(lambda x: 0.5 * jnp.sum(CURVATURES * x**2))
LANGEVIN = st.Flow(QUADRATIC, st.Euclidean(), st.Thermal(1.0))
CLOUD = st.Particles(jnp.linspace(-1.0, 1.0, 600).reshape(200, 3))
OPTIONS = dict(scheme=st.Euler(0.01), steps=60, save_every=4, key=jax.random.key(0))


@pytest.fixture(scope="module")
def plan():
    return st.plan(LANGEVIN, CLOUD, **OPTIONS, available=2**40)


def test_a_plan_is_what_the_run_takes(plan, tmp_path):
    """The saved states to the byte, and with the ledger the file that a checkpoint fills."""
    run = st.solve(LANGEVIN, CLOUD, **OPTIONS, checkpoint=st.Checkpoint(tmp_path))
    assert plan.saved == run.states.positions.nbytes == 16 * 600 * 8
    records = np.load(tmp_path / "saves.npy", mmap_mode="r")
    assert plan.kept == records.size * records.dtype.itemsize
    assert plan.kept < os.path.getsize(tmp_path / "saves.npy") <= plan.kept + 1024
    assert (plan.parameters, plan.copies, plan.steps, plan.saves) == (3, 200, 60, 15)


def test_the_program_holds_state_and_saves(plan):
    """XLA's layout: the carry goes in and comes out, with room for a chunk of saves."""
    state = CLOUD.positions.nbytes
    assert plan.arguments > state and plan.outputs > state + plan.saved
    assert plan.peak == plan.arguments + plan.outputs + plan.temporaries
    # A gradient, a kick and a sum are some flops for each number, noise some tens more.
    assert 5 * 600 < plan.operations < 500 * 600 and plan.traffic > 2 * state
    assert plan.seconds_per_step > 0 and plan.seconds == 60 * plan.seconds_per_step
    assert plan.fits and not plan.advice and "200" in str(plan)


def test_a_plan_that_does_not_fit_says_what_to_change(plan):
    options = OPTIONS | dict(available=plan.peak // 4, measure=False)
    small = st.plan(LANGEVIN, CLOUD, **options, room=plan.kept // 4)
    advice = " ".join(small.advice)
    assert not small.fits and small.seconds_per_step is None
    assert "float32" in advice and "4 devices" in advice and "about 50 particles" in advice
    every = int(advice.split("save every ")[1].split()[0])
    again = st.plan(LANGEVIN, CLOUD, **options | dict(save_every=every), room=plan.kept // 4)
    assert again.kept <= plan.kept // 4 and 60 % every == 0
    assert not any("save every" in text for text in again.advice)
    sooner = [n for n in range(4, every) if 60 % n == 0]  # the shortest interval that fits
    assert all(plan.kept / 16 * (60 // n + 1) > plan.kept // 4 for n in sooner)


@pytest.mark.parametrize(
    "geometry, noise, state, scheme, longest",
    [
        (st.Euclidean(), st.Thermal(1.0), CLOUD, st.Euler(0.01), 2 / 40),
        (
            st.Riemannian(lambda x: jnp.diag(jnp.array([1.0, 5.0, 10.0]))),
            None,
            jnp.ones(3),
            st.Euler(0.01),
            2 / 4,
        ),
        (
            st.Symplectic() + st.Friction(30.0),
            st.Thermal(1.0),
            st.Phase.at_rest(jnp.ones(3)),
            st.BAOAB(0.01),
            2 / 40**0.5,
        ),
    ],
    ids=["euler", "metric", "baoab"],
)
def test_the_longest_stable_step_of_a_quadratic(geometry, noise, state, scheme, longest):
    """2/rate for Euler, with the metric's rates; 2/frequency for BAOAB, whatever the friction.

    Power iteration: (5/40)^16 of the next curvature is left.
    """
    found = st.stiffness(st.Flow(QUADRATIC, geometry, noise), state, scheme)
    np.testing.assert_allclose(found.longest, longest, rtol=1e-6)


@pytest.mark.parametrize("word, fractions", [("BAB", None), ("OABAO", None), ("yoshida", None)])
def test_the_limit_of_a_splitting_is_where_an_oscillator_grows(word, fractions):
    scheme = st.Yoshida(1.0) if word == "yoshida" else Splitting(1.0, word, fractions)
    limit = scheme.stability(None)
    flow = st.Flow(st.Energy(lambda x: 0.5 * jnp.sum(x**2)), st.Symplectic())
    start = st.Phase.at_rest(jnp.ones(1))
    for factor, grows in ((0.99, False), (1.01, True)):
        step = factor * limit
        inner = st.Yoshida(step) if word == "yoshida" else Splitting(step, word.replace("O", ""))
        run = st.solve(flow, start, scheme=inner, steps=400, save_every=100)
        assert (float(run.ledger.functional[-1]) > 1e4) == grows


def test_the_limit_of_diffusion_on_a_grid():
    """4 T / h^2 is the fastest rate of the second difference on many cells, and Euler's CFL."""
    flow = st.Flow(st.FreeEnergy(lambda x: 0.0 * jnp.sum(x), 1.0), st.Wasserstein())
    start = st.Density.from_log(st.Grid(0.0, 1.0, 40), lambda x: 0.1 * jnp.sum(x))
    found = st.stiffness(flow, start, st.Euler(1e-5))
    assert 0.97 < found.rate / (4 * 40**2) < 1.01
    assert st.stiffness(flow, start, st.FiniteVolume(1e-2)) is None  # implicit


def test_a_run_that_diverges_says_how_small_the_step_must_be():
    flow = st.Flow(QUADRATIC, st.Euclidean())
    with pytest.raises(st.Diverged, match=r"at the start the longest stable one is 0\.05"):
        st.solve(flow, jnp.ones(3), scheme=st.Euler(0.5), steps=400, save_every=40)


def test_the_command_plans_and_warns(steepest, tmp_path):
    spec = tmp_path / "spec.toml"
    spec.write_text(
        '[state]\nkind = "particles"\nchains = 8\n[functional]\nkind = "quadratic"\n'
        'curvatures = [1.0, 40.0]\n[geometry]\nkind = "euclidean"\n[noise]\nkind = "thermal"\n'
        'temperature = 1.0\n[scheme]\nkind = "euler"\nstep = 0.01\n'
        "[run]\nsteps = 100\nsave_every = 10\n"
    )
    code, text = steepest("plan", spec)
    assert code == 0 and "longest stable one is about 0.05" in text and "fits" in text, text
    assert not list(tmp_path.glob("runs*"))
    code, text = steepest(
        "plan", spec, "--set", "run.steps=4000000000", "--set", "run.save_every=1"
    )
    assert code == 1 and "save every" in text, text
    code, text = steepest("run", spec, "--set", "scheme.step=0.0501", "--out", tmp_path / "out")
    assert "small errors grow from step to step" in text, text
    assert "small errors grow" in (tmp_path / "out" / "report.html").read_text()
