"""`steepest compare`, from the outside, and the comparison behind it."""

import csv
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from steepest.errors import ArgumentError
from steepest.inference import Certificate, Statement, compare, fit
from steepest.inference.certificate import uncertified
from steepest.inference.sampling_error import sampling_error
from steepest.inference.tails import moments_statement
from steepest.inference.target import Target
from test_report import EVIL, Page, assert_offline_and_inert, assert_rebuilt

FAST = "natural-gradient"


def write_rows(path, columns, rows=60, seed=0):
    """A CSV with two features and a coin that follows the first of them."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, 2))
    y = (x[:, 0] + rng.logistic(size=rows) > 0).astype(int)
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows([*map(float, row), int(coin)] for row, coin in zip(x, y, strict=True))


SPEC = """
[model]
kind = "bayesian-logistic-regression"
data = "rows.csv"
target = "y"
"""


def test_an_answer_is_certified_and_its_folder_is_whole(steepest, tmp_path):
    import arviz

    write_rows(tmp_path / "rows.csv", [EVIL, "b", "y"])
    (tmp_path / "coin.toml").write_text(SPEC)
    code, text = steepest("compare", "coin.toml", "--methods", f"laplace,{FAST}", "--out", "out")
    assert code == 0, text
    assert "certified: means within" in text
    out = tmp_path / "out"
    assert_rebuilt(out)
    report = (out / "report.html").read_text()
    assert_offline_and_inert(report, Page(report))
    mark = json.loads((out / "run.json").read_text())
    assert mark["passed"] is True
    assert set(mark["files"]) == {entry.name for entry in out.iterdir()}
    with open(out / "compare.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["method"] for row in rows] == ["laplace", FAST]
    assert all(int(row["gradients"]) <= 20_000 for row in rows)
    data = arviz.from_netcdf(out / "draws.nc")
    assert set(data.posterior.data_vars) == {"intercept", "weights"}
    assert data.posterior["feature"].values.tolist() == [EVIL, "b"]
    assert "certified" in data.certificate.attrs["verdict"]

    # Nothing within the budget: the answer is given, with the reason and exit code 1.
    words = ("--methods", FAST, "--budget", 100, "--out", "poor")
    code, text = steepest("compare", "coin.toml", *words)
    assert code == 1, text
    assert "not certified, because" in text
    assert (tmp_path / "poor" / "draws.nc").exists()


def refused(steepest, tmp_path, model, *said):
    (tmp_path / "wrong.toml").write_text(model)
    words = ("--allow-code",) if "imported" in model else ()
    code, text = steepest("compare", "wrong.toml", "--methods", FAST, *words, "--out", "out")
    assert code == 2, text
    flat = " ".join(text.split())
    for words in said:
        assert words in flat, text
    assert not (tmp_path / "out").exists()


def test_wrong_input_is_refused_with_what_would_do(steepest, tmp_path):
    write_rows(tmp_path / "rows.csv", ["a", "b", "y"])
    (tmp_path / "energies.py").write_text(
        "import jax.numpy as jnp\n"
        "def nan(x):\n    return jnp.sum(jnp.log(x - 1.0))\n"
        "def scale(x):\n    return jnp.where(x[0] > 0, -jnp.log(x[0]), -jnp.inf)\n"
    )
    imported = '[model]\nkind = "imported"\nlog_density = "energies:{}"\ndimension = 2\n'
    refused(steepest, tmp_path, imported.format("nan"), "energy", "start")
    refused(steepest, tmp_path, imported.format("scale"), "support", "transform")
    flat = SPEC + "prior_scale = inf\n"
    (tmp_path / "rows.csv").write_text("a,y\n" + "".join(f"{i},{int(i > 5)}\n" for i in range(12)))
    refused(steepest, tmp_path, flat, "separa")
    (tmp_path / "rows.csv").write_text("a,b,y\n" + "".join(f"{i},7,{i % 2}\n" for i in range(12)))
    refused(steepest, tmp_path, SPEC, "'b'")
    code, text = steepest("compare", "wrong.toml", "--budget", 5)
    assert code == 2
    assert "budget" in text
    code, text = steepest("compare", "wrong.toml", "--methods", "natural-gradent")
    assert code == 2
    assert "natural-gradient" in text
    code, text = steepest("compare", "energies.py:scale")
    assert code == 2
    assert "--allow-code" in text


def gaussian_energy(x):
    return 0.5 * jnp.sum(((x - 1.0) / jnp.array([1.0, 3.0])) ** 2)


def test_what_is_compared_is_right_and_bounds_hold():
    with jax.enable_x64():
        found = compare(gaussian_energy, ["laplace", FAST], start=jnp.zeros(2))
    assert not found.failed
    for answer in found.answers:
        assert answer.certificate.certified, str(answer.certificate)
        bound = answer.certificate
        assert np.max(np.abs(answer.mean - 1.0) / [1.0, 3.0]) <= bound.mean
        assert np.max(np.abs(answer.sd / [1.0, 3.0] - 1.0)) <= bound.sd
    gaps, floors = found.disagreement()
    assert gaps[0, 1] <= floors[0, 1]
    best = found.best
    assert best is not None
    assert best.certificate.mean == min(a.certificate.mean for a in found.answers)


def test_arguments_of_fit_and_compare_are_checked():
    with pytest.raises(ArgumentError, match="start"):
        fit(gaussian_energy)
    with pytest.raises(ArgumentError, match="budget"):
        fit(gaussian_energy, budget=3, start=jnp.zeros(2))
    with pytest.raises(ArgumentError, match="natural-gradient"):
        fit(gaussian_energy, "natural_gradient", start=jnp.zeros(2))
    with pytest.raises(ArgumentError, match="each once"):
        compare(gaussian_energy, [FAST, FAST], start=jnp.zeros(2))
    with pytest.raises(ArgumentError, match="scalar"):
        Target.of(lambda x: x, jnp.zeros(2))


def test_a_certificate_says_what_stands_in_its_way():
    good = Statement.of("R-hat", 1.0, 1.01, assumption="", why="")
    bad = Statement.of("acceptance", 2.0, 1.0, assumption="", why="")
    open_ = Statement("tail", np.nan, 1.0, np.nan, "", "too few draws", None)
    assert Certificate((good,), 0.01, 0.02).certified
    assert not Certificate((good, bad), 0.01, 0.02).certified
    assert "acceptance is 2" in Certificate((good, bad), 0.01, 0.02).verdict
    assert "too few draws" in Certificate((open_,), 0.01, 0.02).verdict
    assert "0.2 only" in Certificate((good,), 0.2, 0.02).verdict
    assert "nothing bounds" in Certificate((good,)).verdict
    assert not Statement.of("x", np.nan, 1.0, assumption="", why="").held
    assert "no gradient" in uncertified("no gradient").verdict


def test_bounds_of_sampling_error_hold_together():
    """Autoregressive chains of known law: the simultaneous bound fails in about 5 % of 100 runs.

    With an exceedance of 5 % more than 13 of 100 have probability 2e-4; and the bound is no
    looser than twice the 95 % quantile of the errors.
    """
    rng = np.random.default_rng(0)
    chains, saves, d, rho, runs = 8, 400, 5, 0.7, 100
    beyond, errors, bounds = 0, [], []
    for _ in range(runs):
        x = rng.standard_normal((chains, d))
        draws = np.empty((chains, saves, d))
        for t in range(saves):
            x = rho * x + np.sqrt(1 - rho**2) * rng.standard_normal((chains, d))
            draws[:, t] = x
        found = sampling_error(draws)
        error = np.max(np.abs(draws.mean(axis=(0, 1))))
        beyond += error > found.mean or np.max(np.abs(draws.std(axis=(0, 1)) - 1)) > found.sd
        errors.append(error)
        bounds.append(found.mean)
    assert beyond <= 13
    assert np.median(bounds) < 2 * np.quantile(errors, 0.95)
    still = np.zeros((4, 100, 1))
    assert sampling_error(still).mean == np.inf
    assert sampling_error(np.ones((1, 1, 2))).sd == np.inf


def random_walks(log_density, x, saves, rng):
    """Metropolis chains by proposals of width 2.4 on every coordinate by itself, every second kept.

    x (..., d): the start. Returns (..., saves, d).
    """
    now, kept = log_density(x), []
    for step in range(2 * saves):
        y = x + 2.4 * rng.standard_normal(x.shape)
        there = log_density(y)
        taken = np.log(rng.random(x.shape)) < there - now
        x, now = np.where(taken, y, x), np.where(taken, there, now)
        if step % 2:
            kept.append(x)
    return np.stack(kept, axis=-2)


def test_heavy_tails_widen_the_bound_on_sds_or_refuse_it():
    """Chains of Student's law with 3 degrees of freedom, whose fourth moment is infinite, with 6,
    and of a Gaussian, in one coordinate: 60 runs each. At 5 % more than 8 have probability 0.003.

    Of the first, plain standard errors miss 16. Their k = 2/3, known to 0.15 or so, is beyond 0.7
    in two runs of five: 48 claims would be three standard deviations too many.
    """
    rng, runs = np.random.default_rng(1), 60
    claimed = {}
    for freedom in (3, 6, np.inf):
        if np.isinf(freedom):
            sd, log_density = 1.0, lambda x: -0.5 * x**2
            start = rng.standard_normal((runs, 64, 1))
        else:
            sd = np.sqrt(freedom / (freedom - 2))
            start = rng.standard_t(freedom, (runs, 64, 1))
            log_density = lambda x: -0.5 * (freedom + 1) * np.log1p(x**2 / freedom)  # noqa: B023, E731
        beyond = claims = 0
        for draws in random_walks(log_density, start, 60, rng):
            found = sampling_error(draws)
            if moments_statement(found.shapes, "").held:
                claims += 1
                beyond += np.max(np.abs(draws.std(axis=(0, 1)) / sd - 1)) > found.sd
        claimed[freedom] = claims
        assert beyond <= 8, freedom
    assert claimed[3] <= 48
    assert claimed[6] >= runs // 2
    assert claimed[np.inf] == runs
