"""Runs `aiofs bench` in this process; its participants run in processes of their own."""

import shutil

import pytest

from aiofs import cli


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """The directory of the compiled programs, for all tests of a session."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def cache(built, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(built))


@pytest.fixture
def compiler():
    if shutil.which("cc") is None:
        pytest.skip("needs a C compiler")


@pytest.fixture
def data(tmp_path):
    """The directory where runs make their files."""
    directory = tmp_path / "data"
    directory.mkdir()
    return directory


@pytest.fixture
def bench(capsys, data):
    """bench(*arguments) runs the command. Returns its exit status, stdout and stderr."""

    def run(*arguments):
        words = [*map(str, arguments)]
        if words[:1] != ["report"] and "--list" not in words:
            words += ["--directory", str(data)]
        try:
            status = cli.main(["bench", *words])
        except SystemExit as stop:
            status = stop.code
        said = capsys.readouterr()
        return status, said.out, said.err

    return run
