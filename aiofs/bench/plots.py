"""The plots of a report, as PNG: drawn by matplotlib, which is imported only here.

A figure is a pair of a title, which also names its file, and the function that draws it.
"""

from __future__ import annotations

import io
import itertools
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiofs.bench.keys import KEYS, shown
from aiofs.bench.measuring.data import MiB
from aiofs.bench.measuring.spread import QUANTILES

Job = Mapping[str, Any]
Metrics = Mapping[str, Mapping[str, float]]

SIZE = (8.0, 4.5)  # inches
DPI = 120
MARKERS = "osD^vPX*<>"
SOFTWARE = "aiofs bench"  # in each file: a later report may replace it


class NotInstalled(Exception):
    """matplotlib is missing. The message says what to install."""


@dataclass(frozen=True)
class Plot:
    """A figure: its title, what is to be read from it, and what draws it into axes."""

    title: str
    meaning: str
    draw: Callable[[Any], None]

    @property
    def file_name(self) -> str:
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")[:80] + ".png"


def plots(jobs: Sequence[Job]) -> Iterator[Plot]:
    """All plots of some jobs: those of a varied key first, then those of each job.

    What varies beside the keys of jobs grows, and only the cost of that is plotted.
    """
    groups = itertools.groupby(jobs, key=lambda job: job["group"])
    for group, members in groups:
        yield from by_key(group, list(members))
    for job in jobs:
        if measured(job) and job["varies"].keys() <= KEYS.keys():
            yield from of_job(job)


def png(plot: Plot) -> bytes:
    """Draws a plot. Raises NotInstalled."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise NotInstalled(f"plots need matplotlib ({error}): pip install 'aiofs[bench]'") from None
    figure = Figure(figsize=SIZE, dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_title(plot.title, fontsize=11)
    axes.grid(True, which="major", alpha=0.3)
    plot.draw(axes)
    out = io.BytesIO()
    figure.savefig(out, format="png", metadata={"Software": SOFTWARE})
    return out.getvalue()


# ---- against a key that varies -------------------------------------------------------------------


def by_key(group: str, jobs: Sequence[Job]) -> Iterator[Plot]:
    """A plot for each key with several numbers, and for each combination of the other keys."""
    numeric = [key for key in jobs[0]["varies"] if all(is_number(job, key) for job in jobs)]
    for key in numeric:
        others = [other for other in jobs[0]["varies"] if other != key]
        together: dict[str, list[Job]] = {}
        for job in jobs:
            rest = " ".join(f"{other}={written(other, job)}" for other in others)
            together.setdefault(rest, []).append(job)
        for rest, same in together.items():
            same = [job for job in same if measured(job)]
            if len(same) > 1:
                yield from against(" ".join(filter(None, [group, rest])), key, same)


def against(name: str, key: str, jobs: Sequence[Job]) -> Iterator[Plot]:
    if key in KEYS:
        unit = "MiB/s" if key == "bs" else "operations/s"
        yield Plot(
            f"{name}: throughput against {key}",
            "Higher is better. The bars show the slowest and the fastest round.",
            lambda axes: draw_lines(axes, key, jobs, f"throughput, {unit}", throughput(key)),
        )
        return
    yield Plot(
        f"{name}: time against {key}",
        "Lower is better: a flat line means that an operation costs the same, however much there "
        "is. The bars show the fastest and the slowest round.",
        lambda axes: draw_lines(axes, key, jobs, "time per operation, us", microseconds),
    )
    if any("memory each" in metrics for job in jobs for metrics in measured(job).values()):
        yield Plot(
            f"{name}: memory against {key}",
            "Resident memory of the process for each.",
            lambda axes: draw_lines(axes, key, jobs, "bytes for each", memory),
        )


def throughput(key: str) -> Callable[[Job, Metrics], tuple[float, float, float] | None]:
    def values(job: Job, metrics: Metrics) -> tuple[float, float, float] | None:
        moved = job["keys"]["bs"] / MiB if key == "bs" else 1
        time = metrics["time"]
        return moved / time["median"], moved / time["most"], moved / time["least"]

    return values


def microseconds(job: Job, metrics: Metrics) -> tuple[float, float, float] | None:
    time = metrics["time"]
    return time["median"] * 1e6, time["least"] * 1e6, time["most"] * 1e6


def memory(job: Job, metrics: Metrics) -> tuple[float, float, float] | None:
    each = metrics.get("memory each")
    # A logarithm needs more than 0; a page more or less is noise where there are few.
    return (
        (max(1.0, each["median"]), max(1.0, each["least"]), max(1.0, each["most"]))
        if each
        else None
    )


def draw_lines(
    axes: Any,
    key: str,
    jobs: Sequence[Job],
    label: str,
    values: Callable[[Job, Metrics], tuple[float, float, float] | None],
) -> None:
    """A line for each participant, from job to job."""
    for number, name in enumerate(names_of(jobs)):
        found = [
            (job["varies"][key], *point)
            for job in jobs
            if name in measured(job) and (point := values(job, measured(job)[name]))
        ]
        if not found:
            continue
        x, middle, low, high = (list(column) for column in zip(*sorted(found), strict=True))
        below = [m - least for m, least in zip(middle, low, strict=True)]
        above = [most - m for m, most in zip(middle, high, strict=True)]
        style = {"marker": MARKERS[number % len(MARKERS)], "capsize": 3, "markersize": 5}
        width = 2.4 if name.startswith("aiofs") else 1.3
        axes.errorbar(x, middle, yerr=[below, above], label=name, linewidth=width, **style)
    ticks = sorted({job["varies"][key] for job in jobs})
    if ticks[0] > 0:
        axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(ticks, [shown(key, tick) for tick in ticks])
    axes.minorticks_off()
    readable(axes)
    axes.set_xlabel(key)
    axes.set_ylabel(label)
    axes.legend(fontsize=8)


def readable(axes: Any) -> None:
    """Labels at 1, 2 and 5 of each decade: a logarithmic axis may show less than one decade."""
    from matplotlib.ticker import FuncFormatter, LogLocator

    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(
        FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 1000 else f"{value:g}")
    )


# ---- of one job ---------------------------------------------------------------------------------


def of_job(job: Job) -> Iterator[Plot]:
    found = measured(job)
    if len(found) > 1:
        yield Plot(
            f"{job['job']}: time, as a multiple of {job['reference']}",
            "Shorter is better. The lines show the spread of the rounds.",
            lambda axes: draw_ratios(axes, found),
        )
    each = {name: metrics for name, metrics in found.items() if "p99.9" in metrics}
    if each and all(len(quantiles(metrics)) > 3 for metrics in each.values()):
        yield Plot(
            f"{job['job']}: latency distribution",
            "How long the slowest operations take: lower is better.",
            lambda axes: draw_latencies(axes, each),
        )
    stalled = {name: metrics for name, metrics in found.items() if "stall worst" in metrics}
    if stalled:
        yield Plot(
            f"{job['job']}: loop stall",
            "How late a callback ran that was due every millisecond. `idle` is the same loop "
            "without work: the machine's own share.",
            lambda axes: draw_stalls(axes, stalled),
        )


def draw_ratios(axes: Any, found: Mapping[str, Metrics]) -> None:
    names = list(found)
    spreads = [found[name]["ratio"] for name in names]
    middle = [spread["median"] for spread in spreads]
    below = [spread["median"] - spread["least"] for spread in spreads]
    above = [spread["most"] - spread["median"] for spread in spreads]
    colours = [f"C{number % 10}" for number in range(len(names))]
    axes.barh(names, middle, xerr=[below, above], capsize=3, color=colours)
    for position, value in enumerate(middle):
        at = (spreads[position]["most"], position)
        axes.annotate(f"{value:.3g}", at, xytext=(6, 0), textcoords="offset points", va="center")
    axes.invert_yaxis()
    axes.margins(x=0.1)
    axes.set_xlabel("multiple of the time")


def draw_latencies(axes: Any, found: Mapping[str, Metrics]) -> None:
    """The latency below which a part of all operations lies: each nine takes the same room."""
    for number, (name, metrics) in enumerate(found.items()):
        points = [(nines(QUANTILES[name]), value) for name, value in quantiles(metrics)]
        width = 2.4 if name.startswith("aiofs") else 1.3
        marker = MARKERS[number % len(MARKERS)]
        axes.plot(
            *zip(*points, strict=True), label=name, marker=marker, markersize=4, linewidth=width
        )
    marks = ("p0", "p50", "p90", "p99", "p99.9", "p99.99")
    axes.set_xticks([nines(QUANTILES[mark]) for mark in marks], marks)
    axes.set_yscale("log")
    axes.set_ylabel("latency, us")
    axes.set_xlabel("part of all operations")
    axes.legend(fontsize=8)


def quantiles(metrics: Metrics) -> list[tuple[str, float]]:
    """The latencies of a participant by rising part, in microseconds; the worst one is no part."""
    return [
        (name, metrics[name]["median"] * 1e6)
        for name, part in QUANTILES.items()
        if part < 1 and name in metrics
    ]


def nines(part: float) -> float:
    return -math.log10(1 - part)


def draw_stalls(axes: Any, found: Mapping[str, Metrics]) -> None:
    bars = ("idle p99.9", "stall p99.9", "stall worst")
    height = 0.8 / len(bars)
    names = list(found)
    for number, metric in enumerate(bars):
        values = [found[name].get(metric, {}).get("median", 0) * 1e3 for name in names]
        at = [position + (number - 1) * height for position in range(len(names))]
        axes.barh(at, values, height, label=metric, color=("#bbbbbb", "C0", "C3")[number])
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlabel("milliseconds late")
    axes.legend(fontsize=8)


# ---- what a job has ------------------------------------------------------------------------------


def measured(job: Job) -> dict[str, Metrics]:
    return {
        name: found["metrics"]
        for name, found in job["participants"].items()
        if "time" in found.get("metrics", {})
    }


def names_of(jobs: Iterable[Job]) -> list[str]:
    return list(dict.fromkeys(name for job in jobs for name in measured(job)))


def written(key: str, job: Job) -> str:
    return shown(key, job["varies"][key])


def is_number(job: Job, key: str) -> bool:
    value = job["varies"].get(key)
    return isinstance(value, int | float) and not isinstance(value, bool)
