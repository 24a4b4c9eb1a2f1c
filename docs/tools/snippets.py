"""The Python that a reader meets: fenced blocks of a page, or the cells of a notebook, in order."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

FENCED = re.compile(r"```python\n(.*?)```", re.S)


def snippets(path: Path) -> list[str]:
    """The pieces of code of a Markdown page or of a notebook."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        cells = json.loads(text)["cells"]
        return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    return FENCED.findall(text)


def run(path: Path, namespace: dict[str, Any] | None = None) -> dict[str, Any]:
    """All of them in one namespace, as a reader would type them; returns it."""
    namespace = {} if namespace is None else namespace
    for number, code in enumerate(snippets(path), start=1):
        exec(compile(code, f"{path.name}, piece {number}", "exec"), namespace)
    return namespace
