"""The pages of the documentation, their code blocks, and the calls of the program in them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from scripts.documentation.links import ROOT

PAGES = sorted(
    [
        *(ROOT / "docs").rglob("*.md"),
        *ROOT.glob("*.md"),
        *ROOT.glob("[!.]*/README.md"),
        *(ROOT / ".github").glob("*.md"),
        *(ROOT / ".napari-hub").glob("*.md"),
    ]
)
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
FENCE = re.compile(
    r"^(?P<indent> *)(?P<mark>`{3,})(?P<kind>\w*)[^\n]*\n(?P<body>.*?)^ *(?P=mark) *$", re.M | re.S
)
#: Words in capitals stand for what the reader puts in; dots for more of the same; brackets for what may be left out.
SHELL = ("", "bash", "sh", "console")


@cache
def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def blocks(name: str, *kinds: str) -> Iterator[str]:
    """The code blocks of a page that are of one of these kinds."""
    for found in FENCE.finditer(text_of(ROOT / name)):
        if found["kind"] in kinds:
            yield re.sub(rf"^{found['indent']}", "", found["body"], flags=re.M)


def lines_of(block: str) -> Iterator[str]:
    """The lines of a shell block; what goes on after a backslash belongs to its line."""
    for line in block.replace("\\\n", " ").splitlines():
        yield re.sub(r"^(\$ |(?:\w+=\S+ +)*|.*? && )", "", line.strip())


def shell_lines(name: str) -> Iterator[str]:
    """The lines of all shell blocks of a page."""
    for block in blocks(name, *SHELL):
        yield from lines_of(block)


def words_of(line: str) -> list[str]:
    """The words of a call of the program, without what may be left out."""
    plain = re.sub(r"[\[\]]", " ", line).replace("...", " ").split("  #")[0].split(" | ")[0]
    return shlex.split(plain, comments=True)[1:]


def block_calls(name: str) -> Iterator[list[list[str]]]:
    """The calls of `leukocls` in each shell block of a page that has some, as words."""
    for block in blocks(name, *SHELL):
        if calls := [words_of(line) for line in lines_of(block) if line.startswith("leukocls ")]:
            yield calls


def spans_of(name: str) -> Iterator[str]:
    """The code within the sentences of a page, each on one line."""
    for span in re.findall(r"(?<!`)`([^`]+)`(?!`)", FENCE.sub("", text_of(ROOT / name))):
        yield " ".join(span.split())


def command_lines(name: str) -> Iterator[list[str]]:
    """The same, and those in the sentences of the page."""
    for calls in block_calls(name):
        yield from calls
    for span in spans_of(name):
        line = re.sub(r"^(\w+=\S+ +)*", "", span)
        line = re.sub(r"^python -m napari_leukocls", "leukocls", line)
        if line.startswith("leukocls "):
            yield words_of(line)
