"""A process that holds a lock, for tests of locks between processes.

As a program: opens PATH in the private volume DIRECTORY under LOCK (a number), prints "held" or the
name of the errno, and keeps the file open until it is killed or its standard input ends.
"""

import errno
import subprocess
import sys
from contextlib import contextmanager


@contextmanager
def holding(directory, path, lock=None):
    """Runs the program. Yields the process; its attribute `answer` is the line that it printed."""
    arguments = [str(directory), path, "" if lock is None else str(lock)]
    process = subprocess.Popen(
        [sys.executable, __file__, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        process.answer = process.stdout.readline().strip()
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def main(directory, path, lock):
    import os

    from aiofs import _core

    ops = _core.DirectoryOps(directory, flags=_core.VOLUME_CREATE)
    try:
        held = ops.open(path, os.O_RDWR | os.O_CREAT, 0o666, int(lock or _core.LOCK_EXCLUSIVE), 0)
    except OSError as error:
        print(errno.errorcode[error.errno], flush=True)
        return
    print("held", flush=True)
    sys.stdin.read()
    held.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
