"""Builds lines.pyx in this directory: python setup.py build_ext --inplace"""

from setuptools import Extension, setup

import aiofs

lines = Extension(
    "lines",
    ["lines.pyx"],
    include_dirs=[aiofs.get_include()],
    libraries=["aiofs"],
    library_dirs=[aiofs.get_library_dir()],
    runtime_library_dirs=[aiofs.get_library_dir()],
)

setup(name="lines", ext_modules=[lines])
