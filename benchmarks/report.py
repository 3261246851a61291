"""Turns results into a document, which is saved, and into Markdown tables, which are printed.

The tables are made from the document alone, so a saved document can be printed again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from aiofs.bench.measuring.spread import Spread

from .cases import NOT_MEASURED
from .compare import Outcome
from .goals import Goal

Document = dict[str, Any]
Row = Sequence[str]
Form = Callable[[float], str]

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


COLUMNS: tuple[tuple[str, str, Form], ...] = (
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
)


def document(facts: dict[str, str], rounds: int, outcomes: Iterable[Outcome]) -> Document:
    return {"facts": facts, "rounds": rounds, "cases": [case_document(o) for o in outcomes]}


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
    if outcome.case.contenders[0] in outcome.rounds:
        metrics["ratio"] = outcome.ratio(name)
    return {metric: spread_document(spread) for metric, spread in metrics.items()}


def goal_document(outcome: Outcome, goal: Goal) -> Document:
    spread = outcome.judge(goal)
    described = {"of": goal.of, "text": goal.text, "over": outcome.compared_with(goal)}
    if spread is None:
        return {**described, "verdict": "not measured"}
    return {
        **described,
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
            f"Medians of {results['rounds']} rounds, in which the contenders are measured in turn, "
            "each in its own process. Compare the ratios, not the times.",
            table(("", ""), results["facts"].items()),
            *in_short(results),
            "## Goals",
            goals(results),
            not_measured(),
            *(section for case in results["cases"] for section in case_text(case)),
        ]
    )


def goals(results: Document) -> str:
    """A table of the goals and their verdicts."""

    def row(case: Document, goal: Document) -> Row:
        measured, *ends = goal.get("shown", (NONE,))
        text = goal["text"]
        if goal["over"] and goal["over"] not in text:
            text += f" ({goal['over']})"
        return (case["key"], goal["of"], text, measured, " to ".join(ends), goal["verdict"])

    return table(
        ("case", "contender", "goal", "measured", "spread", ""),
        [row(case, goal) for case in results["cases"] for goal in case["goals"]],
    )


def not_measured() -> str:
    named = (f"{number} ({what})" for number, what in NOT_MEASURED.items())
    return f"Not measured yet: {'; '.join(named)}."


def in_short(results: Document) -> Iterable[str]:
    """A short table: awaited reads and writes as multiples of C's, and the loop stall."""
    ratios = {"P1": "read", "P2/32": "32 reads", "P4/1": "write", "P4/32": "32 writes"}
    found = {case["key"]: case["contenders"] for case in results["cases"]}
    if not {*ratios, "P8/cached-file"} <= found.keys():
        return

    def row(name: str) -> Row:
        stall = found["P8/cached-file"].get(name, {})
        return (
            name,
            *(median(found[key].get(name, {}), "ratio", times) for key in ratios),
            median(stall, "stall worst", seconds),
        )

    yield "## In short"
    yield (
        "4 KiB at random in a cached file, awaited, one or 32 at a time: time per operation, as a "
        "multiple of the time of C's `pread` and `pwrite`. The last column is the longest time for "
        "which the loop was blocked while the file was read in one piece. C threads read it beside "
        "the loop: their row shows how much the machine itself delays the loop. -: not measured."
    )
    names = [*(name for name in found["P4/1"] if name != "C"), "C threads"]
    yield table(("", *ratios.values(), "loop stall"), [row(name) for name in names])


def case_text(case: Document) -> Iterable[str]:
    yield f"## {case['key']}: {case['title']}"
    yield case["work"]
    reference = next(iter(case["contenders"]))
    measured = {name: found for name, found in case["contenders"].items() if "time" in found}
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


def column(found: Document, metric: str, form: Form) -> str:
    """The median. For ratios also the spread of the rounds, for worst values also the maximum."""
    shown, spread = median(found, metric, form), found.get(metric)
    if spread and metric == "ratio":
        return f"{shown} ({form(spread['least'])} to {form(spread['most'])})"
    if spread and metric.endswith("worst"):
        return f"{shown} ({form(spread['most'])})"
    return shown


def median(found: Document, metric: str, form: Form) -> str:
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
