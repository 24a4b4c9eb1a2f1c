"""Docstrings are plain text with formulas: what Markdown would take for markup is escaped.

`<dF, K dF>` is a pairing and no tag, `a * b * c` a product and no emphasis. Text in backticks and
indented formulas are left as they are.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

MARKUP = re.compile(r"([<*_\[\]])")


def plain(text: str) -> str:
    """The docstring as Markdown that shows the same characters."""
    return "\n".join(_line(line) for line in text.splitlines())


def _line(line: str) -> str:
    if line.startswith("    "):
        return line
    pieces = re.split(r"(`[^`]*`)", line)
    escaped = [MARKUP.sub(r"\\\1", piece) for piece in pieces[::2]]
    pieces[::2] = escaped
    return "".join(pieces)


class PlainDocstrings(griffe.Extension):
    """Escapes every docstring once it is loaded."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        del kwargs
        if obj.docstring is not None:
            obj.docstring.value = plain(obj.docstring.value)
