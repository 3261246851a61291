"""Where no descriptor is left, an open waits for calls that free one."""

from support import python

PROGRAM = """
import asyncio, errno, os, resource, sys
from aiofs import files

async def main(directory):
    paths = [f"{directory}/{number}" for number in range(200)]
    for path in paths:
        await files.write_bytes(path, path.encode())
    limit = len(os.listdir("/proc/self/fd")) + 8  # some of them are the engine's
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    for path in paths:
        with open(path, "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    read = await asyncio.gather(*map(files.read_bytes, paths), *map(files.read_text, paths))
    assert read == [path.encode() for path in paths] + paths
    assert sum(await asyncio.gather(*(files.write_bytes(path, b"new") for path in paths))) == 600

    held = []
    try:
        while True:
            held.append(await files.open(paths[0]))
    except OSError as error:  # nothing is in flight that would free one
        print(errno.errorcode[error.errno], error.filename == paths[0])
    for file in held:
        await file.close()

asyncio.run(main(sys.argv[1]))
"""


def test_opens_wait_for_calls_that_free_a_descriptor(tmp_path):
    assert python(PROGRAM, tmp_path).split() == ["EMFILE", "True"]
