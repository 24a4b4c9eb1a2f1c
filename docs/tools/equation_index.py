"""The equation index: for each equation what implements it and what verifies it.

Docstrings in `src` and names or docstrings of tests cite "eq. N", "eq. N-M" or "eq. N, M"; tests
also "test_equation_N_...". Nothing is listed by hand but the names of the equations. A package's
own docstring is an overview and implements nothing, so it does not count.
"""

from __future__ import annotations

import ast
import dataclasses
import re
import tomllib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCE, TESTS = ROOT / "src" / "steepest", ROOT / "tests"
ONE = r"\d+\b(?!\.\d)(?:\s*-\s*\d+)?"
CITED = re.compile(rf"\beqs?\.\s+({ONE}(?:(?:,\s*|\s+and\s+){ONE})*)", re.I)
IN_A_NAME = re.compile(r"^test_equation((?:_\d+)+)")
SHOWN = 3


@dataclasses.dataclass(frozen=True)
class Place:
    """What cites an equation: `name` in `module` (empty: the module), one of `width` together."""

    module: str
    name: str
    file: str
    line: int
    width: int

    @property
    def path(self) -> str:
        """module.name, or the module."""
        return f"{self.module}.{self.name}" if self.name else self.module

    @property
    def public(self) -> str:
        """Where the reference describes it: under its package, of which it is a public name."""
        package = self.module.split(".")[:2]
        return ".".join([*package, self.name]) if self.module.count(".") == 2 else self.path

    @property
    def rank(self) -> tuple[bool, int, str]:
        """The most specific first: a symbol before a module, few equations before many."""
        return not self.name, self.width, self.path


def numbers(text: str) -> dict[int, int]:
    """The equations a docstring cites, each with the size of the smallest group it is cited in."""
    found: dict[int, int] = {}
    for group in CITED.findall(text):
        cited: list[int] = []
        for part in re.split(r",\s*|\s+and\s+", group):
            first, _, last = (word.strip() for word in part.partition("-"))
            cited += range(int(first), int(last or first) + 1)
        for number in cited:
            found[number] = min(found.get(number, len(cited)), len(cited))
    return found


def _places(file: Path, module: str) -> Iterator[tuple[int, Place]]:
    relative = str(file.relative_to(ROOT))
    whole = ast.parse(file.read_text())
    if file.name != "__init__.py":
        for number, width in numbers(ast.get_docstring(whole) or "").items():
            yield number, Place(module, "", relative, 1, width)

    def visit(body: list[ast.stmt], prefix: str) -> Iterator[tuple[int, Place]]:
        for node in body:
            if not isinstance(node, ast.ClassDef | ast.FunctionDef):
                continue
            if not node.name.startswith("_"):
                cited = numbers(ast.get_docstring(node) or "")
                match = IN_A_NAME.match(node.name)
                cited |= {int(n): 1 for n in match.group(1).split("_")[1:]} if match else {}
                for number, width in cited.items():
                    yield number, Place(module, prefix + node.name, relative, node.lineno, width)
            if isinstance(node, ast.ClassDef):
                yield from visit(node.body, f"{prefix}{node.name}.")

    yield from visit(whole.body, "")


@cache
def implementations() -> dict[int, list[Place]]:
    """Equation -> what implements it, the most specific first."""
    return _gather(SOURCE, lambda file: "steepest." + _dotted(file.relative_to(SOURCE)))


@cache
def verifications() -> dict[int, list[Place]]:
    """Equation -> the tests that verify it. Only functions count; a file's docstring does not."""
    found = _gather(TESTS, lambda file: _dotted(file.relative_to(TESTS)))
    tests = {n: [p for p in places if p.name.startswith("test_")] for n, places in found.items()}
    return {number: places for number, places in tests.items() if places}


def _gather(folder: Path, name: Callable[[Path], str]) -> dict[int, list[Place]]:
    found: dict[int, list[Place]] = {}
    for file in sorted(folder.rglob("*.py")):
        for number, place in _places(file, name(file)):
            found.setdefault(number, []).append(place)
    return {number: sorted(places, key=lambda p: p.rank) for number, places in found.items()}


def _dotted(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def names() -> dict[int, str]:
    """What each equation is called here."""
    return {int(k): v for k, v in _table()["names"].items()}


def notation() -> dict[int, str]:
    """Equations that only set up notation, with the reason."""
    return {int(k): v for k, v in _table()["notation"].items()}


@cache
def _table() -> dict[str, dict[str, str]]:
    return tomllib.loads((Path(__file__).parent / "equations.toml").read_text())


def missing() -> list[str]:
    """What an equation lacks; empty when the index is whole."""
    lacking: list[str] = []
    for number in names():
        if number in notation():
            continue
        if not implementations().get(number):
            lacking.append(f"eq. {number} ({names()[number]}): no docstring in src cites it")
        if not verifications().get(number):
            lacking.append(f"eq. {number} ({names()[number]}): no test cites it")
    return lacking


def markdown() -> str:
    """The index as a Markdown table; what the reference describes is linked there."""
    rows = ["| eq. | what it says | implemented by | verified by |", "|---|---|---|---|"]
    for number, name in names().items():
        if number in notation():
            rows.append(f"| {number} | {name} | notation: {notation()[number]} | |")
            continue
        places = implementations().get(number, [])
        symbols = [place for place in places if place.name]  # a module only where nothing else is
        code = [_symbol(place) for place in (symbols or places)[:SHOWN]]
        tests = [_test(place) for place in verifications().get(number, [])[:SHOWN]]
        rows.append(f"| {number} | {name} | {'<br>'.join(code)} | {'<br>'.join(tests)} |")
    return "\n".join(rows)


def _symbol(place: Place) -> str:
    shown = place.path.removeprefix("steepest.")
    return f'<autoref identifier="{place.public}" optional>`{shown}`</autoref>'


def _test(place: Place) -> str:
    return f"`{place.name}` ({place.file})"


if __name__ == "__main__":
    for line in missing():
        print(line)
