"""The paths and flags by which compiled code uses aiofs: the header, and libaiofs.so."""

from __future__ import annotations

import os

__all__ = ["get_include", "get_library_dir"]

_PACKAGE = os.path.dirname(os.path.abspath(__file__))


def get_include() -> str:
    """Returns the directory of `aiofs.h`, for `include_dirs` of an extension or a compiler's -I.

    The path is absolute, and the same for every call in one environment. In Cython,
    `from aiofs.aio cimport ...` needs it too. The directory is part of the installed package.
    """
    return os.path.join(_PACKAGE, "include")


def get_library_dir() -> str:
    """Returns the directory of `libaiofs.so`, for `library_dirs` and `runtime_library_dirs`.

    The path is absolute. An extension module that is linked to the library (`libraries=["aiofs"]`)
    shares the engine, its requests and its locks with Python. The module keeps the path in
    `runtime_library_dirs`. For a wheel that is installed elsewhere, use the path from the module to
    the package there, as `$ORIGIN/../aiofs`.
    """
    return _PACKAGE
