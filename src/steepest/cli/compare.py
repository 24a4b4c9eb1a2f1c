"""`steepest compare`: one posterior, several methods, a certificate each, the draws to use.

`steepest certify` is the same with draws from elsewhere in place of methods.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from . import environment, folder, unfinished
from .certify import check_file, read_draws
from .posterior import PosteriorSpec, read_posterior

if TYPE_CHECKING:
    from ..checkpoint import Checkpoint


def command(
    posterior: str,
    budget: int | None,
    methods: Sequence[str],
    out: Path | None,
    settings: Sequence[str],
    seed: int | None,
    allow_code: bool,
    resume: bool = False,
    every: float = unfinished.EVERY,
    draws: Path | None = None,
) -> int:
    """The whole command; returns the exit code. Raises SteepestError for wrong input.

    `draws`: a file whose draws are certified instead.
    """
    given = [*settings]
    given += [] if budget is None else [f"compare.budget={budget}"]
    given += [f"compare.methods={_listed(methods)}"] if methods else []
    given += [] if seed is None else [f"compare.seed={seed}"]
    spec = read_posterior(posterior, given)
    name, ending, inputs = "compare", "", [posterior]
    if draws is not None:
        check_file(draws)
        name, ending, inputs = "certify", "_certified", [posterior, str(draws)]
    out = Path("runs") / f"{spec.title}{ending}" if out is None else out
    place = folder.check_place(out)
    words = ["steepest", name, *inputs, "--out", str(out)]
    words += [word for setting in given for word in ("--set", setting)]
    words += ["--allow-code"] if allow_code else []
    words += unfinished.words(resume, every)
    environment.prepare()
    kept = unfinished.kept(place, resume, every)
    import jax

    with jax.enable_x64(spec.compare.precision == "float64"):
        return _run(spec, place, words, allow_code, kept, draws)


def _listed(methods: Sequence[str]) -> str:
    """Names, given one at a time or separated by commas, as a TOML list."""
    names = [name.strip() for group in methods for name in group.split(",") if name.strip()]
    return "[" + ", ".join(f'"{name}"' for name in names) + "]"


def _run(
    spec: PosteriorSpec,
    place: Path,
    words: list[str],
    allow_code: bool,
    kept: Checkpoint,
    draws: Path | None,
) -> int:
    import time

    import jax

    from ..inference import Answer, Budget, Comparison, Target, certify, compare
    from ..inference.methods import method
    from . import present_comparison, screen
    from .provenance import data_file, provenance, resolved

    for name in spec.compare.methods:
        method(name)  # a wrong name is told before anything is read
    began, before = datetime.now(UTC), time.perf_counter()
    command = " ".join(words[:2])
    screen.say(f"{command} {spec.name}")
    problem = spec.build(allow_code)
    for note in problem.notes:
        screen.say(note, "dim")

    def progress(name: str, answer: Answer | None) -> None:
        if answer is not None:
            screen.say(f"{name}: {answer.certificate.verdict}")

    options = spec.compare
    key = jax.random.key(options.seed)
    if draws is None:
        found = compare(
            problem,
            options.methods or None,
            options.budget,
            key=key,
            tolerance=options.tolerance,
            progress=progress,
            checkpoint=kept,
        )
    else:
        target = Target.of(problem)
        answer = certify(read_draws(draws, target), target, options.budget, key=key)
        progress(answer.method, answer)
        found = Comparison(target, Budget(options.budget), (answer,), ())
    for name, why in found.failed:
        screen.say(f"{name} gave no answer: {why}", "yellow")
    seconds = {answer.method: sum(answer.seconds.values()) for answer in found.answers}
    seconds["in all"] = time.perf_counter() - before
    tables = spec.tables()
    again = " ".join([command, "spec.toml", *words[3 : words.index("--out")], "--out again"])
    again += " --allow-code" if allow_code else ""
    rows = provenance(
        words,
        again,
        began,
        seconds,
        seed=options.seed,
        precision=options.precision,
        data=data_file(tables, spec.folder),
    )
    text = resolved(tables, spec.folder, place)
    record = present_comparison.record(spec.title, problem, found, text, rows, command)
    screen.comparison(found.rows())
    if record.summary:
        screen.summary(record.summary)
    with folder.new_folder(place) as scratch:
        present_comparison.write(scratch, record, found)
    kept.discard()
    screen.say(f"{record.verdict}. {record.said}", "bold green" if record.passed else "bold red")
    screen.say(f"report: {screen.relative(place / 'report.html')}")
    return 0 if record.passed else 1
