"""Specs: every mistake has a line that names the key, what was given and what is allowed."""

import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steepest.cli.build import build
from steepest.cli.ingredients import LAW_FUNCTIONALS
from steepest.cli.spec import KINDS, SpecError, parse_spec, read_spec, to_toml
from steepest.errors import ArgumentError

ROOT = Path(__file__).parent.parent
EXAMPLES = [
    path
    for path in sorted((ROOT / "examples").glob("*.toml"))
    if "run" in tomllib.loads(path.read_text())  # the others are of other commands
]

PLAIN = {
    "functional": {"kind": "quadratic"},
    "geometry": {"kind": "euclidean"},
    "scheme": {"kind": "euler", "step": 0.1},
    "run": {"steps": 10},
}


def changed(**tables):
    """PLAIN with other tables; None takes one away."""
    return {k: v for k, v in (PLAIN | tables).items() if v is not None}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_examples_are_valid_and_the_resolved_spec_says_the_same(path):
    spec = read_spec(path)
    again = parse_spec(tomllib.loads(to_toml(spec.tables())), path.parent, path.name)
    assert again == spec


def test_the_spec_in_the_readme_is_valid():
    text = re.search(r"```toml\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    assert text is not None
    parse_spec(tomllib.loads(text[1]), ROOT / "examples")


MISTAKES = {
    "unknown section": (
        changed(geometri={"kind": "euclidean"}),
        "[geometri]: unknown section; did you mean geometry?",
    ),
    "missing section": (changed(scheme=None), "[scheme]: missing; its kind is one of euler"),
    "not a table": (changed(scheme=3), "scheme: got 3; a table [scheme] is needed"),
    "missing kind": (changed(scheme={"step": 0.1}), "scheme.kind: missing; one of euler"),
    "unknown kind": (
        changed(functional={"kind": "quadratik"}),
        "functional.kind: got 'quadratik'; did you mean quadratic?",
    ),
    "kind of a wrong type": (changed(functional={"kind": 3}), "functional.kind: got 3"),
    "unknown key": (
        changed(scheme={"kind": "euler", "stepp": 0.1, "step": 0.1}),
        "scheme.stepp: unknown key; did you mean step?",
    ),
    "missing key": (changed(scheme={"kind": "euler"}), "scheme.step: missing; the time step"),
    "negative step": (
        changed(scheme={"kind": "euler", "step": -0.1}),
        "scheme.step: got -0.1; the time step, a number > 0",
    ),
    "too many chains": (
        changed(state={"chains": 10**9}),
        "the number of chains, at least 2, at most 10,000,000",
    ),
    "zero step": (changed(scheme={"kind": "euler", "step": 0}), "scheme.step: got 0"),
    "infinite step": (
        changed(scheme={"kind": "euler", "step": float("inf")}),
        "scheme.step: got inf",
    ),
    "NaN step": (changed(scheme={"kind": "euler", "step": float("nan")}), "scheme.step: got nan"),
    "step as text": (changed(scheme={"kind": "euler", "step": "0.1"}), "scheme.step: got '0.1'"),
    "negative temperature": (
        changed(noise={"kind": "thermal", "temperature": -1.0}),
        "noise.temperature: got -1.0; a number >= 0",
    ),
    "negative friction": (
        changed(geometry={"kind": "kinetic", "friction": -1.0}),
        "geometry.friction: got -1.0; a number >= 0",
    ),
    "schedule": (
        changed(noise={"kind": "thermal", "temperature": {"initial": 1.0}}),
        "noise.temperature: got {'initial': 1.0}; a number >= 0, or a schedule",
    ),
    "exponential schedule to zero": (
        changed(
            noise={
                "kind": "thermal",
                "temperature": {"initial": 1.0, "final": 0.0, "time": 1.0, "shape": "exponential"},
            }
        ),
        "noise.temperature",
    ),
    "no chains": (changed(state={"chains": 0}), "state.chains: got 0; the number of chains"),
    "chains as text": (changed(state={"chains": "4"}), "state.chains: got '4'"),
    "initial": (changed(state={"initial": "zero"}), "state.initial: got 'zero'; 'start'"),
    "steps and time": (
        changed(run={"steps": 10, "time": 1.0}),
        "run.steps, run.time: got both; give exactly one",
    ),
    "neither": (changed(run={}), "run.steps, run.time: got neither"),
    "no run": (changed(run=None), "run.steps, run.time: got neither"),
    "true steps": (changed(run={"steps": True}), "run.steps: got True"),
    "too many steps": (changed(run={"steps": 2**32}), "run.steps: got 4294967296"),
    "negative seed": (changed(run={"steps": 1, "seed": -1}), "run.seed: got -1"),
    "uneven saves": (
        changed(run={"steps": 10, "save_every": 3}),
        "run.save_every: got 3; it must divide run.steps = 10",
    ),
    "precision": (
        changed(run={"steps": 1, "precision": "half"}),
        "run.precision: got 'half'; 'float32' or 'float64'",
    ),
    "adaptive without time": (
        changed(scheme={"kind": "runge-kutta"}),
        "run.time: missing; runge-kutta chooses its own steps",
    ),
    "adaptive with warm-up": (
        changed(scheme={"kind": "runge-kutta"}, run={"time": 1.0, "warmup": 5}),
        "run.warmup: got a warm-up",
    ),
    "none among noises": (
        changed(noise=[{"kind": "none"}, {"kind": "thermal"}]),
        "noise: 'none' stands alone",
    ),
    "in a list": (
        changed(geometry=[{"kind": "symplectic"}, {"kind": "friction", "gama": 1.0}]),
        "geometry.1.gama: unknown key; did you mean gamma?",
    ),
    "data without target": (
        changed(functional={"kind": "linear-regression", "data": "x.csv"}),
        "functional.target: missing; the name of the column to predict",
    ),
    "reference": (
        changed(functional={"energy": "no function", "dimension": 2}),
        "functional.energy: got 'no function'; 'module:function'",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_named_with_what_is_allowed(name):
    tables, message = MISTAKES[name]
    with pytest.raises(SpecError) as caught:
        parse_spec(tables)
    assert message in str(caught.value)


def test_all_mistakes_come_at_once():
    with pytest.raises(SpecError, match="3 mistakes") as caught:
        parse_spec(changed(scheme={"kind": "euler", "step": -1.0}, run={"stps": 3}, nois={}))
    assert len(str(caught.value).splitlines()) == 4


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[state\n", "not TOML: .*line 1"),
        (b"[run]\nsteps = \n", "not TOML: .*line 2"),
        (b"[run]\nsteps = 1\nsteps = 2\n", "not TOML"),
        (b"\xff\xfe", "not UTF-8"),
        (b"a = " + b"[" * 5000, "nested too deeply"),
        (b"a = " + b"9" * 5000, "not TOML"),
        (b"#" * (2**20 + 1), "larger than 1 MiB"),
    ],
)
def test_files_that_are_no_spec(tmp_path, content, message):
    path = tmp_path / "spec.toml"
    path.write_bytes(content)
    with pytest.raises(SpecError, match=message):
        read_spec(path)


def test_a_spec_that_is_not_there(tmp_path):
    with pytest.raises(SpecError, match="does not exist"):
        read_spec(tmp_path / "none.toml")
    with pytest.raises(SpecError, match="is a folder"):
        read_spec(tmp_path)


WELL = ROOT / "examples" / "double_well.toml"


def test_settings_replace_keys():
    spec = read_spec(
        WELL,
        [
            "scheme.step=0.005",
            "state.initial=[1, 0]",
            "noise.temperature={initial = 2.0, final = 1.0, time = 5.0}",
            "run.precision=float64",
        ],
        seed=9,
    )
    assert spec.scheme.step == 0.005
    assert spec.state.initial == [1.0, 0.0]
    assert spec.noise[0].temperature.final == 1.0
    assert spec.run.precision == "float64"  # no TOML value, so a string
    assert spec.run.seed == 9


def test_another_kind_keeps_the_keys_it_knows():
    spec = read_spec(WELL, ["geometry.kind=kinetic", "geometry.friction=2", "scheme.kind=baoab"])
    assert spec.scheme.kind == "baoab"
    assert spec.scheme.step == 0.01
    spec = read_spec(ROOT / "examples/breast_cancer.toml", ["geometry.kind=euclidean"])
    assert spec.geometry[0].kind == "euclidean"  # `friction` went with the old kind


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("scheme.step", "write it as section.key=value"),
        ("step=3", "write it as section.key=value"),
        ("=3", "write it as section.key=value"),
        ("shceme.step=3", "did you mean scheme?"),
        ("scheme.step.x=3", "step is no table"),
        ("scheme.step=abc", "scheme.step: got 'abc'"),
        ("noise.temperature=-2", "noise.temperature: got -2"),
    ],
)
def test_settings_that_cannot_be(setting, message):
    with pytest.raises(SpecError) as caught:
        read_spec(WELL, [setting])
    assert message in str(caught.value)


def test_settings_reach_into_a_list(tmp_path):
    path = tmp_path / "sum.toml"
    tables = changed(geometry=[{"kind": "symplectic"}, {"kind": "friction", "gamma": 1.0}])
    path.write_text(to_toml(tables))
    assert read_spec(path, ["geometry.1.gamma=3.0"]).geometry[1].gamma == 3.0
    with pytest.raises(SpecError, match="say which"):
        read_spec(path, ["geometry.gamma=3.0"])
    with pytest.raises(SpecError, match="is no index"):
        read_spec(path, ["geometry.7.gamma=3.0"])


# The least that each kind needs, by section; a kind that is missing here fails the test below.
LEAST = {
    "riemannian": {"metric": [[2.0, 0.0], [0.0, 3.0]]},
    "diffusion": {"sigma": 0.1},
    "metropolis": {"proposal": "euler"},
    "bayesian-logistic-regression": {"data": "data/breast_cancer.csv", "target": "diagnosis"},
    "softmax-regression": {"data": "data/breast_cancer.csv", "target": "diagnosis"},
    "linear-regression": {
        "data": "data/breast_cancer.csv",
        "target": "mean radius",
        "categorical": ["diagnosis"],
    },
    "imported": {"energy": "mine:energy", "dimension": 2},
    "holonomic": {"constraint": "mine:energy"},
    "metriplectic": {
        "energy": "mine:energy",
        "entropy": "mine:energy",
        "friction": "mine:matrix",
        "dimension": 2,
    },
    "gaussian-mixture": {"means": [[0.0], [1.0]]},
    "free-energy": {"energy": {"kind": "double-well", "dimension": 1}},
    "kl": {"energy": {"kind": "quadratic"}},
    "expected-energy": {"energy": {"kind": "rosenbrock"}},
    "density": {"lower": -2.0, "upper": 2.0, "cells": 20, "deviation": 0.5},
    "strang": {"schemes": ["finite-volume", "exponential"]},
    "mmd": {"data": "data/diabetes.csv"},
    "sinkhorn-divergence": {"data": "data/iris.csv", "columns": ["sepal length"]},
    "sliced-wasserstein": {"data": "data/iris.csv", "columns": ["sepal length"]},
    "two-layer-network": {"data": "data/diabetes.csv", "target": "progression"},
}


@pytest.mark.parametrize(
    ("section", "kind"), [(section, kind) for section, kinds in KINDS.items() for kind in kinds]
)
def test_every_kind_builds(tmp_path, section, kind):
    """Each name of each registry is accepted with the least that it needs, and makes its part."""
    code = "def energy(x):\n    return (x ** 2).sum()\ndef matrix(x):\n    return 0.0\n"
    (tmp_path / "mine.py").write_text(code)
    table = {"kind": kind, **LEAST.get(kind, {})}
    if "step" in KINDS[section][kind].model_fields:
        table["step"] = 0.1
    own = kind in ("imported", "holonomic", "metriplectic")
    folder = tmp_path if own else ROOT / "examples"
    run = {"time": 1.0} if kind == "runge-kutta" else {"steps": 10}
    tables = changed(**{section: table}, run=run)
    if kind in LAW_FUNCTIONALS:
        tables["state"] = {"kind": "gaussian"}
    spec = parse_spec(tables, folder)
    value = getattr(spec, section)
    part = value[0] if isinstance(value, tuple) else value
    assert part.kind == kind
    if hasattr(part, "build_law"):
        options = (False,) if section == "state" else ()
        assert part.build_law(spec.context(allow_code=True), *options) is not None
    elif section in ("functional", "geometry"):
        assert (part.build(spec.context(allow_code=True)) is None) == (kind == "own")
    elif section != "state":
        assert (part.build() is None) == (kind == "none")


def test_code_needs_consent(tmp_path):
    (tmp_path / "mine.py").write_text("raise SystemExit('executed')\n")
    for tables in (
        changed(functional={"energy": "mine:energy", "dimension": 2}),
        changed(geometry={"kind": "riemannian", "metric": "mine:metric"}),
        changed(geometry={"kind": "holonomic", "constraint": "mine:level"}),
        changed(
            functional={"kind": "metriplectic", "dimension": 2}
            | dict.fromkeys(("energy", "entropy", "friction"), "mine:energy"),
            geometry={"kind": "own"},
        ),
    ):
        with pytest.raises(ArgumentError, match="--allow-code"):
            build(parse_spec(tables, tmp_path))


def test_an_energy_that_fails_is_told_as_such(tmp_path):
    (tmp_path / "mine.py").write_text("def energy(x):\n    return x['nothing']\n")
    tables = changed(functional={"energy": "mine:energy", "dimension": 2})
    with pytest.raises(ArgumentError, match="at the initial parameters it raised TypeError"):
        build(parse_spec(tables, tmp_path), allow_code=True)


def test_a_sum_of_geometries_is_the_kinetic_one():
    listed = changed(geometry=[{"kind": "symplectic"}, {"kind": "friction", "gamma": 2.0}])
    named = changed(geometry={"kind": "kinetic", "friction": 2.0})
    assert build(parse_spec(listed)).row == build(parse_spec(named)).row


CLOSED = """
import jax.numpy as jnp
def energy(x):
    return 0.5 * x[0] ** 2 + x[1]
def entropy(x):
    return x[1]
def friction(x):  # of the momentum x[0]; what it loses, the heat x[1] gains
    w = jnp.stack([jnp.ones_like(x[0]), -x[0]])
    return jnp.outer(w, w)
def start():
    return jnp.array([1.0, 0.0])
def level(q):
    return 0.5 * (jnp.sum(q["x"] ** 2) - 1.0)
"""


def test_a_functional_may_bring_its_geometry(tmp_path):
    """Closed systems and constraints, the library's and one's own, as the flows that they are."""
    (tmp_path / "mine.py").write_text(CLOSED)
    names = {name: f"mine:{name}" for name in ("energy", "entropy", "friction", "start")}
    gradient = {"kind": "discrete-gradient", "step": 0.1}
    own = {"kind": "own"}
    mine = changed(functional={"kind": "metriplectic"} | names, geometry=own, scheme=gradient)
    job = build(parse_spec(mine, tmp_path), allow_code=True)
    np.testing.assert_allclose(job.flow.velocity(job.state), [-1.0, 1.0], rtol=1e-6)
    assert job.row["conserves"] == "E=energy" and job.row["dissipates"] == "makes entropy"
    many = build(parse_spec(mine | {"state": {"chains": 3}}, tmp_path), allow_code=True)
    assert job.flow.bind(many.state).velocity(many.state).positions.shape == (3, 2)
    surface = {"kind": "holonomic", "constraint": "mine:level"}
    rattle = {"kind": "rattle", "step": 0.1}
    state = {"initial": [0.6, 0.8], "momentum": [0.8, -0.6]}
    held = changed(geometry=surface, scheme=rattle, state=state)
    job = build(parse_spec(held, tmp_path), allow_code=True)
    assert job.flow.geometry.name.startswith("Holonomic")
    pendulum = changed(functional={"kind": "spherical-pendulum"}, geometry=own, scheme=rattle)
    assert "vertical angular momentum" in build(parse_spec(pendulum)).flow.invariants
    for tables, message in (
        (changed(geometry=own), "quadratic brings none"),
        (changed(geometry=[own, {"kind": "euclidean"}]), "whole geometry"),
        (pendulum | {"noise": {"kind": "thermal", "temperature": 1.0}}, "without noise"),
        (pendulum | {"geometry": own | {"factor": 2.0}}, "without noise or a factor"),
    ):
        with pytest.raises(ArgumentError, match=message):
            build(parse_spec(tables, tmp_path))


def test_what_cannot_be_kept_is_refused_before_it_runs():
    tables = changed(state={"chains": 10_000_000}, run={"steps": 1000})
    with pytest.raises(ArgumentError, match="GiB"):
        build(parse_spec(tables))


def test_particles_spread_around_a_point_of_a_manifold():
    """On the sphere they stay unit vectors; in the plane their spread is the scale."""
    state = {"chains": 4000, "initial": [0.6, 0.8], "scale": 0.01}
    flat = build(parse_spec(changed(state=state))).state.positions["x"]
    assert flat.shape == (4000, 2)
    np.testing.assert_allclose(flat.mean(axis=0), [0.6, 0.8], atol=5 * 0.01 / 4000**0.5)
    # The error of a deviation from n samples is sigma / sqrt(2 n).
    np.testing.assert_allclose(flat.std(axis=0), 0.01, rtol=5 / 8000**0.5)
    curved = build(parse_spec(changed(state=state, geometry={"kind": "sphere"}))).state
    on_circle = curved.positions["x"]
    np.testing.assert_allclose((on_circle**2).sum(axis=1), 1, rtol=1e-6)  # float32
    angles = np.arctan2(on_circle[:, 1], on_circle[:, 0])
    np.testing.assert_allclose(angles.std(), 0.01, rtol=5 / 8000**0.5)
    with pytest.raises(ArgumentError, match=r"state\["):
        build(
            parse_spec(changed(state=state | {"initial": [1.0, 1.0]}, geometry={"kind": "sphere"}))
        )


def test_initial_numbers_must_fit():
    with pytest.raises(ArgumentError, match="there are 2 parameters"):
        build(parse_spec(changed(state={"initial": [1.0]})))


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
known = st.sampled_from(["kind", "step", "steps", "chains", "energy", "temperature", "initial"])
kinds = st.sampled_from([kind for found in KINDS.values() for kind in found])
tables = st.dictionaries(known | st.text(max_size=5), kinds | values, max_size=4)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from([*KINDS, "run", "x"]), tables | values, max_size=6))
def test_any_tables_are_a_spec_or_refused(given_tables):
    try:
        spec = parse_spec(given_tables)
    except SpecError:
        return
    assert parse_spec(tomllib.loads(to_toml(spec.tables()))) == spec


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=120))
def test_any_bytes_are_a_spec_or_refused(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("fuzz") / "spec.toml"
    path.write_bytes(content)
    with pytest.raises(SpecError):
        read_spec(path)


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"functional": {"kind": "negative-entropy"}}, "needs a law"),
        (
            {"functional": [{"kind": "quadratic"}, {"kind": "quadratic"}]},
            "a list adds functionals of a law",
        ),
        ({"state": {"kind": "densty"}}, "did you mean density?"),
        ({"state": {"kind": "density", "lower": 0.0, "upper": 1.0}}, "state.cells: missing"),
        ({"state": {"kind": "gaussian"}, "run": {"steps": 10, "warmup": 5}}, "a law has none"),
        (
            {"state": {"kind": "gaussian"}, "functional": {"kind": "kl", "energy": {"kind": "x"}}},
            "functional.energy: got",
        ),
    ],
)
def test_specs_of_laws_say_what_is_wrong(tables, message):
    with pytest.raises(SpecError, match=re.escape(message)):
        parse_spec(changed(**tables))
