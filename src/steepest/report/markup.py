"""HTML that is escaped by construction: text becomes markup only through `tag`."""

from __future__ import annotations

import html
import re
from typing import Any

VOID = frozenset({"img", "input", "meta", "br", "hr", "source", "link"})
NAME = re.compile(r"[a-z][a-z0-9-]*")


class Markup(str):
    """Text that is already HTML. Only `tag`, `join` and constants of this package make it."""

    __slots__ = ()


def escape(value: Any) -> Markup:
    """`value` as HTML text; markup stays as it is."""
    if isinstance(value, Markup):
        return value
    return Markup(html.escape(str(value), quote=True))


def join(*children: Any) -> Markup:
    """Children one after the other; None is nothing, lists are flattened."""
    parts = []
    for child in children:
        if child is None:
            continue
        parts.append(join(*child) if isinstance(child, (list, tuple)) else escape(child))
    return Markup("".join(parts))


def tag(name: str, *children: Any, **attributes: Any) -> Markup:
    """<name attributes>children</name>; `class_` and `data_x` become class and data-x."""
    given = {key.rstrip("_").replace("_", "-"): value for key, value in attributes.items()}
    for word in (name, *given):
        if not NAME.fullmatch(word):
            raise ValueError(f"not a name: {word}")
    parts = []
    for key, value in given.items():
        if value is True:
            parts.append(f" {key}")
        elif value is not None and value is not False:
            parts.append(f' {key}="{html.escape(str(value), quote=True)}"')
    opened = f"<{name}{''.join(parts)}>"
    return Markup(opened if name in VOID else f"{opened}{join(*children)}</{name}>")
