"""The arguments of `aiofs bench`."""

from __future__ import annotations

import argparse

from aiofs.bench.keys import KEYS, shown

REPORT = "report"  # the first word of `aiofs bench report`

DESCRIPTION = """\
Measures aiofs beside C, fio and other libraries, each in a process of its own, in turn, in several
rounds. Prints for each job the time of an operation, its ratio to that of C, latencies, CPU time,
and how long the event loop was held. Without arguments it runs a few short jobs.

  aiofs bench --rw randread --bs 4k --iodepth 1,32 --with C,aiofs,aiofiles
  aiofs bench jobs.toml --json results.json
  aiofs bench report results.json --output DIR
"""


def add(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments. The values are checked later, by what also checks those of TOML."""
    parser.add_argument(
        "words",
        metavar="JOBS.toml",
        nargs="*",
        help="a file of jobs; or `report RESULT.json...`, which draws plots of results",
    )
    keys = parser.add_argument_group(
        "a job", "Keys as fio has them. A key marked + may list values: --iodepth 1,8,32."
    )
    for name, key in KEYS.items():
        default = "" if key.default is None else f" (default: {shown(name, key.default)})"
        more = "+ " if key.many else ""
        keys.add_argument(
            f"--{name}",
            metavar=key.metavar,
            default=argparse.SUPPRESS,
            help=f"{more}{key.meaning}{default}".replace("%", "%%"),
        )
    run = parser.add_argument_group("the run")
    run.add_argument("--with", dest="names", metavar="NAME,...", help="who is measured; see --list")
    run.add_argument("--rounds", metavar="N", help="rounds of A B A B ... (default: 3)")
    run.add_argument(
        "--python",
        metavar="PATH",
        action="append",
        default=[],
        help="another interpreter for participants that this one does not have; aiofs is measured "
        "by it, too. May be repeated",
    )
    run.add_argument(
        "--directory", metavar="DIR", help="where the files of the run are made, and removed"
    )
    run.add_argument("--json", metavar="FILE", help="write the results as JSON")
    run.add_argument("--csv", metavar="FILE", help="write the results as CSV")
    run.add_argument("--list", action="store_true", help="print the participants and stop")
    drawn = parser.add_argument_group("the report")
    drawn.add_argument(
        "--output", metavar="DIR", help="where `report` writes (default: bench-report)"
    )
