"""`steepest run`, from the outside: folders, exit codes, messages."""

import csv
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

from steepest.__about__ import __version__
from steepest.cli import folder
from steepest.errors import ArgumentError
from test_report import EVIL, QUOTE, Page, assert_offline_and_inert, assert_rebuilt

EXAMPLES = Path(__file__).parent.parent / "examples"
FILES = {"spec.toml", "ledger.csv", "samples.nc", "report.html", "run.json"}


def visible(path):
    return sorted(entry.name for entry in path.iterdir() if entry.name != ".cache")


SMALL = ("--set", "run.time=1.0", "--set", "scheme.step=0.05")


def test_help_and_version_import_nothing_heavy():
    program = (
        "import sys\n"
        "from steepest.cli import main\n"
        "try:\n"
        "    main()\n"
        "except SystemExit as end:\n"
        "    assert end.code == 0\n"
        "heavy = {'jax', 'matplotlib', 'arviz', 'numpy', 'diffrax', 'xarray'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    for words in (["--help"], ["run", "--help"], ["--version"]):
        command = [sys.executable, "-c", program, *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(("Usage:", f"steepest {__version__}"))


def test_help_has_examples(steepest):
    code, text = steepest("run", "--help")
    assert code == 0
    assert "steepest run examples/breast_cancer.toml" in text
    assert steepest()[0] == 2  # no command: the help, and wrong input


def test_a_run_writes_its_folder(steepest, tmp_path):
    import arviz

    code, text = steepest("run", EXAMPLES / "quadratic.toml", "--out", "out", *SMALL)
    assert code == 0, text
    assert "audit passed" in text
    assert "report: out/report.html" in text
    out = tmp_path / "out"
    assert set(visible(out)) > FILES
    assert visible(tmp_path) == ["out"]
    report = (out / "report.html").read_text()
    assert_offline_and_inert(report, Page(report))
    assert_rebuilt(out)
    (out / "report.html").write_text("lost")
    code, text = steepest("report", "out")
    assert code == 0 and "made again" in text and (out / "report.html").read_text() == report
    assert "unchanged" in steepest("report", out)[1]
    with open(out / "ledger.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 21
    # Euler on E = (x1^2 + 10 x2^2)/2 with step 0.05: x1 shrinks by 0.95 and x2 by 0.5 a step.
    steps = np.arange(21)
    exact = 0.5 * (0.95 ** (2 * steps) + 10 * 0.5 ** (2 * steps))
    energies = [float(row["functional"]) for row in rows]
    np.testing.assert_allclose(energies, exact, rtol=1e-5)  # float32, 20 steps
    data = arviz.from_netcdf(out / "samples.nc")
    assert data.posterior["x"].dims == ("chain", "draw", "coordinate")
    assert data.posterior["coordinate"].values.tolist() == ["x1", "x2"]
    mark = json.loads((out / "run.json").read_text())
    assert mark["passed"] is True
    assert set(mark["files"]) == set(visible(out))
    assert mark["provenance"]["seed"] == "0"


def test_the_resolved_spec_repeats_the_run_bit_by_bit(steepest, tmp_path):
    words = ("--set", "run.time=5.0", "--set", "state.chains=20", "--seed", "5")
    assert steepest("run", EXAMPLES / "double_well.toml", "--out", "a/b", *words)[0] in (0, 1)
    assert steepest("run", "a/b/spec.toml", "--out", "again")[0] in (0, 1)
    first, second = tmp_path / "a/b", tmp_path / "again"
    assert (first / "ledger.csv").read_bytes() == (second / "ledger.csv").read_bytes()
    assert (first / "spec.toml").read_bytes() == (second / "spec.toml").read_bytes()
    assert tomllib.loads((first / "spec.toml").read_text())["run"]["seed"] == 5
    assert steepest("run", "a/b/spec.toml", "--out", "again", "--seed", 6)[0] in (0, 1)
    assert (first / "ledger.csv").read_bytes() != (second / "ledger.csv").read_bytes()


def test_the_main_job(steepest, tmp_path):
    """Real data, kinetic Langevin, 64 chains: the audit passes and every R-hat is below 1.01."""
    code, text = steepest("run", EXAMPLES / "breast_cancer.toml")
    assert code == 0, text
    out = tmp_path / "runs/breast_cancer"
    mark = json.loads((out / "run.json").read_text())
    assert len(mark["summary"]) == 31
    assert max(row["r_hat"] for row in mark["summary"]) < 1.01
    assert mark["warnings"] == []
    names = [row["parameter"] for row in mark["summary"]]
    assert {"intercept", "mean radius", "worst area"} < set(names)
    data = tomllib.loads((out / "spec.toml").read_text())["functional"]["data"]
    assert (out / data).is_file()  # the resolved path is relative to the run folder


def test_a_failed_audit_and_a_divergence_are_exit_code_one(steepest, tmp_path):
    """Step 0.25 is beyond the stability limit 2/10 of the stiffer direction."""
    words = ("--set", "scheme.step=0.25", "--set", "run.time=10")
    code, text = steepest("run", EXAMPLES / "quadratic.toml", "--out", "out", *words)
    assert code == 1
    assert "audit failed" in text
    assert "Audit failed" in (tmp_path / "out/report.html").read_text()
    words = ("--set", "scheme.step=5", "--set", "run.time=500")
    code, text = steepest("run", EXAMPLES / "quadratic.toml", "--out", "none", *words)
    assert code == 1
    assert "the run diverged" in text
    assert "take a smaller step" in text
    assert visible(tmp_path) == ["out"]


def test_names_from_a_file_stay_text(steepest, tmp_path):
    rng = np.random.default_rng(0)
    with open(tmp_path / "evil.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([EVIL, QUOTE, "[red]y"])
        writer.writerows(rng.normal(size=(20, 3)))
    (tmp_path / "evil.toml").write_text(
        '[functional]\nkind = "linear-regression"\ndata = "evil.csv"\ntarget = "[red]y"\n'
        '[geometry]\nkind = "euclidean"\n[scheme]\nkind = "euler"\nstep = 0.1\n'
        "[run]\nsteps = 20\n"
    )
    code, text = steepest("run", "evil.toml", "--out", "out")
    assert code == 0, text
    assert "target [red]y standardised" in text
    report = (tmp_path / "out/report.html").read_text()
    parsed = Page(report)
    assert_offline_and_inert(report, parsed)
    assert "[red]y" in parsed.text
    assert_rebuilt(tmp_path / "out")


def test_an_energy_of_ones_own_needs_consent(steepest, tmp_path):
    (tmp_path / "mine.py").write_text("def energy(x):\n    return (x**2).sum()\n")
    (tmp_path / "mine.toml").write_text(
        '[state]\ninitial = [1.0, 2.0]\n[functional]\nenergy = "mine:energy"\ndimension = 2\n'
        '[geometry]\nkind = "euclidean"\n[scheme]\nkind = "euler"\nstep = 0.1\n'
        "[run]\nsteps = 10\n"
    )
    code, text = steepest("run", "mine.toml", "--out", "out")
    assert code == 2
    assert "--allow-code" in text
    assert visible(tmp_path) == ["mine.py", "mine.toml"]
    assert steepest("run", "mine.toml", "--out", "out", "--allow-code")[0] == 0
    assert steepest("run", "out/spec.toml", "--out", "again", "--allow-code")[0] == 0


WRONG = {
    "no spec": (["none.toml"], "does not exist"),
    "unknown key": (["--set", "run.stps=3"], "run.stps: unknown key; did you mean steps?"),
    "bad set": (["--set", "nonsense"], "write it as section.key=value"),
    "bad seed": (["--seed", "-1"], "run.seed: got -1"),
    "seed is no number": (["--seed", "x"], "--seed"),
    "does not fit": (["--set", "scheme.kind=leapfrog"], "is not kinetic"),
    "metric not positive": (
        ["--set", "geometry.kind=riemannian", "--set", "geometry.metric=[[1, 2], [2, 1]]"],
        "a metric is positive definite",
    ),
    "time no multiple": (["--set", "run.time=0.123"], "not a multiple of step"),
    "out is a file": (["--out", "spec.toml"], "this is not a folder"),
    "out is foreign": (["--out", "."], "the folder holds"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_input_is_exit_code_two_and_writes_nothing(steepest, tmp_path, name):
    words, message = WRONG[name]
    (tmp_path / "spec.toml").write_text((EXAMPLES / "quadratic.toml").read_text())
    words = words if words[0].endswith(".toml") else ["spec.toml", *words]
    code, text = steepest("run", *words)
    assert code == 2, text
    assert message in " ".join(text.split())
    assert "Traceback" not in text
    assert visible(tmp_path) == ["spec.toml"]


def test_a_bad_table_is_exit_code_two(steepest, tmp_path):
    (tmp_path / "bad.csv").write_text("a,y\n1,0\nabc,1\n")
    (tmp_path / "spec.toml").write_text(
        (EXAMPLES / "breast_cancer.toml").read_text().replace("data/breast_cancer.csv", "bad.csv")
    )
    code, text = steepest("run", "spec.toml", "--set", "functional.target=y")
    assert code == 2
    assert "bad.csv, line 3, column 'a': 'abc' is not a number" in text
    assert visible(tmp_path) == ["bad.csv", "spec.toml"]


# ---- the folder ----


def make_run(place, **files):
    with folder.new_folder(place) as scratch:
        for name, text in files.items():
            (scratch / name).write_text(text)
        folder.write_mark(scratch, {"title": "t"})


def test_an_earlier_run_is_replaced_whole(tmp_path):
    make_run(tmp_path / "run", old="1", both="1")
    folder.check_place(tmp_path / "run")
    make_run(tmp_path / "run", new="2", both="2")
    assert visible(tmp_path / "run") == ["both", "new", "run.json"]
    assert visible(tmp_path) == ["run"]


def test_a_failure_leaves_the_earlier_run(tmp_path):
    make_run(tmp_path / "run", old="1")
    with pytest.raises(RuntimeError), folder.new_folder(tmp_path / "run") as scratch:
        (scratch / "half").write_text("x")
        raise RuntimeError
    assert visible(tmp_path) == ["run"]
    assert visible(tmp_path / "run") == ["old", "run.json"]


@pytest.mark.parametrize(
    ("mark", "message"),
    [
        (None, "files that are no run's"),
        ("", "that is no run's"),
        ("[]", "that is no run's"),
        ('{"format": 1}', "that is no run's"),
        ('{"format": 99, "files": []}', "format 99"),
        ('{"format": 1, "files": ["run.json"]}', "'thesis.tex', which no run wrote"),
    ],
)
def test_what_is_not_a_run_is_never_replaced(tmp_path, mark, message):
    place = tmp_path / "run"
    place.mkdir()
    (place / "thesis.tex").write_text("years")
    if mark is not None:
        (place / "run.json").write_text(mark)
    with pytest.raises(ArgumentError, match=message):
        folder.check_place(place)
    assert (place / "thesis.tex").read_text() == "years"


def test_an_empty_folder_may_be_filled_and_a_link_not(tmp_path):
    (tmp_path / "empty").mkdir()
    assert folder.check_place(tmp_path / "empty") == tmp_path / "empty"
    make_run(tmp_path / "empty", new="1")
    assert visible(tmp_path / "empty") == ["new", "run.json"]
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    with pytest.raises(ArgumentError, match="not a folder"):
        folder.check_place(tmp_path / "link")


@pytest.mark.parametrize(
    ("example", "settings"),
    [
        ("double_well_fokker_planck", ["run.time=0.4", "state.cells=80"]),
        ("porous_medium", ["run.time=0.04", "state.cells=80"]),
        ("wfr_bimodal", ["run.time=0.2", "state.cells=100", "run.save_every=5"]),
        ("fisher_rao", ["run.time=0.3", "state.cells=[24, 20]"]),
    ],
)
def test_a_law_leaves_its_density_and_a_film(steepest, example, settings):
    words = [word for setting in settings for word in ("--set", setting)]
    code, text = steepest("run", EXAMPLES / f"{example}.toml", "--out", "run", *words)
    assert code == 0, text
    names = {entry.name for entry in Path("run").iterdir()}
    files = (FILES - {"samples.nc"}) | {"trajectory.npz", "density.csv", "law.png", "frame_00.png"}
    assert files <= names
    text = Path("run/report.html").read_text()
    assert_offline_and_inert(text, Page(text))
    assert text.count('type="radio"') >= 3
    assert_rebuilt(Path("run"))
    rows = list(csv.reader(Path("run/density.csv").read_text().splitlines()))
    assert rows[0][-1] == "density" and min(float(row[-1]) for row in rows[1:]) >= 0


@pytest.mark.parametrize(
    ("example", "settings"),
    [
        # A step times K is 1/40 here and not 1/200: the step of the example would be unstable.
        ("svgd_breast_cancer", ["state.chains=40", "run.steps=50", "scheme.step=0.01"]),
        ("desai_zwanzig", ["state.count=200", "run.time=2.0", "run.save_every=4"]),
        ("aggregation_diffusion", ["state.count=200", "run.time=0.1", "run.save_every=10"]),
        ("mmd_flow", ["state.count=60", "run.steps=20"]),
        ("sinkhorn_flow", ["state.count=40", "run.steps=4"]),
        ("mean_field_network", ["state.count=40", "run.steps=20"]),
    ],
)
def test_a_cloud_leaves_its_particles_and_a_film(steepest, example, settings):
    words = [word for setting in settings for word in ("--set", setting)]
    code, text = steepest("run", EXAMPLES / f"{example}.toml", "--out", "run", *words)
    assert code == 0, text
    names = {entry.name for entry in Path("run").iterdir()}
    assert (FILES - {"samples.nc"}) | {"trajectory.npz", "particles.csv", "frame_00.png"} <= names
    text = Path("run/report.html").read_text()
    assert_offline_and_inert(text, Page(text))
    assert_rebuilt(Path("run"))
    rows = list(csv.reader(Path("run/particles.csv").read_text().splitlines()))
    count = next(int(s.partition("=")[2]) for s in settings if s.startswith("state"))
    assert len(rows) == count + 1
    if example == "mmd_flow":
        assert rows[0] == ["sepal length", "petal length"]


def test_a_weighted_cloud_moves_and_is_reweighed(steepest, tmp_path):
    spec = """
[state]
kind = "cloud"
count = 100
dimension = 1
weighted = true
[functional]
kind = "kl"
energy = { kind = "gaussian-mixture", means = [[-2.0], [2.0]], deviation = 0.5 }
[[geometry]]
kind = "wasserstein"
[[geometry]]
kind = "fisher-rao"
[scheme]
kind = "strang"
step = 0.05
schemes = ["euler", "birth-death"]
[run]
time = 1.0
save_every = 4
precision = "float64"
"""
    (tmp_path / "spec.toml").write_text(spec)
    code, text = steepest("run", "spec.toml", "--out", "run")
    assert code == 0, text
    rows = list(csv.reader(Path("run/particles.csv").read_text().splitlines()))
    assert rows[0] == ["x1", "weight"]
    assert abs(sum(float(row[1]) for row in rows[1:]) - 1) < 1e-8


def test_points_of_a_csv_file_that_cannot_be_used(steepest, tmp_path):
    (tmp_path / "points.csv").write_text("x,y,name\n1,2,a\n3,,b\n")
    text = (EXAMPLES / "mmd_flow.toml").read_text().replace("data/iris.csv", "points.csv")
    (tmp_path / "spec.toml").write_text(text)
    cases = {
        '["x","z"]': "lacks",
        '["x","name"]': "not a number",
        '["x","y"]': "no value",
        '["x","x"]': "twice",
        '["x"]': "dimension",
    }
    for columns, message in cases.items():
        given = ["--set", f"functional.columns={columns}"]
        code, text = steepest("run", "spec.toml", "--out", "run", *given)
        assert code == 2 and message in text, text
    assert visible(tmp_path) == ["points.csv", "spec.toml"]


def test_a_gaussian_from_a_spec_has_a_film_too(steepest, tmp_path):
    spec = """
[state]
kind = "gaussian"
dimension = 3
mean = [1.0, 0.0, -1.0]
[functional]
kind = "kl"
energy = { kind = "quadratic", curvatures = [1.0, 4.0, 2.0] }
[geometry]
kind = "fisher-rao"
[scheme]
kind = "exponential"
step = 0.25
[run]
time = 1.0
precision = "float64"
"""
    (tmp_path / "spec.toml").write_text(spec)
    code, text = steepest("run", "spec.toml", "--out", "run")
    assert code == 0, text
    assert {"trajectory.npz", "law.png"} <= {entry.name for entry in Path("run").iterdir()}


def test_runs_are_listed_newest_first_and_hostile_ones_are_named(steepest, tmp_path):
    assert steepest("ls")[0] == 2  # there is no runs/
    assert steepest("report", "runs/none")[0] == 2
    marks = {
        "old": {"command": "steepest compare a.toml", "began": "2026-01-01 00:00:00 UTC"},
        "deep/new": {"command": "steepest run [b].toml", "began": "2026-02-01 00:00:00 UTC"},
    }
    for name, provenance in marks.items():
        place = tmp_path / "runs" / name
        place.mkdir(parents=True)
        said = {"provenance": provenance, "passed": name == "old", "verdict": f"[red]{name}[/red]"}
        folder.write_mark(place, said)
    for name, text in {
        "broken": "{",
        "deeper": "[" * 10_000,
        "bare": '{"format":1,"files":[]}',
    }.items():
        (tmp_path / "runs" / name).mkdir()
        (tmp_path / "runs" / name / "run.json").write_text(text)
    (tmp_path / "runs" / "plain").mkdir()
    code, said = steepest("ls")
    assert code == 0 and said.index("deep/new") < said.index("old")
    assert "[red]old[/red]" in said and "compare" in said and "plain" not in said
    assert all(name in said for name in ("broken", "deeper", "bare")) and "cannot be read" in said
    for name, what in (("old", "lacks 'ledger'"), ("broken", "no run's"), ("bare", "lacks")):
        code, said = steepest("report", f"runs/{name}")
        assert code == 2 and what in said
    code, said = steepest("ls", "runs/old")
    assert code == 0 and "old" in said
    (tmp_path / "none").mkdir()
    assert "steepest run SPEC.toml" in steepest("ls", "none")[1]
