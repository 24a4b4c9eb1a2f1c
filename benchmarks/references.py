"""Reference posteriors of examples/posteriors: long NUTS runs by NumPyro, stored for tests.

    python -m benchmarks.references [NAME ...]      writes tests/references/NAME.json

The models are written here a second time, from the formulas and the CSV files alone, so that the
references check the energies of steepest, and not the other way round: before a run, both must
agree at random points. A file holds, for every variable on unconstrained and on constrained space,
mean, standard deviation and the Monte-Carlo standard errors of both; and -log joint density at
three points.
"""

from __future__ import annotations

import csv
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

ROOT = Path(__file__).parent.parent
DATA = ROOT / "examples" / "data"
PLACE = ROOT / "tests" / "references"
CHAINS, WARMUP, DRAWS = 4, 2_000, 20_000


def columns(name: str) -> dict[str, list[str]]:
    with open(DATA / name, newline="") as file:
        rows = list(csv.DictReader(file))
    return {key: [row[key] for row in rows] for key in rows[0]}


def standard(values: Any) -> np.ndarray:
    values = np.asarray(values, float)
    return (values - values.mean(axis=0)) / values.std(axis=0)


def matrix(table: dict[str, list[str]], *left_out: str) -> np.ndarray:
    kept = [key for key in table if key not in left_out]
    return np.stack([standard(table[key]) for key in kept], axis=1)


def breast_cancer() -> Callable[[], None]:
    import numpyro
    import numpyro.distributions as dist

    table = columns("breast_cancer.csv")
    x, y = matrix(table, "diagnosis"), np.array(table["diagnosis"]) == "malignant"

    def model() -> None:
        w = numpyro.sample("weights", dist.Normal(0, 1).expand([30]).to_event(1))
        b = numpyro.sample("intercept", dist.Normal(0, 1))
        numpyro.sample("y", dist.Bernoulli(logits=x @ w + b).to_event(1), obs=y.astype(float))

    return model


def diabetes(noise: Callable[[Any, Any], Any]) -> Callable[[], None]:
    import numpyro
    import numpyro.distributions as dist

    table = columns("diabetes.csv")
    x, y = matrix(table, "progression"), standard(table["progression"])

    def model() -> None:
        w = numpyro.sample("weights", dist.Normal(0, 1).expand([10]).to_event(1))
        b = numpyro.sample("intercept", dist.Normal(0, 1))
        scale = numpyro.sample("noise", dist.HalfNormal(1))
        numpyro.sample("y", noise(x @ w + b, scale).to_event(1), obs=y)

    return model


def diabetes_linear() -> Callable[[], None]:
    import numpyro.distributions as dist

    return diabetes(dist.Normal)


def diabetes_robust() -> Callable[[], None]:
    import numpyro.distributions as dist

    return diabetes(lambda mean, scale: dist.StudentT(4.0, mean, scale))


def wine() -> Callable[[], None]:
    import jax.numpy as jnp
    import numpyro
    import numpyro.distributions as dist

    table = columns("wine.csv")
    x, y = matrix(table, "cultivar"), np.array(table["cultivar"], int) - 1

    def model() -> None:
        w = numpyro.sample("weights", dist.Normal(0, 1).expand([13, 2]).to_event(2))
        b = numpyro.sample("intercept", dist.Normal(0, 1).expand([2]).to_event(1))
        logits = jnp.concatenate([jnp.zeros((len(y), 1)), x @ w + b], axis=1)
        numpyro.sample("y", dist.Categorical(logits=logits).to_event(1), obs=y)

    return model


def chinups() -> Callable[[], None]:
    import jax.numpy as jnp
    import numpyro
    import numpyro.distributions as dist

    table = columns("linnerud.csv")
    x = matrix({key: table[key] for key in ("weight", "waist", "pulse")})
    y = np.array(table["chins"], int)

    def model() -> None:
        w = numpyro.sample("weights", dist.Normal(0, 3).expand([3]).to_event(1))
        b = numpyro.sample("intercept", dist.Normal(0, 3))
        numpyro.sample("y", dist.Poisson(jnp.exp(x @ w + b)).to_event(1), obs=y)

    return model


def schools(centred: bool) -> Callable[[], None]:
    import numpyro
    import numpyro.distributions as dist

    y = np.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
    sd = np.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])

    def model() -> None:
        mean = numpyro.sample("mean", dist.Normal(0, 5))
        spread = numpyro.sample("spread", dist.HalfCauchy(5))
        if centred:
            effects = numpyro.sample("effects", dist.Normal(mean, spread).expand([8]).to_event(1))
        else:
            z = numpyro.sample("deviations", dist.Normal(0, 1).expand([8]).to_event(1))
            effects = numpyro.deterministic("effects", mean + spread * z)
        numpyro.sample("y", dist.Normal(effects, sd).to_event(1), obs=y)

    return model


def eight_schools() -> Callable[[], None]:
    return schools(centred=False)


def eight_schools_centred() -> Callable[[], None]:
    return schools(centred=True)


def iris_species() -> Callable[[], None]:
    import numpyro
    import numpyro.distributions as dist

    table = columns("iris.csv")
    x, y = standard(table["sepal length"]), standard(table["sepal width"])
    order = list(dict.fromkeys(table["species"]))
    species = np.array([order.index(name) for name in table["species"]])

    def model() -> None:
        mean = numpyro.sample("mean", dist.Normal(0, 1).expand([2]).to_event(1))
        spread = numpyro.sample("spread", dist.HalfNormal(1).expand([2]).to_event(1))
        z = numpyro.sample("deviations", dist.Normal(0, 1).expand([3, 2]).to_event(2))
        effects = numpyro.deterministic("effects", mean + spread * z)
        noise = numpyro.sample("noise", dist.HalfNormal(1))
        fitted = effects[species, 0] + effects[species, 1] * x
        numpyro.sample("y", dist.Normal(fitted, noise).to_event(1), obs=y)

    return model


MODELS = (
    breast_cancer,
    diabetes_linear,
    diabetes_robust,
    wine,
    chinups,
    eight_schools,
    eight_schools_centred,
    iris_species,
)
LOGARITHMS = ("noise", "spread")  # NumPyro's map to the whole line is the logarithm, as ours is


def potentials(name: str, make: Callable[[], Callable[[], None]]) -> dict[str, Any]:
    """-log joint density of the model here at random points; steepest's must be the same."""
    from numpyro.infer.util import potential_energy

    from steepest.cli.posterior import read_posterior

    problem = read_posterior(ROOT / "examples" / "posteriors" / f"{name}.toml").build()
    generator = np.random.default_rng(1)
    points, values = [], []
    for _ in range(3):
        point = {k: 0.5 * generator.normal(size=np.shape(v)) for k, v in problem.start.items()}
        named = {key.removeprefix("log_"): value for key, value in point.items()}
        value = float(potential_energy(make(), (), {}, named))
        ours = float(problem.functional(point)) + float(problem.constant or 0.0)
        # Sums of up to 569 terms in another order.
        if not abs(ours - value) <= 1e-10 * max(1.0, abs(value)):
            raise SystemExit(f"{name}: -log density {ours} here, {value} by NumPyro at {point}")
        points.append({key: np.round(x, 17).tolist() for key, x in point.items()})
        values.append(value)
    return {"points": points, "values": values}


def run(name: str) -> dict[str, np.ndarray]:
    """Draws (chain, draw, ...) of every site, non-centred where that is the same posterior."""
    from numpyro.infer import MCMC, NUTS

    make = {model.__name__: model for model in MODELS}[name.removesuffix("_centred")]
    # Three groups leave the spread a long tail; there larger steps diverge now and then.
    acceptance = 0.98 if name == "iris_species" else 0.9
    kernel = NUTS(make(), dense_mass=True, target_accept_prob=acceptance)
    mcmc = MCMC(
        kernel,
        num_warmup=WARMUP,
        num_samples=DRAWS,
        num_chains=CHAINS,
        progress_bar=False,
        chain_method="sequential",
    )
    mcmc.run(jax.random.key(0))
    diverging = int(np.sum(mcmc.get_extra_fields()["diverging"]))
    draws = {k: np.asarray(v) for k, v in mcmc.get_samples(group_by_chain=True).items()}
    draws["diverging"] = np.asarray(diverging)
    return draws


def summary(draws: dict[str, np.ndarray]) -> dict[str, dict[str, Any]]:
    """Mean, sd and their Monte-Carlo standard errors; the worst R-hat and ESS of each variable."""
    import arviz

    def error(x: np.ndarray) -> np.ndarray:
        return np.asarray(arviz.mcse(arviz.convert_to_dataset({"x": x}), method="mean")["x"])

    found = {}
    for name, x in draws.items():
        data = arviz.convert_to_dataset({name: x})
        sd = x.std(axis=(0, 1))
        # d sd = d variance / (2 sd)
        sd_error = error((x - x.mean(axis=(0, 1))) ** 2) / (2.0 * sd)
        found[name] = {
            "mean": x.mean(axis=(0, 1)).tolist(),
            "sd": sd.tolist(),
            "mean_mcse": error(x).tolist(),
            "sd_mcse": sd_error.tolist(),
            "r_hat": float(arviz.rhat(data)[name].max()),
            "ess": float(arviz.ess(data)[name].min()),
        }
    return found


def reference(name: str, make: Callable[[], Callable[[], None]]) -> dict[str, Any]:
    import numpyro

    potential = potentials(name, make)
    began = time.perf_counter()
    draws = run(name)
    diverging = int(draws.pop("diverging"))
    if name.endswith("_centred"):
        del draws["deviations"]
    constrained = {k: v for k, v in draws.items() if k != "deviations"}
    ours = {
        f"log_{key}" if key in LOGARITHMS else key: np.log(x) if key in LOGARITHMS else x
        for key, x in draws.items()
        if key != "effects" or name.endswith("_centred")
    }
    print(f"{name}: {time.perf_counter() - began:.1f} s, {diverging} divergences", flush=True)
    return {
        "source": f"NumPyro {numpyro.__version__}, NUTS, {CHAINS} chains of {DRAWS} draws after "
        f"{WARMUP}, float64, seed 0; benchmarks/references.py",
        "divergences": diverging,
        "unconstrained": summary(ours),
        "constrained": summary(constrained),
        "potential": potential,
    }


def main(names: list[str]) -> None:
    PLACE.mkdir(exist_ok=True)
    with jax.enable_x64(True):
        for make in MODELS:
            if names and make.__name__ not in names:
                continue
            found = reference(make.__name__, make)
            text = json.dumps(found, indent=1)
            (PLACE / f"{make.__name__}.json").write_text(text + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
