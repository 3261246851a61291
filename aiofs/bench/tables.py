"""The tables that are printed: Markdown, whose columns are also aligned as plain text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

Row = Sequence[str]
Form = Callable[[float], str]
Column = tuple[str, str, Form]  # the title, the metric, how a value is written

NONE = "-"


def seconds(value: float) -> str:
    for unit, name in ((1, "s"), (1e-3, "ms")):
        if value >= unit:
            return f"{value / unit:.3g} {name}"
    return f"{value * 1e6:.3g} us"


def times(value: float) -> str:
    return f"{value:.3g}"


def count(value: float) -> str:
    return str(round(value))


def rate(value: float) -> str:
    """The operations of a second, of the time that one takes."""
    each = 1 / value
    for unit, name in ((1e6, " M"), (1e3, " k")):
        if each >= unit:
            return f"{each / unit:.3g}{name}"
    return f"{each:.3g}"


COLUMNS: tuple[Column, ...] = (
    ("time", "time", seconds),
    ("x {reference} (spread)", "ratio", times),
    ("CPU", "cpu", seconds),
    ("p50", "p50", seconds),
    ("p99", "p99", seconds),
    ("p99.9", "p99.9", seconds),
    ("worst", "worst", seconds),
    ("stall p99.9", "stall p99.9", seconds),
    ("stall worst (of all)", "stall worst", seconds),
    ("idle p99.9", "idle p99.9", seconds),
    ("idle worst (of all)", "idle worst", seconds),
    ("bytes each", "memory each", count),
    ("kernel's bytes each", "kernel memory each", count),
    ("outstanding", "outstanding", count),
    ("system calls", "system calls", times),
)


def measured(
    head: str,
    reference: str | None,
    found: Mapping[str, Mapping[str, Any]],
    columns: Sequence[Column] = COLUMNS,
) -> list[Row]:
    """The rows of a table of metrics, by name. A column that nobody measured is left out."""
    shown = [column for column in columns if any(column[1] in each for each in found.values())]
    return [
        (head, *(title.format(reference=reference) for title, _, _ in shown)),
        *(
            (name, *(cell(each, metric, form) for _, metric, form in shown))
            for name, each in found.items()
        ),
    ]


def cell(found: Mapping[str, Any], metric: str, form: Form) -> str:
    """The median. For ratios also the spread of the rounds, for worst values also the maximum."""
    shown, spread = median(found, metric, form), found.get(metric)
    if spread and metric == "ratio":
        return f"{shown} ({form(spread['least'])} to {form(spread['most'])})"
    if spread and metric.endswith("worst"):
        return f"{shown} ({form(spread['most'])})"
    return shown


def median(found: Mapping[str, Any], metric: str, form: Form) -> str:
    return form(found[metric]["median"]) if metric in found else NONE


def table(head: Row, rows: Iterable[Row]) -> str:
    """A Markdown table whose columns are also aligned as plain text."""
    cells = [head, *rows]
    widths = [max(3, *map(len, column)) for column in zip(*cells, strict=True)]

    def line(row: Row) -> str:
        padded = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        return f"| {' | '.join(padded)} |"

    rule = f"|{'|'.join('-' * (width + 2) for width in widths)}|"
    return "\n".join([line(head), rule, *map(line, cells[1:])])


# ---- the results of `aiofs bench` ---------------------------------------------------------------

SHORT: tuple[Column, ...] = (
    ("operations/s", "time", rate),
    *(column for column in COLUMNS if column[1] not in ("worst", "stall p99.9", "idle p99.9")),
)


def text(results: Mapping[str, Any]) -> str:
    """A whole result: a table for each job, what was measured, and the machine."""
    return "\n\n".join(
        [
            *(section for job in results["jobs"] for section in job_text(job)),
            f"Medians of {results['rounds']} rounds, in which the participants are measured in "
            "turn, each in its own process. Compare the ratios, not the times. stall: how late a "
            "callback that is due every millisecond ran on the loop; idle: on the same loop "
            "without work.",
            "\n".join(participants(results)),
            "\n".join(f"{name}: {value}" for name, value in results["facts"].items()),
        ]
    )


def job_text(job: Mapping[str, Any]) -> Iterable[str]:
    yield f"## {job['job']}"
    yield job_work(job)
    rows = job_rows(job)
    if rows:
        yield table(rows[0], rows[1:])
    left_out = job_left_out(job)
    if left_out:
        yield "\n".join(left_out)


def job_work(job: Mapping[str, Any]) -> str:
    return "; ".join(filter(None, [job["work"], job["buffers"]]))


def job_rows(job: Mapping[str, Any]) -> list[Row]:
    """The table of a job: its head, and a row for each participant that was measured."""
    found = job["participants"]
    metrics = {name: each["metrics"] for name, each in found.items() if "metrics" in each}
    return measured("participant", job["reference"], metrics, SHORT) if metrics else []


def job_left_out(job: Mapping[str, Any]) -> list[str]:
    return [
        f"{name}: left out: {found['unavailable']}"
        for name, found in job["participants"].items()
        if "unavailable" in found
    ]


def participants(results: Mapping[str, Any]) -> list[str]:
    """What each participant is, and where its reads go: a line for each."""
    lines: list[str] = []
    for job in results["jobs"]:
        for name, found in job["participants"].items():
            about = found.get("about", {})
            said = [about.get("version", ""), about.get("engine", "")]
            if about.get("python"):
                said.append(f"Python {about['python']}")
            if about.get("reads into"):
                said.append(f"reads into {about['reads into']}")
            line = f"{name}: {', '.join(filter(None, said))}"
            if any(said) and line not in lines:
                lines.append(line)
    return lines
