"""The progress of a run, on standard error if that is a terminal: a bar of rich, or one line."""

from __future__ import annotations

import sys
from typing import Any


class Progress:
    """A context manager. Without a terminal it shows nothing."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.done = 0

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def step(self, what: str) -> None:
        """Shows what begins now: one of `total` measurements."""
        self.show(what)
        self.done += 1

    def show(self, what: str) -> None:
        """Shows what is done beside the measurements."""


class Line(Progress):
    def __exit__(self, *_: object) -> None:
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    def show(self, what: str) -> None:
        part = self.done / max(1, self.total)
        print(f"\r\x1b[K{part:4.0%} {what}", end="", file=sys.stderr, flush=True)


class Bar(Progress):
    """The bar of rich."""

    def __init__(self, total: int) -> None:
        super().__init__(total)
        from rich.console import Console
        from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        columns = (
            BarColumn(30),
            TaskProgressColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.description}", markup=False),
        )
        console = Console(stderr=True, highlight=False)
        # Drawn only between measurements: a thread that draws would disturb them.
        self._rich: Any = RichProgress(
            *columns, console=console, transient=True, auto_refresh=False
        )
        self._task = self._rich.add_task("", total=total)

    def __enter__(self) -> Bar:
        self._rich.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._rich.stop()

    def show(self, what: str) -> None:
        self._rich.update(self._task, completed=self.done, description=what, refresh=True)


def progress(total: int) -> Progress:
    """A Bar if rich is installed, otherwise a Line; without a terminal neither."""
    if not sys.stderr.isatty():
        return Progress(total)
    try:
        return Bar(total)
    except ImportError:
        return Line(total)
