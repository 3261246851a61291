"""Writes the measured table of the README from the saved results.

The table is between two marks. The first mark names the file of the results:

    <!-- table: benchmarks/results/latest.json -->
    <!-- end of table -->
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from . import report

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
BLOCK = re.compile(r"(<!-- table: (\S+) -->\n).*?(<!-- end of table -->)", re.DOTALL)


def filled(text: str, root: Path = ROOT) -> str:
    """Returns the text with new contents of every table. A table without saved results is empty."""
    return BLOCK.sub(lambda found: found[1] + table(root / found[2], found[2]) + found[3], text)


def table(path: Path, name: str) -> str:
    if not path.exists():
        return ""
    results = json.loads(path.read_text())
    _, explanation, rows = report.in_short(results)
    facts = results["facts"]
    machine = f"{facts['processor']}, Linux {facts['kernel']}, {facts['filesystem'].split()[0]}"
    return (
        f"{explanation}\n\n{rows}\n\n"
        f"Medians of {results['rounds']} rounds by `{facts['command']}`, on {machine}, "
        f"{facts['python']}, {facts['loop']}; in full: [{Path(name).stem}.md]"
        f"({Path(name).with_suffix('.md')}).\n\n"
    )
