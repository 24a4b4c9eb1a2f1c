"""The spec of a run: one TOML table for each ingredient.

    [state]  [functional]  [geometry]  [noise]  [scheme]  [run]

`[[geometry]]`, `[[noise]]` and the `[[functional]]` of a law may be lists, which are added. A spec
is data: reading one executes nothing. Errors name the key, what was given and what is allowed, all
of them at once.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ..errors import SteepestError
from . import ingredients
from .ingredients import Context, Run, Section

MAX_BYTES = 2**20
KINDS = {
    "state": ingredients.STATES | ingredients.LAW_STATES,
    "functional": ingredients.FUNCTIONALS | ingredients.LAW_FUNCTIONALS,
    "geometry": ingredients.GEOMETRIES,
    "noise": ingredients.NOISES,
    "scheme": ingredients.SCHEMES,
}
SECTIONS = (*KINDS, "run")
LISTS = ("functional", "geometry", "noise")


class SpecError(SteepestError, ValueError):
    """A spec that cannot be run; the message has a line for every mistake."""


@dataclasses.dataclass(frozen=True)
class Spec:
    """A validated spec. `folder` is what paths inside it are relative to."""

    state: Any
    functional: tuple[Any, ...]
    geometry: tuple[Any, ...]
    noise: tuple[Any, ...]
    scheme: Any
    run: Run
    folder: Path
    name: str

    def tables(self) -> dict[str, Any]:
        """The resolved spec: every key with its value."""
        found: dict[str, Any] = {}
        for section in SECTIONS:
            value = getattr(self, section)
            if not isinstance(value, tuple):
                found[section] = _dump(value)
            elif value:
                parts = [_dump(part) for part in value]
                found[section] = parts if len(parts) > 1 else parts[0]
        return found

    def context(self, allow_code: bool = False) -> Context:
        """What the ingredients need in order to build."""
        return Context(self.folder, self.run.precision, allow_code)


def read_spec(path: str | Path, settings: Sequence[str] = (), seed: int | None = None) -> Spec:
    """Read and validate a TOML file; `settings` are "section.key=value", applied before validation.

    Raises SpecError.
    """
    path = Path(path)
    tables = read_tables(path)
    for setting in settings:
        override(tables, setting)
    if seed is not None:
        run = tables.setdefault("run", {})
        if isinstance(run, dict):
            run["seed"] = seed
    return parse_spec(tables, path.parent, path.name)


def parse_spec(tables: dict[str, Any], folder: str | Path = ".", name: str = "spec") -> Spec:
    """Validate tables that are already read. Raises SpecError."""
    mistakes: list[str] = []
    for section in tables:
        if section not in SECTIONS:
            mistakes.append(f"[{section}]: unknown section; {suggest(section, SECTIONS)}")
    values: dict[str, Any] = {}
    for section in SECTIONS:
        given = tables.get(section)
        if section in LISTS and isinstance(given, list):
            values[section] = tuple(
                _section(section, table, f"{section}.{i}", mistakes)
                for i, table in enumerate(given)
            )
        elif section in LISTS:
            one = None
            if given is not None or section in ("functional", "geometry"):
                one = _section(section, given, section, mistakes)
            values[section] = () if one is None else (one,)
        else:
            values[section] = _section(section, given, section, mistakes)
    if not mistakes:
        mistakes += _together(values)
    if mistakes:
        count = "one mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
        raise SpecError(f"{name}: {count}\n" + "\n".join(f"  {line}" for line in mistakes))
    return Spec(**values, folder=Path(folder), name=name)


def read_tables(path: Path) -> dict[str, Any]:
    try:
        if not path.is_file():
            what = "is a folder" if path.is_dir() else "does not exist"
            raise SpecError(f"{path}: the spec {what}")
        if path.stat().st_size > MAX_BYTES:
            raise SpecError(f"{path}: larger than {MAX_BYTES // 2**20} MiB; a spec is a short text")
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except SpecError:
        raise
    except UnicodeDecodeError as error:
        raise SpecError(f"{path}: byte {error.start} is not UTF-8 text") from None
    except OSError as error:
        raise SpecError(f"{path}: cannot be read ({error.strerror})") from None
    except RecursionError:
        raise SpecError(f"{path}: nested too deeply") from None
    except ValueError as error:
        # tomllib names line and column itself.
        raise SpecError(f"{path}: not TOML: {error}") from None


def override(tables: dict[str, Any], setting: str, sections: Sequence[str] = ()) -> None:
    """Apply "section.key=value" (a TOML value, or a string where it is none)."""
    name, equals, text = setting.partition("=")
    keys = [key.strip() for key in name.split(".")]
    if not equals or len(keys) < 2 or not all(keys):
        raise SpecError(f"--set {setting}: write it as section.key=value, e.g. scheme.step=0.05")
    sections = sections or SECTIONS
    if keys[0] not in sections:
        raise SpecError(f"--set {setting}: unknown section; {suggest(keys[0], sections)}")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        value = text.strip()
    place: Any = tables
    for key in keys[:-1]:
        place = _child(place, key, setting)
    if isinstance(place, list):
        raise SpecError(
            f"--set {setting}: {keys[0]} is a list of {len(place)} tables; say which, "
            f"e.g. {keys[0]}.0.{keys[-1]}"
        )
    if keys[-1] == "kind":
        # Keys that the new kind does not have belonged to the old one.
        new = KINDS.get(keys[0], {}).get(value) if isinstance(value, str) else None
        for key in [key for key in place if new is not None and key not in new.model_fields]:
            del place[key]
    place[keys[-1]] = value


def _child(place: Any, key: str, setting: str) -> Any:
    """The table under `key`, made if it is missing; an item where `place` is a list."""
    if isinstance(place, list):
        if not (key.isdecimal() and len(key) < 6 and int(key) < len(place)):
            raise SpecError(f"--set {setting}: {key!r} is no index into {len(place)} tables")
        found = place[int(key)]
    else:
        found = place.setdefault(key, {})
    if not isinstance(found, (dict, list)):
        raise SpecError(f"--set {setting}: {key} is no table")
    return found


def _section(section: str, given: Any, where: str, mistakes: list[str]) -> Any:
    """One table as its class; mistakes are collected."""
    if given is not None and not isinstance(given, dict):
        mistakes.append(f"{where}: got {_show(given)}; a table [{section}] is needed")
        return None
    table = dict(given or {})
    if section == "run":
        return validate(Run, table, where, mistakes)
    kinds = KINDS[section]
    kind = table.get("kind", _implied(section, table))
    if kind is None:
        if given is None:
            mistakes.append(f"[{section}]: missing; its kind is one of {', '.join(kinds)}")
        else:
            mistakes.append(f"{where}.kind: missing; one of {', '.join(kinds)}")
        return None
    if not isinstance(kind, str) or kind not in kinds:
        mistakes.append(f"{where}.kind: got {_show(kind)}; {suggest(str(kind), tuple(kinds))}")
        return None
    return validate(kinds[kind], table, where, mistakes)


def _implied(section: str, table: dict[str, Any]) -> str | None:
    """The kind that needs no saying."""
    if section == "state":
        return "particles" if table.get("chains", 1) != 1 else "point"
    if section == "functional" and "energy" in table:
        return "imported"
    return None


def validate(cls: type[Section], table: dict[str, Any], where: str, mistakes: list[str]) -> Any:
    try:
        return cls.model_validate(table)
    except ValidationError as error:
        found = error.errors(include_url=False)
    except RecursionError:
        mistakes.append(f"{where}: nested too deeply")
        return None
    seen = set()
    for mistake in found:
        key = str(mistake["loc"][0]) if mistake["loc"] else ""
        if key in seen:  # the branches of a union say the same thing twice
            continue
        seen.add(key)
        mistakes.append(f"{where}.{key}: {_explain(cls, table, key, mistake)}")
    return None


def _explain(cls: type[Section], table: dict[str, Any], key: str, mistake: Any) -> str:
    fields = cls.model_fields
    if mistake["type"] == "extra_forbidden" and key not in fields:
        return f"unknown key; {suggest(key, tuple(fields))}"
    allowed = fields[key].description if key in fields else mistake["msg"]
    if key not in table:
        return f"missing; {allowed}"
    given, rules = table[key], fields[key].metadata if key in fields else []
    most = [rule.le for rule in rules if hasattr(rule, "le")]
    beyond = most and isinstance(given, (int, float)) and given > most[0]
    bound = f", at most {most[0]:,}" if beyond and str(most[0]) not in str(allowed) else ""
    return f"got {_show(given)}; {allowed}{bound}"


def _together(values: dict[str, Any]) -> list[str]:
    """Mistakes that only several tables show."""
    found = []
    run, scheme = values["run"], values["scheme"]
    adaptive = scheme.kind == "runge-kutta"
    if adaptive and run.time is None:
        found.append("run.time: missing; runge-kutta chooses its own steps and needs a time")
    if not adaptive and (run.time is None) == (run.steps is None):
        given = "both" if run.time is not None else "neither"
        found.append(f"run.steps, run.time: got {given}; give exactly one")
    if run.steps is not None and run.steps % run.save_every:
        found.append(
            f"run.save_every: got {run.save_every}; it must divide run.steps = {run.steps}, "
            "so that the end is saved"
        )
    if adaptive and run.warmup:
        found.append("run.warmup: got a warm-up; runge-kutta counts no steps, set warmup = 0")
    functionals = [part.kind for part in values["functional"]]
    of_law = [kind for kind in functionals if kind in ingredients.LAW_FUNCTIONALS]
    law = values["state"].kind in ingredients.LAW_STATES
    if len(functionals) > 1 and len(of_law) < len(functionals):
        found.append(
            "functional: a list adds functionals of a law, e.g. free-energy; others stand alone"
        )
    if of_law and not law:
        found.append(
            f"state.kind: got '{values['state'].kind}'; {of_law[0]} needs a law: "
            f"{', '.join(ingredients.LAW_STATES)}"
        )
    if law and run.warmup:
        found.append("run.warmup: got a warm-up; a law has none, set warmup = 0")
    kinds = [part.kind for part in values["noise"]]
    if "none" in kinds and len(kinds) > 1:
        found.append("noise: 'none' stands alone")
    return found


def _dump(table: Section) -> dict[str, Any]:
    """Every key with its value, the kind first."""
    found = table.model_dump(exclude_none=True)
    first = {"kind": found.pop("kind")} if "kind" in found else {}
    return first | found


def suggest(name: str, known: Sequence[str]) -> str:
    """What is allowed, the nearest first."""
    close = difflib.get_close_matches(name[:100], known, n=1, cutoff=0.5)
    listed = f"one of {', '.join(known)}"
    return f"did you mean {close[0]}? {listed}" if close else listed


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def to_toml(tables: dict[str, Any]) -> str:
    """TOML text of a resolved spec (tables of scalars, lists and inline tables)."""
    blocks = []
    for section, value in tables.items():
        for table in value if isinstance(value, list) else [value]:
            head = f"[[{section}]]" if isinstance(value, list) else f"[{section}]"
            lines = [f"{_toml_key(key)} = {_toml(item)}" for key, item in table.items()]
            blocks.append("\n".join([head, *lines]))
    return "\n\n".join(blocks) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, dict):
        inner = ", ".join(f"{_toml_key(key)} = {_toml(item)}" for key, item in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    return "[" + ", ".join(_toml(item) for item in value) + "]"


def _toml_key(key: str) -> str:
    plain = key.isascii() and key.replace("_", "").replace("-", "").isalnum()
    return key if plain else _toml(key)
