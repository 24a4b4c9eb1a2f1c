"""Posteriors on tables: energies against scipy's densities, references, and refusals in words."""

import json
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.special
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.flatten_util import ravel_pytree

from steepest import problems
from steepest.cli.posterior import read_posterior
from steepest.errors import ArgumentError
from steepest.inference import Target
from steepest.problems import TableError, priors, propriety

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples" / "posteriors"
REFERENCES = sorted((ROOT / "tests" / "references").glob("*.json"))
N, S = scipy.stats.norm, scipy.stats


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """30 rows: two features, a number, a count, three classes, two classes, four groups, errors."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(30, 2)) * [3, 0.1] + [5, -2]
    number = x @ [0.5, 4.0] + rng.normal(size=30)
    count = rng.poisson(np.exp(0.3 * (x[:, 0] - 5)))
    kind = np.array(["ash", "elm", "oak"])[rng.integers(3, size=30)]
    sign = np.array(["no", "yes"])[rng.integers(2, size=30)]
    place = np.array(["w", "s", "n", "e"])[np.arange(30) % 4]
    error = rng.uniform(0.5, 2.0, size=30)
    path = tmp_path_factory.mktemp("posteriors") / "table.csv"
    head = "first,second,number,count,kind,sign,place,error"
    rows = zip(*x.T, number, count, kind, sign, place, error, strict=True)
    path.write_text("\n".join([head, *(",".join(map(str, row)) for row in rows)]))
    return path


def others(*used):
    """The columns to drop, beside the features and those in use."""
    return [c for c in ("number", "count", "kind", "sign", "place", "error") if c not in used]


def read(path, target, kind, **reading):
    return problems.read_table(path, target, target_kind=kind, **reading)


def random_point(problem, seed):
    rng = np.random.default_rng(seed)
    return {k: 0.7 * rng.normal(size=np.shape(v)) for k, v in problem.start.items()}


def minus_log_joint(problem, theta):
    return float(problem.functional(theta)) + problem.constant


def near(problem, log_joint, theta):
    # Sums of some 100 terms of order one to ten, in another order: 1e-12 is 4500 eps.
    np.testing.assert_allclose(minus_log_joint(problem, theta), -log_joint, rtol=1e-12)


def coefficients(theta, scale):
    return sum(N.logpdf(theta[k], scale=scale).sum() for k in ("weights", "intercept"))


@pytest.mark.parametrize("seed", [0, 1])
def test_linear_energy_is_minus_the_log_joint_density(path, seed):
    drop = others("number")
    problem = problems.bayesian_linear_regression(
        path, "number", prior_scale=1.5, noise_scale=0.7, drop=drop, dtype=jnp.float64
    )
    table, theta = read(path, "number", "number", drop=drop), random_point(problem, seed)
    noise = np.exp(theta["log_noise"])
    mean = table.features @ theta["weights"] + theta["intercept"]
    log_joint = N.logpdf(table.target, mean, noise).sum() + coefficients(theta, 1.5)
    log_joint += S.halfnorm.logpdf(noise, scale=0.7) + theta["log_noise"]
    near(problem, log_joint, theta)
    assert problem.constrain is not None
    held = problem.constrain(theta)
    assert set(held) == {"weights", "intercept", "noise"}
    np.testing.assert_allclose(held["noise"], noise, rtol=1e-15)


def test_known_noise_is_conjugate_and_its_evidence_exact(path):
    """log p(y) is that of N(0, noise^2 I + s^2 X X'); ours from the Gaussian integral of E."""
    drop = others("number")
    problem = problems.bayesian_linear_regression(
        path, "number", prior_scale=1.5, noise=0.6, drop=drop, dtype=jnp.float64
    )
    table = read(path, "number", "number", drop=drop)
    X = np.column_stack([np.ones(30), table.features])
    exact = S.multivariate_normal.logpdf(
        table.target, np.zeros(30), 0.36 * np.eye(30) + 2.25 * X @ X.T
    )
    target = Target.of(problem)
    zero = jnp.zeros(3)
    hessian, slope = jax.hessian(target)(zero), jax.grad(target)(zero)
    least = target(zero) - 0.5 * slope @ jnp.linalg.solve(hessian, slope)
    log_z = -least + 1.5 * math.log(2 * math.pi) - 0.5 * jnp.linalg.slogdet(hessian)[1]
    assert problem.constant is not None
    np.testing.assert_allclose(float(log_z) - problem.constant, exact, rtol=1e-11)


@pytest.mark.parametrize("dof", [3.0, None])
def test_robust_energy_is_minus_the_log_joint_density(path, dof):
    drop = others("number")
    problem = problems.robust_regression(
        path, "number", dof=dof, noise_scale=0.8, drop=drop, dtype=jnp.float64
    )
    table, theta = read(path, "number", "number", drop=drop), random_point(problem, 2)
    noise = np.exp(theta["log_noise"])
    mean = table.features @ theta["weights"] + theta["intercept"]
    nu = dof if dof is not None else np.exp(theta["log_dof"])
    log_joint = S.t.logpdf(table.target, nu, mean, noise).sum() + coefficients(theta, 1.0)
    log_joint += S.halfnorm.logpdf(noise, scale=0.8) + theta["log_noise"]
    if dof is None:
        log_joint += S.gamma.logpdf(nu, 2.0, scale=10.0) + theta["log_dof"]
    near(problem, log_joint, theta)
    assert ("log_dof" in problem.start) == (dof is None)


def test_student_loss_keeps_its_digits_at_large_dof_in_float32():
    """t with 5000 degrees of freedom; a difference of two log-gammas would lose 0.01 a row."""
    z = np.linspace(-3, 3, 50)
    found = problems.posteriors.student_loss(jnp.asarray(z, jnp.float32), jnp.float32(5000.0))
    exact = -S.t.logpdf(z, 5000.0).sum()
    assert abs(float(found) - exact) < 50 * 1e-4


def test_poisson_energy_is_minus_the_log_joint_density(path):
    drop = others("count")
    problem = problems.poisson_regression(
        path, "count", prior_scale=2.0, drop=drop, dtype=jnp.float64
    )
    table, theta = read(path, "count", "count", drop=drop), random_point(problem, 3)
    rate = np.exp(table.features @ theta["weights"] + theta["intercept"])
    near(problem, S.poisson.logpmf(table.target, rate).sum() + coefficients(theta, 2.0), theta)


def test_logistic_energy_and_constant_are_minus_the_log_joint_density(path):
    drop = others("sign")
    problem = problems.bayesian_logistic_regression(
        path, "sign", prior_scale=2.0, drop=drop, dtype=jnp.float64
    )
    table, theta = read(path, "sign", "binary", drop=drop), random_point(problem, 4)
    p = scipy.special.expit(table.features @ theta["weights"] + theta["intercept"])
    near(problem, S.bernoulli.logpmf(table.target, p).sum() + coefficients(theta, 2.0), theta)


def test_multinomial_energy_is_minus_the_log_joint_density(path):
    drop = others("kind")
    problem = problems.multinomial_regression(
        path, "kind", prior_scale=2.0, drop=drop, dtype=jnp.float64
    )
    table, theta = read(path, "kind", "class", drop=drop), random_point(problem, 5)
    logits = np.column_stack([np.zeros(30), table.features @ theta["weights"] + theta["intercept"]])
    p = scipy.special.softmax(logits, axis=1)
    log_likelihood = S.multinomial.logpmf(np.eye(3)[table.target], 1, p).sum()
    near(problem, log_likelihood + coefficients(theta, 2.0), theta)
    assert problem.coords == {"feature": ("first", "second"), "class": ("elm", "oak")}


HIERARCHIES = {
    "means, known errors": dict(errors="error", drop=["first", "second"]),
    "regression": dict(spread_prior="half-normal"),
    "varying slopes": dict(varying=["second"], spread_scale=0.5),
}


@pytest.fixture(scope="module", params=HIERARCHIES, ids=str)
def hierarchy(request, path):
    """(centred, non-centred, table, options) of one hierarchical model."""
    options = dict(HIERARCHIES[request.param])
    drop = others("number", "place", "error" if "errors" in options else "") + options.pop(
        "drop", []
    )
    both = [
        problems.hierarchical_regression(
            path,
            "number",
            group="place",
            prior_scale=2.0,
            noise_scale=0.8,
            centred=centred,
            drop=drop,
            dtype=jnp.float64,
            **options,
        )
        for centred in (True, False)
    ]
    kind = "quantity" if "errors" in options else "number"
    table = read(path, "number", kind, group="place", errors=options.get("errors"), drop=drop)
    return *both, table, options


def test_hierarchical_energy_is_minus_the_log_joint_density(hierarchy):
    problem, _, table, options = hierarchy
    theta = random_point(problem, 6)
    spread, scale = np.exp(theta["log_spread"]), options.get("spread_scale", 1.0)
    prior = S.halfnorm if options.get("spread_prior") == "half-normal" else S.halfcauchy
    log_joint = prior.logpdf(spread, scale=scale).sum() + theta["log_spread"].sum()
    log_joint += N.logpdf(theta["mean"], scale=2.0).sum()
    log_joint += N.logpdf(theta["effects"], theta["mean"], spread).sum()
    own = theta["effects"][table.group]
    if "varying" in options:
        log_joint += N.logpdf(theta["weights"], scale=2.0).sum()
        own = own[:, 0] + own[:, 1] * table.features[:, 1] + table.features[:, 0] * theta["weights"]
    elif "weights" in theta:
        log_joint += N.logpdf(theta["weights"], scale=2.0).sum()
        own = own + table.features @ theta["weights"]
    if table.errors is None:
        noise = np.exp(theta["log_noise"])
        log_joint += S.halfnorm.logpdf(noise, scale=0.8) + theta["log_noise"]
    else:
        noise = table.errors
    near(problem, log_joint + N.logpdf(table.target, own, noise).sum(), theta)


def test_the_two_forms_are_one_posterior(hierarchy):
    """E_nc(z) = E_c(map(z)) - log |det map'|, with the determinant by autodiff."""
    centred, plain, _, _ = hierarchy
    theta = random_point(plain, 7)
    flat, unravel = ravel_pytree({k: jnp.asarray(v) for k, v in theta.items()})

    def change(x):
        z = unravel(x)
        effects = z["mean"] + jnp.exp(z["log_spread"]) * z["deviations"]
        return {k: v for k, v in z.items() if k != "deviations"} | {"effects": effects}

    determinant = jnp.linalg.slogdet(jax.jacfwd(lambda x: ravel_pytree(change(x))[0])(flat))[1]
    mapped = change(flat)
    expected = minus_log_joint(centred, mapped) - float(determinant)
    np.testing.assert_allclose(minus_log_joint(plain, theta), expected, rtol=1e-12)
    a, b = centred.constrain(mapped), plain.constrain(theta)
    assert set(a) == set(b)
    for name in a:
        np.testing.assert_allclose(a[name], b[name], rtol=1e-13)


@pytest.mark.parametrize("name", ["half-normal", "half-cauchy", "gamma"])
def test_priors_of_logarithms_integrate_to_one(name):
    """Jacobian and constant at once; the half-Cauchy leaves 2/pi exp(-40) beyond the ends."""
    if name == "gamma":
        term, constant = (lambda x: priors.gamma(x, 2.0, 0.1)), priors.gamma_constant(2.0, 0.1)
    else:
        make, left_out = priors.POSITIVE[name]
        term, constant = (lambda x: make(x, 0.6)), left_out(0.6)
    x = np.linspace(-40, 40, 8001)
    density = np.exp(-np.asarray(jax.vmap(term)(jnp.asarray(x))) - constant)
    # The trapezoidal rule on an analytic density with a step of 0.01 is exact to round-off.
    assert abs(scipy.integrate.trapezoid(density, x) - 1.0) < 1e-12


@pytest.mark.parametrize("file", REFERENCES, ids=lambda p: p.stem)
def test_energies_equal_numpyros_potentials(file):
    problem = read_posterior(EXAMPLES / f"{file.stem}.toml").build()
    stored = json.loads(file.read_text())
    assert len(stored["potential"]["points"]) == 3
    for point, value in zip(
        stored["potential"]["points"], stored["potential"]["values"], strict=True
    ):
        theta = {k: np.asarray(v) for k, v in point.items()}
        np.testing.assert_allclose(minus_log_joint(problem, theta), value, rtol=1e-10)
    held = stored["unconstrained"]
    assert {k: np.shape(v["mean"]) for k, v in held.items()} == {
        k: np.shape(v) for k, v in problem.start.items()
    }
    assert max(v["r_hat"] for v in held.values()) < 1.001
    # The same in float32: sums of up to 600 terms, one relative eps = 1.2e-7 each at the most.
    single = read_posterior(EXAMPLES / f"{file.stem}.toml", ["compare.precision=float32"]).build()
    assert all(leaf.dtype == jnp.float32 for leaf in single.start.values())
    point = {k: jnp.asarray(v, jnp.float32) for k, v in theta.items()}
    value = single.functional(point)
    assert value.dtype == jnp.float32
    np.testing.assert_allclose(value, problem.functional(theta), rtol=600 * 1.2e-7)


def test_the_reference_of_eight_schools_agrees_with_quadrature():
    """Given the spread all is Gaussian, so the posterior is one integral over log spread."""
    y = np.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
    error = np.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])
    grid = np.linspace(-12.0, 8.0, 4001)
    moments = []
    for spread in np.exp(grid):
        prior = spread**2 * np.eye(8) + 25.0  # of the effects, the mean integrated out
        gain = np.linalg.solve(prior + np.diag(error**2), prior).T
        log_density = S.multivariate_normal.logpdf(y, np.zeros(8), prior + np.diag(error**2))
        log_density += S.halfcauchy.logpdf(spread, scale=5.0) + np.log(spread)
        effects = gain @ y
        variance = np.diag(prior - gain @ prior)
        precision = 1.0 / (spread**2 + error**2)
        v = 1.0 / (precision.sum() + 1 / 25.0)
        mean = v * (precision @ y)
        moments.append([log_density, *effects, *(variance + effects**2), mean, v + mean**2])
    moments = np.asarray(moments)
    weight = np.exp(moments[:, 0] - moments[:, 0].max())
    weight /= weight.sum()
    average = weight @ moments[:, 1:]
    log_spread = weight @ grid
    exact = {
        "effects": (average[:8], np.sqrt(average[8:16] - average[:8] ** 2)),
        "mean": (average[16], np.sqrt(average[17] - average[16] ** 2)),
        "log_spread": (log_spread, np.sqrt(weight @ (grid - log_spread) ** 2)),
    }
    stored = json.loads((ROOT / "tests/references/eight_schools_centred.json").read_text())
    for name, (mean, sd) in exact.items():
        held = {k: np.asarray(v) for k, v in stored["unconstrained"][name].items()}
        # 20 comparisons: 3.7 standard errors is the 99.5 % quantile of their largest.
        assert np.all(np.abs(held["mean"] - mean) < 3.7 * held["mean_mcse"]), name
        assert np.all(np.abs(held["sd"] - sd) < 3.7 * held["sd_mcse"]), name


def test_flat_priors_are_taken_where_the_likelihood_suffices(path):
    """No constant then; the energy is the likelihood alone."""
    drop = others("sign")
    flat = problems.bayesian_logistic_regression(
        path, "sign", prior_scale=math.inf, drop=drop, dtype=jnp.float64
    )
    assert flat.constant is None and "flat prior" in flat.notes[-1]
    wide = problems.bayesian_logistic_regression(
        path, "sign", prior_scale=1e9, drop=drop, dtype=jnp.float64
    )
    theta = random_point(flat, 8)
    value, slope = jax.value_and_grad(flat.functional)(theta)
    np.testing.assert_allclose(value, wide.functional(theta), rtol=1e-14)
    assert all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in slope.values())
    for make, target in (
        (problems.poisson_regression, "count"),
        (problems.bayesian_linear_regression, "number"),
        (problems.multinomial_regression, "kind"),
    ):
        assert make(path, target, prior_scale=math.inf, drop=others(target)).constant is None


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=2, max_size=8))
@settings(max_examples=150, deadline=None)
def test_separation_in_one_dimension_is_that_of_the_order(rows):
    """Separable, or nearly so, if no point of one class lies strictly past one of the other."""
    x, up = np.array([r[0] for r in rows], float), np.array([r[1] for r in rows])
    if len(set(x)) < 2:
        return
    X, signs = np.column_stack([np.ones(len(x)), x]), np.where(up, 1.0, -1.0)
    low, high = x[up], x[~up]
    expected = not len(low) or not len(high) or low.max() <= high.min() or high.max() <= low.min()
    assert (propriety.unbounded_direction(signs[:, None] * X) is not None) == expected


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2)), min_size=2, max_size=8))
@settings(max_examples=150, deadline=None)
def test_poisson_posteriors_are_improper_where_zeros_lie_to_one_side(rows):
    x, y = np.array([r[0] for r in rows], float), np.array([r[1] for r in rows])
    if len(set(x)) < 2 or not y.any():
        return
    X, zero = np.column_stack([np.ones(len(x)), x]), y == 0
    seen, empty = set(x[~zero]), x[zero]
    one_side = len(seen) == 1 and (np.all(empty <= min(seen)) or np.all(empty >= min(seen)))
    expected = one_side and bool(np.any(empty != min(seen)))
    assert (propriety.unbounded_direction(-X[zero], X[~zero]) is not None) == expected


PAIRS = "".join(
    f"{a},{2 * a + 1},{b},{c}\n"
    for a, b, c in zip([1, 2, 3, 4, 5, 6], [3, 1, 4, 1, 5, 9], "uvuvuv", strict=True)
)
DEPENDENT = "a,b,y,g\n" + PAIRS
REFUSED = {
    "constant column": (
        "bayesian_linear_regression",
        "a,b,y\n1,7,3\n2,7,5\n3,7,4\n",
        {},
        "column 'b': constant at 7",
    ),
    "dependent columns": (
        "bayesian_linear_regression",
        DEPENDENT,
        dict(prior_scale=math.inf, drop=["g"]),
        "prior_scale: got inf; the posterior is improper: 1 of 3 columns depend",
    ),
    "fewer rows than columns": (
        "robust_regression",
        "a,b,y\n1,2,3\n2,1,5\n",
        dict(prior_scale=math.inf),
        "1 of 3 columns depend",
    ),
    "exact fit": (
        "bayesian_linear_regression",
        "a,y\n1,3\n2,5\n3,7\n4,9\n",
        {},
        "target: got values that the columns of table.csv fit exactly",
    ),
    "exact fit, robust": (
        "robust_regression",
        "a,y\n1,3\n2,5\n3,7\n4,9\n",
        {},
        "fit exactly",
    ),
    "separable": (
        "bayesian_logistic_regression",
        "a,y\n1,no\n2,no\n3,yes\n4,yes\n",
        dict(prior_scale=math.inf),
        "a plane separates the classes (along 'a'",
    ),
    "separable classes": (
        "multinomial_regression",
        "a,y\n1,p\n2,q\n3,q\n4,r\n5,r\n",
        dict(prior_scale=math.inf),
        "planes separate the classes",
    ),
    "zeros to one side": (
        "poisson_regression",
        "a,y\n0,3\n0,2\n1,0\n1,0\n",
        dict(prior_scale=math.inf),
        "the rates of rows with count 0 can go to 0 alone",
    ),
    "negative count": (
        "poisson_regression",
        "a,y\n1,3\n2,-1\n3,7\n",
        {},
        "line 3, column 'y': '-1' is no count",
    ),
    "half a count": (
        "poisson_regression",
        "a,y\n1,3\n2,1.5\n3,7\n",
        {},
        "line 3, column 'y': '1.5' is no count",
    ),
    "no counts": ("poisson_regression", "a,y\n1,0\n2,0\n", {}, "every count is 0"),
    "one group": (
        "hierarchical_regression",
        "g,y\nu,1\nu,2\nu,4\n",
        dict(group="g"),
        "column 'g': one group only, 'u'",
    ),
    "one row in each group": (
        "hierarchical_regression",
        "g,y\nu,1\nv,2\nw,4\n",
        dict(group="g"),
        "group: got one row in every group; noise and spread cannot be told apart",
    ),
    "groups that fit exactly": (
        "hierarchical_regression",
        "g,y\nu,1\nu,1\nv,2\nv,2\n",
        dict(group="g"),
        "fit exactly",
    ),
    "group missing": (
        "hierarchical_regression",
        "g,y\nu,1\n,2\nw,4\n",
        dict(group="g", missing="mean"),
        "line 3, column 'g': the group is missing",
    ),
    "group is the target": (
        "hierarchical_regression",
        "g,y\nu,1\nv,2\n",
        dict(group="y"),
        "are both 'y'",
    ),
    "unknown group": (
        "hierarchical_regression",
        "place,y\nu,1\nv,2\n",
        dict(group="plaice"),
        "group names the column 'plaice', which the file lacks; did you mean 'place'?",
    ),
    "group dropped": (
        "hierarchical_regression",
        "g,y\nu,1\nv,2\n",
        dict(group="g", drop=["g"]),
        "group names the column 'g', which is also in drop",
    ),
    "error of zero": (
        "hierarchical_regression",
        "g,y,e\nu,1,1\nv,2,0\n",
        dict(group="g", errors="e"),
        "line 3, column 'e': '0'; standard errors are positive",
    ),
    "unknown slope": (
        "hierarchical_regression",
        "g,a,y\nu,1,1\nv,2,3\nu,3,3\n",
        dict(group="g", varying=["b"]),
        "varying names 'b', which is no feature; it has 'a'",
    ),
    "unknown prior": (
        "hierarchical_regression",
        "g,y\nu,1\nv,2\nv,3\n",
        dict(group="g", spread_prior="cauchy"),
        "spread_prior: got 'cauchy'; 'half-normal' or",
    ),
    "flat prior, group constant in a column": (
        "hierarchical_regression",
        DEPENDENT,
        dict(group="g", prior_scale=math.inf),
        "1 of 3 columns depend",
    ),
    "scale of zero": (
        "poisson_regression",
        "a,y\n1,3\n2,1\n",
        dict(prior_scale=0.0),
        "prior_scale: got 0.0",
    ),
    "scale that is no number": (
        "poisson_regression",
        "a,y\n1,3\n2,1\n",
        dict(prior_scale=math.nan),
        "prior_scale: got nan",
    ),
    "flat noise": (
        "bayesian_linear_regression",
        "a,y\n1,3\n2,1\n3,1\n",
        dict(noise_scale=math.inf),
        "noise_scale: got inf; a positive number",
    ),
    "no noise": (
        "bayesian_linear_regression",
        "a,y\n1,3\n2,1\n3,1\n",
        dict(noise=0.0),
        "noise: got 0.0",
    ),
    "no degrees of freedom": (
        "robust_regression",
        "a,y\n1,3\n2,1\n3,1\n",
        dict(dof=0.0),
        "dof: got 0.0",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_has_no_posterior_is_refused_in_words(case, tmp_path):
    make, text, options, message = REFUSED[case]
    file = tmp_path / "table.csv"
    file.write_text(text)
    with pytest.raises((TableError, ArgumentError)) as caught:
        getattr(problems, make)(file, "y", **options)
    assert message in str(caught.value)


def test_finite_priors_make_the_same_data_proper(tmp_path):
    """What a flat prior is refused for, a proper one takes."""
    for case in ("dependent columns", "separable", "separable classes", "zeros to one side"):
        make, text, options, _ = REFUSED[case]
        file = tmp_path / "table.csv"
        file.write_text(text)
        problem = getattr(problems, make)(file, "y", **(options | {"prior_scale": 2.0}))
        assert np.isfinite(minus_log_joint(problem, problem.start))
