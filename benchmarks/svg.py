"""SVG files by matplotlib, which is imported only here.

The same values and the same matplotlib give the same bytes.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from aiofs.bench.plots import NotInstalled


@dataclass
class Drawing:
    """A figure of matplotlib, and the file, which is made when the block ends."""

    figure: Any
    svg: bytes = b""


@contextmanager
def figure(size: tuple[float, float], title: str, description: str) -> Iterator[Drawing]:
    """A figure to draw in. Size: in inches. Raises NotInstalled."""
    try:
        import matplotlib
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure
    except ImportError as error:
        raise NotInstalled(f"plots need matplotlib ({error}): pip install 'aiofs[bench]'") from None
    out = io.BytesIO()
    # Text stays text: the file is small, and its bytes do not depend on the fonts of the machine.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "aiofs"}):
        drawing = Drawing(Figure(figsize=size, layout="constrained"))
        FigureCanvasSVG(drawing.figure)
        yield drawing
        metadata = {"Title": title, "Description": description, "Date": None}
        drawing.figure.savefig(out, format="svg", metadata=metadata)
    lines = out.getvalue().decode().splitlines()
    drawing.svg = ("\n".join(line.rstrip() for line in lines) + "\n").encode()


def plain_numbers(axis: Any) -> None:
    """Writes the ticks of a logarithmic axis as 0.1, 1, 10, not as powers."""
    from matplotlib.ticker import FuncFormatter

    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
