"""A progress bar with rate and time to go; silent unless asked for."""

from __future__ import annotations

from typing import Any


class Progress:
    """Context manager: `update(done)` moves the bar."""

    def __init__(self, shown: bool, total: int):
        self.total, self.bar = total, None
        if shown:
            from rich.progress import (
                BarColumn,
                MofNCompleteColumn,
                TextColumn,
                TimeElapsedColumn,
                TimeRemainingColumn,
            )
            from rich.progress import (
                Progress as Bar,
            )

            self.bar = Bar(
                TextColumn("[progress.description]{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
            )

    def __enter__(self) -> Progress:
        if self.bar is not None:
            self.bar.start()
            self.task = self.bar.add_task("steps", total=self.total, rate="compiling")
        return self

    def update(self, done: int) -> None:
        """`done` steps of the total are behind us."""
        if self.bar is not None:
            speed = self.bar.tasks[0].speed
            rate = "" if not speed else f"{speed:,.0f} steps/s"
            self.bar.update(self.task, completed=done, rate=rate)

    def __exit__(self, *error: Any) -> None:
        if self.bar is not None:
            self.bar.stop()
