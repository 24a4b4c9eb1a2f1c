"""Notebooks: executed with their outputs kept, and turned into pages of the site.

    python docs/tools/notebooks.py [NAME.ipynb ...]     executes in place (extra `notebooks`)

A cell that draws says in its metadata what the picture shows: `"alt": "..."`.
"""

from __future__ import annotations

import base64
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
KEPT = ("text/plain", "image/png")


def execute(path: Path) -> None:
    """Runs every cell in a fresh kernel and writes the outputs into the file."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    notebook.metadata = {"kernelspec": KERNEL, "language_info": {"name": "python"}}
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        for output in cell.get("outputs", []):
            if "data" in output:
                drawn = "image/png" in output.data
                kept = ("image/png",) if drawn else KEPT
                output.data = {kind: output.data[kind] for kind in kept if kind in output.data}
                output.metadata = {}
    nbformat.write(notebook, path)


def page(path: Path) -> tuple[str, dict[str, bytes]]:
    """The notebook as Markdown, and its pictures by file name (relative to the page)."""
    pictures: dict[str, bytes] = {}
    parts = []
    for number, cell in enumerate(json.loads(path.read_text(encoding="utf-8"))["cells"]):
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        alt = cell["metadata"].get("alt", "")
        for name, data in _pictures(cell, f"{path.stem}_{number}"):
            pictures[name] = data
            parts.append(f"![{alt}]({name})")
        text = "".join(_texts(cell)).rstrip()
        if text:
            parts.append(f'```text {{.output title="Output"}}\n{text}\n```')
    return "\n\n".join(parts) + "\n", pictures


def _texts(cell: dict[str, Any]) -> Iterator[str]:
    for output in cell["outputs"]:
        if output["output_type"] == "stream":
            yield _joined(output["text"])
        elif output["output_type"] == "error":
            raise ValueError(f"a cell raised {output['ename']}: {output['evalue']}")
        elif "image/png" not in output["data"]:
            yield _joined(output["data"].get("text/plain", ""))


def _pictures(cell: dict[str, Any], name: str) -> Iterator[tuple[str, bytes]]:
    found = [o["data"]["image/png"] for o in cell["outputs"] if "image/png" in o.get("data", {})]
    for index, image in enumerate(found):
        data = base64.b64decode(re.sub(r"\s", "", _joined(image)))
        yield f"{name}_{index}.png", data


def _joined(text: str | list[str]) -> str:
    return text if isinstance(text, str) else "".join(text)


if __name__ == "__main__":
    for given in map(Path, sys.argv[1:] or sorted(map(str, FOLDER.glob("*.ipynb")))):
        print(given.name)
        execute(given)
