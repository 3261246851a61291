"""The project's Markdown pages: their code blocks and links, and running their programs."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = ["README.md", *sorted(str(p.relative_to(ROOT)) for p in ROOT.glob("docs/**/*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    page: str
    language: str
    source: str
    output: str | None  # the expected output: the text block that follows; or None

    def __str__(self):
        return f"{self.page}-{self.source.count(chr(10))}-lines"


def text_of(page):
    return (ROOT / page).read_text()


def blocks_of(page, *languages):
    """The code blocks of a page in these languages."""
    found = [(match[1], match[2]) for match in BLOCK.finditer(text_of(page))]
    following = [source if language == "text" else None for language, source in found[1:]]
    return [
        Block(page, language, source, output)
        for (language, source), output in zip(found, [*following, None])  # noqa: B905
        if language in languages
    ]


def links_of(page):
    """The links of a page to files, as (link, file, heading or ''). Without links to the web."""
    for link in re.findall(r"\]\(([^)\s]+)\)", text_of(page)):
        if not re.match(r"https?://", link):
            path, _, heading = link.partition("#")
            target = (ROOT / page).parent / path if path else ROOT / page
            yield link, target, heading


def headings_of(path):
    """The anchors of a page's headings."""
    titles = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def run(command, folder, **environment):
    return subprocess.run(
        list(map(str, command)),
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=50,
    )


def check(block, command, folder, **environment):
    """Runs the program of a block. It must succeed, and print the output that the page shows."""
    done = run(command, folder, **environment)
    assert (done.returncode, done.stderr) == (0, "")
    if block.output is not None:
        assert sorted(done.stdout.splitlines()) == sorted(block.output.splitlines())


def check_python(block, folder):
    """Runs a Python program twice: the second run finds the files of the first."""
    for _ in range(2):
        check(block, [sys.executable, "-W", "error", "-c", block.source], folder)
