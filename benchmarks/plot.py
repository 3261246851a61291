"""Draws the plot of the README from saved results.

The description in the file says every value that is drawn. So the plot can be compared with the
results where matplotlib is missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiofs.bench.measuring.spread import Spread

from . import report
from .svg import figure, plain_numbers

Panel = Mapping[str, Mapping[str, Spread]]  # from a line's name to the spreads of the contenders

SIZE = (10.0, 4.2)  # inches
MARKERS = "os"
CAPTION = (
    "Dots: medians of the rounds; lines: from the fastest to the slowest round. To the left is "
    "better; the scales are logarithmic. A contender without a dot was not measured."
)


def panels(results: report.Document) -> dict[str, Panel]:
    """What is drawn, by the label of the axis; empty if the results lack a case."""
    found = report.cases_in_short(results)
    if not found:
        return {}

    def line(key: str, metric: str, unit: float = 1) -> dict[str, Spread]:
        return {
            name: Spread(*(metrics[metric][end] / unit for end in ("median", "least", "most")))
            for name in report.names_in_short(found)
            if metric in (metrics := found[key].get(name, {}))
        }

    lines = {title: line(key, "ratio") for key, title in report.RATIOS.items()}
    return {
        "read: multiple of C": {title: lines[title] for title in ("read", "32 reads")},
        "write: multiple of C": {title: lines[title] for title in ("write", "32 writes")},
        "loop stall, ms": {"worst": line(report.STALL, "stall worst", 1e-3)},
    }


def described(results: report.Document) -> str:
    """Every value that is drawn, in words."""
    return "; ".join(
        f"{label}, {title}, {name}: {s.median:.4g} ({s.least:.4g} to {s.most:.4g})"
        for label, panel in panels(results).items()
        for title, line in panel.items()
        for name, s in line.items()
    )


def svg(results: report.Document) -> bytes:
    """The plot. Raises NotInstalled."""
    drawn = panels(results)
    names = report.names_in_short(report.cases_in_short(results))
    with figure(SIZE, "The speed of aiofs", described(results)) as drawing:
        each = drawing.figure.subplots(1, len(drawn), sharey=True)
        for axes, (label, panel) in zip(each, drawn.items(), strict=True):
            draw(axes, names, label, panel)
            plain_numbers(axes.xaxis)
    return drawing.svg


def draw(axes: Any, names: list[str], label: str, panel: Panel) -> None:
    """A row for each contender, a mark for each line of the panel."""
    axes.set_xscale("log")
    axes.grid(True, which="major", alpha=0.3)
    for number, (title, line) in enumerate(panel.items()):
        rows = [names.index(name) + 0.3 * (number + 0.5 - len(panel) / 2) for name in line]
        middle = [spread.median for spread in line.values()]
        below = [spread.median - spread.least for spread in line.values()]
        above = [spread.most - spread.median for spread in line.values()]
        style = {"fmt": MARKERS[number], "markersize": 5, "capsize": 2}
        axes.errorbar(middle, rows, xerr=[below, above], label=title, **style)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.minorticks_off()
    axes.set_xlabel(label)
    if len(panel) > 1:
        axes.axvline(1, color="#888888", linestyle=":")  # C
        axes.legend(fontsize=8)
