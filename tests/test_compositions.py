"""Random compositions of all exports: right, or refused with a reason (see compositions)."""

from __future__ import annotations

import pytest

import compositions
import drawing
import material

COUNT, SEED = 500, 11


def test_every_exported_ingredient_can_be_drawn():
    assert drawing.missing() == []


@pytest.mark.slow
def test_random_compositions_are_right_or_refused_with_a_reason():
    found = compositions.survey(SEED, range(COUNT), every=20)
    assert not found.faults, "\n".join(found.faults)
    count = found.count
    assert count["ran"] >= 4 and count["taken"] >= COUNT / 5 and count.total() == COUNT


def test_a_scheme_that_leaves_out_a_part_is_found():
    """The checks are able to fail: Euler for the flow of half the velocity."""
    import steepest as st

    class Lazy(st.Euler):
        def advance(self, flow, state, memory, time, step, randomness):
            return super().advance(flow, state, memory, time, 0.5 * step, randomness)

    made = drawing.Composition(
        0, "vector", st.Energy(material.bowl), st.Euclidean(), None, Lazy(1e-3)
    )
    assert compositions.examine(made).verdict == "consistency"
    warm = drawing.Composition(
        0, "vector", st.Energy(material.bowl), st.Euclidean(), st.Thermal(0.5), Lazy(1e-3)
    )
    assert compositions.examine(warm).verdict == "noise"


def test_a_movement_of_particles_runs_and_leaves_no_repulsion_out():
    """Two faults that the survey found: one solver for all particles, and Stein's entropy."""
    import steepest as st

    movement = st.MinimizingMovement(1e-3, method="covector")
    energy = st.ExpectedEnergy(material.bowl)
    moved = drawing.Composition(0, "Particles", energy, st.Wasserstein(), None, movement)
    found = compositions.examine(moved)
    assert found.verdict == "ran", found
    stein = drawing.Composition(
        0, "Particles", st.KL(material.log_density), st.Stein(), None, movement
    )
    assert compositions.examine(stein).verdict == "refused"


@pytest.mark.parametrize(
    "name, functional, geometry, method",
    [
        ("Gaussian, LowRank", "interaction", "Wasserstein", "bures"),
        ("Density in the plane", "expected", "FisherRao", "covector"),
        ("GaussianMixture", "half a Hamiltonian", "Euclidean", "auto"),
        ("Adaptive", "of phases", "Adam's", "covector"),
        ("Density", "expected", "Poisson", "auto"),
        ("Gaussian", "risk", "Euclidean", "auto"),
    ],
)
def test_faults_of_the_long_survey_are_refused_in_words(name, functional, geometry, method):
    """A solver without its matrix, values below zero, an energy of phases on a law of points."""
    import steepest as st

    functionals = {
        "interaction": st.InteractionEnergy(st.GaussianKernel(1.0)),
        "expected": st.ExpectedEnergy(material.double_well),
        "half a Hamiltonian": 0.5 * st.PhaseEnergy(material.pendulum),
        "risk": st.EmpiricalRisk(material.loss, material.ROWS, batch_size=2),
        "of phases": st.PhaseEnergy(material.pendulum),
    }
    scheme = st.MinimizingMovement(1e-3, method=method)
    metrics = {
        "Adam's": st.Diagonal(st.SecondMoment(0.5)),
        "Poisson": st.Wasserstein(st.Poisson(material.turn)),
    }
    metric = metrics[geometry] if geometry in metrics else getattr(st, geometry)()
    noise = st.Minibatch() if functional == "risk" else None
    scheme = st.FiniteVolume(1e-3) if geometry == "Poisson" else scheme
    made = drawing.Composition(0, name, functionals[functional], metric, noise, scheme)
    found = compositions.examine(made)
    assert found.verdict == "refused", found


def test_the_parts_of_a_flow_have_all_of_its_noise():
    """A splitting by terms of the geometry lost the noise of those without a square root."""
    import steepest as st

    risk = st.EmpiricalRisk(material.loss, material.ROWS, batch_size=2)
    noise = st.Thermal(0.5) + st.Minibatch() + st.Diffusion(0.3)
    ground = st.Symplectic() + st.Friction(1.0) + st.Friction(2.0)
    parts = [part.noise.name for part in st.Flow(risk, ground, noise).split()]
    bath = "thermal(T=0.5)"
    assert parts == ["minibatch + diffusion(σ)", f"{bath} + minibatch", f"{bath} + minibatch"]
    (alone,) = st.Flow(risk, st.Symplectic(), st.Diffusion(0.3)).split()
    assert alone.noise is not None
    moved = st.Flow(st.ExpectedEnergy(risk), st.Stein() + st.Wasserstein(), st.Thermal(0.5))
    assert all(part.thermal is not None for part in moved.split())


def test_a_constant_state_is_checked_where_a_program_is_traced():
    import jax
    import jax.numpy as jnp

    import steepest as st

    flows = {
        st.Stiefel(): jnp.eye(3, 2),
        st.Bregman("simplex"): jnp.array([0.2, 0.8]),
        st.Bregman(st.Potential(material.convex)): jnp.ones(2),
    }
    for geometry, state in flows.items():
        flow = st.Flow(st.Energy(material.bowl), geometry)
        traced = jax.jit(lambda flow=flow, state=state: flow.velocity(state))()
        assert jnp.allclose(traced, flow.velocity(state))
    flow, off = st.Flow(st.Energy(material.bowl), st.Stiefel()), jnp.ones((3, 2))
    with pytest.raises(st.ArgumentError, match="columns"):
        jax.jit(lambda: flow.velocity(off))()


def test_what_a_scheme_says_of_descent_depends_on_the_flow():
    """The exponential of a Fisher-Rao flow overshoots where an internal energy is steep."""
    import numpy as np

    import steepest as st

    density = material.STATES["Density, periodic"](np.random.default_rng(0))
    steep = st.Flow(2.0 * st.InternalEnergy(0.8), st.FisherRao())
    entropy = st.Flow(st.NegativeEntropy(), st.FisherRao())
    scheme = st.Exponential(0.3)
    rises = [
        float(f.value(st.solve(f, density, scheme=scheme, steps=1).at(1)) - f.value(density)) > 0
        for f in (steep, entropy)
    ]
    assert rises == [True, False]
    assert [scheme.monotone(f) for f in (steep, entropy)] == [False, True]


def test_streamed_rows_may_be_made_before_64_bits_are_enabled():
    import jax
    import numpy as np

    import steepest as st

    with jax.enable_x64(False):
        rows = st.Streamed(material.ROWS, 3)
        assert rows.row[0].dtype == np.float32
    risk = st.EmpiricalRisk(material.loss, rows)
    known = st.EmpiricalRisk(material.loss, material.ROWS)
    x = material.STATES["vector"](np.random.default_rng(0))
    assert np.allclose(risk.differential(x), known.differential(x), rtol=1e-14)


@pytest.mark.parametrize("temperature", [0.0, material.waning])
def test_a_stein_discrepancy_needs_one_positive_temperature(temperature):
    import steepest as st

    with pytest.raises(st.ArgumentError, match="positive"):
        st.SteinDiscrepancy(material.bowl, temperature=temperature)
