"""From a trained model to what is known of it: checks, pictures, files."""

from __future__ import annotations

import csv
import dataclasses
import io
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import diffusion, figures
from ..diffusion import quality, toys
from ..report import Picture, Record, Sheet
from ..store import new_file, write_arrays

MOST_JUDGED = 2000
ALIKE = 0.6
FRESH, WALK = 6000, 150


@dataclasses.dataclass(frozen=True)
class Judged:
    """What was measured on held-out data: rows of checks, a table, and the books."""

    checks: list[dict[str, Any]]
    measures: list[dict[str, Any]]
    reverse: Any
    forward: Any


def judge(
    process: Any, fitted: Any, points: Any, held: Any, samples: Any, labels: Any, key: Any
) -> Judged:
    """Two-sample accuracy, the KL bound, classes, memorisation, bits per dimension."""
    checks, measures = [], []
    shown = jnp.asarray(held[:MOST_JUDGED])
    if points.quantum:
        fill = np.random.default_rng(0).uniform(0.0, points.quantum, shown.shape)
        shown = shown + jnp.asarray(fill, shown.dtype)
    one, two, three = jax.random.split(key, 3)
    reverse = diffusion.reverse_books(process, fitted.model, shown, one, truth=points.truth)
    forward = None
    plane = held.shape[1:] == (2,)
    if plane:
        accuracy = quality.two_sample_accuracy(held, samples)
        checks.append(
            _check(
                "two samples", accuracy, ALIKE, accuracy <= ALIKE,
                "share that five neighbours assign to the right side, data or sample; 0.5 is alike",
            )
        )  # fmt: skip
    if points.truth is not None:
        forward = diffusion.forward_books(process, points.truth, shown, two)
        checks += _truths(process, fitted.model, points, reverse, forward, three)
        made = diffusion.entropy_production(process, points.truth, shown, two)
        measures += [
            {"measure": "half-bridge gap KL(p_T || prior), nats", "value": forward.half_bridge[0]},
            {"measure": "entropy produced by noising, nats", "value": float(made.mean[-1])},
            {"measure": "its standard error, nats", "value": float(made.error[-1])},
        ]
    if labels is not None:
        checks += _classes(points, samples, labels, measures)
    copies = quality.memorisation(samples, points.train, held)
    spread = 3.0 * np.sqrt(0.01 * 0.99 / len(samples)) + 3.0 * np.sqrt(0.01 * 0.99 / len(held))
    checks.append(
        _check(
            "memorisation", copies["copies"], 0.02 + spread, copies["copies"] <= 0.02 + spread,
            "share of samples nearer to a training point than 1 % of held-out points are",
        )
    )  # fmt: skip
    measures += [{"measure": f"nearest training point, {k}", "value": v} for k, v in copies.items()]
    few = shown[: 400 if plane else 64]
    likelihood = diffusion.log_likelihood(
        process, fitted.model, few, probes=0 if plane else 4, key=three, rtol=1e-3, atol=1e-3
    )
    bits = np.asarray(likelihood.bits_per_dimension())
    # Values in other units, and integers: bits of the value as it was, in steps of the quantum.
    bits = bits + (np.log2(1.0 / points.quantum) if points.quantum else 0.0)
    error = float(bits.std(ddof=1) / np.sqrt(len(bits)))
    measures.append({"measure": "bits per dimension, held-out", "value": float(bits.mean())})
    measures.append({"measure": "its standard error", "value": error})
    if points.truth is None:
        measures.append(
            {"measure": "denoising error, held-out (nats)", "value": _area(reverse, reverse.loss)}
        )
    return Judged(checks, measures, reverse, forward)


def _area(books: Any, column: Any) -> float:
    return float(np.trapezoid(column, books.log_ratios))


def _check(name: str, residual: float, tolerance: float, passed: bool, why: str) -> dict[str, Any]:
    return {
        "name": name,
        "residual": float(residual),
        "tolerance": float(tolerance),
        "verdict": "passed" if passed else "FAILED",
        "why": why,
    }


def _truths(
    process: Any, model: Any, points: Any, reverse: Any, forward: Any, key: Any
) -> list[dict[str, Any]]:
    """What only a known law allows: the bound from both sides, and the forward flow's descent."""
    one, two, three = jax.random.split(key, 3)
    anchor = diffusion.Anchored.of(model)
    fresh = toys.draw(points.truth, one, FRESH).astype(points.held_out.dtype)
    walked = [
        np.asarray(diffusion.surprisal_bound(process, of, fresh, two, steps=WALK, anchor=anchor))
        for of in (model, points.truth)
    ]
    clean = jax.vmap(lambda x: points.truth.log_prob(x, jnp.ones(()), jnp.full((), 1e-4)))(fresh)
    upper, excess = walked[0] + np.asarray(clean), walked[0] - walked[1]
    error = lambda x: float(x.std(ddof=1) / np.sqrt(len(x)))  # noqa: E731
    sde = diffusion.Controlled(anchor=anchor)
    drawn = diffusion.sample(process, model, three, FRESH, scheme=sde, steps=WALK)
    coarse, bias = quality.coarse_divergence(fresh, drawn)
    # Two samples of one law show `bias`; a divergence of their laws fluctuates by sqrt(2 KL/n).
    allowed = upper.mean() + 3 * error(upper) + bias + 3 * np.sqrt(4 * coarse / FRESH)
    ratios = process.ratio(jnp.asarray(diffusion.times(process, WALK, sde)))
    gap = abs(float(excess.mean()) - reverse.along(ratios, sde.scale))
    # The scale is one number for all directions: a twentieth is more than that changes.
    known = 3 * np.hypot(error(excess), reverse.bound_error) + 0.05 * reverse.bound
    found = [
        _check(
            "KL bound", coarse, allowed, coarse <= allowed,
            f"KL of histograms (data, reversed SDE) against the bound {upper.mean():.3g} of its "
            "paths, with the errors of both",
        ),
        _check(
            "KL of paths", gap, known, gap <= known,
            f"{excess.mean():.3g} more nats along the way than with the exact score: the integral "
            "of its squared error by noise level",
        ),
    ]  # fmt: skip
    if np.isfinite(forward.free_energy).all():
        rise = float(np.max(np.diff(forward.free_energy)))
        tolerance = 3 * float(forward.error.max())
        found.append(
            _check(
                "free energy descent", max(rise, 0.0), tolerance, forward.descends,
                f"KL to the noise falls from {forward.free_energy[0]:.3g}; entropy may do either",
            )
        )  # fmt: skip
    return found


def _classes(
    points: Any, samples: Any, labels: Any, measures: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Samples seen by a classifier that knows the held-out data alone."""
    classifier = quality.NearestClasses(points.held_out, points.held_out_labels)
    seen = classifier(samples)
    said, asked = seen.argmax(axis=1), np.asarray(labels)
    known = classifier(points.train).argmax(axis=1)
    right = float(np.mean(known == points.train_labels))
    n, k = len(said), len(points.classes)
    share = np.bincount(asked, minlength=k) / n
    counts = np.bincount(said, minlength=k)
    score = np.abs(counts - n * share) / np.sqrt(n * share * (1 - share))
    # 95 % for the worst of k classes, and the classifier's own errors, which move counts too.
    wrong = np.bincount(points.train_labels, known != points.train_labels, k)
    drift = n * share * wrong / np.maximum(np.bincount(points.train_labels, minlength=k), 1)
    allowed = 3.0 + float(np.max(drift / np.sqrt(n * share * (1 - share))))
    agreement = float(np.mean(said == asked))
    measures += [
        {"measure": "classifier on real data, accuracy", "value": right},
        {"measure": "classifier on samples, agreement with label", "value": agreement},
        {"measure": "median confidence on samples", "value": float(np.median(seen.max(axis=1)))},
    ]
    return [
        _check(
            "classes", float(score.max()), allowed, bool(score.max() <= allowed),
            "largest deviation of a class's count from what was asked, in binomial deviations",
        ),
        _check(
            "labels", 1.0 - agreement, 2 * (1.0 - right) + 0.03,
            1.0 - agreement <= 2 * (1.0 - right) + 0.03,
            f"samples that a held-out classifier calls otherwise; on real data {1 - right:.3g}",
        ),
    ]  # fmt: skip


def record(
    title: str, process: Any, fitted: Any, points: Any, samples: Any, labels: Any, judged: Judged,
    spec: str, provenance: Any,
) -> Record:  # fmt: skip
    """Everything that the report says."""
    passed = all(check["verdict"] == "passed" for check in judged.checks)
    parameters = sum(x.size for x in jax.tree.leaves(fitted.model.network) if hasattr(x, "size"))
    facts = [("steps", f"{fitted.steps}"), ("parameters", f"{parameters}")]
    facts += [("samples", f"{len(samples)}"), ("loss", f"{fitted.losses[-10:].mean():.4g}")]
    if points.truth is not None:
        facts.append(("KL bound", f"{judged.reverse.bound:.3g} nats"))
    measures = Sheet("Measures", tuple(judged.measures), "On points that training has not seen.")
    held = sum(check["verdict"] == "passed" for check in judged.checks)
    row = dict(process.flow().card())
    if float(process.drift(jnp.asarray(process.end))) == 0:
        row["equilibrium"] = "none: the noise grows without bound"
    return Record(
        title=title,
        passed=passed,
        verdict="checks passed" if passed else "checks failed",
        said=f"{held} of {len(judged.checks)} checks hold.",
        facts=tuple(facts),
        notes=points.notes,
        row=row | {"reverse": "-V - log p, score learned", "process": process.name},
        checks=tuple(judged.checks),
        pictures=tuple(_pictures(fitted, points, samples, labels, judged)),
        spec=spec,
        provenance=provenance,
        sheets=(measures,),
        command="steepest generate",
    )


def _pictures(fitted: Any, points: Any, samples: Any, labels: Any, judged: Judged) -> Any:
    if samples.shape[1:] == (2,):
        yield Picture(
            "samples",
            "Held-out data and samples side by side.",
            "Points that training has not seen, and as many samples.",
            lambda theme: figures.generated_points_figure(points.held_out, samples, theme=theme),
            wide=True,
        )
    elif samples.ndim in (3, 4):
        many = 10 * (len(points.classes) or 6)
        order = np.arange(min(60, len(samples)))
        if labels is not None:
            order = np.argsort(labels[: 10 * len(points.classes)], kind="stable")
        yield Picture(
            "samples",
            f"{min(many, len(order))} samples.",
            "Samples, a row for each class." if labels is not None else "Samples.",
            lambda theme: figures.image_grid_figure(samples[order][:many], theme=theme),
            wide=True,
        )
    steps = np.linspace(0, fitted.steps, len(fitted.losses) + 1)[1:]
    yield Picture(
        "training",
        f"The training loss, ending at {fitted.losses[-1]:.4g}.",
        "The loss of training; its minimum is not zero.",
        lambda theme: figures.training_figure(steps, fitted.losses, theme=theme),
    )
    yield Picture(
        "bound",
        "The terms of the KL bound by noise level.",
        "The area is the bound on KL(data || model); its height says at which noise to refine."
        if points.truth is not None
        else "Squared error of the denoised point on held-out data, relative to the largest.",
        lambda theme: figures.bound_figure(judged.reverse, theme=theme),
    )
    if judged.forward is not None:
        stationary = bool(np.isfinite(judged.forward.free_energy).all())
        yield Picture(
            "forward",
            "Entropy and KL along the forward flow."
            if stationary
            else "Entropy of the forward flow.",
            "KL to the stationary law must fall; the entropy may do either."
            if stationary
            else "This process spreads for ever: there is no stationary law to fall to.",
            lambda theme: figures.forward_figure(judged.forward, theme=theme),
        )


def write_samples(path: Path, samples: np.ndarray, labels: Any) -> None:
    """An .npz with `samples` (and `labels`), or a .csv with a column for each coordinate."""
    if path.suffix != ".csv":
        arrays = {"samples": samples} | ({} if labels is None else {"labels": labels})
        write_arrays(path, arrays, "--out")
        return
    flat, text = samples.reshape(len(samples), -1), io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow([f"x{i}" for i in range(flat.shape[1])])
    writer.writerows([repr(float(v)) for v in row] for row in flat)
    with new_file(path, "--out") as file:
        file.write(text.getvalue().encode())


def write_ledger(scratch: Path, fitted: Any, judged: Judged) -> None:
    """training.csv and ledger.csv (and forward.csv where the truth is known)."""
    steps = np.linspace(0, fitted.steps, len(fitted.losses) + 1)[1:]
    _write_csv(scratch / "training.csv", {"step": steps, "loss": fitted.losses})
    names = ("log_ratios", "loss", "mmse", "gap", "error")
    _write_csv(scratch / "ledger.csv", {name: getattr(judged.reverse, name) for name in names})
    if judged.forward is not None:
        names = ("times", "entropy", "free_energy", "rate", "error")
        _write_csv(scratch / "forward.csv", {name: getattr(judged.forward, name) for name in names})


def _write_csv(path: Path, columns: dict[str, np.ndarray]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*[[repr(float(v)) for v in c] for c in columns.values()], strict=True))
