"""Prints the demo's output: on a terminal with rich, if it is installed, otherwise as plain text.

Another thread draws the progress bar, so that drawing does not count as a delay of the loop.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

DRAWN_EVERY = 0.1  # seconds
BAR_WIDTH = 40


def size(count: float) -> str:
    """A number of bytes in a readable unit."""
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count:.0f} bytes"


def printable(text: str) -> str:
    """A path in which characters that a terminal cannot show, or would obey, are escaped."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


class Bar:
    """Counts how many of `total` bytes are done. Advancing it draws nothing."""

    def __init__(self, label: str, total: int) -> None:
        self.label = label
        self.total = total
        self.done = 0

    def advance(self, count: int) -> None:
        self.done += count

    @property
    def part(self) -> float:
        return min(self.done / self.total, 1.0) if self.total else 1.0


class Screen:
    """Plain text. On a terminal, the bar overwrites its own line."""

    def __init__(self) -> None:
        self._terminal = sys.stdout.isatty()

    def heading(self, text: str) -> None:
        print(f"\n{text}\n", flush=True)

    def pair(self, left: str, right: str) -> None:
        """Prints a call or an action, and its result."""
        print(f"  {left:<36}{right}", flush=True)

    def note(self, text: str) -> None:
        print(f"  {text}", flush=True)

    def table(self, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Prints a table: the first column is aligned left, the others right."""
        print()
        widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
        for row in (head, ["-" * width for width in widths], *rows):
            cells = (cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
            print("  " + "   ".join((row[0].ljust(widths[0]), *cells)))
        print(flush=True)

    @asynccontextmanager
    async def progress(self, label: str, total: int) -> AsyncIterator[Bar]:
        """A context manager: a bar is drawn until the context is left."""
        bar = Bar(label, total)
        self._begin(bar)
        drawing = asyncio.create_task(self._keep_drawing(bar))
        try:
            yield bar
        finally:
            drawing.cancel()
            await asyncio.wait([drawing])
            self._end(bar)

    async def _keep_drawing(self, bar: Bar) -> None:
        while True:
            await asyncio.sleep(DRAWN_EVERY)
            await asyncio.shield(asyncio.to_thread(self._draw, bar))

    def _begin(self, bar: Bar) -> None:
        pass

    def _draw(self, bar: Bar) -> None:
        filled = "#" * round(bar.part * BAR_WIDTH)
        line = f"  {bar.label:<16}[{filled:<{BAR_WIDTH}}] {bar.part:4.0%}"
        if self._terminal and len(line) < shutil.get_terminal_size().columns:
            print(f"\r{line}", end="", flush=True)

    def _end(self, bar: Bar) -> None:
        self._draw(bar)
        if self._terminal:
            print(flush=True)
        else:
            self.note(f"{bar.label:<16}{bar.part:.0%}")


class RichScreen(Screen):
    """Uses the colours, the bar and the table of rich."""

    def __init__(self) -> None:
        super().__init__()
        from rich.console import Console

        self._console = Console(highlight=False)
        self._rich_bar: Any = None

    def heading(self, text: str) -> None:
        self._print(f"\n{text}\n", "bold")

    def pair(self, left: str, right: str) -> None:
        from rich.text import Text

        self._console.print(Text.assemble("  ", (f"{left:<36}", "cyan"), right), soft_wrap=True)

    def note(self, text: str) -> None:
        self._print(f"  {text}", "")

    def table(self, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        from rich import box
        from rich.padding import Padding
        from rich.table import Table

        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
        for i, title in enumerate(head):
            table.add_column(title, justify="right" if i else "left", no_wrap=True)
        for row in rows:
            table.add_row(*row)
        self._console.print(Padding(table, (0, 2)))

    def _print(self, text: str, style: str) -> None:
        self._console.print(text, style=style, markup=False, soft_wrap=True)

    def _begin(self, bar: Bar) -> None:
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

        columns = (
            TextColumn("  {task.description:<14}"),
            BarColumn(BAR_WIDTH),
            TaskProgressColumn(),
        )
        self._rich_bar = Progress(*columns, console=self._console, auto_refresh=False)
        self._rich_bar.add_task(bar.label, total=1.0)
        self._rich_bar.start()

    def _draw(self, bar: Bar) -> None:
        self._rich_bar.update(self._rich_bar.task_ids[0], completed=bar.part, refresh=True)

    def _end(self, bar: Bar) -> None:
        self._draw(bar)
        self._rich_bar.stop()


def screen() -> Screen:
    """Returns a RichScreen on a terminal if rich is installed, otherwise a Screen."""
    if sys.stdout.isatty():
        try:
            return RichScreen()
        except ImportError:
            pass
    return Screen()
