"""docs/: its programs run, its synopses match the headers, every errno has a line."""

import builtins
import re
import sys
from dataclasses import replace
from importlib.util import find_spec
from pkgutil import resolve_name

import pytest
from native import SANITIZE, compile_c, needs_compiler
from pages import PAGES, ROOT, blocks_of, check, check_python, links_of, run, text_of

import aiofs
from aiofs import aio

PACKAGE = ROOT / "aiofs"
DOCS = [page for page in PAGES if page.startswith("docs/")]
FUNCTIONS = [name for name in aio.__all__ if re.match("aio_|lio_", name)]
STRICT = ["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-pthread", f"-I{PACKAGE / 'include'}"]
LINKED = [f"-L{PACKAGE}", f"-Wl,-rpath,{PACKAGE}", "-laiofs"]

# The errors of each function or its request: those of POSIX.1-2017 and those that Linux adds.
OF_TRANSFERS = "EAGAIN EBADF EINVAL EFAULT EIO ECANCELED"
ERRNOS = {
    "aio_read": f"{OF_TRANSFERS} EISDIR",
    "aio_write": f"{OF_TRANSFERS} EPIPE ENOSPC EDQUOT EFBIG",
    "aio_fsync": "EINVAL EBADF EAGAIN ECANCELED EIO",
    "aio_error": "EINPROGRESS ECANCELED EINVAL",
    "aio_return": "EINPROGRESS ECANCELED EINVAL",
    "aio_suspend": "EAGAIN EINTR EINVAL",
    "aio_cancel": "EBADF EINVAL ECANCELED EINPROGRESS",
    "lio_listio": "EINVAL EIO EINTR EAGAIN",
}
SECTIONS = ["Synopsis", "Description", "Return value", "Errors", "Notes", "Differences", "See also"]


def all_blocks(*languages):
    return [block for page in DOCS for block in blocks_of(page, *languages)]


PYTHON_PROGRAMS = [
    block
    for block in all_blocks("python")
    if "setup(" not in block.source  # of the page on porting: tests/test_packaging.py uses that
    and "import aiofiles\n" not in block.source  # of the recipes of aiofiles: see below
]
C_PROGRAMS = [block for block in all_blocks("c") if "int main(" in block.source]
C_SYNOPSES = [block for block in all_blocks("c") if "int main(" not in block.source]


def compiled(source, folder, *flags):
    """Compiles C source. Returns the program."""
    text, program = folder / "program.c", folder / "program"
    text.write_text(source)
    compile_c(*STRICT, *SANITIZE, text, "-o", program, *flags)
    return program


# ---- programs -----------------------------------------------------------------------------------


@pytest.mark.parametrize("program", PYTHON_PROGRAMS, ids=str)
def test_python_programs_of_the_pages_print_the_documented_output(program, tmp_path):
    check_python(program, tmp_path)


@needs_compiler
@pytest.mark.parametrize("program", C_PROGRAMS, ids=str)
def test_c_programs_of_the_pages_print_the_documented_output(program, tmp_path):
    linked = compiled(program.source, tmp_path, *LINKED)
    check(program, [linked], tmp_path)
    check(program, [linked], tmp_path)
    # Only aiofs fails if AIOFS_ENGINE has an unknown value. So the program used aiofs.
    if "aio_read" in program.source:
        assert run([linked], tmp_path, AIOFS_ENGINE="none").returncode != 0


@needs_compiler
@pytest.mark.skipif(bool(SANITIZE), reason="a sanitized library cannot be preloaded alone")
@pytest.mark.parametrize("program", [p for p in C_PROGRAMS if "aiofs.h" not in p.source], ids=str)
def test_c_programs_do_the_same_unchanged_and_preloaded(program, tmp_path):
    plain = compiled(program.source, tmp_path)
    check(program, [plain], tmp_path)
    library = str(PACKAGE / "libaiofs.so")
    check(program, [plain], tmp_path, LD_PRELOAD=library)
    assert run([plain], tmp_path, LD_PRELOAD=library, AIOFS_ENGINE="none").returncode != 0


# ---- coming from aiofiles -----------------------------------------------------------------------

RECIPE = re.compile(r"^\| \[(.*)\]\(files\.md#.*\) \| (\d+) \| (\d+) \|$", re.MULTILINE)
RECIPES = RECIPE.findall(text_of("docs/aiofiles.md"))
# Makes `import aiofiles` give aiofs.files.
IN_ITS_PLACE = """import sys, aiofs.files
names = {"aiofiles" + name: getattr(aiofs.files, name[1:], aiofs.files) for name in ("", ".os")}
sys.modules.update(names)
"""


def recipe(page, title):
    """The first program below a heading."""
    _, _, section = text_of(page).partition(f"\n## {title}\n")
    return next(b for b in blocks_of(page, "python") if b.source in section.partition("\n## ")[0])


def lines_of_code(block):
    return sum(1 for line in block.source.splitlines() if line.strip())


def test_recipes_take_no_more_lines_than_with_aiofiles_and_as_many_as_the_table_says():
    assert len(RECIPES) == 5
    for title, ours, theirs in RECIPES:
        blocks = recipe("docs/files.md", title), recipe("docs/aiofiles.md", title)
        assert [lines_of_code(block) for block in blocks] == [int(ours), int(theirs)], title
        assert int(ours) <= int(theirs), title
        assert blocks[0].output == blocks[1].output, title
        assert "aiofiles" not in blocks[0].source and "aiofs" not in blocks[1].source


@pytest.mark.parametrize("title", [title for title, _, _ in RECIPES])
def test_recipes_of_aiofiles_do_the_same_with_aiofiles_and_with_aiofs_in_its_place(title, tmp_path):
    block = recipe("docs/aiofiles.md", title)
    places = tmp_path / "aiofs", tmp_path / "aiofiles"
    for place in places:
        place.mkdir()
    check_python(replace(block, source=IN_ITS_PLACE + block.source), places[0])
    pytest.importorskip("aiofiles")
    check_python(block, places[1])


def test_names_of_aiofiles_and_anyio_in_the_tables_exist():
    names = re.findall(
        r"`(?:await |async with )?((?:aiofs|aiofiles|anyio)(?:\.\w+)+)", text_of("docs/aiofiles.md")
    )
    assert {name.split(".")[0] for name in names} == {"aiofs", "aiofiles", "anyio"}
    for name in names:
        if find_spec(name.split(".")[0]):
            assert resolve_name(name) is not None


# ---- synopses -----------------------------------------------------------------------------------


@needs_compiler
@pytest.mark.parametrize("synopsis", C_SYNOPSES, ids=str)
def test_c_synopses_match_the_headers(synopsis, tmp_path):
    compiled(synopsis.source, tmp_path, "-c")  # a conflicting declaration is an error


@pytest.mark.parametrize("synopsis", all_blocks("pyi"), ids=str)
def test_python_synopses_match_the_modules(synopsis):
    modules = (PACKAGE / "_core.pyi").read_text() + (PACKAGE / "aio.py").read_text()
    signatures = re.findall(r"^((?:async )?def .*:)", synopsis.source, re.MULTILINE)
    assert signatures and all(f"\n{signature}" in modules for signature in signatures)


@pytest.mark.packaging
def test_cython_synopses_match_the_pxd(tmp_path):
    pytest.importorskip("Cython")
    lines = [block.source for block in all_blocks("cython") if "cdef" not in block.source]
    source = tmp_path / "synopses.pyx"
    source.write_text("".join(lines))
    done = run([sys.executable, "-m", "cython", "-3", "-I", ROOT, source], tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


# ---- pages --------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", FUNCTIONS)
def test_every_function_has_a_page_that_names_its_errors(function):
    page = text_of(f"docs/aio/{function}.md")
    assert page.startswith(f"# {function}\n\n{function}: ")
    assert re.findall("^## (.*)$", page, re.MULTILINE) == SECTIONS
    errors = page[page.index("## Return value") : page.index("## Notes")]
    missing = [
        errno for errno in ERRNOS[function].split() if not re.search(rf"\b{errno}\b", errors)
    ]
    assert not missing
    assert "glibc 2.36" in page and "musl 1.2.3" in page  # the tested versions


def test_every_page_is_reached_from_the_index():
    reached, new = set(), {(ROOT / "docs/README.md").resolve()}
    while new:
        page = new.pop()
        reached.add(page)
        links = links_of(str(page.relative_to(ROOT)))
        targets = {
            target.resolve() for _, target, _ in links if target.suffix == ".md" and target.exists()
        }
        new |= {target for target in targets - reached if target.is_relative_to(ROOT)}
    assert {(ROOT / page).resolve() for page in DOCS} <= reached


def test_names_that_the_pages_use_exist():
    text = "".join(map(text_of, DOCS))
    for name in re.findall(r"\b(?:AIO|LIO|SIGEV)_[A-Z_]+\b", text):
        assert hasattr(aio, name), name
    for name in re.findall(r"`(\w+Error)`", text):
        assert hasattr(aiofs, name) or hasattr(builtins, name), name
