"""`steepest compare-geometries`: one model on a table, several geometries, equal budgets."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from ..errors import ArgumentError
from . import environment, folder
from .ingredients.base import Context, Section
from .ingredients.contender import CONTENDERS
from .spec import SpecError, override, read_tables, suggest, validate

SECTIONS = ("model", "compare", "contender")


class Model(Section):
    """A classifier on a CSV file: softmax regression, or a perceptron with hidden layers."""

    data: str = Field(min_length=1, description="a CSV file, relative to the spec's folder")
    target: str = Field(description="the name of the column of classes")
    drop: list[str] = Field([], description="a list of columns to leave out")
    hidden: list[int] = Field([], description="widths of the hidden layers, integers >= 1")
    batch_size: int | None = Field(None, ge=1, description="rows in a minibatch; left out: all")


class Compare(Section):
    """The budget of every contender."""

    gradients: int | None = Field(None, ge=10, description="gradients for each run, at least 10")
    seconds: float | None = Field(None, gt=0, description="seconds for each run")
    rates: list[float] = Field(
        [0.003, 0.01, 0.03, 0.1, 0.3, 1.0], description="learning rates to try, numbers > 0"
    )
    target: float | None = Field(None, gt=0, description="a loss whose first time is tabled")
    seed: int = Field(0, ge=0, lt=2**32, description="an integer from 0 to 2^32 - 1")
    precision: Literal["float32", "float64"] = Field(
        "float32", description="'float32' or 'float64'"
    )


def command(path: Path, out: Path | None, settings: Sequence[str]) -> int:
    """The whole command; returns the exit code. Raises SteepestError for wrong input."""
    tables = read_tables(path)
    for setting in settings:
        override(tables, setting, SECTIONS)
    model, compare, contenders = _parse(tables, path.name)
    out = Path("runs") / path.stem if out is None else out
    place = folder.check_place(out)
    words = ["steepest", "compare-geometries", str(path), "--out", str(out)]
    words += [word for setting in settings for word in ("--set", setting)]
    environment.prepare()
    import jax

    with jax.enable_x64(compare.precision == "float64"):
        return _run(path, tables, model, compare, contenders, place, words)


def _parse(tables: dict[str, Any], name: str) -> tuple[Model, Compare, list[Any]]:
    mistakes = [
        f"[{key}]: unknown section; {suggest(key, SECTIONS)}"
        for key in tables
        if key not in SECTIONS
    ]
    model = validate(Model, tables.get("model", {}), "model", mistakes)
    compare = validate(Compare, tables.get("compare", {}), "compare", mistakes)
    given, contenders = tables.get("contender", []), []
    if not isinstance(given, list) or not given:
        mistakes.append("[[contender]]: missing; at least one, its kind " + ", ".join(CONTENDERS))
        given = []
    for i, table in enumerate(given):
        kind = table.get("kind")
        if kind not in CONTENDERS:
            known = suggest(str(kind), tuple(CONTENDERS))
            mistakes.append(f"contender.{i}.kind: got {kind!r}; {known}")
            continue
        contenders.append(validate(CONTENDERS[kind], table, f"contender.{i}", mistakes))
    if compare is not None and (compare.gradients is None) == (compare.seconds is None):
        mistakes.append("compare.gradients, compare.seconds: give exactly one")
    if mistakes:
        raise SpecError(f"{name}:\n" + "\n".join(f"  {line}" for line in mistakes))
    assert model is not None and compare is not None
    return model, compare, contenders


def _run(
    path: Path,
    tables: Any,
    model: Model,
    compare: Compare,
    contenders: list[Any],
    place: Path,
    words: list[str],
) -> int:
    import math
    import time

    import jax

    from ..optimizers import compare_geometries
    from ..problems import classifier
    from ..report import Picture, Record, Sheet
    from . import provenance, screen
    from .pages import write_page

    began = datetime.now(UTC)
    screen.say(f"steepest compare-geometries {path.name}")
    problem = classifier(
        path.parent / model.data,
        model.target,
        hidden=model.hidden,
        batch_size=model.batch_size,
        drop=model.drop,
        seed=compare.seed,
        dtype=compare.precision,
    )
    for note in problem.notes:
        screen.say(note, "dim")
    context = Context(path.parent, compare.precision)
    made, rates = {}, {}
    for i, table in enumerate(contenders):
        label = table.name or _label(table)
        if label in made:
            raise ArgumentError(f"contender.{i}.name", repr(label), "names that differ")
        made[label] = table.build(context, problem.functional)
        rates[label] = table.rates or compare.rates
        if getattr(table, "optimizer", "") == "lbfgs":
            rates[label] = [1.0]
    before = time.perf_counter()
    found = compare_geometries(
        problem.functional,
        problem.start,
        made,
        compare.gradients,
        seconds=compare.seconds,
        rates=rates,
        key=jax.random.key(compare.seed),
    )
    seconds = {"compare": time.perf_counter() - before}
    rows, reach = found.rows(), ""
    for row in rows:
        if compare.target is not None:
            short = f"to {compare.target:g}"
            row[short], row[f"s {short}"] = found[row["geometry"]].reach(compare.target)
            reach = f" {short.capitalize()}: gradients and seconds until the loss is that low."
    screen.say(str(found))
    best = found.curves[0]
    reached = math.isfinite(best.loss[-1])
    record = Record(
        title=path.stem,
        passed=reached,
        verdict=f"{best.name} went lowest" if reached else "every contender diverged",
        said=f"Loss {best.loss[-1]:.4g}; {found.budget} for each, learning rates tuned.",
        facts=(("contenders", f"{len(rows)}"), ("lowest loss", f"{best.loss[-1]:.4g}")),
        notes=problem.notes,
        pictures=(
            Picture(
                "comparison",
                f"Loss against cost for {len(rows)} contenders.",
                "The losses against gradients and against seconds; the lowest in orange.",
                lambda theme: found.plot(theme=theme),
                wide=True,
            ),
        ),
        spec=provenance.resolved(tables, path.parent, place),
        provenance=provenance.provenance(
            words,
            "steepest compare-geometries spec.toml --out again",
            began,
            seconds,
            seed=compare.seed,
            precision=compare.precision,
            data=path.parent / model.data,
        ),
        sheets=(
            Sheet(
                "Contenders",
                tuple(rows),
                "Dissipated: what the ledger added up along the updates; per gradient: what the "
                "loss fell by for each gradient. Fisher products count as the gradients they cost."
                + reach,
            ),
        ),
        command="steepest compare-geometries",
    )
    with folder.new_folder(place) as scratch:
        (scratch / "comparison.csv").write_text(found.to_csv(), encoding="utf-8")
        write_page(scratch, record)
    screen.say(f"report: {screen.relative(place / 'report.html')}")
    return 0 if reached else 1


def _label(table: Any) -> str:
    label = getattr(table, "optimizer", None) or getattr(table, "norm", None) or table.kind
    return f"{label}, momentum {table.momentum:g}" if table.momentum else str(label)
