"""RESULTS.md: each ratio goal held against the records, the parts not measured, every record."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .goals import GOALS, Records, verdict
from .store import Part, devices, records

RESULTS = Path(__file__).parent / "RESULTS.md"
HEAD = """# Benchmarks

Written by `python -m benchmarks --render` from the records in `benchmarks/results`; not by hand.
Times are medians over rounds in which every contender ran once, each in a process of its own; a
ratio is that of one round, so that a drift of the machine hits both sides, and its spread is the
smallest and the largest round. Compilation is apart. What is not a paired timing says itself how it
was taken. A load well above the contender's own threads means that the machine was shared.
"""


def render(parts: Iterable[Part]) -> str:
    """Writes RESULTS.md and says where."""
    RESULTS.write_text(rendered(parts))
    return f"wrote {RESULTS}"


def rendered(parts: Iterable[Part]) -> str:
    """The text of RESULTS.md, of all that was recorded."""
    listed = list(parts)
    text = [HEAD]
    for device in devices():
        text += _device(device, records(device), listed)
    return "\n".join(text).rstrip() + "\n"


def _device(name: str, found: list[dict[str, Any]], listed: list[Part]) -> list[str]:
    machines = sorted({_machine(record) for record in found})
    text = [f"## On {found[0]['machine']['device'] if found else name}\n", *machines, ""]
    text += _goals(Records(found))
    order = {part: i for i, part in enumerate(listed)}
    place = lambda r: order.get(Part(r["benchmark"], r["case"]), len(order))  # noqa: E731
    done = {Part(record["benchmark"], record["case"]) for record in found}
    missing = [part.label for part in listed if part not in done]
    if missing:
        text += ["### Not measured here\n", *(f"- {label}" for label in missing), ""]
    last = None
    for record in sorted(found, key=place):
        if record["benchmark"] != last:
            last = record["benchmark"]
            text.append(f"## {last}\n")
        text += [_origin(record), "", _joined(record["output"]), ""]
    return text


def _machine(record: dict[str, Any]) -> str:
    m = record["machine"]
    named = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    return (
        f"- {m['processor']}, {m['cores']} cores, {m['memory_gib']} GiB, {m['system']}, "
        f"Python {m['python']}; {named}"
    )


def _origin(record: dict[str, Any]) -> str:
    before, after = record["load"]
    cut = "" if record["complete"] else "; **cut off**"
    return (
        f"*{record['case'] or 'all'}: {record['date']}, commit {record['commit']}, "
        f"{record['rounds']} rounds, {record['seconds']:.0f} s, load {before:.1f} before and "
        f"{after:.1f} after{cut}*"
    )


def _joined(output: list[str]) -> str:
    """Rows that came one by one are one table: no empty line before them."""
    text = "\n".join(line.strip("\n") + ("\n" if line.endswith("\n") else "") for line in output)
    return text.replace("### ", "#### ").rstrip()


def _goals(found: Records) -> list[str]:
    """Each goal with what was measured, misses first."""
    rows = [(goal, *verdict(goal, found)) for goal in GOALS]
    rank = {"missed": 0, "held": 1, "not measured": 2}
    rows.sort(key=lambda row: rank[row[2]])
    count = {word: sum(row[2] == word for row in rows) for word in rank}
    text = [
        "### Goals\n",
        f"{count['held']} held, {count['missed']} missed, {count['not measured']} not measured.\n",
        "| goal | asked | measured | verdict |",
        "|---|---|---|---|",
    ]
    for goal, value, word in rows:
        measured = "" if value is None else f"{value:.3g}"
        text.append(f"| {goal.name} | {goal.asked} | {measured} | {word} |")
    return [*text, ""]
