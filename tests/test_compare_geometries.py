"""`steepest compare-geometries`, from the outside: its folder, exit codes, messages."""

import csv
import json
import tomllib

import numpy as np
import pytest
from typer.testing import CliRunner

from steepest.cli.app import app
from test_report import EVIL, Page, assert_offline_and_inert, assert_rebuilt

SPEC = """
[model]
data = "points.csv"
target = "kind"
hidden = []

[compare]
gradients = 60
target = 0.6
rates = [0.1, 1.0]

[[contender]]
kind = "euclidean"
momentum = 0.9

[[contender]]
name = "NAME"
kind = "fisher"
rates = [1.0]

[[contender]]
kind = "optax"
optimizer = "adam"
"""


@pytest.fixture
def steepest(tmp_path, monkeypatch):
    """Run the command on SPEC beside a table of two overlapping classes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")
    generator = np.random.default_rng(0)
    x = generator.normal(size=(40, 2))
    kind = np.where(x @ [1.0, 0.5] + 0.8 * generator.normal(size=40) > 0, "up", "down")
    lines = [f"{a:.4f},{b:.4f},{k}" for (a, b), k in zip(x, kind, strict=True)]
    (tmp_path / "points.csv").write_text("\n".join(["a,b,kind", *lines]) + "\n")

    def steepest(*words, spec=SPEC):
        (tmp_path / "spec.toml").write_text(spec)
        result = CliRunner().invoke(app, ["compare-geometries", "spec.toml", *words])
        assert result.exception is None or isinstance(result.exception, SystemExit)
        return result.exit_code, result.output

    return steepest


def test_a_comparison_leaves_a_report_that_repeats_it(steepest, tmp_path):
    name = EVIL[:20]
    code, text = steepest("--out", "found", spec=SPEC.replace("NAME", name))
    assert code == 0, text
    place = tmp_path / "found"
    files = {"comparison.csv", "comparison.png", "dark", "report.html", "run.json", "spec.toml"}
    assert {entry.name for entry in place.iterdir()} == files
    assert_rebuilt(place)
    page = (place / "report.html").read_text()
    seen = Page(page)
    assert_offline_and_inert(page, seen)
    assert not seen.unbalanced and "Structure card" not in seen.text
    for word in ("euclidean, momentum 0.9", name, "adam", "to 0.6", "sha256 of points.csv"):
        assert word in seen.text
    rows = {
        row["geometry"]: row
        for row in json.loads((place / "run.json").read_text())["sheets"]["Contenders"]["rows"]
    }
    # One Fisher update is a gradient and 2 x 10 products: 60 gradients are two updates.
    assert rows["adam"]["gradients"] == 60 and rows[name]["gradients"] == 42
    assert [row["loss"] for row in rows.values()] == sorted(row["loss"] for row in rows.values())
    with open(place / "comparison.csv") as file:
        curves = list(csv.DictReader(file))
    for contender, row in rows.items():
        own = [curve for curve in curves if curve["geometry"] == contender]
        np.testing.assert_allclose(float(own[-1]["loss"]), row["loss"], rtol=1e-6)
        first = next((c for c in own if float(c["loss"]) <= 0.6), None)
        assert first is None or float(first["gradients"]) == row["to 0.6"]
    again = tomllib.loads((place / "spec.toml").read_text())
    assert again["model"]["data"] == "../points.csv"
    assert again["compare"]["gradients"] == 60 and len(again["contender"]) == 3


def test_when_every_contender_diverges_the_exit_code_is_one(steepest, tmp_path):
    head, tail = SPEC.split("[[contender]]", 1)
    spec = head + "[[contender]]" + tail.split("[[contender]]")[0] + "rates = [3e38]\n"
    code, text = steepest(spec=spec)
    assert code == 1, text
    assert "Every contender diverged" in (tmp_path / "runs/spec/report.html").read_text()


WRONG = {
    "unknown section": ("[modle]\nx = 1\n" + SPEC, "did you mean model?"),
    "unknown key": (SPEC.replace("hidden", "hiden"), "model.hiden"),
    "unknown contender": (SPEC.replace('"fisher"', '"fischer"'), "did you mean fisher?"),
    "unknown optimizer": (SPEC.replace('"adam"', '"adamm"'), "contender.2.optimizer"),
    "two budgets": (SPEC.replace("target = 0.6", "seconds = 1.0"), "give exactly one"),
    "no contender": (SPEC.split("[[contender]]")[0], "[[contender]]: missing"),
    "a name twice": (SPEC.replace("NAME", "euclidean, momentum 0.9"), "names that differ"),
    "no such table": (SPEC.replace("points.csv", "point.csv"), "point.csv"),
    "rows beyond the data": (SPEC.replace("rates = [1.0]", "rows = 41"), "rows"),
    "a batch beyond the data": (SPEC.replace("hidden = []", "batch_size = 41"), "batch_size"),
    "layers of no width": (SPEC.replace("hidden = []", "hidden = [0]"), "hidden"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_input_is_exit_code_two_and_writes_nothing(steepest, tmp_path, name):
    spec, message = WRONG[name]
    code, text = steepest(spec=spec)
    assert code == 2, text
    assert message in " ".join(text.split()) and "Traceback" not in text
    assert not (tmp_path / "runs").exists() or not any((tmp_path / "runs").iterdir())
