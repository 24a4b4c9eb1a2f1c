"""`python -m steepest.cli`."""

from .app import main

main()
