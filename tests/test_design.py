"""A structure card gives its algorithm back, and words for it give an algorithm with a spec."""

from __future__ import annotations

import pytest

import steepest as st
from steepest.cli.build import build
from steepest.cli.design import parse, spec_of
from steepest.cli.spec import parse_spec
from steepest.registry import ALGORITHMS, Setting, by_name, from_card, recognise
from steepest.registry.structure import structure


def test_the_card_of_every_known_algorithm_gives_it_back():
    """design(card(flow)) has the structure of the flow, for each row and for it alone."""
    for algorithm in ALGORITHMS:
        composed = algorithm.compose(Setting.small())
        (design,) = from_card(composed.flow.card(composed.scheme, composed.state))
        assert structure(design.flow, design.scheme, design.state) == structure(*composed)
        assert design.names == (algorithm.name,) and design.citation == algorithm.citation
        assert design.card()["known as"] == algorithm.name


def test_words_for_some_slots_give_all_that_fit():
    found = from_card(state="gaussian", functional="kl", geometry="wasserstein")
    assert {name for design in found for name in design.names} == {
        "Gaussian JKO",
        "forward-backward Gaussian variational inference",
        "Gaussian Wasserstein flow of the Cholesky factor, Euler",
    }
    (jko,) = from_card(state="gaussian", functional="kl", geometry="wasserstein", scheme="jko")
    assert jko.names == ("Gaussian JKO",)
    (ula,) = from_card(state="theta", geometry="euclidean", noise="thermal", scheme="Euler(0.3)")
    assert ula.names == ("unadjusted Langevin (ULA)",)
    assert len(from_card(geometry="bregman")) == 5
    assert from_card(geometry="friction + symplectic", scheme="baoab")[0].names == ("BAOAB",)


def test_what_has_no_name_is_put_together_from_parts():
    (new,) = from_card(
        state="particles", functional="kl", geometry="wasserstein + 0.3 stein", scheme="euler"
    )
    assert new.names == () and new.card()["known as"] == "new"
    assert {type(term).__name__ for term in new.flow.parts[0].geometry.terms} >= {"Wasserstein"}
    assert recognise(new.flow, new.scheme, new.state) == ()
    new.flow.bind(new.state)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"geometry": "waserstein"}, "did you mean wasserstein"),
        ({"state": "gausian"}, "did you mean gaussian"),
        ({"functional": "klx"}, "did you mean kl"),
        ({"scheme": "baoba"}, "did you mean baoab"),
        ({"geometri": "stein"}, "did you mean geometry"),
        ({}, "a word for one of state"),
    ],
)
def test_unknown_words_are_answered_with_the_nearest(words, said):
    with pytest.raises(st.ArgumentError, match=said):
        from_card(words)


def test_specs_have_the_structure_of_the_design():
    """Each spec is valid, and what it builds is the algorithm it is printed for."""
    without = set()
    for algorithm in ALGORITHMS:
        flow, scheme, state = algorithm.compose(Setting.small())
        (design,) = from_card(flow.card(scheme, state))
        tables = spec_of(design)
        if tables is None:
            without.add(algorithm.name)
            continue
        job = build(parse_spec(tables))
        assert recognise(job.flow, job.scheme, job.state) == (algorithm.name,), algorithm.name
    assert len(ALGORITHMS) - len(without) >= 30, without
    assert {"BAOAB", "Gaussian JKO", "MALA", "gradient descent"} & without == set()


def test_the_command_prints_names_cards_and_specs(steepest):
    code, said = steepest("design", "state=gaussian functional=kl geometry=wasserstein")
    assert code == 0 and "Gaussian JKO" in said and "3 known algorithms fit" in said
    assert '[scheme]\nkind = "minimizing-movement"' in said
    code, said = steepest("design", "geometry=symplectic", "+ friction", "scheme=baoab")
    assert code == 0 and "Leimkuhler" in said
    code, said = steepest("design", "geometry=fisherro")
    assert code == 2 and "did you mean fisherrao" in said
    assert steepest("design", "nonsense")[0] == 2
    assert parse("functional=E=energy + |p|²/2 noise=none")["noise"] == "none"


def test_flow_trajectory_and_registry_have_one_card():
    flow, scheme, state = by_name("Gaussian JKO").compose(Setting.small())
    run = st.solve(flow, state, scheme=scheme, steps=1)
    assert run.row == flow.card(scheme, state) and run.row["state"] == "ρ: Gaussian"
    both = flow + flow
    assert both.card(scheme)["geometry"] == "Wasserstein()"
    assert set(flow.card()) == set(run.row) - {"scheme"}
