"""`steepest plan`: what a run will take and whether it fits, before it runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from . import environment
from .spec import read_spec


def command(path: Path, settings: Sequence[str], allow_code: bool, devices: int | None) -> int:
    """Print the plan and what to change; the exit code. Raises SteepestError for wrong input."""
    spec = read_spec(path, settings)
    environment.prepare(devices or 1)
    mesh = environment.mesh(devices)
    import jax

    from ..planning import plan
    from . import screen
    from .build import MOST_BYTES, build

    with jax.enable_x64(spec.run.precision == "float64"):
        job = build(spec, allow_code, planned=True)
        run = spec.run
        found = plan(
            job.flow,
            job.state,
            scheme=job.scheme,
            time=run.time,
            steps=run.steps,
            key=job.key,
            save_every=run.save_every,
            mesh=mesh,
            room=MOST_BYTES,  # a command keeps its saves in a file
        )
    screen.say(f"steepest plan {spec.name}")
    screen.row(job.row)
    screen.row(found.words())
    if run.warmup:
        screen.say(f"the warm-up of {run.warmup:,} steps is apart", "dim")
    for text in found.advice:
        screen.say(f"change: {text}", "yellow")
    screen.say("fits" if found.fits else "does not fit", "bold green" if found.fits else "bold red")
    return 0 if found.fits else 1
