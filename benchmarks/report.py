"""Turns results into a document, which is saved, and into Markdown tables, which are printed.

The tables are made from the document alone, so a saved document can be printed again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from aiofs.bench import tables
from aiofs.bench.measuring.spread import Spread
from aiofs.bench.tables import NONE, Row, median, seconds, table, times

from .cases import NOT_MEASURED
from .compare import Outcome
from .goals import Goal

Document = dict[str, Any]


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
        "verdict": goal.verdict(spread.median),
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


RATIOS = {"P1": "read", "P2/32": "32 reads", "P4/1": "write", "P4/32": "32 writes"}
STALL = "P8/cached-file"


def in_short(results: Document) -> Iterable[str]:
    """A short table: awaited reads and writes as multiples of C's, and the loop stall."""
    found = cases_in_short(results)
    if not found:
        return

    def row(name: str) -> Row:
        stall = found[STALL].get(name, {})
        return (
            name,
            *(median(found[key].get(name, {}), "ratio", times) for key in RATIOS),
            median(stall, "stall worst", seconds),
        )

    yield "## In short"
    yield (
        "4 KiB at random in a cached file, awaited, one or 32 at a time: time per operation, as a "
        "multiple of the time of C's `pread` and `pwrite`. The last column is the longest time for "
        "which the loop was blocked while the file was read in one piece. C threads read it beside "
        "the loop: their row shows how much the machine itself delays the loop. -: not measured."
    )
    yield table(("", *RATIOS.values(), "loop stall"), map(row, names_in_short(found)))


def cases_in_short(results: Document) -> dict[str, Document]:
    """The contenders of the cases of the short table; empty if one of them was not measured."""
    found = {case["key"]: case["contenders"] for case in results["cases"]}
    keys = (*RATIOS, STALL)
    return {key: found[key] for key in keys} if {*keys} <= found.keys() else {}


def names_in_short(found: dict[str, Document]) -> list[str]:
    return [*(name for name in found["P4/1"] if name != "C"), "C threads"]


def case_text(case: Document) -> Iterable[str]:
    yield f"## {case['key']}: {case['title']}"
    yield case["work"]
    reference = next(iter(case["contenders"]))
    measured = {name: found for name, found in case["contenders"].items() if "time" in found}
    if measured:
        head, *rows = tables.measured("contender", reference, measured)
        yield table(head, rows)
    for name, found in case["contenders"].items():
        if "unavailable" in found:
            yield f"{name}: {found['unavailable']}"
