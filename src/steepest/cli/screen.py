"""What the terminal shows. Text from outside is never read as markup."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..report.page import number
from ..summary import LABELS

MOST_PRINTED = 12
VERDICTS = {"passed": "green", "FAILED": "bold red", "not judged": "dim"}

_console = Console(highlight=False)
if not _console.is_terminal:
    _console.width = 120


def interactive() -> bool:
    """Whether somebody is watching."""
    return _console.is_terminal


def only_here(first: bool) -> None:
    """Of several processes the first one speaks."""
    _console.quiet = not first


def say(text: str, style: str = "") -> None:
    """One line."""
    _console.print(Text(text, style=style), soft_wrap=True)


def row(values: dict[str, str]) -> None:
    """The flow's row."""
    table = _table()
    table.show_header = False
    for name, value in values.items():
        table.add_row(Text(name, style="dim"), Text(value))
    _print(table)


def audit(found: Any) -> None:
    """The audit as a table."""
    table = _table("audit", "verdict", "residual", "tolerance", "", right=(2, 3))
    for check in found.checks:
        table.add_row(
            Text(check.name),
            Text(check.verdict, style=VERDICTS[check.verdict]),
            Text(number(check.residual)),
            Text(number(check.tolerance)),
            Text(check.why, style="dim"),
        )
    _print(table)


def comparison(rows: Sequence[dict[str, Any]]) -> None:
    """The methods of a comparison, a row each."""
    if not rows:
        return
    keys = ["method", "verdict", "mean error", "sd error", "gradients", "seconds", "compile", "ESS"]
    table = _table(*keys, right=range(2, len(keys)))
    for one in rows:
        style = "green" if one["verdict"] == "certified" else "yellow"
        cells = [Text(number(float(one[key]))) for key in keys[2:]]
        table.add_row(Text(one["method"]), Text(one["verdict"], style=style), *cells)
    _print(table)


def runs(rows: Sequence[dict[str, str]]) -> None:
    """Run folders, a row each."""
    table = _table("run", "command", "began", "verdict")
    for one in rows:
        style = "green" if one["passed"] == "yes" else "bold red"
        verdict = Text(one["verdict"], style=style)
        table.add_row(Text(one["run"]), Text(one["command"]), Text(one["began"]), verdict)
    _print(table)


def summary(rows: Sequence[dict[str, Any]]) -> None:
    """ArviZ's summary, the slowest parameters first."""
    rows = sorted(rows, key=lambda row: row["ess_bulk"])
    keys = [key for key in rows[0] if key in LABELS and not key.startswith("mcse")]
    names = [LABELS.get(key, key) for key in keys]
    table = _table("parameter", *names, right=range(1, len(names) + 1))
    for one in rows[:MOST_PRINTED]:
        table.add_row(Text(one["parameter"]), *[Text(number(one[key])) for key in keys])
    _print(table)
    if len(rows) > MOST_PRINTED:
        say(f"the {MOST_PRINTED} slowest of {len(rows)} parameters; all are in the report", "dim")


def relative(path: Path) -> str:
    """The path as seen from here, if it is below."""
    with contextlib.suppress(ValueError):
        return str(path.relative_to(Path.cwd()))
    return str(path)


def _table(*columns: str, right: Sequence[int] = ()) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for index, name in enumerate(columns):
        table.add_column(name, justify="right" if index in right else "left")
    return table


def _print(table: Table) -> None:
    _console.print()
    _console.print(table)
    _console.print()
