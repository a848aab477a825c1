"""The page for developers names every module, and what it says of the code is there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "napari_leukocls"
PAGE = (ROOT / "docs" / "developing.md").read_text(encoding="utf-8")
#: "`name` (`module`)", as the page writes where something is.
PLACE = re.compile(r"`(?P<name>\w+(?:\.\w+)?)`\s+\(`(?P<module>[\w/]+\.py)`\)")


def named_modules() -> set[str]:
    """The modules in the page's tree of folders, from the package on."""
    tree = re.search(r"^## The folders\n.*?^```\n(.*?)^```", PAGE, re.M | re.S)
    assert tree is not None
    found, folder = set(), ""
    for line in tree[1].splitlines():
        head = re.match(r"([\w/]+/)", line)
        if head:
            folder = head[1]
        found |= {folder + name for name in re.findall(r"\b\w+\.py\b", line)}
    return found


def test_the_tree_names_every_module_and_no_other() -> None:
    files = (path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py") if path.name != "__init__.py")
    there = {path.as_posix() for path in files if "migrations" not in path.parts}
    assert there - named_modules() == set(), "not in docs/developing.md"
    assert named_modules() - there == set(), "in docs/developing.md, but not there"


def test_what_the_page_names_is_in_the_module_that_it_names() -> None:
    places = [(found["name"], found["module"]) for found in PLACE.finditer(PAGE)]
    assert len(places) > 50
    for name, module in places:
        text = (PACKAGE / module).read_text(encoding="utf-8")
        last = name.split(".")[-1]
        defined = rf"^\s*(?:(?:def|class) {last}\b|{last}(?:: [^=]+)? = )"
        assert re.search(defined, text, re.M), f"{name} is not in {module}"
