"""The page of a report: one HTML file with everything in it, and a PNG file of each plot."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from aiofs.bench import results, tables
from aiofs.bench.places import Refused, may_replace, replace
from aiofs.bench.plots import Plot, plots, png

NAME = "report.html"

HEAD = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="generator" content="aiofs bench">
<meta name="viewport" content="width=device-width">
<title>aiofs bench</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 70em; padding: 0 1em; }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; }
td, th { border-bottom: 1px solid #ddd; padding: 0.2em 0.8em 0.2em 0; text-align: left; }
.scroll { overflow-x: auto; }
figure { margin: 1.5em 0; }
img { max-width: 100%; height: auto; }
figcaption { color: #555; }
</style>
"""


def write(directory: Path, paths: Sequence[Path]) -> Path:
    """Draws results into a directory. Returns the path of the page.

    Raises Refused if a file that is in the way is not of an earlier report, and NotInstalled.
    """
    documents = [(path, results.load(path)) for path in paths]
    drawn: dict[str, bytes] = {}
    sections = [HEAD]
    for path, document in documents:
        sections += section(path, document, drawn)
    files = {**drawn, NAME: "\n".join(sections).encode()}
    try:
        directory.mkdir(exist_ok=True)
    except OSError as error:
        raise Refused(f"{directory}: {error.strerror}") from None
    for name in files:
        may_replace(directory / name)
    for name, data in files.items():
        replace(directory / name, data)
    return directory / NAME


def section(path: Path, document: results.Document, drawn: dict[str, bytes]) -> Iterator[str]:
    """The part of one result. Adds its plots to `drawn`, by the names of their files."""
    yield f"<h1>{escape(path.name)}</h1>"
    yield (
        f"<p>Medians of {document['rounds']} rounds, in which the participants were measured in "
        "turn, each in its own process. Compare the ratios, not the times.</p>"
    )
    yield html_table([("", ""), *document["facts"].items()])
    yield "<h2>Plots</h2>"
    for plot in plots(document["jobs"]):
        name, number = plot.file_name, 1
        while name in drawn:
            number += 1
            name = f"{plot.file_name.removesuffix('.png')}-{number}.png"
        drawn[name] = png(plot)
        yield figure(plot, drawn[name])
    yield "<h2>Numbers</h2>"
    for job in document["jobs"]:
        yield from numbers(job)
    for line in tables.participants(document):
        yield f"<p>{escape(line)}</p>"


def figure(plot: Plot, image: bytes) -> str:
    data = base64.b64encode(image).decode()
    return (
        f'<figure><img alt="{escape(plot.title)}" src="data:image/png;base64,{data}">'
        f"<figcaption>{escape(plot.meaning)}</figcaption></figure>"
    )


def numbers(job: Mapping[str, Any]) -> Iterator[str]:
    yield f"<h3>{escape(job['job'])}</h3>"
    yield f"<p>{escape(tables.job_work(job))}</p>"
    rows = tables.job_rows(job)
    if rows:
        yield html_table(rows)
    for line in tables.job_left_out(job):
        yield f"<p>{escape(line)}</p>"


def html_table(rows: Sequence[Sequence[str]]) -> str:
    def line(row: Sequence[str], cell: str) -> str:
        return "<tr>" + "".join(f"<{cell}>{escape(text)}</{cell}>" for text in row) + "</tr>"

    head, *others = rows
    body = "\n".join(line(row, "td") for row in others)
    return f'<div class="scroll"><table>\n{line(head, "th")}\n{body}\n</table></div>'
