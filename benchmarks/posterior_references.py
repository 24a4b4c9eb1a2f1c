"""Answers on examples/posteriors against long NUTS runs: errors of means, and ratios of sds.

`python -m benchmarks posterior_references [--case NAME] [--out FILE]`. The references are those of
tests/references, by `benchmarks.references`; everything on unconstrained space, each method with
two budgets and one seed. The error of a mean is in Monte-Carlo standard errors, the answer's and
the reference's together; *passes*: the largest is at most 3 and no sd is off by more than 5 %. Of d
right means, the largest error is beyond 3 with probability 1 - 0.9973^d: 8 % where d = 31.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
from jax.flatten_util import ravel_pytree

from steepest.cli.posterior import read_posterior
from steepest.inference import fit
from steepest.inference.sampling_error import sampling_error

from .harness import chosen

ROOT = Path(__file__).parents[1]
MODELS = (
    "breast_cancer",
    "diabetes_linear",
    "diabetes_robust",
    "wine",
    "eight_schools",
    "eight_schools_centred",
)
PARTS = MODELS
METHODS = ("hmc", "natural-gradient", "laplace", "microcanonical")
BUDGETS = (20_000, 50_000)
ERRORS, SHARE = 3.0, 0.05


def tables(rounds: int, only: str | None) -> Iterator[str]:
    """The tables row by row; `rounds` is not used."""
    del rounds
    for name in chosen(MODELS, only):
        with jax.enable_x64(True):
            yield from _table(name)


def _table(name: str) -> Iterator[str]:
    problem = read_posterior(ROOT / "examples/posteriors" / f"{name}.toml").build()
    stored = json.loads((ROOT / "tests/references" / f"{name}.json").read_text())["unconstrained"]
    mean, sd, noise = (
        np.asarray(ravel_pytree({k: np.asarray(v[what]) for k, v in stored.items()})[0])
        for what in ("mean", "sd", "mean_mcse")
    )
    yield (
        f"### {name}, d = {len(mean)}\n\n"
        "| method | budget | largest error of a mean, standard errors | largest error of an sd, %"
        " | passes | gradients | said |\n|---|---|---|---|---|---|---|"
    )
    for method, budget in itertools.product(METHODS, BUDGETS):
        answer = fit(problem, method, budget, key=jax.random.key(0))
        own = sampling_error(answer.draws, answer.independent).mean_error
        off = float(np.max(np.abs(answer.mean - mean) / np.hypot(own, noise)))
        share = float(np.max(np.abs(answer.sd / sd - 1.0)))
        passes = "yes" if off <= ERRORS and share <= SHARE else "no"
        yield (
            f"| {method} | {budget:,} | {off:.2f} | {100 * share:.1f} | {passes}"
            f" | {answer.gradients:,} | {answer.certificate.verdict} |"
        )
    yield ""
