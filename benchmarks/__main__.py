"""`python -m benchmarks`: runs the comparison, prints its tables, and saves them with --save."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from aiofs.bench import machine
from aiofs.bench.plots import NotInstalled
from aiofs.bench.programs import first_line

from . import readme, report
from .cases import BRIEF, FULL, NOT_MEASURED, QUICK, Case, cases
from .compare import Comparison

SAVED = Path(__file__).parent / "results" / "latest.json"


def main() -> None:
    options = parse()
    if options.render:
        print(report.text(json.loads(options.render.read_text())))
        return
    if options.readme and not options.save:
        write_readme()
        return
    scale = QUICK if options.quick else BRIEF if options.brief else FULL
    chosen = choose(cases(scale), options.only)
    if options.brief:
        chosen = [case.brief() for case in chosen]
    if options.list:
        for case in chosen:
            print(f"{case.key:16}{case.title}")
        for number, what in NOT_MEASURED.items():
            print(f"{number:16}{what} (not measured yet)")
        return
    results = run(chosen, options)
    text = report.text(results)
    print(brief(results) if options.brief else text)
    if options.json:
        save(results, options.json)
    if options.save:
        save(results, SAVED)
        SAVED.with_suffix(".md").write_text(text + "\n")
        if options.readme:
            write_readme()


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    add = parser.add_argument
    add("--list", action="store_true", help="list the cases and stop")
    add("--only", metavar="P1,P8/fsync", help="run only these numbers or cases")
    add("--quick", action="store_true", help="only test that every case runs; ignore the numbers")
    add("--brief", action="store_true", help="a first look at all goals, in under two minutes")
    add("--rounds", type=int, help="rounds of A B A B ... (default: 5; brief: 1; quick: 2)")
    add("--loop", choices=("uvloop", "asyncio"), default="uvloop")
    add("--directory", type=Path, help="where to make data files (default: the user's cache)")
    add("--json", type=Path, metavar="FILE", help="write the results to FILE")
    add("--save", action="store_true", help=f"write {SAVED.parent.name}/{SAVED.name} and .md")
    add(
        "--readme",
        action="store_true",
        help="put the saved results, their table and plot, into README.md",
    )
    add("--render", type=Path, metavar="FILE", help="print earlier results and stop")
    options = parser.parse_args()
    options.rounds = options.rounds or (2 if options.quick else 1 if options.brief else 5)
    return options


def choose(known: list[Case], only: str | None) -> list[Case]:
    if not only:
        return known
    wanted = set(only.split(","))
    unknown = wanted - {name for case in known for name in (case.key, case.number)}
    if unknown:
        sys.exit(f"no such case: {', '.join(sorted(unknown))} (--list names them)")
    return [case for case in known if wanted & {case.key, case.number}]


def run(chosen: list[Case], options: argparse.Namespace) -> report.Document:
    with Comparison(options.directory, options.rounds, options.loop, show_progress) as comparison:
        command = " ".join(["python -m benchmarks", *sys.argv[1:]])
        described = machine.facts(comparison.directory, command)
        facts = {"revision": revision(), **described, "loop": options.loop}
        outcomes = [comparison.run(case) for case in chosen]
    show_progress("")
    return report.document(facts, options.rounds, outcomes)


def brief(results: report.Document) -> str:
    """The goals alone."""
    rounds = "one round" if results["rounds"] == 1 else f"{results['rounds']} rounds"
    return (
        f"{report.goals(results)}\n\nA first look, by {rounds} over small files: `make bench` "
        f"decides.\n{report.not_measured()}"
    )


def write_readme() -> None:
    try:
        readme.write()
    except NotInstalled as missing:
        sys.exit(f"benchmarks: {missing}")


def revision() -> str:
    """The commit of this checkout."""
    root = str(Path(__file__).parent)
    name = first_line("git", "-C", root, "rev-parse", "--short", "HEAD")
    changed = first_line("git", "-C", root, "status", "--porcelain", "--untracked-files=no")
    return f"{name}, with changes" if changed else name


def show_progress(what: str) -> None:
    """Shows the progress on one line of the terminal."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{what}", end="", file=sys.stderr, flush=True)


def save(results: report.Document, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
