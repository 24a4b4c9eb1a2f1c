"""Every known algorithm is its textbook update to round-off, and is recognised by its structure."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import steepest as st
from steepest.random import Randomness
from steepest.registry import ALGORITHMS, Setting, by_name, card, recognise
from steepest.registry.points import nesterov_sequence

SETTING = Setting.small()
IMPLICIT = {  # rows whose step is the root of an equation, solved to what they promise
    "proximal point (implicit Euler)": 1e-7,
    "Gaussian JKO": 1e-7,
    "Fokker-Planck semigroup": 1e-11,  # rational approximation of 14 poles, error 9.3^-14
}


def arrays(state):
    """The numbers of a state, in the order in which textbooks give them."""
    if isinstance(state, st.Gaussian):
        return state.mean, state.covariance
    if isinstance(state, st.Categorical):
        return (state.probabilities,)
    return tuple(jax.tree.leaves(state))


def one_step(flow, scheme, state, randomness):
    """What `solve` does at step 0, without the program around it."""
    state = jax.tree.map(jnp.asarray, state)
    bound = flow.bind(state)
    scheme.check(bound, state)

    @jax.jit
    def advanced(state):
        memory = scheme.init(bound, state, 0.0, randomness.at(2**32 - 1))
        return scheme.advance(bound, state, memory, 0.0, scheme.step, randomness.at(0))[0]

    return advanced(state)


@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=lambda algorithm: algorithm.name)
def test_one_step_is_the_textbook_update(algorithm):
    flow, scheme, state = algorithm.compose(SETTING)
    key = jax.random.key(3)
    start = jax.tree.map(np.asarray, state)
    told = algorithm.textbook(SETTING, start, Randomness.from_key(key))
    done = arrays(one_step(flow, scheme, state, Randomness.from_key(key)))
    assert len(done) == len(told)
    # A few dozen operations on numbers of order one (the stiffest matrix has condition 1e2).
    tolerance = IMPLICIT.get(algorithm.name, 1e-12)
    for mine, books in zip(done, told, strict=True):
        np.testing.assert_allclose(np.asarray(mine), books, rtol=0, atol=tolerance)
    moved = [np.max(np.abs(a - np.asarray(b))) for a, b in zip(done, arrays(state), strict=True)]
    assert max(moved) > 1e-3  # the step did something


def test_nesterovs_two_sequences_are_twenty_steps_of_the_scheme():
    """The friction 3/(t + 3h) is (k - 1)/(k + 2) at each k, not at the first alone."""
    flow, scheme, state = by_name("Nesterov's accelerated gradient").compose(SETTING)
    run = st.solve(flow, state, scheme=scheme, steps=20)
    books = nesterov_sequence(SETTING, np.asarray(SETTING.start), 20)
    np.testing.assert_allclose(run.states.position, books, rtol=0, atol=1e-12)


def test_every_row_is_recognised_and_no_two_are_the_same():
    assert len(ALGORITHMS) >= 30
    assert len({algorithm.name for algorithm in ALGORITHMS}) == len(ALGORITHMS)
    for algorithm in ALGORITHMS:
        assert algorithm.citation
        assert recognise(*algorithm.compose(SETTING)) == (algorithm.name,)


def test_a_name_does_not_depend_on_sizes_and_new_is_new():
    energy = lambda x: jnp.sum(jnp.cosh(x))  # noqa: E731
    place, bath = jnp.ones(3), st.Thermal(0.1)
    copies = st.Particles.from_positions(jnp.ones((5, 3)))
    langevin = st.Flow(energy, 2.0 * st.Euclidean(), bath)
    ula = ("unadjusted Langevin (ULA)",)
    assert recognise(langevin, st.Euler(0.3), place) == ula
    assert recognise(langevin, st.Euler(0.3), copies) == ula
    lifted = st.Flow(st.FreeEnergy(energy, 0.1), st.Wasserstein())
    assert recognise(lifted, st.Euler(0.3), copies) == ula
    kinetic = st.Flow(energy, st.Friction(1) + st.Symplectic(), bath)
    phase = st.Phase.at_rest(place)
    assert recognise(kinetic, st.BAOAB(0.2), phase) == ("BAOAB",)
    # The same scheme with a float of leaps is another algorithm, and so is another word or norm.
    assert recognise(kinetic, st.Splitting(0.2, "OABAO"), phase) == ()
    assert recognise(st.Flow(energy, st.Norm("sup")), st.Euler(0.1), place) == ()
    both = st.Flow(energy, st.Euclidean()) + st.Flow(energy, st.Norm("sup", unit=True))
    assert recognise(both, st.Euler(0.1), place) == ()
    assert card(langevin, st.Euler(0.3), place)["known as"] == ula[0]
    assert card(kinetic, st.Splitting(0.2, "OABAO"), phase)["known as"] == "new"


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(st.ArgumentError, match="BAOAB"):
        by_name("BAOBA")
