"""The command line. Nothing heavy is imported before a command runs."""

from __future__ import annotations

from . import making as making
from . import using as using
from .frame import app as app


def main() -> None:
    """The entry point of the `steepest` command."""
    app()
