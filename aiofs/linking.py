"""Where compiled code finds aiofs: its header, and the library that this process runs on."""

from __future__ import annotations

import os

__all__ = ["get_include", "get_library_dir"]

_PACKAGE = os.path.dirname(os.path.abspath(__file__))


def get_include() -> str:
    """The directory of `aiofs.h`, absolute: for `include_dirs` of an extension, or a compiler's -I.

    For Cython, `from aiofs.aio cimport ...` needs it too. Always the same in one environment; it is
    part of the installed package, and there without a compiler.
    """
    return os.path.join(_PACKAGE, "include")


def get_library_dir() -> str:
    """The directory of `libaiofs.so`, absolute: for `library_dirs` and `runtime_library_dirs`.

    An extension module that is linked to it (`libraries=["aiofs"]`) shares the engine, its requests
    and its locks with Python. It keeps the path: for a wheel that is used elsewhere, give
    `runtime_library_dirs` the way from the module to the package, as `$ORIGIN/../aiofs`.
    """
    return _PACKAGE
