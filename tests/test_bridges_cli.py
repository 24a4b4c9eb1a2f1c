"""`steepest bridge` and `steepest transport` from files to files."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from steepest.bridges import problem
from steepest.cli.app import app
from test_report import assert_rebuilt


def invoke(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def write(path, header, rows):
    np.savetxt(path, rows, "%.6f", ",", header=header, comments="")
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Two clouds, (2, 0) apart, columns in another order; all here have 80 rows: one program."""
    folder, rng = tmp_path_factory.mktemp("bridge"), np.random.default_rng(0)
    source = write(folder / "a.csv", "x,y", rng.normal(size=(80, 2)))
    target = write(folder / "b.csv", "y,x", rng.normal(size=(80, 2)) + np.asarray([0.0, 2.0]))
    return folder, source, target


@pytest.fixture(scope="module")
def run(files):
    folder, source, target = files
    result = invoke("bridge", source, target, "--temperature", 0.2, "--out", folder / "run")
    return folder, result


def test_a_bridge_is_audited_saved_and_told(run):
    folder, result = run
    assert result.exit_code == 0, result.output
    place = folder / "run"
    mark = json.loads((place / "run.json").read_text())
    assert set(mark["files"]) == {entry.name for entry in place.iterdir()}
    assert mark["passed"] and mark["facts"]["method"] == "sinkhorn"
    assert "fewer than" in mark["notes"][0]
    assert sum("sha256" in key for key in mark["provenance"]) == 2
    assert_rebuilt(place)
    report = (place / "report.html").read_text()
    assert "data:image/png" in report and "dual gap" in report
    rows = np.genfromtxt(place / "snapshots.csv", delimiter=",", names=True)
    assert rows.dtype.names == ("time", "x", "y")
    ends = rows[rows["time"] == 1.0]
    assert len(ends) == 80 and abs(ends["x"].mean() - 2.0) < 0.5 and abs(ends["y"].mean()) < 0.5
    words = json.loads((place / "bridge" / "model.json").read_text())["words"]
    assert words["columns"] == ["x", "y"]


def test_unseen_points_are_carried(run):
    folder, _ = run
    new = write(folder / "new.csv", "y,x", np.asarray([[0.0, 0.1], [1.0, -0.5]]))
    out = folder / "moved.csv"
    assert invoke("transport", folder / "run", new, "--out", out, "--mean").exit_code == 0
    moved = np.genfromtxt(out, delimiter=",", names=True)
    assert moved.dtype.names == ("x", "y") and len(moved) == 2
    assert moved["x"][0] > 1.0 and moved["y"][1] > moved["y"][0]
    again = invoke("transport", folder / "run", new, "--out", out)
    assert again.exit_code == 2 and "exists already" in again.output


def test_snapshots_at_several_times(files):
    """The cloud stands at the second file at its time, and the saved chain carries points on."""
    folder, source, target = files
    rng = np.random.default_rng(1)
    third = write(folder / "d.csv", "x,y", rng.normal(size=(80, 2)) + np.asarray([2.0, 2.0]))
    words = ("--times", "0,1,3", "--temperature", 0.2, "--out", folder / "chain")
    result = invoke("bridge", source, target, third, *words)
    assert result.exit_code == 0, result.output
    assert "leg 2, dual gap" in result.output
    rows = np.genfromtxt(folder / "chain" / "snapshots.csv", delimiter=",", names=True)
    assert set(rows["time"]) == {0.0, 1.0, 3.0}
    middle, last = rows[rows["time"] == 1.0], rows[rows["time"] == 3.0]
    assert abs(middle["x"].mean() - 2.0) < 0.5 and abs(middle["y"].mean()) < 0.5
    assert abs(last["y"].mean() - 2.0) < 0.5
    out = folder / "carried.csv"
    assert invoke("transport", folder / "chain", source, "--out", out).exit_code == 0
    assert abs(np.genfromtxt(out, delimiter=",", names=True)["y"].mean() - 2.0) < 0.5
    refused = invoke("transport", folder / "chain", source, "--mean", "--out", folder / "no.csv")
    assert refused.exit_code == 2 and "--mean" in refused.output
    for times in ("0,1", "0,2,1", "0,x,1"):
        result = invoke("bridge", source, target, third, "--times", times)
        assert result.exit_code == 2 and "--times" in result.output


def test_mass_grows_along_a_chain(files):
    """The masses asked for are in the rows of snapshots.csv, by the paths' own weights."""
    folder, source, target = files
    rng = np.random.default_rng(2)
    third = write(folder / "e.csv", "x,y", rng.normal(size=(80, 2)) + np.asarray([3.0, 1.0]))
    words = ("--growth", 3, "--masses", "1,2,3", "--temperature", 0.2, "--out", folder / "grown")
    words += ("--smooth", 0.1)
    result = invoke("bridge", source, target, third, *words)
    assert result.exit_code == 0, result.output
    assert "snapshot 3, marginal, MMD" in result.output
    rows = np.genfromtxt(folder / "grown" / "snapshots.csv", delimiter=",", names=True)
    assert rows.dtype.names == ("time", "mass", "x", "y")
    for time, mass in ((0.0, 1.0), (1.0, 2.0), (2.0, 3.0)):
        found = rows["mass"][rows["time"] == time]
        assert abs(found.sum() - mass) < 5 * mass * found.std() / found.mean() / 80**0.5 + 1e-9
    grown = np.genfromtxt(folder / "grown" / "growth.csv", delimiter=",", names=True)
    assert len(grown) == 80 + 80 and grown["growth"].min() > 0
    assert grown["growth"][grown["time"] == 0].mean() == pytest.approx(2.0, rel=1e-4)
    out = folder / "grown.csv"
    assert invoke("transport", folder / "grown", source, "--out", out).exit_code == 0
    for words, said in (
        (("--growth", 0), "--growth"),
        (("--masses", "1,2"), "--growth PRICE"),
        (("--growth", 1, "--masses", "1,-2"), "--masses"),
        (("--growth", 1, "--masses", "1,2,3"), "--masses"),
    ):
        result = invoke("bridge", source, target, *words)
        assert result.exit_code == 2 and said in result.output


def test_the_network_of_the_command_is_saved_and_carries_points(files, monkeypatch):
    """With few steps: a network's bridge goes through the command, its folder and transport."""
    folder, source, target = files
    usual = problem.fit_networks
    few = {"rounds": 1, "steps": 30, "pairs": 512, "mixture": {"components": 2, "steps": 200}}
    monkeypatch.setattr(problem, "fit_networks", lambda *a, **k: usual(*a, **{**k, **few}))
    words = ("--method", "network", "--temperature", 0.5, "--out", folder / "network")
    result = invoke("bridge", source, target, *words)
    assert result.exit_code in (0, 1), result.output
    assert "reciprocal residual" in result.output
    out = folder / "by_network.csv"
    assert invoke("transport", folder / "network", source, "--out", out, "--mean").exit_code == 0
    assert abs(np.genfromtxt(out, delimiter=",", names=True)["x"].mean() - 2.0) < 0.5


def test_odd_clouds_are_noted_and_impossible_ones_refused(files):
    """Fewer points than columns, rows that repeat; no volume for a Gaussian, too cold."""
    folder, source, target = files
    rng = np.random.default_rng(3)
    few = rng.normal(size=(5, 6))
    few[4] = few[3]
    one = write(folder / "few.csv", "a,b,c,d,e,f", few)
    two = write(folder / "few_too.csv", "a,b,c,d,e,f", rng.normal(size=(40, 6)) + 1.0)
    result = invoke("bridge", one, two, "--temperature", 1, "--out", folder / "few")
    assert result.exit_code in (0, 1), result.output
    assert "5 points in 6 dimensions" in result.output
    assert "1 rows of the source repeat others" in result.output
    for words, said in (
        ((one, two, "--method", "gaussian"), "more points than"),
        ((source, target, "--temperature", 1e-17), "temperature"),
        ((source, target, "--smooth", 1), "three or more"),
        ((source, target, target, "--smooth", 0), "--smooth"),
    ):
        result = invoke("bridge", *words, "--out", folder / "no")
        assert result.exit_code == 2 and said in result.output, result.output


def test_wrong_input_is_told(files, run):
    folder, source, target = files
    other = write(folder / "c.csv", "x,z", np.zeros((3, 2)))
    result = invoke("bridge", source, other)
    assert result.exit_code == 2 and "'y'" in result.output and "'z'" in result.output
    assert invoke("bridge", source).exit_code == 2
    for words, said in (
        (("--temperature", 0), "temperature"),
        (("--method", "magic"), "--method"),
        (("--reference", "levy"), "--reference"),
        (("--out", source), "not a folder"),
    ):
        result = invoke("bridge", source, target, *words)
        assert result.exit_code == 2 and said in result.output
    assert invoke("transport", folder, source, "--out", folder / "no.csv").exit_code == 2
    result = invoke("transport", folder / "run", other, "--out", folder / "no.csv")
    assert result.exit_code == 2 and "column" in result.output
    assert not (folder / "no.csv").exists()
