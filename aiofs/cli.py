"""The command `aiofs`: parses the arguments and calls the module of the subcommand."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import aiofs
from aiofs import config, doctor, run
from aiofs.bench import arguments as bench_arguments
from aiofs.programs import Refused

if TYPE_CHECKING:
    _Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command. Returns its exit status: 0, 1 if it failed, 2 if it could not begin."""
    options = _parser().parse_args(arguments)
    status: int = options.run(options)
    return status


def _demo(options: argparse.Namespace) -> int:
    from aiofs import demo

    return demo.main(options.path, options.volume)


def _run(options: argparse.Namespace) -> int:
    command = options.command[options.command[:1] == ["--"] :]
    if not command:
        options.misuse("no PROGRAM given")
    return run.main(options.volume, options.engine, command)


def _config(options: argparse.Namespace) -> int:
    if options.check is not None:
        if options.wanted:
            options.misuse("--check cannot be combined with other options")
        return _check(options.check)
    if not options.wanted:
        options.misuse("one of --cflags, --libs, --preload and --check is required")
    try:
        print("\n".join(getattr(config, wanted)() for wanted in options.wanted))
    except ValueError as error:
        print(f"aiofs config: {error}", file=sys.stderr)
        return 1
    return 0


def _check(program: str) -> int:
    try:
        is_ours, report = config.check(program)
    except Refused as refused:
        print(f"aiofs config: {refused}", file=sys.stderr)
        return 2
    print(report)
    return 0 if is_ours else 1


def _doctor(options: argparse.Namespace) -> int:
    return doctor.main(options.directory, options.json)


def _bench(options: argparse.Namespace) -> int:
    from aiofs.bench import command

    return command.main(options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="aiofs", description=aiofs.__doc__)
    parser.add_argument("--version", action="version", version=f"aiofs {aiofs.__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_demo(commands)
    _add_run(commands)
    _add_config(commands)
    _add_doctor(commands)
    _add_bench(commands)
    return parser


def _add_demo(commands: _Commands) -> None:
    demo = commands.add_parser(
        "demo",
        help="show one request, then copy a tree of files into a private volume and back",
        description="Act one shows one request, its callback on the event loop, and a refused "
        "lock. Act two copies real files into a private volume, reads them back, compares them, "
        "and prints the speed and the longest delay of the loop. Act three runs a C program "
        "without any code of aiofs under `aiofs run`; it needs a C compiler.",
        epilog="Exit status: 0 if all files were copied and are equal, 1 if not, 2 if the demo "
        "could not begin.",
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
        help="the directory of the volume, which is kept; it must be new or empty "
        "(default: a temporary directory, removed at the end)",
    )
    demo.set_defaults(run=_demo)


def _add_run(commands: _Commands) -> None:
    run = commands.add_parser(
        "run",
        help="run an unmodified program with the <aio.h> of aiofs instead of the C library's",
        usage="aiofs run [-h] [--volume DIR]... [--engine ENGINE] [--] PROGRAM [ARGUMENT]...",
        description="Replaces this process by PROGRAM, with libaiofs.so preloaded. A file under a "
        "--volume that PROGRAM, or a process it starts, opens for writing is locked: other "
        "processes that open it for writing through aiofs are refused (EBUSY).",
        epilog="Exit status: the program's own; 127 if PROGRAM is not found, 126 if it cannot be "
        "executed, 2 if libaiofs.so cannot be loaded into it.",
        allow_abbrev=False,
    )
    run.add_argument(
        "--volume",
        metavar="DIR",
        action="append",
        default=[],
        help="a directory whose files are locked; made if it is missing. May be repeated",
    )
    run.add_argument(
        "--engine",
        choices=("auto", "io_uring", "threads"),
        help="the engine of the program (default: $AIOFS_ENGINE, or auto)",
    )
    run.add_argument("command", metavar="PROGRAM", nargs=argparse.REMAINDER, help="the program")
    run.set_defaults(run=_run, misuse=run.error)


def _add_config(commands: _Commands) -> None:
    config = commands.add_parser(
        "config",
        help="print the flags that compile and link a C program with aiofs",
        description="Prints one line for each option, in the order of the options, quoted for the "
        "shell: cc prog.c $(aiofs config --cflags --libs)",
        epilog="Exit status: 0; with --check, 1 if the program does not get the <aio.h> of aiofs, "
        "and 2 if the dynamic linker cannot be asked.",
        allow_abbrev=False,
    )
    for name, meaning in (
        ("cflags", "for the compiler: the directory of aiofs.h"),
        ("libs", "for the linker: libaiofs.so and its directory, when linking and at run time"),
        ("preload", "the value of LD_PRELOAD for a program that was not linked with aiofs"),
    ):
        config.add_argument(
            f"--{name}", dest="wanted", action="append_const", const=name, help=meaning
        )
    config.add_argument(
        "--check", metavar="PROGRAM", help="print which <aio.h> a program gets, without running it"
    )
    config.set_defaults(run=_config, misuse=config.error)


def _add_doctor(commands: _Commands) -> None:
    doctor = commands.add_parser(
        "doctor",
        help="print what this machine allows, and what it costs if something is missing",
        description="Tries what aiofs uses: io_uring, other system calls, limits, and in each "
        "directory reads that cannot block (RWF_NOWAIT), O_DIRECT and locks.",
        epilog="Exit status: 0, whatever the answers are.",
    )
    doctor.add_argument(
        "directory",
        metavar="DIR",
        nargs="*",
        help="a directory for volumes (default: the current directory, /tmp and /dev/shm)",
    )
    doctor.add_argument("--json", action="store_true", help="print a JSON list of objects instead")
    doctor.set_defaults(run=_doctor)


def _add_bench(commands: _Commands) -> None:
    bench = commands.add_parser(
        "bench",
        help="measure aiofs beside C, fio and other libraries, and draw the results",
        usage="aiofs bench [-h] [JOBS.toml...] [--KEY VALUE]... [--with NAME,...] [--rounds N]\n"
        "                   [--python PATH] [--directory DIR] [--json FILE] [--csv FILE]\n"
        "       aiofs bench report RESULT.json... [--output DIR]",
        description=bench_arguments.DESCRIPTION,
        epilog="Exit status: 0; 1 if nothing could be measured; 2 if a job, a participant or a "
        "file was refused; 130 after Ctrl-C.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    bench_arguments.add(bench)
    bench.set_defaults(run=_bench)


if __name__ == "__main__":
    sys.exit(main())
