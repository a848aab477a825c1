"""Links of the checkout turned into links of the site."""

from __future__ import annotations

import os
from pathlib import PurePosixPath

from scripts.documentation.docks import dock_of_anchor
from scripts.documentation.links import is_external, links

#: Pages of the checkout that the site shows too: their path there.
CHECKOUT_PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "CODE_OF_CONDUCT.md": "code-of-conduct.md",
    "SECURITY.md": "reporting-security.md",
    "benchmarks/README.md": "benchmarks.md",
    "scripts/README.md": "scripts.md",
    "sample_data/README.md": "sample-data.md",
}


def site_target(path: PurePosixPath, anchor: str) -> tuple[str, str] | None:
    """Page and anchor on the site of a file of the checkout; None if the site does not show it."""
    name = str(path)
    if name == "docs/plugin.md" and (dock := dock_of_anchor(anchor)):
        return dock, ""
    if name in CHECKOUT_PAGES:
        return CHECKOUT_PAGES[name], anchor
    if name == "CITATION.cff":
        return "cite.md", anchor
    if path.parts[0] == "docs":
        return str(path.relative_to("docs")), anchor
    return None


def relocated(text: str, source: str, site: str) -> str:
    """The text of a page with the links of the site.

    Parameters
    ----------
    text : str
    source : str
        Path of the page in the checkout.
    site : str
        Path of the page on the site.

    Returns
    -------
    str
        A link to a file that the site does not show is left as its text.
    """
    changes: list[tuple[int, int, str]] = []
    for link in links(text):
        target = link["target"]
        if is_external(target):
            continue
        path, _, anchor = target.partition("#")
        joined = os.path.normpath((PurePosixPath(source).parent / path) if path else source)
        found = site_target(PurePosixPath(joined), anchor)
        words = text[link.start("text") : link.end("text")]
        if found is None:
            new = words
        else:
            page, anchor = found
            relative = "" if page == site else os.path.relpath(page, PurePosixPath(site).parent)
            new = f"{link['image']}[{words}]({relative}{'#' if anchor else ''}{anchor})"
        changes.append((link.start(), link.end(), new))
    return _replaced(text, changes)


def _replaced(text: str, changes: list[tuple[int, int, str]]) -> str:
    for start, end, new in reversed(changes):
        text = text[:start] + new + text[end:]
    return text
