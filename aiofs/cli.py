"""The command `aiofs`: its arguments, and which module does what they ask for."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import aiofs
from aiofs import config, doctor, run
from aiofs.programs import Refused

if TYPE_CHECKING:
    _Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status: 0, 1 if it failed, 2 if it was not to be done."""
    options = _parser().parse_args(arguments)
    status: int = options.run(options)
    return status


def _demo(options: argparse.Namespace) -> int:
    from aiofs import demo

    return demo.main(options.path, options.volume)


def _run(options: argparse.Namespace) -> int:
    command = options.command[options.command[:1] == ["--"] :]
    if not command:
        options.misuse("which PROGRAM?")
    return run.main(options.volume, options.engine, command)


def _config(options: argparse.Namespace) -> int:
    if options.check is not None:
        if options.wanted:
            options.misuse("--check stands alone")
        return _check(options.check)
    if not options.wanted:
        options.misuse("which of --cflags, --libs, --preload and --check?")
    try:
        print("\n".join(getattr(config, wanted)() for wanted in options.wanted))
    except ValueError as error:
        print(f"aiofs config: {error}", file=sys.stderr)
        return 1
    return 0


def _check(program: str) -> int:
    try:
        is_ours, said = config.check(program)
    except Refused as refused:
        print(f"aiofs config: {refused}", file=sys.stderr)
        return 2
    print(said)
    return 0 if is_ours else 1


def _doctor(options: argparse.Namespace) -> int:
    return doctor.main(options.directory, options.json)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="aiofs", description=aiofs.__doc__)
    parser.add_argument("--version", action="version", version=f"aiofs {aiofs.__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_demo(commands)
    _add_run(commands)
    _add_config(commands)
    _add_doctor(commands)
    return parser


def _add_demo(commands: _Commands) -> None:
    demo = commands.add_parser(
        "demo",
        help="show one request, then copy a tree of files into a private volume and back",
        description="Act one: one request, its callback on the event loop, and the refused lock. "
        "Act two: copies real files into a private volume, reads them back, compares them, and "
        "says how fast that was and how long the loop stood still. Act three: a C program that "
        "knows nothing of aiofs, under `aiofs run`; left out where there is no C compiler.",
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
    demo.set_defaults(run=_demo)


def _add_run(commands: _Commands) -> None:
    run = commands.add_parser(
        "run",
        help="run a program as it is, with aiofs in the place of the C library's <aio.h>",
        usage="aiofs run [-h] [--volume DIR]... [--engine ENGINE] [--] PROGRAM [ARGUMENT]...",
        description="Becomes PROGRAM, with libaiofs.so preloaded. A file under a --volume that it, "
        "or a process it starts, opens for writing is locked: others are refused (EBUSY).",
        epilog="Exit status: the program's; 127 if it is not found, 126 if it cannot be executed, "
        "2 if it is one that libaiofs.so cannot be loaded into.",
        allow_abbrev=False,
    )
    run.add_argument(
        "--volume",
        metavar="DIR",
        action="append",
        default=[],
        help="a directory whose files are locked; made if it is missing. May be given again",
    )
    run.add_argument(
        "--engine",
        choices=("auto", "io_uring", "threads"),
        help="what carries its requests out (default: $AIOFS_ENGINE, or auto)",
    )
    run.add_argument("command", metavar="PROGRAM", nargs=argparse.REMAINDER, help="what to run")
    run.set_defaults(run=_run, misuse=run.error)


def _add_config(commands: _Commands) -> None:
    config = commands.add_parser(
        "config",
        help="print what compiles and links a C program with aiofs",
        description="Prints a line for each option, in their order, as the shell wants it: "
        "cc prog.c $(aiofs config --cflags --libs)",
        epilog="Exit status: 0; of --check 1 if the program does not get aiofs's <aio.h>, and 2 if "
        "that cannot be told.",
        allow_abbrev=False,
    )
    for name, meaning in (
        ("cflags", "for the compiler: where aiofs.h is"),
        ("libs", "for the linker: libaiofs.so, and where it is, now and when the program runs"),
        ("preload", "what LD_PRELOAD must be for a program that was not linked with aiofs"),
    ):
        config.add_argument(
            f"--{name}", dest="wanted", action="append_const", const=name, help=meaning
        )
    config.add_argument(
        "--check", metavar="PROGRAM", help="say which <aio.h> a program gets: it is not run"
    )
    config.set_defaults(run=_config, misuse=config.error)


def _add_doctor(commands: _Commands) -> None:
    doctor = commands.add_parser(
        "doctor",
        help="say what this machine allows, and what the lack of each thing costs",
        description="Tries what aiofs makes use of: io_uring, other system calls, limits, and in "
        "each directory reads that cannot wait, O_DIRECT and locks.",
        epilog="Exit status: 0, whatever it finds.",
    )
    doctor.add_argument(
        "directory",
        metavar="DIR",
        nargs="*",
        help="where volumes shall lie (default: the current directory, /tmp and /dev/shm)",
    )
    doctor.add_argument("--json", action="store_true", help="print a list of objects instead")
    doctor.set_defaults(run=_doctor)


if __name__ == "__main__":
    sys.exit(main())
