"""A page for each dock: the sections of docs/plugin.md that have the name of a dock, each on a page of its own."""

from __future__ import annotations

import re
from functools import cache

import yaml

from scripts.documentation.links import ROOT, anchors, slug

SOURCE = "docs/plugin.md"
_SECTION = re.compile(r"^## +(?P<title>.+?) *$\n(?P<body>.*?)(?=^## |\Z)", re.M | re.S)


@cache
def dock_names() -> tuple[str, ...]:
    """The names of the docks, in the order of the manifest."""
    manifest = yaml.safe_load((ROOT / "napari_leukocls" / "napari.yaml").read_text(encoding="utf-8"))
    return tuple(widget["display_name"] for widget in manifest["contributions"]["widgets"])


@cache
def sections() -> dict[str, str]:
    """The sections of the plugin's page that describe a dock: their text by the dock's name."""
    text = (ROOT / SOURCE).read_text(encoding="utf-8")
    bodies = {found["title"]: found["body"] for found in _SECTION.finditer(text)}
    return {name: bodies[name] for name in dock_names() if name in bodies}


def page_of(name: str) -> str:
    """The path of a dock's page on the site."""
    return f"docks/{name.lower()}.md"


@cache
def _anchors() -> dict[str, str]:
    found = {}
    for name, body in sections().items():
        found[slug(name)] = page_of(name)
        found |= dict.fromkeys(anchors(body), page_of(name))
    return found


def dock_of_anchor(anchor: str) -> str | None:
    """The page of the dock whose section has this anchor."""
    return _anchors().get(anchor)


def pages() -> dict[str, str]:
    """The pages of the docks, and the plugin's page without them but with a list of them; links as in the checkout."""
    text = (ROOT / SOURCE).read_text(encoding="utf-8")
    listed = "\n".join(f"- [{name}](plugin.md#{slug(name)})" for name in sections())
    kept = _SECTION.sub(lambda found: "" if found["title"] in sections() else found[0], text).rstrip()
    made = {page_of(name): f"# The {name} dock\n\n{body}" for name, body in sections().items()}
    return {"plugin.md": f"{kept}\n\n## The docks, one by one\n\n{listed}\n", **made}


def navigation() -> list[dict[str, str]]:
    """The entries of the navigation."""
    return [{name: page_of(name)} for name in sections()]
