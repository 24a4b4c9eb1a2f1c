"""The atlas: every row is run and judged, and a row that fails or raises is shown."""

from __future__ import annotations

import csv
import dataclasses

import jax.numpy as jnp
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
    monkeypatch.setattr(atlas, "atlas", lambda **options: iter(rows))
    monkeypatch.setattr("steepest.cli.atlas._family", lambda rows, name: rows)
    done = CliRunner().invoke(app, ["atlas", "--out", str(tmp_path / "a")])
    assert done.exit_code == 1, done.output
    assert_rebuilt(tmp_path / "a")
    page = (tmp_path / "a" / "report.html").read_text()
    assert "a &lt;b&gt;mismatch&lt;/b&gt;" in page and "<b>mismatch" not in page
    assert "What did not hold" in page and "ArgumentError" in page
    with open(tmp_path / "a" / "atlas.csv", newline="") as file:
        assert [line["audit"] for line in csv.DictReader(file)] == [row.verdict for row in rows]
    monkeypatch.setattr(atlas, "atlas", lambda **options: iter(rows[:1]))
    assert CliRunner().invoke(app, ["atlas", "--out", str(tmp_path / "b")]).exit_code == 0


def test_a_noisy_point_becomes_independent_copies():
    cloud = atlas.copies(st.Phase(jnp.ones(2), jnp.zeros(2)))
    assert cloud.count == atlas.COPIES and cloud.positions.momentum.shape == (atlas.COPIES, 2)
    assert atlas.copies(cloud) is cloud
