"""`steepest sample`: more samples of a saved model, without its data."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

from ..errors import ArgumentError
from . import environment


def command(
    run: Path, count: int, out: Path | None, seed: int, steps: int | None, label: str | None
) -> int:
    """Writes an .npz (or a .csv) of `count` samples; returns the exit code."""
    source = run / "model.npz"
    if not source.is_file():
        raise ArgumentError("RUN", run, "a folder that `steepest generate` wrote")
    if not 1 <= count <= 10**7:
        raise ArgumentError("--n", count, "an integer from 1 to 10000000")
    if steps is not None and not 1 <= steps <= 10_000:
        raise ArgumentError("--steps", steps, "an integer from 1 to 10000")
    out = Path(f"{run.resolve().name}_samples_{seed}.npz") if out is None else out
    if out.suffix not in (".npz", ".csv"):
        raise ArgumentError("--out", out, "a file ending in .npz or .csv")
    environment.prepare()
    import jax
    import numpy as np

    from ..diffusion import load_model
    from . import present_generation, screen
    from .generate import draw

    model, process, more = load_model(source)
    names, labels = list(more["classes"]), None
    if label is not None:
        if label not in names:
            remedy = f"one of {', '.join(names)}" if names else "this model knows no labels"
            raise ArgumentError("--label", repr(label), remedy)
        labels = np.full(count, names.index(label))
    elif names:
        labels = np.arange(count) % len(names)
    options = SimpleNamespace(
        count=count, steps=more["steps"] if steps is None else steps, guidance=more["guidance"]
    )
    # Other draws than the run's own, whatever its seed.
    key = jax.random.fold_in(jax.random.key(seed), 0x5A)
    samples = draw(process, model, options, key, labels).reshape(count, *more["shape"])
    present_generation.write_samples(out, samples, labels)
    screen.say(f"{count} samples: {screen.relative(out)}")
    return 0
