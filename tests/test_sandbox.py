"""A sandbox that forbids system calls: a program with a seccomp filter."""

import errno

import pytest
from support import python

FORBIDS = """
import ctypes, os, struct, sys

NUMBERS = {"io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427}
LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, ERRNO = 0x7FFF0000, 0x00050000

def forbid(call, error):
    steps = [(LOAD, 0, 0, 0), (JUMP_IF_EQUAL, 0, 1, NUMBERS[call]), (RETURN, 0, 0, ERRNO | error),
             (RETURN, 0, 0, ALLOW)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    filter = struct.pack("HxxxxxxP", len(steps), ctypes.addressof(code))
    program = ctypes.create_string_buffer(filter)
    libc = ctypes.CDLL(None, use_errno=True)
    one, none = ctypes.c_ulong(1), ctypes.c_ulong(0)
    assert libc.prctl(38, one, none, none, none) == 0  # PR_SET_NO_NEW_PRIVS
    if libc.prctl(22, ctypes.c_ulong(2), program, none, none) != 0:  # PR_SET_SECCOMP
        print("no seccomp here")
        sys.exit()

forbid(sys.argv[1], int(sys.argv[2]))
"""

MOVES_BYTES = """
from aiofs import _core
from aiofs.aio import *
print(_core.engine())
read_end, write_end = os.pipe()
cb = aiocb(read_end, bytearray(4))
aio_read(cb)
os.write(write_end, b"data")
aio_suspend([cb], 60)
assert aio_return(cb) == 4 and cb.aio_buf == b"data"
"""

REFUSES = """
from aiofs.aio import *
read_end, write_end = os.pipe()
try:
    aio_read(aiocb(read_end, bytearray(4)))
except OSError as error:
    print(type(error).__name__, error.errno)
"""

CALLS = ["io_uring_setup", "io_uring_register", "io_uring_enter"]


def forbidding(call, error, program, **environment):
    said = python(FORBIDS + program, call, error, **environment).strip()
    if said == "no seccomp here":
        pytest.skip(said)
    return said


@pytest.mark.parametrize("error", [errno.EPERM, errno.ENOSYS])
@pytest.mark.parametrize("call", CALLS)
def test_sandbox_that_forbids_a_call_of_io_uring_gets_threads(call, error):
    assert forbidding(call, error, MOVES_BYTES, AIOFS_ENGINE="auto") == "threads"


@pytest.mark.parametrize("call", CALLS)
def test_request_is_refused_when_the_demanded_io_uring_is_forbidden(call):
    said = forbidding(call, errno.EPERM, REFUSES, AIOFS_ENGINE="io_uring")
    assert said.startswith("BlockingIOError") or said.startswith("OSError")
