"""What the site fills in while it is built: the equation index, and the pages of the notebooks."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

sys.path.insert(0, str(Path(__file__).parent))

import equation_index
import notebooks

MARK = "<!-- equation index -->"


def on_files(files: Files, config: Any) -> Files:
    """Each notebook becomes a page of its name, with its pictures beside it."""
    for path in sorted(notebooks.FOLDER.glob("*.ipynb")):
        text, pictures = notebooks.page(path)
        files.append(File.generated(config, f"notebooks/{path.stem}.md", content=text))
        for name, data in pictures.items():
            files.append(File.generated(config, f"notebooks/{name}", content=data))
    return files


def on_page_markdown(markdown: str, **kwargs: Any) -> str:
    """Puts the table where a page asks for it."""
    del kwargs
    return markdown.replace(MARK, equation_index.markdown()) if MARK in markdown else markdown
