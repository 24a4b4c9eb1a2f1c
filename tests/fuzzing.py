"""Hostile specs and CSV files: whatever comes in, an answer or a SteepestError comes out, soon.

Mutations of the example specs and data by structure (values, kinds, keys, whole tables from other
specs) and by bytes, from a seed. No pickle, nothing executed, nothing outside memory but one file.

    python tests/fuzzing.py specs --count 1000000
    python tests/fuzzing.py tables --count 100000
"""

from __future__ import annotations

import argparse
import collections
import copy
import math
import os
import random
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from steepest.cli import spec as specs
from steepest.cli.posterior import read_posterior
from steepest.errors import SteepestError
from steepest.problems.points import read_points
from steepest.problems.table import POLICIES, TARGETS, read_table

EXAMPLES = Path(__file__).parent.parent / "examples"
SLOW, LONG = 2.0, 200_000
"""Seconds that one input may take, and characters that a message may have."""

HOSTILE: list[Any] = [
    0, -1, 1, 2, 10**30, -(10**30), 2**32, 2**63, 1e308, -1e308, 1e-320, math.nan, math.inf, True,
    "", "a", "nan", "../../etc/passwd", "/etc/passwd", "a\x00b", "os:system", "x" * 5000, "\ud7ff",
    "data/breast_cancer.csv", "=1+1", "{0.__class__}", "%s%s", "<script>", [], [[]], [1, "a", None],
    {}, {"a": {"b": {}}}, {"initial": 1.0, "final": 0.0, "time": 0.0, "shape": "exponential"},
    [0.0] * 1000, None,
]  # fmt: skip


def example_specs() -> list[tuple[str, dict[str, Any]]]:
    """(text, tables) of every example spec."""
    texts = [path.read_text() for path in sorted(EXAMPLES.rglob("*.toml"))]
    return [(text, tomllib.loads(text)) for text in texts]


def mutated(draw: random.Random, tables: dict[str, Any], others: list[Any]) -> dict[str, Any]:
    """One to five changes of structure."""
    tables = copy.deepcopy(tables)
    for _ in range(draw.randint(1, 5)):
        places = [(tables, key) for key in tables]
        for table in list(tables.values()):
            for part in table if isinstance(table, list) else [table]:
                places += [(part, key) for key in part] if isinstance(part, dict) else []
        if not places:
            return tables
        place, key = draw.choice(places)
        what = draw.randrange(7)
        if what == 0:
            del place[key]
        elif what <= 2:
            place[key] = copy.deepcopy(draw.choice(HOSTILE))
        elif what == 3:
            place[str(draw.choice(HOSTILE))[:200]] = place.pop(key)
        elif what == 4:
            other = draw.choice(others)
            name = draw.choice(list(other))
            tables[name] = copy.deepcopy(other[name])
        elif what == 5:
            known = [k for kinds in specs.KINDS.values() for k in kinds]
            place["kind"] = draw.choice(known)
        elif isinstance(place[key], (int, float)):
            place[key] = place[key] * draw.choice([-1, 0, 1e-9, 1e9, 0.5, 3])
    return tables


def scrambled(draw: random.Random, text: bytes, most: int = 8) -> bytes:
    """Up to `most` changes of bytes."""
    data = bytearray(text)
    for _ in range(draw.randint(0, most)):
        at = draw.randrange(len(data) + 1)
        what = draw.randrange(6)
        if what == 0 and at < len(data):
            data[at] = draw.randrange(256)
        elif what == 1:
            del data[at : at + draw.choice([1, 2, 10, 100])]
        elif what == 2:
            data[at:at] = bytes(draw.randrange(256) for _ in range(draw.choice([1, 3])))
        elif what == 3:
            data[at:at] = data[at : at + draw.choice([1, 10, 200])] * draw.choice([1, 2, 20])
        elif what == 4:
            data[at:at] = draw.choice(TOKENS)
        else:
            data = data[:at] if draw.random() < 0.3 else data
    return bytes(data)


TOKENS = [
    b'"', b"'", b"'''", b"[", b"]", b"[[", b"{", b"=", b",", b"\n", b"\r", b"\x00", b"\xff", b"#",
    b"\xef\xbb\xbf", b"1e999", b"nan", b"0x", b"1979-05-27", b"[" * 3000, b"a." * 500, b";", b"\t",
    b'"""', b"\\u0000", b"\xe2\x80\xae", b"-0", b"1_000", b"inf", b"NA", b"?",
]  # fmt: skip


class Wrong(Exception):
    """What is neither an answer nor a refusal in words."""


def held(work: Callable[[], Any]) -> str:
    """ "answered" or "refused"; raises Wrong for anything else."""
    began = time.monotonic()
    try:
        work()
        told = "answered"
    except SteepestError as refusal:
        text = str(refusal)
        if not text.strip() or len(text) > LONG:
            raise Wrong(f"a message of {len(text)} characters") from None
        text.encode("utf-8")
        told = "refused"
    except Exception as error:
        raise Wrong(f"{type(error).__name__}: {str(error)[:300]}") from error
    if time.monotonic() - began > SLOW:
        raise Wrong(f"took {time.monotonic() - began:.1f} s")
    return told


def round_trip(tables: dict[str, Any]) -> None:
    """A spec that is accepted can be written and read again as the same."""
    spec = specs.parse_spec(tables, EXAMPLES)
    again = specs.parse_spec(tomllib.loads(specs.to_toml(spec.tables())), EXAMPLES)
    if again.tables() != spec.tables():
        raise AssertionError("the resolved spec does not say what the spec said")


READERS: list[Callable[[Path], Any]] = [specs.read_spec, specs.read_spec, read_posterior]


def fuzz_spec(draw: random.Random, file: Path, examples: list[Any]) -> str:
    """One spec, by structure or by bytes."""
    text, tables = draw.choice(examples)
    if draw.random() < 0.75:
        return held(lambda: round_trip(mutated(draw, tables, [t for _, t in examples])))
    file.write_bytes(scrambled(draw, text.encode()))
    return held(lambda: draw.choice(READERS)(file))


def example_tables() -> list[tuple[bytes, list[str]]]:
    """(a few lines, the columns) of every example file."""
    found = []
    for path in sorted((EXAMPLES / "data").glob("*.csv")):
        lines = path.read_bytes().splitlines(keepends=True)[:8]
        found.append((b"".join(lines), lines[0].decode().strip().split(",")))
    return found


def fuzz_table(draw: random.Random, file: Path, examples: list[Any]) -> str:
    """One CSV file, under random options."""
    text, columns = draw.choice(examples)
    file.write_bytes(scrambled(draw, text, 3))
    some = lambda most: draw.sample(columns, min(draw.randint(0, most), len(columns)))  # noqa: E731
    if draw.random() < 0.2:
        names = tuple(columns) if draw.random() < 0.5 else ()
        return held(lambda: read_points(file, names))
    options: dict[str, Any] = dict(
        target_kind=draw.choice(TARGETS),
        missing=draw.choice(POLICIES),
        drop=some(2),
        categorical=some(1),
        group=draw.choice([None, None, *some(1)]),
    )
    target = draw.choice([*columns, "", "no such column"])
    return held(lambda: _finite(read_table(file, target, **options)))


def _finite(table: Any) -> None:
    """What a table says must be numbers."""
    import numpy as np

    if not (np.isfinite(table.features).all() and np.isfinite(table.target).all()):
        raise AssertionError("a table with numbers that are not finite")
    if len(table.features) != len(table.target):
        raise AssertionError("rows went astray")


KINDS = {"specs": (fuzz_spec, example_specs), "tables": (fuzz_table, example_tables)}


def fuzz(
    kind: str, seed: int, numbers: range, seconds: float = math.inf
) -> tuple[collections.Counter[str], list[str]]:
    """How often each answer, and what was wrong with number and seed."""
    one, gather = KINDS[kind]
    examples, count, wrong = gather(), collections.Counter(), []
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    began = time.monotonic()
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        file = Path(folder) / "input"
        for number in numbers:
            try:
                count[one(random.Random(f"{seed} {number}"), file, examples)] += 1
            except Wrong as error:
                count["wrong"] += 1
                wrong.append(f"{kind} {seed} {number}: {error}")
            if number % 1000 == 0 and time.monotonic() - began > seconds:
                break
    return count, wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=math.inf)
    options = parser.parse_args()
    began = time.monotonic()
    numbers = range(options.first, options.first + options.count)
    count, wrong = fuzz(options.kind, options.seed, numbers, options.seconds)
    print("\n".join(wrong[:50]))
    print(f"{options.kind}: {dict(count)} of {count.total()}, {time.monotonic() - began:.0f} s")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
