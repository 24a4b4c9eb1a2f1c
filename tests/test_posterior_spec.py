"""The spec of `steepest compare`: what is read, what is refused, and the nearest names."""

import math
import tomllib
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from steepest.cli.ingredients.model import MODELS
from steepest.cli.posterior import parse_posterior, read_posterior
from steepest.cli.spec import SpecError, to_toml
from steepest.errors import ArgumentError
from steepest.inference import Target

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "examples" / "posteriors").glob("*.toml"))
WINE = ROOT / "examples" / "posteriors" / "wine.toml"
BANANA = ROOT / "examples" / "posteriors" / "banana.py"


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_examples_are_valid_and_the_resolved_spec_says_the_same(path):
    spec = read_posterior(path)
    again = parse_posterior(tomllib.loads(to_toml(spec.tables())), path.parent, path.name)
    assert again == spec
    assert spec.compare.budget == 20_000 and spec.compare.precision == "float64"


def test_a_flat_prior_survives_the_round_trip():
    spec = read_posterior(WINE, ["model.prior_scale=inf"])
    assert spec.model.prior_scale == math.inf
    assert tomllib.loads(to_toml(spec.tables()))["model"]["prior_scale"] == math.inf


MISTAKES = {
    "unknown key": ("model.prior_scal=1.0", "model.prior_scal: unknown key; did you mean prior_sc"),
    "unknown kind": ("model.kind=multinominal", "did you mean multinomial? one of bayesian-log"),
    "unknown section": ("compar.budget=300", "unknown section; did you mean compare?"),
    "unknown setting": ("compare.bugdet=300", "compare.bugdet: unknown key; did you mean budget?"),
    "small budget": ("compare.budget=99", "compare.budget: got 99; gradients for each method, an"),
    "scale": ("model.prior_scale=-1.0", "model.prior_scale: got -1.0; the prior's standard dev"),
    "not a number": ("model.prior_scale=nan", "model.prior_scale: got nan"),
    "tolerance": ("compare.tolerance=inf", "compare.tolerance: got inf; nats of free energy"),
    "precision": ("compare.precision=float16", "got 'float16'; 'float32' or 'float64'"),
    "key of another kind": ("model.dof=4.0", "model.dof: unknown key"),
    "kind alone": ("model.kind=hierarchical", "model.group: missing; the name of the column"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes_name_the_key_and_the_nearest(case):
    setting, message = MISTAKES[case]
    with pytest.raises(SpecError) as caught:
        read_posterior(WINE, [setting])
    assert message in str(caught.value)


def test_all_mistakes_are_told_at_once():
    with pytest.raises(SpecError) as caught:
        read_posterior(WINE, ["model.prior_scal=1.0", "compare.bugdet=3", "compare.seed=-1"])
    assert str(caught.value).startswith("wine.toml: 3 mistakes\n")
    for tables, message in (
        ({}, "[model]: missing; its kind is one of bayesian-logistic-regression"),
        ({"model": 3}, "model: a table [model] is needed"),
        ({"model": {}}, "model.kind: missing; one of"),
        ({"model": {"kind": ["linear"]}}, "model.kind: got ['linear']"),
        ({"model": {"kind": "imported"}, "compare": []}, "compare: a table [compare] is needed"),
        ({"model": {"kind": "imported"}}, "model.log_density, model.energy: got neither"),
        (
            {"model": {"kind": "imported", "energy": "a:b", "log_density": "a:b"}},
            "got both; give exactly one",
        ),
        ({"model": {"kind": "numpyro", "model": "a.py"}}, "'module:function', a NumPyro model"),
    ):
        with pytest.raises(SpecError) as caught:
            parse_posterior(tables)
        assert message in str(caught.value)


def test_a_new_kind_leaves_the_keys_of_the_old_behind():
    spec = read_posterior(ROOT / "examples/posteriors/diabetes_robust.toml", ["model.kind=linear"])
    assert spec.model.kind == "linear" and "dof" not in spec.tables()["model"]


def test_every_kind_has_a_maker():
    """Each name of the registry is the kind of its class; regressions name a function."""
    assert all(
        cls.model_fields["kind"].annotation.__args__ == (kind,) for kind, cls in MODELS.items()
    )
    from steepest import problems

    assert all(hasattr(problems, cls.maker) for cls in MODELS.values() if hasattr(cls, "maker"))


def test_code_needs_consent(tmp_path):
    (tmp_path / "mine.py").write_text("raise SystemExit('executed')\n")
    for model in (
        {"kind": "imported", "log_density": "mine:f", "dimension": 2},
        {"kind": "imported", "energy": "mine:f", "dimension": 2},
        {"kind": "numpyro", "model": "mine:f"},
    ):
        with pytest.raises(ArgumentError, match="--allow-code"):
            parse_posterior({"model": model}, tmp_path).build()
    with pytest.raises(ArgumentError, match="--allow-code"):
        read_posterior(f"{tmp_path / 'mine.py'}:f").build()


def banana_energy(x):
    return 0.5 * (x[0] ** 2 / 10 + (x[1] - 0.03 * (x[0] ** 2 - 10)) ** 2)


def test_a_function_of_a_file_is_a_log_density(monkeypatch):
    x = jnp.array([1.3, -0.4])
    monkeypatch.chdir(ROOT)
    for name, settings in (
        (f"{BANANA}:banana", []),
        ("examples/posteriors/banana.py:banana", ["model.dimension=2"]),
        ("examples.posteriors.banana:banana", ["compare.seed = 5"]),
    ):
        spec = read_posterior(name, settings)
        target = Target.of(spec.build(allow_code=True))
        assert target.dimension == 2
        np.testing.assert_allclose(target(x), banana_energy(x), rtol=1e-14)
    assert spec.compare.seed == 5 and spec.name == name


def test_a_function_without_a_start_says_what_would_do(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("def f(x):\n    return -(x ** 2).sum()\n")
    with pytest.raises(ArgumentError, match=r"no start: write start = .*dimension = N"):
        read_posterior(f"{file}:f").build(allow_code=True)
    with pytest.raises(ArgumentError, match=r"mine.py has \['f'\]"):
        read_posterior(f"{file}:g").build(allow_code=True)
    with pytest.raises(SpecError, match=r"name a function of this file, mine\.py:function"):
        read_posterior(file)
    with pytest.raises(ArgumentError, match="an identifier"):
        read_posterior(f"{tmp_path / 'not-a-name.py'}:f")
    for missing in ("nothing.toml", "mine:f:g", str(tmp_path)):
        with pytest.raises(SpecError):
            read_posterior(missing)


def test_mistakes_inside_the_function_are_told_as_such(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "import jax.numpy as jnp\n"
        "from steepest import Energy\n"
        "from steepest.problems import Problem\n"
        "start = jnp.zeros(2)\n"
        "number = 3\n"
        "def wrong(x):\n    return undefined + x.sum()\n"
        "def vector(x):\n    return x\n"
        "def outside(x):\n    return jnp.log(x).sum()\n"
        "def problem():\n    return Problem(Energy(lambda x: (x ** 2).sum()), start)\n"
        "def nothing():\n    return 3\n"
        "made = problem()\n"
    )
    for name, message in (
        ("wrong", "at the initial parameters it raised NameError"),
        ("vector", "an energy must be a scalar"),
        ("number", "it must name a function theta -> log density, or a Problem"),
        ("nothing", "a function theta -> log density, or one that returns a Problem"),
    ):
        with pytest.raises(ArgumentError) as caught:
            read_posterior(f"{file}:{name}").build(allow_code=True)
        assert message in str(caught.value)
    with pytest.raises(ArgumentError, match="a constrained parameter needs a transform"):
        Target.of(read_posterior(f"{file}:outside").build(allow_code=True))
    for name in ("problem", "made"):
        problem = read_posterior(f"{file}:{name}").build(allow_code=True)
        assert float(problem.functional(jnp.array([1.0, 2.0]))) == 5.0
