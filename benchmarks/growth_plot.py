"""Draws what an operation costs as there is more of something: a panel for each thing that grows.

Processor time is drawn, of all threads of the process. It is also meaningful on a machine whose
processors are shared, where the time on the clock is mostly that of others.
"""

from __future__ import annotations

import itertools
from typing import Any

from aiofs.bench.keys import shown
from aiofs.bench.plots import MARKERS, Job, measured, names_of
from aiofs.bench.results import Document

from .svg import figure, plain_numbers

SIZE = (11.0, 5.6)  # inches
COLUMNS = 4


def svg(results: Document) -> bytes:
    """The plot of a result of growth.py. Raises NotInstalled."""
    groups = [
        list(jobs) for _, jobs in itertools.groupby(results["jobs"], lambda job: job["group"])
    ]
    rows = -(-len(groups) // COLUMNS)
    with figure(SIZE, "The cost of an operation as there is more", described(results)) as drawing:
        each = drawing.figure.subplots(rows, COLUMNS, squeeze=False).flatten()
        for axes, jobs in zip(each, groups, strict=False):
            draw(axes, jobs)
        for axes in each[len(groups) :]:
            axes.set_axis_off()
        drawing.figure.supylabel("processor time of an operation, us")
    return drawing.svg


def described(results: Document) -> str:
    """Every value that is drawn, in words."""
    return "; ".join(
        f"{job['job']}, {name}: {metrics['cpu']['median'] * 1e6:.3g} us"
        for job in results["jobs"]
        for name, metrics in measured(job).items()
    )


def draw(axes: Any, jobs: list[Job]) -> None:
    """A line for each participant."""
    (key,) = jobs[0]["varies"]
    for number, name in enumerate(sorted(names_of(jobs), key=lambda name: name == "aiofs")):
        points = [
            (
                job["varies"][key],
                *(metrics[name]["cpu"][end] * 1e6 for end in ("median", "least", "most")),
            )
            for job in jobs
            if name in (metrics := measured(job))
        ]
        x, middle, low, high = (list(column) for column in zip(*points, strict=True))
        below = [median - least for median, least in zip(middle, low, strict=True)]
        above = [most - median for median, most in zip(middle, high, strict=True)]
        style = {"marker": MARKERS[number], "markersize": 4, "capsize": 2}
        axes.errorbar(x, middle, yerr=[below, above], label=name, **style)
    ticks = [job["varies"][key] for job in jobs]
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(ticks, [named(key, tick) for tick in ticks], fontsize=7)
    axes.minorticks_off()
    plain_numbers(axes.yaxis)
    bottom, top = axes.get_ylim()
    axes.set_ylim(min(bottom, 1), max(top, 100))  # as in the other panels, if it fits
    axes.grid(True, which="major", alpha=0.3)
    axes.set_title(jobs[0]["group"].replace(": ", ":\n"), fontsize=8)
    axes.legend(fontsize=7)


def named(key: str, tick: int) -> str:
    """1,000 as 1k; bytes as KiB, MiB and GiB."""
    if key == "bytes":
        return shown(key, tick).replace(" ", "\n")
    return f"{tick // 1000}k" if tick >= 1000 else str(tick)
