"""`steepest dial`: a spec turned from one setting to another, each position audited."""

import csv

import numpy as np
import pytest

from steepest.cli.dial import Track
from steepest.cli.spec import parse_spec
from test_report import assert_rebuilt

BOWL = """
[state]
initial = [1.0, 1.0]
[functional]
kind = "quadratic"
curvatures = [1.0, 4.0]
[geometry]
kind = "euclidean"
[scheme]
kind = "euler"
step = 0.01
[run]
time = 2.0
"""


@pytest.fixture
def spec(tmp_path):
    path = tmp_path / "bowl.toml"
    path.write_text(BOWL)
    return path


def test_a_dial_of_the_clock_is_known_in_closed_form(steepest, spec, tmp_path):
    """F(t) = (e^{-2 k t} + 4 e^{-8 k t})/2 for the factor k; the first one is too large."""
    words = ("--between", "geometry.factor=60,0.25", "--steps", "3", "--log")
    code, said = steepest("dial", spec, *words, "--out", "d")
    assert code == 1 and "some audits failed" in said
    with open(tmp_path / "d" / "dial.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    factors = [float(row["geometry.factor"]) for row in rows]
    np.testing.assert_allclose(factors, [60.0, np.sqrt(15.0), 0.25], rtol=1e-6)
    assert "diverged" in rows[0]["audit"] and rows[0]["late"] == "nan"  # 0.01 * 60 * 4 > 2
    assert rows[2]["audit"] == "passed"
    t = np.linspace(1.5, 2.0, 400)
    exact = np.mean(0.5 * (np.exp(-0.5 * t) + 4.0 * np.exp(-2.0 * t)))
    assert float(rows[2]["late"]) == pytest.approx(exact, rel=0.02)  # Euler: step * curvature / 2
    assert float(rows[2]["start"]) == 2.5
    assert_rebuilt(tmp_path / "d")
    page = (tmp_path / "d" / "report.html").read_text()
    assert "geometry.factor, 60 to 0.25" in page
    assert (tmp_path / "d" / "run.json").is_file()


def test_two_geometries_are_mixed(spec):
    import tomllib

    tables = tomllib.loads(BOWL)
    track = Track.parse("geometry=euclidean, norm")
    track.apply(tables, track.at(0.25, False))
    made = parse_spec(tables)
    assert [(part.kind, part.factor) for part in made.geometry] == [
        ("euclidean", 0.75),
        ("norm", 0.25),
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "got nothing"),
        (("--between", "scheme.step"), "KEY=FROM,TO"),
        (("--between", "scheme.step=0.1"), "KEY=FROM,TO"),
        (("--between", "scheme.step=a,b"), "KEY=FROM,TO"),
        (("--between", "scheme.step=1,1"), "two different finite numbers"),
        (("--between", "scheme.step=1,nan"), "two different finite numbers"),
        (("--between", "scheme.step=-1,1", "--log"), "two positive numbers"),
        (("--between", "scheme.stepp=1,2"), "step"),
        (("--between", "sheme.step=1,2"), "scheme"),
        (("--between", "geometry=euclidian,norm"), "euclidean"),
        (("--between", "scheme.step=0.1,0.2", "--steps", "1"), "from 2 to"),
    ],
)
def test_wrong_input_is_refused_before_anything_runs(steepest, spec, tmp_path, words, said):
    code, told = steepest("dial", spec, *words, "--out", "d")
    assert code == 2 and said in told
    assert not (tmp_path / "d").exists()


def test_the_legend_lies_on_no_curve():
    from steepest import figures

    times = np.linspace(0.0, 5.0, 9)
    curves = [(f"friction={g:g}", times, np.exp(-g * times)) for g in (0.0, 3.0)]
    figure = figures.dial_figure(curves, np.ones(2), np.ones(2), "friction")
    figure.draw_without_rendering()
    legend = figure.legends[0].get_window_extent()
    assert not any(axes.get_window_extent().overlaps(legend) for axes in figure.axes)
