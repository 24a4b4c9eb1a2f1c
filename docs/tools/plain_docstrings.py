"""How the reference reads the source: docstrings are plain text, packages export what they import.

Docstrings are text with formulas, so what Markdown would take for markup is escaped: `<dF, K dF>`
is a pairing and no tag, `a * b * c` a product and no emphasis. Text in backticks, *one word* set
off and indented formulas are left as they are. Names that a package imports `as` themselves are its
public ones.
"""

from __future__ import annotations

import ast
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
    pieces = re.split(r"(`[^`]*`|(?<![\w*])\*\w+\*(?![\w*]))", line)
    pieces[::2] = [MARKUP.sub(r"\\\1", piece) for piece in pieces[::2]]
    return "".join(pieces)


class PlainDocstrings(griffe.Extension):
    """Escapes every docstring and marks what a package exports, once an object is loaded."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        del kwargs
        if obj.docstring is not None:
            obj.docstring.value = plain(obj.docstring.value)

    def on_module(self, *, mod: griffe.Module, **kwargs: Any) -> None:
        """Sets the exports of a package without `__all__`."""
        del kwargs
        if not mod.is_init_module or mod.exports or mod.parent is None:
            return
        body = ast.parse(mod.filepath.read_text()).body
        imports = (child for child in body if isinstance(child, ast.ImportFrom))
        names = [alias.name for child in imports for alias in child.names if alias.asname]
        defined = [child.name for child in body if isinstance(child, ast.FunctionDef)]
        mod.exports = [name for name in (*names, *defined) if not name.startswith("_")]
