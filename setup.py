"""Builds the libraries and aiofs._core; everything else stands in pyproject.toml.

libaiofs.so lies inside the package, beside _core, which is linked to it and finds it by its rpath
`$ORIGIN`: so Python and C programs meet the same engine, wherever the package was put. Beside them
lies libaiofs-run.so, linked to it in the same way, which `aiofs run` preloads. All are made by
build_ext, which compiles only what is older than what it is made from.

The environment chooses the variant, for all of them:

    AIOFS_SANITIZE=address,undefined    with these sanitizers of the compiler (or: thread)
    AIOFS_DEBUG=1                       without optimisation, with assertions
    AIOFS_COVERAGE=1                    the same, and it counts what is run (gcov)
"""

import sys

if sys.platform != "linux":
    sys.exit("aiofs runs on Linux only: its engine is made of Linux's own system calls.")

import filecmp
import json
import os
import shutil
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from glob import glob
from pathlib import Path
from platform import libc_ver

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.modified import newer_group

LIBRARY = "aiofs/libaiofs.so"
RUN_LIBRARY = "aiofs/libaiofs-run.so"
FLOORS = ["sys", "entries", "engine", "posix"]  # of libaiofs.so, each knows only those before it
# What _core is made of beside what Cython makes: the last is what the command `aiofs run` needs.
CORE_SOURCES = [*sorted(glob("aiofs/core/*.c")), *glob("aiofs/preload/run_session.c")]
CORE_PARTS = sorted(
    [*glob("aiofs/_core.pxd"), *glob("aiofs/core/*.px[id]"), *glob("aiofs/core/*.h")]
)
SOURCES = {
    LIBRARY: sorted(source for folder in FLOORS for source in glob(f"aiofs/{folder}/*.c")),
    RUN_LIBRARY: sorted({*glob("aiofs/preload/*.c")} - {*CORE_SOURCES}),
}
HEADERS = sorted(
    header for folder in [*FLOORS, "preload", "include"] for header in glob(f"aiofs/{folder}/*.h")
)
INCLUDE_DIRS = ["aiofs", *(f"aiofs/{folder}" for folder in FLOORS)]

C_FLAGS = ["-std=gnu11", "-O2", "-pthread", "-fvisibility=hidden", "-Wall", "-Wextra"]
if libc_ver()[0] == "glibc":
    # Thread-local variables are reached without a call that may allocate. Other C libraries do not
    # load such a library after the program has started, as Python does.
    C_FLAGS.append("-ftls-model=initial-exec")
# Their threads run their code: they stay, whoever lets go of them.
LINK_FLAGS = {
    LIBRARY: ["-ldl", "-pthread", "-Wl,-z,nodelete"],
    RUN_LIBRARY: [
        *("-laiofs", "-ldl", "-pthread", "-Wl,-z,nodelete", "-Wl,-rpath,$ORIGIN"),
        "-Wl,-z,now",  # an allocator may be the caller: nothing is left to be found during a call
    ],
}


def variant():
    """The flags that the asked-for variant adds: to the compiler's, to the linker's."""
    if sanitizers := os.environ.get("AIOFS_SANITIZE"):
        sanitize = "-fsanitize=" + sanitizers
        return ["-O1", "-g", "-UNDEBUG", "-DAIOFS_DEBUG", "-fno-omit-frame-pointer", sanitize], [
            sanitize
        ]
    if os.environ.get("AIOFS_DEBUG"):
        return ["-O0", "-g3", "-UNDEBUG", "-DAIOFS_DEBUG"], []
    if os.environ.get("AIOFS_COVERAGE"):
        count = ["--coverage", "-fprofile-update=atomic"]
        return ["-O0", "-g", "-UNDEBUG", "-DAIOFS_DEBUG", *count], ["--coverage"]
    return [], []


VARIANT_C_FLAGS, VARIANT_LINK_FLAGS = variant()


class BuildExt(build_ext):
    """build_ext that makes the libraries first, and takes them wherever it takes the extension."""

    def finalize_options(self):
        super().finalize_options()
        self.destination = self.build_lib
        if self.editable_mode:
            # pip has an editable build start from nothing in a folder that it throws away; what it
            # needs are the in-place build's results, which may be there already.
            platform = f"{sysconfig.get_platform()}-{sys.implementation.cache_tag}"
            self.build_lib = f"build/lib.{platform}"
            self.build_temp = f"build/temp.{platform}"
        for extension in self.extensions:
            extension.library_dirs.append(os.path.join(self.build_lib, os.path.dirname(LIBRARY)))

    def build_extensions(self):
        configuration = Path(self.build_temp, "configuration.json")
        wanted = json.dumps([SOURCES, VARIANT_C_FLAGS, self.compiler.compiler_so])
        if not configuration.exists() or configuration.read_text() != wanted:
            shutil.rmtree(self.build_temp, ignore_errors=True)
            for product in self.products():
                Path(self.build_lib, product).unlink(missing_ok=True)
            configuration.parent.mkdir(parents=True)
            configuration.write_text(wanted)
        for library in SOURCES:
            self.build_library(library)
        super().build_extensions()

    def build_library(self, library):
        def compile_one(source):
            self.compiler.compile(
                [source],
                output_dir=self.build_temp,
                include_dirs=INCLUDE_DIRS,
                extra_postargs=C_FLAGS + VARIANT_C_FLAGS,
            )

        sources = SOURCES[library]
        objects = self.compiler.object_filenames(sources, output_dir=self.build_temp)
        stale = [
            source
            for source, compiled in zip(sources, objects, strict=True)
            if self.force or newer_group([source, *HEADERS, "setup.py"], compiled)
        ]
        for compiled in objects:
            os.makedirs(os.path.dirname(compiled), exist_ok=True)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(compile_one, stale))
        self.compiler.link_shared_object(
            objects,
            os.path.join(self.build_lib, library),
            library_dirs=[os.path.join(self.build_lib, os.path.dirname(library))],
            extra_postargs=[
                *LINK_FLAGS[library],
                "-Wl,-soname," + os.path.basename(library),
                *VARIANT_LINK_FLAGS,
            ],
        )

    def copy_extensions_to_source(self):
        # By content, for variants and Pythons take turns here and the newest is not always the one
        # that is wanted; by rename, because a process may have the old one mapped.
        for in_place in self.products():
            built = os.path.join(self.build_lib, in_place)
            if not (os.path.exists(in_place) and filecmp.cmp(built, in_place, shallow=False)):
                shutil.copy2(built, in_place + ".new")
                os.replace(in_place + ".new", in_place)

    def products(self):
        """What is built, relative to the folder that holds the package."""
        return [*SOURCES, *(self.get_ext_filename(ext.name) for ext in self.extensions)]

    def get_outputs(self):
        return [os.path.join(self.destination, name) for name in self.products()]

    def get_output_mapping(self):
        return dict(zip(self.get_outputs(), self.products(), strict=True)) if self.inplace else {}


core = Extension(
    "aiofs._core",
    ["aiofs/_core.pyx", *CORE_SOURCES],
    depends=[*CORE_PARTS, *HEADERS, "setup.py"],
    include_dirs=INCLUDE_DIRS,
    libraries=["aiofs"],
    runtime_library_dirs=["$ORIGIN"],
    extra_compile_args=["-fvisibility=hidden", *VARIANT_C_FLAGS],
    extra_link_args=VARIANT_LINK_FLAGS,
)
core.cython_directives = {
    "language_level": 3,
    "embedsignature": True,
    "embedsignature.format": "python",
}

setup(ext_modules=[core], cmdclass={"build_ext": BuildExt})
