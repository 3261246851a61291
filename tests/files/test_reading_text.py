"""`read_text`: inside the call if the kernel has the file in memory, else on a host thread."""

import pytest
from coroutines import at_once, turns

from aiofs import files
from aiofs.files import opening

TEXT = "eins\r\nzwölf\rdrei\n"


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(TEXT.encode())
    return path


async def test_cached_text_is_read_inside_the_call(path):
    await files.read_text(path)  # the type of its filesystem is known from now on
    await turns(2)
    for arguments in [
        {},
        {"encoding": "utf-8"},
        {"encoding": "latin-1", "newline": ""},
        {"encoding": "ascii", "errors": "replace"},
        {"encoding": "ascii", "errors": "ignore", "newline": "\r"},
    ]:
        with open(path, **arguments) as opened:
            expected = opened.read()
        assert await at_once(files.read_text, path, **arguments) == expected


async def test_long_uncached_and_rarely_encoded_text_is_read_on_a_host_thread(
    path, monkeypatch, faults
):
    on_threads = []
    read_text = opening._read_text

    def spy(path, *arguments):
        on_threads.append(arguments)
        return read_text(path, *arguments)

    monkeypatch.setattr(opening, "_read_text", spy)
    await files.read_text(path)
    on_threads.clear()
    assert await files.read_text(path, "utf-7", "replace") == path.read_text("utf-7", "replace")
    assert await files.read_text(path, errors="backslashreplace") == path.read_text()
    faults.forget_pages()
    assert await files.read_text(path, newline="\n") == TEXT
    assert len(on_threads) == 3
    faults.clear()
    assert await files.read_text(path) == path.read_text()
    assert len(on_threads) == 3
    path.write_text("long" * 100_000)
    assert await files.read_text(path) == "long" * 100_000
    assert len(on_threads) == 4


async def test_errors_are_those_of_the_built_in_open(path):
    await files.read_text(path)
    with pytest.raises(UnicodeDecodeError):
        await files.read_text(path, "ascii")
    with pytest.raises(ValueError, match="newline"):
        await files.read_text(path, newline="x")
    with pytest.raises(LookupError):
        await files.read_text(path, "no such encoding")
    with pytest.raises(FileNotFoundError):
        await files.read_text(path.parent / "missing")
    with pytest.raises(IsADirectoryError):
        await files.read_text(path.parent)
