"""Writes the measured table of the README, and its plot, from the saved results.

Both are between two marks. The first mark names the file of the results; the plot is beside it:

    <!-- table: benchmarks/results/latest.json -->
    <!-- end of table -->
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from . import plot, report

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
BLOCK = re.compile(r"(<!-- table: (\S+) -->\n).*?(<!-- end of table -->)", re.DOTALL)


def write(root: Path = ROOT) -> None:
    """Fills README.md, and draws the plot of each file of results. Raises NotInstalled."""
    readme = root / "README.md"
    text = readme.read_text()
    for _, name, _ in BLOCK.findall(text):
        results = saved(root / name)
        if results and plot.panels(results):
            (root / name).with_suffix(".svg").write_bytes(plot.svg(results))
    readme.write_text(filled(text, root))


def filled(text: str, root: Path = ROOT) -> str:
    """Returns the text with new contents of every table; empty without its results."""
    return BLOCK.sub(lambda found: found[1] + table(root / found[2], found[2]) + found[3], text)


def saved(path: Path) -> report.Document:
    """The saved results; empty if there are none."""
    return json.loads(path.read_text()) if path.exists() else {}


def table(path: Path, name: str) -> str:
    results = saved(path)
    if not results or not plot.panels(results):
        return ""
    _, explanation, rows = report.in_short(results)
    facts = results["facts"]
    machine = f"{facts['processor']}, Linux {facts['kernel']}, {facts['filesystem'].split()[0]}"
    return (
        f"{explanation}\n\n{rows}\n\n"
        f"![The table as a plot]({Path(name).with_suffix('.svg')})\n\n"
        f"{plot.CAPTION}\n\n"
        f"Medians of {results['rounds']} rounds by `{facts['command']}`, on {machine}, "
        f"{facts['python']}, {facts['loop']}; in full: [{Path(name).stem}.md]"
        f"({Path(name).with_suffix('.md')}).\n\n"
    )
