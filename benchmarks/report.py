"""Results as a document (what is saved) and as text (what is printed): tables of Markdown.

The text is made from the document alone, so a saved one can be shown again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from .cases import NOT_MEASURED
from .compare import Outcome
from .spread import Spread

Document = dict[str, Any]
Row = Sequence[str]

NONE = "-"


def document(machine: dict[str, str], rounds: int, outcomes: Iterable[Outcome]) -> Document:
    return {"machine": machine, "rounds": rounds, "cases": [case_document(o) for o in outcomes]}


def case_document(outcome: Outcome) -> Document:
    case = outcome.case
    return {
        "key": case.key,
        "title": case.title,
        "work": case.work.describe(),
        "contenders": {
            name: contender_document(outcome, name)
            if name in outcome.rounds
            else {"unavailable": outcome.unavailable[name]}
            for name in case.contenders
        },
        "goals": [goal_document(outcome, goal) for goal in case.goals],
    }


def contender_document(outcome: Outcome, name: str) -> Document:
    rounds = outcome.rounds[name]
    metrics = {metric: outcome.spread(name, metric) for metric in rounds[0]}
    return {
        "ratio": spread_document(outcome.ratio(name)),
        **{metric: spread_document(spread) for metric, spread in metrics.items()},
    }


def goal_document(outcome: Outcome, goal: Any) -> Document:
    spread = outcome.judge(goal)
    told = {"of": goal.of, "text": goal.text, "over": outcome.compared_with(goal)}
    if spread is None:
        return {**told, "verdict": "not measured"}
    return {
        **told,
        **spread_document(spread),
        "shown": [goal.format(value) for value in dataclasses.astuple(spread)],
        "verdict": "met" if goal.met(spread.median) else "missed",
    }


def spread_document(spread: Spread) -> dict[str, float]:
    return {name: float(f"{value:.4g}") for name, value in dataclasses.asdict(spread).items()}


def text(results: Document) -> str:
    return "\n\n".join(
        [
            "# Results",
            f"Made by `python -m benchmarks --save`; medians of {results['rounds']} rounds, in "
            "which the contenders are measured in turn, each in a process of its own.",
            table(("", ""), results["machine"].items()),
            *in_short(results),
            "## Goals",
            goals(results),
            *not_measured(results),
            *(section for case in results["cases"] for section in case_text(case)),
        ]
    )


def goals(results: Document) -> str:
    """The verdicts, one line for each goal."""

    def row(case: Document, goal: Document) -> Row:
        median, *ends = goal.get("shown", (NONE,))
        text = goal["text"]
        if goal["over"] and goal["over"] not in text:
            text += f" ({goal['over']})"
        return (case["key"], goal["of"], text, median, " to ".join(ends), goal["verdict"])

    return table(
        ("case", "contender", "goal", "measured", "spread", ""),
        [row(case, goal) for case in results["cases"] for goal in case["goals"]],
    )


def not_measured(results: Document) -> Iterable[str]:
    if len({case["key"].split("/")[0] for case in results["cases"]}) > 1:
        yield "Not measured here: " + "; ".join(
            f"{number} ({what})" for number, what in NOT_MEASURED.items()
        )


def in_short(results: Document) -> Iterable[str]:
    """One table for people in a hurry: awaited reads and writes beside C, and the loop stall."""
    ratios = {"P1": "read", "P2/32": "32 reads", "P4/1": "write", "P4/32": "32 writes"}
    found = {case["key"]: case["contenders"] for case in results["cases"]}
    if not {*ratios, "P8/cached-file"} <= found.keys():
        return

    def row(name: str) -> Row:
        stall = found["P8/cached-file"].get(name, {})
        return (
            name,
            *(column(found[key].get(name, {}), "ratio", times) for key in ratios),
            column(stall, "stall worst", seconds),
        )

    yield "## In short"
    yield (
        "4 KiB at random in a cached file, awaited, one or 32 at a time: time per operation, as a "
        "multiple of C's `pread` and `pwrite`. And the longest that the loop stood still while the "
        "whole file was read."
    )
    names = [name for name in found["P4/1"] if not name.startswith("C")]
    yield table(("", *ratios.values(), "loop stall"), [row(name) for name in names])


COLUMNS: tuple[tuple[str, str, Callable[[float], str]], ...]


def case_text(case: Document) -> Iterable[str]:
    yield f"## {case['key']}: {case['title']}"
    yield case["work"]
    reference = next(iter(case["contenders"]))
    measured = {name: found for name, found in case["contenders"].items() if "ratio" in found}
    shown = [
        (title, metric, form)
        for title, metric, form in COLUMNS
        if any(metric in found for found in measured.values())
    ]
    if measured:
        yield table(
            ("contender", *(title.format(reference=reference) for title, _, _ in shown)),
            [
                (name, *(column(found, metric, form) for _, metric, form in shown))
                for name, found in measured.items()
            ],
        )
    for name, found in case["contenders"].items():
        if "unavailable" in found:
            yield f"{name}: {found['unavailable']}"


def column(found: Document, metric: str, form: Callable[[float], str]) -> str:
    if metric not in found:
        return NONE
    spread = found[metric]
    if metric == "ratio":
        return f"{form(spread['median'])} ({form(spread['least'])} to {form(spread['most'])})"
    if metric.endswith("worst"):
        return f"{form(spread['median'])} ({form(spread['most'])})"
    return form(spread["median"])


def seconds(value: float) -> str:
    for unit, name in ((1, "s"), (1e-3, "ms")):
        if value >= unit:
            return f"{value / unit:.3g} {name}"
    return f"{value * 1e6:.3g} us"


def times(value: float) -> str:
    return f"{value:.3g}"


COLUMNS = (
    ("time", "time", seconds),
    ("x {reference} (spread)", "ratio", times),
    ("CPU", "cpu", seconds),
    ("p50", "p50", seconds),
    ("p99", "p99", seconds),
    ("p99.9", "p99.9", seconds),
    ("stall p99.9", "stall p99.9", seconds),
    ("stall worst (of all)", "stall worst", seconds),
    ("idle p99.9", "idle p99.9", seconds),
    ("idle worst (of all)", "idle worst", seconds),
)


def table(head: Row, rows: Iterable[Row]) -> str:
    """A Markdown table whose columns also stand straight as plain text."""
    cells = [head, *rows]
    widths = [max(3, *map(len, column)) for column in zip(*cells, strict=True)]

    def line(row: Row) -> str:
        padded = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        return f"| {' | '.join(padded)} |"

    rule = f"|{'|'.join('-' * (width + 2) for width in widths)}|"
    return "\n".join([line(head), rule, *map(line, cells[1:])])
