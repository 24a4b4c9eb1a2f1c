"""The atlas: every row is run and judged, and a row that fails or raises is shown."""

from __future__ import annotations

import csv
import dataclasses
import functools

import jax.numpy as jnp
import numpy as np
import pytest
from typer.testing import CliRunner

import steepest as st
from steepest import atlas, registry
from steepest.cli.app import app
from test_report import assert_rebuilt

NAME = "gradient descent"


def broken(algorithm, name, compose):
    return dataclasses.replace(algorithm, name=name, compose=compose)


@pytest.fixture(scope="module")
def rows():
    """A sound row, one that cannot run, and one whose step is far too long."""
    good = registry.by_name(NAME)

    def mismatched(setting):
        flow, _, state = good.compose(setting)
        return flow, st.Leapfrog(0.1), state

    def too_long(setting):
        flow, _, state = good.compose(setting)
        return flow, st.Euler(0.28), state

    algorithms = (
        good,
        broken(good, "a <b>mismatch</b>", mismatched),
        broken(good, "a leap", too_long),
    )
    return list(atlas.atlas(algorithms=algorithms, steps=40))


def test_each_row_is_run_and_judged(rows):
    assert [row.verdict for row in rows] == ["passed", "error", "FAILED"]
    assert rows[0].card["known as"] == NAME
    assert rows[0].values[-1] < rows[0].values[0] and len(rows[0].times) == 11
    assert "BAB" in rows[1].error and len(rows[1].values) == 0
    assert rows[2].card["known as"] == NAME  # the same algorithm, badly used


def test_the_command_shows_every_row_and_what_failed(rows, tmp_path, monkeypatch):
    monkeypatch.setattr(atlas, "atlas", lambda *given, **options: iter(rows))
    monkeypatch.setattr("steepest.cli.present_atlas._family", lambda rows, name: rows)
    done = CliRunner().invoke(app, ["atlas", "--out", str(tmp_path / "a")])
    assert done.exit_code == 1, done.output
    assert_rebuilt(tmp_path / "a")
    page = (tmp_path / "a" / "report.html").read_text()
    assert "a &lt;b&gt;mismatch&lt;/b&gt;" in page and "<b>mismatch" not in page
    assert "What did not hold" in page and "ArgumentError" in page
    with open(tmp_path / "a" / "atlas.csv", newline="") as file:
        assert [line["audit"] for line in csv.DictReader(file)] == [row.verdict for row in rows]
    monkeypatch.setattr(atlas, "atlas", lambda *given, **options: iter(rows[:1]))
    assert CliRunner().invoke(app, ["atlas", "--out", str(tmp_path / "b")]).exit_code == 0


OWN = ("gradient descent", "MMD flow", "SGLD", "Fisher-Rao flow of a density", "RATTLE")


def own_energy(theta):
    return 2.0 * jnp.sum((theta["a"] - 1.0) ** 2) + (theta["b"] + theta["a"][0]) ** 2


def test_an_energy_of_ones_own_takes_the_place_of_the_small_problem():
    start = {"a": jnp.array([0.0, 2.0]), "b": jnp.array(0.5)}
    setting = registry.OwnSetting.of(own_energy, start, temperature=0.5, cells=24)
    # By hand: along a_0 the energy is 3 x^2 - 3 x + const, so that 12 temperatures above its least
    # are sqrt(2) to each side of 1/2; a cell of the search is at most 4/128 of the width.
    np.testing.assert_allclose(setting.interval, (0.5 - 2**0.5, 0.5 + 2**0.5), atol=0.1)
    assert setting.factor == 1.0  # the largest curvature, 3 + sqrt(5), is below 16
    small, still, none, section, sphere = atlas.atlas(
        setting, [registry.by_name(name) for name in OWN], steps=8
    )
    x, values = np.array([0.0, 2.0, 0.5]), []
    for _ in range(9):
        values.append(2.0 * ((x[0] - 1) ** 2 + (x[1] - 1) ** 2) + (x[2] + x[0]) ** 2)
        both = 2.0 * (x[2] + x[0])
        x = x - 0.05 * np.array([4.0 * (x[0] - 1) + both, 4.0 * (x[1] - 1), both])
    np.testing.assert_allclose(small.values, values[::4], rtol=1e-12)
    assert still.verdict == none.verdict == "not applicable"
    assert still.reason == "this row has its own: MMD(data) of ρ: Particles"
    assert "rows of data" in none.reason and not none.error
    assert section.remark == "along the first coordinate" and section.verdict == "passed"
    assert sphere.remark == "on the unit sphere" and sphere.audit is not None
    steep = registry.OwnSetting.of(lambda x: 50.0 * jnp.sum(x**2), jnp.ones(2))
    np.testing.assert_allclose(steep.factor, 0.16, rtol=1e-3)
    assert steep.compose(registry.by_name(NAME))[0].scheme.step == 0.05 * steep.factor


def test_the_atlas_of_a_spec_links_every_row_to_its_report(steepest, tmp_path, monkeypatch):
    few = tuple(registry.by_name(name) for name in OWN[:2])
    monkeypatch.setattr(atlas, "atlas", functools.partial(atlas.atlas, algorithms=few))
    (tmp_path / "my.toml").write_text("[functional]\nkind = 'rosenbrock'\nvalley = 5.0\n")
    code, said = steepest(
        "atlas", "--problem", "my.toml", "--set", "run.steps=8", "--set", "scheme.step=0.01"
    )
    assert code == 0, said
    assert "1 passed, 1 not applicable" in (tmp_path / "runs/my_atlas/run.json").read_text()
    page = (tmp_path / "runs/my_atlas/report.html").read_text()
    assert 'href="rows/gradient-descent/report.html"' in page and "What does not apply" in page
    row = tmp_path / "runs/my_atlas/rows/gradient-descent"
    assert "Euler(0.01)" in (row / "report.html").read_text()
    assert_rebuilt(tmp_path / "runs/my_atlas")
    assert_rebuilt(row)
    code, said = steepest("atlas", "--problem", "my.toml", "--set", "run.steps=7")
    assert code == 2 and "a multiple of 4" in said
    code, said = steepest("atlas", "--set", "run.steps=8")
    assert code == 2 and "--problem" in said


def test_a_noisy_point_becomes_independent_copies():
    cloud = atlas.copies(st.Phase(jnp.ones(2), jnp.zeros(2)))
    assert cloud.count == atlas.COPIES and cloud.positions.momentum.shape == (atlas.COPIES, 2)
    assert atlas.copies(cloud) is cloud
