"""The command line: a spec file in, a run folder out."""

from .app import main as main
