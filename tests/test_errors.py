"""Errors: each is an OSError with its errno, of the standard's class and of Python's class."""

import errno
import pickle

import pytest

import aiofs
from aiofs.errors import from_errno

TABLE = [
    (errno.ENOENT, aiofs.NotFoundError, FileNotFoundError),
    (errno.EISDIR, aiofs.TypeMismatchError, IsADirectoryError),
    (errno.ENOTDIR, aiofs.TypeMismatchError, NotADirectoryError),
    (errno.ENOTEMPTY, aiofs.InvalidModificationError, OSError),
    (errno.EXDEV, aiofs.InvalidModificationError, OSError),
    (errno.EEXIST, aiofs.InvalidModificationError, FileExistsError),
    (errno.EBUSY, aiofs.NoModificationAllowedError, OSError),
    (errno.EBADF, aiofs.InvalidStateError, ValueError),
    (errno.EIO, aiofs.InvalidStateError, OSError),
    (errno.EDQUOT, aiofs.QuotaExceededError, OSError),
    (errno.ENOSPC, aiofs.QuotaExceededError, OSError),
    (errno.ESTALE, aiofs.NotReadableError, OSError),
    (errno.ECANCELED, aiofs.AbortError, OSError),
]


@pytest.mark.parametrize("number,standard,builtin", TABLE)
def test_errno_selects_the_web_standard_class_and_the_python_class(number, standard, builtin):
    error = from_errno(number, "/some/path", "open")
    assert isinstance(error, standard) and isinstance(error, builtin) and isinstance(error, OSError)
    assert error.errno == number
    assert error.name == standard.__name__ == type(error).__name__
    assert error.filename == "/some/path"
    assert "/some/path" in str(error) and "open" in str(error)


@pytest.mark.parametrize("number", [row[0] for row in TABLE])
def test_errors_pickle(number):
    error = from_errno(number, "/some/path", "open")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error) and again.args == error.args
    assert again.filename == error.filename and again.filename2 is None
    error.filename2 = "/another/path"
    again = pickle.loads(pickle.dumps(error))
    assert (again.filename, again.filename2) == ("/some/path", "/another/path")


def test_other_errnos_give_pythons_own_class():
    assert type(from_errno(errno.EACCES, "p", "open")) is PermissionError
    assert type(from_errno(errno.ELOOP, "p", "open")) is OSError


def test_descriptor_is_named_as_a_number():
    assert "57" in str(from_errno(errno.EBADF, 57, "close"))
