"""Where compiled code finds aiofs: its header, and the library that this process runs on."""

from __future__ import annotations

import os

__all__ = ["get_include", "get_library_dir"]

_PACKAGE = os.path.dirname(os.path.abspath(__file__))
_LIBRARY = os.path.join(_PACKAGE, "libaiofs.so")


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


def cflags() -> str:
    """What the compiler has to be told, as the shell wants it."""
    import shlex

    return shlex.quote(f"-I{get_include()}")


def libs() -> str:
    """What the linker has to be told, as the shell wants it."""
    import shlex

    directory = get_library_dir()
    return shlex.join([f"-L{directory}", f"-Wl,-rpath,{directory}", "-laiofs"])


def preload() -> str:
    """What LD_PRELOAD must be; ValueError if it cannot be said there."""
    if any(character in _LIBRARY for character in " \t\n:$"):
        raise ValueError(
            f"{_LIBRARY}: LD_PRELOAD cannot name a path with a space, ':' or '$' in it: "
            "install aiofs elsewhere"
        )
    return _LIBRARY
