"""A process that requests a lock at each command.

As a program: for each line that it reads, it opens PATH in the private volume DIRECTORY, closes it
again, and prints "opened" or the message of the error.
"""

import subprocess
import sys
from contextlib import contextmanager


@contextmanager
def asking(file):
    """Runs the program for a file. Yields a function that asks once and returns the answer."""
    process = subprocess.Popen(
        [sys.executable, __file__, file._volume._directory, file._path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
    )

    def ask():
        process.stdin.write(b"\n")
        return process.stdout.readline().decode().strip()

    try:
        assert ask() == "opened"
        yield ask
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def main(directory, path):
    import aiofs

    with aiofs.PrivateVolume(directory) as volume:
        file = aiofs.FileHandle._of(volume, path)
        for _ in sys.stdin:
            try:
                file.create_sync_access_handle().close()
                print("opened", flush=True)
            except OSError as error:
                print(error, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
