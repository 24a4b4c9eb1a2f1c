"""What `steepest compare` compares on: a spec with [model] and [compare], or a file's function.

    POSTERIOR.toml                 tables, which execute nothing when read
    file.py:function               a log density theta -> number, beside its `start`
    package.module:function        the same, in package/module.py of the current folder

A function starts from `start` of its file; `--set model.dimension=N` starts from N zeros instead,
`--set model.kind=numpyro` takes the function for a NumPyro model.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from ..errors import ArgumentError
from .ingredients.base import REFERENCE, Context, Section
from .ingredients.model import MODELS
from .spec import SpecError, override, read_tables, suggest, validate

if TYPE_CHECKING:
    from ..problems import Problem

SECTIONS = ("model", "compare")
FUNCTION = re.compile(r"(?:(?P<file>.+\.py)|(?P<module>[A-Za-z_][\w.]*)):(?P<name>[A-Za-z_]\w*)")


class Compare(Section):
    """The methods, and what each may spend."""

    methods: list[str] = Field([], description="a list of methods; left out: those by default")
    budget: int = Field(
        20_000, ge=100, lt=2**31, description="gradients for each method, an integer >= 100"
    )
    tolerance: float = Field(0.01, gt=0, description="nats of free energy, a number > 0")
    seed: int = Field(0, ge=0, lt=2**32, description="an integer from 0 to 2^32 - 1")
    precision: Literal["float32", "float64"] = Field(
        "float64", description="'float32' or 'float64'"
    )


@dataclasses.dataclass(frozen=True)
class PosteriorSpec:
    """A validated spec. `folder` is what paths inside it are relative to."""

    model: Any
    compare: Compare
    folder: Path
    name: str

    @property
    def title(self) -> str:
        """The name without what says that it is a file: the run folder is called so."""
        return re.sub(r"[^\w-]+", "_", self.name.removesuffix(".toml"))

    def tables(self) -> dict[str, Any]:
        """The resolved spec: every key with its value."""
        return {
            "model": self.model.model_dump(exclude_none=True),
            "compare": self.compare.model_dump(exclude_none=True),
        }

    def build(self, allow_code: bool = False) -> Problem:
        """The posterior, in the precision of [compare] (float64 needs `jax.enable_x64`).

        Raises SteepestError: ArgumentError where code would be executed without `allow_code`, or a
        posterior is improper; TableError for a file that cannot be used.
        """
        return self.model.build(Context(self.folder, self.compare.precision, allow_code))


def read_posterior(path: str | Path, settings: Sequence[str] = ()) -> PosteriorSpec:
    """Read and validate a TOML file, or the name of a function: see the head of this file.

    `settings` are "section.key=value", applied before validation. Raises SpecError.
    """
    function = None if Path(path).suffix == ".toml" else FUNCTION.fullmatch(str(path))
    if function is not None:
        tables, folder, name = _of_function(function, settings)
    else:
        path = Path(path)
        if path.suffix == ".py":
            raise SpecError(f"{path}: name a function of this file, {path.name}:function")
        tables, folder, name = read_tables(path), path.parent, path.name
    for setting in settings:
        _override(tables, setting)
    return parse_posterior(tables, folder, name)


def parse_posterior(
    tables: dict[str, Any], folder: str | Path = ".", name: str = "posterior"
) -> PosteriorSpec:
    """Validate tables that are already read. Raises SpecError with a line for every mistake."""
    mistakes = [
        f"[{key}]: unknown section; {suggest(key, SECTIONS)}"
        for key in tables
        if key not in SECTIONS
    ]
    model = _model(tables.get("model"), mistakes)
    given = tables.get("compare", {})
    compare = None
    if isinstance(given, dict):
        compare = validate(Compare, given, "compare", mistakes)
    else:
        mistakes.append("compare: a table [compare] is needed")
    if mistakes:
        count = "one mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
        raise SpecError(f"{name}: {count}\n" + "\n".join(f"  {line}" for line in mistakes))
    assert compare is not None
    return PosteriorSpec(model, compare, Path(folder), name)


def _model(given: Any, mistakes: list[str]) -> Any:
    known = ", ".join(MODELS)
    if given is None:
        mistakes.append(f"[model]: missing; its kind is one of {known}")
        return None
    if not isinstance(given, dict):
        mistakes.append("model: a table [model] is needed")
        return None
    kind = given.get("kind")
    if kind is None:
        mistakes.append(f"model.kind: missing; one of {known}")
        return None
    if not isinstance(kind, str) or kind not in MODELS:
        mistakes.append(f"model.kind: got {kind!r}; {suggest(str(kind), tuple(MODELS))}")
        return None
    model = validate(MODELS[kind], given, "model", mistakes)
    if model is not None and hasattr(model, "mistakes"):
        mistakes += model.mistakes()
    return model


def _of_function(
    function: re.Match[str], settings: Sequence[str]
) -> tuple[dict[str, Any], Path, str]:
    """The tables that a function's name stands for."""
    if function["file"]:
        file = Path(function["file"])
        folder, module = file.parent, file.stem
    else:
        folder, module = Path("."), function["module"]
    reference, given = f"{module}:{function['name']}", {s.replace(" ", "") for s in settings}
    if not re.fullmatch(REFERENCE, reference):
        raise ArgumentError("POSTERIOR", repr(function[0]), "the name of the file, an identifier")
    model: dict[str, Any] = {"kind": "imported", "log_density": reference}
    if any(setting.startswith("model.kind=") for setting in given):
        model["model"] = reference
    if not any(setting.startswith(("model.dimension=", "model.start=")) for setting in given):
        model["start"] = f"{module}:start"
    return {"model": model}, folder, function[0]


def _override(tables: dict[str, Any], setting: str) -> None:
    """As in a run's spec; keys that a new kind lacks belonged to the old one."""
    override(tables, setting, SECTIONS)
    model = tables.get("model")
    if setting.partition("=")[0].strip() == "model.kind" and isinstance(model, dict):
        kind = model.get("kind")
        new = MODELS.get(kind) if isinstance(kind, str) else None
        for key in [key for key in model if new is not None and key not in new.model_fields]:
            del model[key]
