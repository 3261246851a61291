"""What a run measured, as a document: written as JSON or CSV, and read again by the report.

    {"format": "aiofs bench results 1", "facts": {...}, "rounds": 5, "jobs": [
        {"job": "reads iodepth=32", "group": "reads", "varies": {"iodepth": 32}, "keys": {...},
         "work": "4 KiB random read, ...", "reference": "C",
         "participants": {"C": {"about": {...}, "metrics": {"time": {"median": ..., "least": ...,
                                "most": ...}, ...}}, "urio": {"unavailable": "not installed"}}}]}

Metrics are in seconds and bytes for each operation; `ratio` is that to the reference's time.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from aiofs.bench.keys import KEYS
from aiofs.bench.measuring.spread import QUANTILES, Spread
from aiofs.bench.rounds import Outcome

FORMAT = "aiofs bench results 1"
Document = dict[str, Any]

STALLS = ("stall p99.9", "stall worst", "idle p99.9", "idle worst")
COLUMNS = ("time", "ratio", "cpu", "memory", *QUANTILES, *STALLS)
MACHINE = ("date", "kernel", "processor", "filesystem", "python", "packages", "command")


class Unreadable(Exception):
    """A file is no result. The message names it."""


def document(facts: Mapping[str, str], rounds: int, outcomes: Iterable[Outcome]) -> Document:
    jobs = [job_document(outcome) for outcome in outcomes]
    return {"format": FORMAT, "facts": dict(facts), "rounds": rounds, "jobs": jobs}


def job_document(outcome: Outcome) -> Document:
    job = outcome.job
    participants = {
        **{name: measured(outcome, name) for name in outcome.rounds},
        **{name: {"unavailable": why} for name, why in outcome.unavailable.items()},
    }
    return {
        "job": job.name,
        "group": job.group,
        "varies": {key: job[key] for key in job.varies},
        "keys": dict(job.keys),
        "work": outcome.meaning or outcome.work.describe(),
        "buffers": "" if outcome.meaning else outcome.work.describe_buffers(),
        "reference": outcome.reference,
        "participants": participants,
    }


def measured(outcome: Outcome, name: str) -> Document:
    spreads = {metric: outcome.spread(name, metric) for metric in common_metrics(outcome, name)}
    spreads["ratio"] = outcome.ratio(name)
    metrics = {metric: spread_document(spread) for metric, spread in spreads.items()}
    return {"about": outcome.about[name], "metrics": metrics}


def common_metrics(outcome: Outcome, name: str) -> list[str]:
    """The metrics that every round has."""
    first, *others = outcome.rounds[name]
    return [metric for metric in first if all(metric in other for other in others)]


def spread_document(spread: Spread) -> dict[str, float]:
    return {name: float(f"{value:.4g}") for name, value in dataclasses.asdict(spread).items()}


def as_json(results: Document) -> bytes:
    return (json.dumps(results, indent=1) + "\n").encode()


def as_csv(results: Document) -> bytes:
    """A line for each participant of each job. Its first column names this format."""
    keys = list(KEYS)
    ends = [f"{metric} {end}" for metric in COLUMNS for end in ("median", "least", "most")]
    out = io.StringIO()
    writer = csv.writer(out)
    named = ["aiofs bench job", "participant", "version", *keys, "rounds"]
    writer.writerow([*named, *ends, "unavailable", *MACHINE])
    for job in results["jobs"]:
        for name, found in job["participants"].items():
            metrics = found.get("metrics", {})
            values = [
                metrics.get(metric, {}).get(end, "")
                for metric in COLUMNS
                for end in ("median", "least", "most")
            ]
            version = found.get("about", {}).get("version", "")
            stated = ["" if job["keys"].get(key) is None else job["keys"][key] for key in keys]
            row = [job["job"], name, version, *stated, results["rounds"], *values]
            facts = [results["facts"].get(fact, "") for fact in MACHINE]
            writer.writerow([*row, found.get("unavailable", ""), *facts])
    return out.getvalue().encode()


def load(path: Path) -> Document:
    """Reads a result. Raises Unreadable."""
    try:
        results = json.loads(path.read_text())
    except OSError as error:
        raise Unreadable(f"{path}: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise Unreadable(f"{path}: is no JSON, so no result of `aiofs bench --json`") from None
    if isinstance(results, dict) and "cases" in results and "facts" in results:
        return of_goals(results)
    if not isinstance(results, dict) or results.get("format") != FORMAT:
        raise Unreadable(f"{path}: is no result of `aiofs bench --json`")
    return results


def of_goals(results: Document) -> Document:
    """The result of `python -m benchmarks` in this form. Ratios are to the first contender."""
    jobs = []
    for case in results["cases"]:
        participants = {
            name: found if "unavailable" in found else {"about": {}, "metrics": found}
            for name, found in case["contenders"].items()
        }
        jobs.append(
            {
                "job": f"{case['key']}: {case['title']}",
                "group": case["key"],
                "varies": {},
                "keys": {},
                "work": case["work"],
                "buffers": "",
                "reference": next(iter(case["contenders"])),
                "participants": participants,
            }
        )
    return {"format": FORMAT, "facts": results["facts"], "rounds": results["rounds"], "jobs": jobs}
