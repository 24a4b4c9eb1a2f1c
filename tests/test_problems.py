"""Named problems against a second way of writing them."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.special

from steepest import problems
from steepest.errors import ArgumentError
from steepest.problems.generalised_linear import softplus

DATA = Path(__file__).parent.parent / "examples" / "data" / "breast_cancer.csv"


@pytest.fixture
def table(tmp_path):
    """40 rows, two features, a number and three classes."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 2)) * [3, 0.1] + [5, -2]
    y = x @ [0.5, 4.0] + rng.normal(size=40)
    kind = np.array(["ash", "elm", "oak"])[rng.integers(3, size=40)]
    lines = [f"{a},{b},{c},{k}" for (a, b), c, k in zip(x, y, kind, strict=True)]
    path = tmp_path / "table.csv"
    path.write_text("\n".join(["first,second,number,kind", *lines]))
    return path


def test_softplus_is_log_one_plus_exp_without_overflow():
    z = jnp.array([-800.0, -30.0, 0.0, 1.0, 30.0, 800.0])
    np.testing.assert_allclose(softplus(z), np.logaddexp(0, np.asarray(z)), rtol=1e-14)
    slope = jax.vmap(jax.grad(softplus))(z)
    np.testing.assert_allclose(slope, scipy.special.expit(np.asarray(z)), rtol=1e-14)
    curvature = jax.vmap(jax.grad(jax.grad(softplus)))(z)
    expit = scipy.special.expit(np.asarray(z))
    # p (1 - p) is exact to eps in absolute terms.
    np.testing.assert_allclose(curvature, expit * (1 - expit), atol=2.3e-16)


@pytest.mark.parametrize("intercept", [True, False])
def test_logistic_energy_is_minus_the_log_posterior(intercept):
    problem = problems.bayesian_logistic_regression(
        DATA, "diagnosis", prior_scale=1.7, intercept=intercept, dtype=jnp.float64
    )
    table = problems.read_table(DATA, "diagnosis")
    rng = np.random.default_rng(1)
    theta = {"weights": jnp.asarray(rng.normal(size=30))}
    if intercept:
        theta["intercept"] = jnp.asarray(0.3)
    logits = table.features @ np.asarray(theta["weights"]) + float(theta.get("intercept", 0.0))
    log_likelihood = np.sum(
        table.target * scipy.special.log_expit(logits)
        + (1 - table.target) * scipy.special.log_expit(-logits)
    )
    log_prior = -0.5 * sum(float(jnp.sum(v**2)) for v in theta.values()) / 1.7**2
    # 569 terms of order one: round-off 569 eps relative at the most.
    np.testing.assert_allclose(
        float(problem.functional(theta)), -(log_likelihood + log_prior), rtol=569 * 2.3e-16
    )
    assert jax.tree.structure(problem.start) == jax.tree.structure(theta)


def test_logistic_labels_are_the_columns():
    problem = problems.bayesian_logistic_regression(DATA, "diagnosis")
    assert problem.coords["feature"][0] == "mean radius"
    assert problem.dims == {"weights": ("feature",), "intercept": ()}
    assert problem.start["weights"].dtype == jnp.float32
    assert "target diagnosis: benign = 0, malignant = 1" in problem.notes


def test_linear_risk_is_least_at_the_least_squares_solution(table):
    problem = problems.linear_regression(table, "number", drop=["kind"], dtype=jnp.float64)
    read = problems.read_table(table, "number", target_kind="number", drop=["kind"])
    design = np.column_stack([read.features, np.ones(40)])
    solution, residual, *_ = np.linalg.lstsq(design, read.target, rcond=None)
    theta = {"weights": jnp.asarray(solution[:2]), "intercept": jnp.asarray(solution[2])}
    np.testing.assert_allclose(float(problem.functional(theta)), residual[0] / 80, rtol=1e-12)
    gradient = problem.functional.differential(theta)
    for leaf in jax.tree.leaves(gradient):
        np.testing.assert_allclose(leaf, 0, atol=1e-14)


def test_ridge_adds_half_ridge_norm_squared(table):
    options = {"drop": ["kind"], "dtype": jnp.float64}
    plain = problems.linear_regression(table, "number", **options).functional
    ridged = problems.linear_regression(table, "number", ridge=0.3, **options).functional
    theta = {"weights": jnp.array([1.0, -2.0]), "intercept": jnp.array(0.5)}
    np.testing.assert_allclose(
        float(ridged(theta) - plain(theta)), 0.15 * (1 + 4 + 0.25), rtol=1e-13
    )


def test_softmax_risk_is_the_mean_cross_entropy(table):
    problem = problems.softmax_regression(table, "kind", drop=["number"], dtype=jnp.float64)
    read = problems.read_table(table, "kind", target_kind="class", drop=["number"])
    rng = np.random.default_rng(2)
    weights, intercept = rng.normal(size=(2, 2)), rng.normal(size=2)
    logits = np.column_stack([np.zeros(40), read.features @ weights + intercept])
    expected = -np.mean(scipy.special.log_softmax(logits, axis=1)[np.arange(40), read.target])
    theta = {"weights": jnp.asarray(weights), "intercept": jnp.asarray(intercept)}
    np.testing.assert_allclose(float(problem.functional(theta)), expected, rtol=1e-13)
    assert problem.coords["class"] == ("elm", "oak")


def test_two_classes_of_softmax_are_logistic_regression():
    """The mean cross entropy of two classes is the logistic energy without its prior, over n."""
    soft = problems.softmax_regression(DATA, "diagnosis", dtype=jnp.float64)
    flat = problems.bayesian_logistic_regression(
        DATA, "diagnosis", prior_scale=1e9, dtype=jnp.float64
    )
    w = jnp.asarray(np.random.default_rng(3).normal(size=30))
    one = soft.functional({"weights": w[:, None], "intercept": jnp.array([0.2])})
    other = flat.functional({"weights": w, "intercept": jnp.array(0.2)})
    np.testing.assert_allclose(569 * float(one), float(other), rtol=1e-12)


@pytest.mark.parametrize(
    ("problem", "minimum"),
    [
        (problems.quadratic([2.0, 3.0], dtype=jnp.float64), [0, 0]),
        (problems.double_well(3, dtype=jnp.float64), [1, 0, 0]),
        (problems.rosenbrock(4, dtype=jnp.float64), [1, 1, 1, 1]),
    ],
    ids=["quadratic", "double-well", "rosenbrock"],
)
def test_landscapes_vanish_at_their_minima(problem, minimum):
    x = {"x": jnp.asarray(minimum, jnp.float64)}
    assert float(problem.functional(x)) == 0
    np.testing.assert_array_equal(problem.functional.differential(x)["x"], 0)
    assert float(problem.functional(problem.start)) >= 0


def test_rosenbrock_is_scipys():
    problem = problems.rosenbrock(5, dtype=jnp.float64)
    x = np.random.default_rng(4).normal(size=5)
    at = {"x": jnp.asarray(x)}
    np.testing.assert_allclose(float(problem.functional(at)), scipy.optimize.rosen(x), rtol=1e-13)
    np.testing.assert_allclose(
        problem.functional.differential(at)["x"], scipy.optimize.rosen_der(x), rtol=1e-11
    )


def test_double_well_has_its_barrier():
    problem = problems.double_well(2, barrier=3.0, stiffness=5.0, dtype=jnp.float64)
    assert float(problem.functional({"x": jnp.zeros(2)})) == 3.0
    curvature = jax.hessian(lambda x: problem.functional({"x": x}))(jnp.array([1.0, 0.0]))
    np.testing.assert_allclose(curvature, np.diag([24.0, 5.0]))


@pytest.mark.parametrize(
    "make",
    [
        lambda: problems.quadratic([]),
        lambda: problems.quadratic([1.0, -1.0]),
        lambda: problems.double_well(0),
        lambda: problems.rosenbrock(1),
        lambda: problems.bayesian_logistic_regression(DATA, "diagnosis", prior_scale=0.0),
        lambda: problems.linear_regression(DATA, "mean radius", drop=["diagnosis"], ridge=-1.0),
        lambda: problems.linear_regression(DATA, "mean radius", drop=["diagnosis"], batch_size=570),
    ],
)
def test_wrong_options_are_refused(make):
    with pytest.raises(ArgumentError):
        make()


MODULE = """
import helper
import jax.numpy as jnp
start = {"a": [1.0, 2.0], "b": 3.0}
def begin():
    return jnp.ones(2)
def energy(theta):
    return helper.half * jnp.sum(theta ** 2)
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "mine.py").write_text(MODULE)
    (tmp_path / "helper.py").write_text("half = 0.5\n")
    (tmp_path / "broken.py").write_text("1 / 0\n")
    return tmp_path


def test_an_energy_from_a_file(folder):
    problem = problems.imported_energy("mine:energy", folder=folder, dimension=3)
    assert problem.start.shape == (3,)
    assert float(problem.functional(jnp.array([3.0, 4.0, 0.0]))) == 12.5
    problem = problems.imported_energy("mine:energy", folder=folder, start="mine:begin")
    assert float(problem.functional(problem.start)) == 1.0
    problem = problems.imported_energy("mine:energy", folder=folder, start="mine:start")
    assert set(problem.start) == {"a", "b"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"energy": "mine:energy"}, "give exactly one"),
        ({"energy": "mine:energy", "dimension": 2, "start": "mine:start"}, "give exactly one"),
        ({"energy": "mine", "dimension": 2}, "module:function"),
        ({"energy": "../mine:energy", "dimension": 2}, "module:function"),
        ({"energy": "none:energy", "dimension": 2}, "there is no file"),
        ({"energy": "none.py:energy", "dimension": 2}, "without .py"),
        ({"energy": "mine:nothing", "dimension": 2}, "begin"),
        ({"energy": "mine:start", "dimension": 2}, "must name a function"),
        ({"energy": "broken:energy", "dimension": 2}, "raised ZeroDivisionError"),
    ],
)
def test_a_reference_that_leads_nowhere_is_refused(folder, options, message):
    with pytest.raises(ArgumentError, match=message):
        problems.imported_energy(folder=folder, **options)
