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
        ("Gaussian, low rank", "interaction", "Wasserstein", "bures"),
        ("Density in the plane", "expected", "FisherRao", "covector"),
        ("GaussianMixture", "half a Hamiltonian", "Euclidean", "auto"),
    ],
)
def test_faults_of_the_long_survey_are_refused_in_words(name, functional, geometry, method):
    """A solver without its matrix, values below zero, an energy of phases on a law of points."""
    import steepest as st

    functionals = {
        "interaction": st.InteractionEnergy(st.GaussianKernel(1.0)),
        "expected": st.ExpectedEnergy(material.double_well),
        "half a Hamiltonian": 0.5 * st.PhaseEnergy(material.pendulum),
    }
    scheme = st.MinimizingMovement(1e-3, method=method)
    made = drawing.Composition(
        0, name, functionals[functional], getattr(st, geometry)(), None, scheme
    )
    found = compositions.examine(made)
    assert found.verdict == "refused", found
