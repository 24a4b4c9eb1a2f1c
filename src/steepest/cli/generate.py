"""`steepest generate`: a diffusion model of a set of points, its samples and its ledger."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from . import environment, folder
from .ingredients.generation import DATA, TABLES
from .spec import SpecError, override, read_tables, suggest, validate

SECTIONS = ("data", *TABLES)


def command(path: Path, out: Path | None, settings: Sequence[str], seed: int | None) -> int:
    """The whole command; returns the exit code. Raises SteepestError for wrong input."""
    tables = read_tables(path)
    for setting in settings:
        override(tables, setting, SECTIONS)
    if seed is not None:
        override(tables, f"train.seed={seed}", SECTIONS)
    parts = parse(tables, path.name)
    out = Path("runs") / path.stem if out is None else out
    place = folder.check_place(out)
    words = ["steepest", "generate", str(path), "--out", str(out)]
    words += [word for setting in settings for word in ("--set", setting)]
    words += [] if seed is None else ["--seed", str(seed)]
    environment.prepare()
    return _run(path, tables, parts, place, words)


def parse(tables: dict[str, Any], name: str) -> dict[str, Any]:
    """The validated tables. Raises SpecError with a line for every mistake."""
    mistakes = [
        f"[{key}]: unknown section; {suggest(key, SECTIONS)}"
        for key in tables
        if key not in SECTIONS
    ]
    parts: dict[str, Any] = {}
    given = tables.get("data")
    given = given if isinstance(given, dict) else {}
    kind = given.get("kind")
    if kind not in DATA:
        mistakes.append(f"data.kind: got {kind!r}; {suggest(str(kind), tuple(DATA))}")
    else:
        parts["data"] = validate(DATA[kind], given, "data", mistakes)
    for section, cls in TABLES.items():
        parts[section] = validate(cls, tables.get(section, {}), section, mistakes)
    train = parts["train"]
    if train is not None and train.checkpoint_every % 50:
        mistakes.append(f"train.checkpoint_every: got {train.checkpoint_every}; a multiple of 50")
    if mistakes:
        raise SpecError(f"{name}:\n" + "\n".join(f"  {line}" for line in mistakes))
    return parts


def checkpoint_path(place: Path) -> Path:
    """Where an unfinished training is kept, beside the place of its run folder."""
    return place.parent / f".{place.name}.checkpoint.npz"


def _run(path: Path, tables: Any, parts: dict[str, Any], place: Path, words: list[str]) -> int:
    import time

    import jax
    import numpy as np

    from .. import diffusion
    from ..diffusion import checkpoint as files
    from . import generation_data, present_generation, provenance, screen
    from .pages import write_page

    began = datetime.now(UTC)
    train, sampling, net = parts["train"], parts["sample"], parts["network"]
    screen.say(f"steepest generate {path.name}")
    points = generation_data.read(parts["data"], path.parent, train.held_out, train.seed)
    for note in points.notes:
        screen.say(note, "dim")
    process = files.rebuild_process(parts["process"].model_dump(exclude_none=True))
    shape = points.train.shape[1:]
    described = {
        "kind": net.kind,
        "shape": list(shape),
        "width": net.width,
        "depth": net.depth,
        "classes": len(points.classes),
    }
    flatten = net.kind == "perceptron" and len(shape) > 1
    if flatten:
        described["shape"] = [int(np.prod(shape))]
    key = jax.random.key(train.seed)
    x, held = points.train, points.held_out
    if flatten:
        x, held = x.reshape(len(x), -1), held.reshape(len(held), -1)
    place.parent.mkdir(parents=True, exist_ok=True)
    kept = checkpoint_path(place)
    network = files.build_network(described, jax.random.fold_in(key, 1), np.float32)
    fitted = diffusion.fit(
        process,
        network,
        x,
        jax.random.fold_in(key, 2),
        labels=points.train_labels,
        steps=train.steps,
        batch_size=train.batch_size,
        learning_rate=train.learning_rate,
        parametrisation=train.parametrisation,
        loss=train.loss,
        weighting=train.weighting,
        ema=train.ema,
        quantum=points.quantum,
        checkpoint=kept,
        checkpoint_every=train.checkpoint_every,
        progress=screen.interactive(),
    )
    if fitted.resumed_at:
        screen.say(f"went on from step {fitted.resumed_at} of an earlier run", "dim")
    seconds = {"training": fitted.seconds}
    before = time.perf_counter()
    labels = None
    if points.classes:
        labels = np.arange(sampling.count) % len(points.classes)
    samples = draw(process, fitted.model, sampling, jax.random.fold_in(key, 3), labels)
    seconds["sampling"] = time.perf_counter() - before
    before = time.perf_counter()
    judged = present_generation.judge(
        process, fitted, points, held, samples, labels, jax.random.fold_in(key, 4)
    )
    seconds["judging"] = time.perf_counter() - before
    source = generation_data.source(parts["data"])
    data = None if source is None else path.parent / source
    resolved = {name: part.model_dump(exclude_none=True) for name, part in parts.items()}
    record = present_generation.record(
        path.stem,
        process,
        fitted,
        points,
        samples.reshape(len(samples), *shape),
        labels,
        judged,
        provenance.resolved(resolved, path.parent, place),
        provenance.provenance(
            words,
            "steepest generate spec.toml --out again",
            began,
            seconds,
            seed=train.seed,
            precision="float32",
            data=data,
        ),
    )
    more = {
        "steps": sampling.steps,
        "guidance": sampling.guidance,
        "classes": list(points.classes),
        "shape": list(shape),
    }
    with folder.new_folder(place) as scratch:
        files.save_model(scratch / "model.npz", fitted.model, process, described, more)
        present_generation.write_samples(
            scratch / "samples.npz", samples.reshape(len(samples), *shape), labels
        )
        present_generation.write_ledger(scratch, fitted, judged)
        write_page(scratch, record)
    kept.unlink(missing_ok=True)
    screen.say(f"{record.verdict}: {record.said}")
    screen.say(f"report: {screen.relative(place / 'report.html')}")
    return 0 if record.passed else 1


def draw(process: Any, model: Any, sampling: Any, key: Any, labels: Any) -> Any:
    """Samples (n, ...) as a NumPy array, in pieces that fit the memory."""
    import jax
    import numpy as np

    from .. import diffusion

    if labels is not None and sampling.guidance:
        model = diffusion.Guided(model, sampling.guidance)
    count, piece, found = sampling.count, 1000, []
    for i, first in enumerate(range(0, count, piece)):
        size = min(piece, count - first)
        part = None if labels is None else labels[first : first + size]
        one = jax.random.fold_in(key, i)
        drawn = diffusion.sample(process, model, one, size, steps=sampling.steps, labels=part)
        found.append(np.asarray(drawn))
    return np.concatenate(found)
