"""The command `aiofs`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import aiofs


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status: 0, 1 if it failed, 2 if it was not to be done."""
    options = _parser().parse_args(arguments)
    from aiofs import demo

    return demo.main(options.path, options.volume)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="aiofs", description=aiofs.__doc__)
    parser.add_argument("--version", action="version", version=f"aiofs {aiofs.__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    demo = commands.add_parser(
        "demo",
        help="show one request, then copy a tree of files into a private volume and back",
        description="Act one: one request, its callback on the event loop, and the refused lock. "
        "Act two: copies real files into a private volume, reads them back, compares them, and "
        "says how fast that was and how long the loop stood still.",
        epilog="Exit status: 0 if all was copied and is equal, 1 if not, 2 if it could not begin.",
    )
    demo.add_argument(
        "path",
        metavar="PATH",
        nargs="?",
        help="a file or a directory to copy (default: the standard library of this Python)",
    )
    demo.add_argument(
        "--volume",
        metavar="DIR",
        help="make the volume there, and keep it; DIR is new or empty "
        "(default: a temporary directory, removed at the end)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
