"""What the site fills in while it is built: the equation index, from docstrings and tests."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import equation_index

MARK = "<!-- equation index -->"


def on_page_markdown(markdown: str, **kwargs: Any) -> str:
    """Puts the table where a page asks for it."""
    del kwargs
    return markdown.replace(MARK, equation_index.markdown()) if MARK in markdown else markdown
