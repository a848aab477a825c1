"""What mkdocs calls while it builds the site: adds the generated pages, and sets links right.

Pages of the checkout (README.md, CONTRIBUTING.md and the like) are shown on the site as they are. Their links, and
links from docs/ to them, are written for a checkout; `relocated` makes them links of the site.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from scripts.documentation import command_line, docks, model_cards, validation
from scripts.documentation.links import ROOT
from scripts.documentation.relocation import CHECKOUT_PAGES, relocated

#: What a browser would load from elsewhere when it shows a page; links that a reader clicks are no such thing.
_LOADED = re.compile(
    r"""<(?:script|img|iframe|source|video)\b[^>]*\bsrc=["'](?:https?:)?//|<link\b[^>]*\bhref=["'](?:https?:)?//"""
)


def generated_pages() -> dict[str, str]:
    """The text of each generated page, by its path on the site."""
    pages = {
        site: relocated((ROOT / source).read_text(encoding="utf-8"), source, site)
        for source, site in CHECKOUT_PAGES.items()
    }
    pages |= {site: relocated(text, docks.SOURCE, site) for site, text in docks.pages().items()}
    pages |= model_cards.pages()
    pages["reference/command-line.md"] = command_line.page()
    pages["validation.md"] = validation.page()
    return pages


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Fill the parts of the navigation that follow from the program, and add pages that stand nowhere else."""
    named = set(_paths(config.nav))
    others = sorted(path.name for path in (ROOT / "docs").glob("*.md") if path.name not in named)
    added = {"The docks": docks.navigation(), "Models": model_cards.navigation(), "Work": others}
    for section in config.nav or []:
        for title in section:
            section[title] = [*section[title], *added[title]] if title in added else section[title]
    return config


def _paths(entry: Any) -> Iterator[str]:
    """The paths of all pages of a navigation."""
    if isinstance(entry, str):
        yield entry
    for part in entry.values() if isinstance(entry, dict) else entry if isinstance(entry, list) else ():
        yield from _paths(part)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages; a page of docs/ that is made anew replaces the one that is there."""
    for site, text in generated_pages().items():
        present = files.get_file_from_path(site)
        if present is not None:
            files.remove(present)
        files.append(File.generated(config, site, content=text))
    files.append(
        File.generated(config, "images/icon.svg", abs_src_path=str(ROOT / "napari_leukocls" / "icon.svg"))
    )
    return files


def on_page_markdown(markdown: str, page: Page, **others: Any) -> str:
    """Set the links of a page of docs/ right; generated pages have theirs already."""
    if page.file.generated_by is not None:
        return markdown
    site = page.file.src_uri
    return relocated(markdown, str(Path("docs") / site), site)


def on_post_build(config: MkDocsConfig) -> None:
    """Refuse a site that needs the network when it is viewed."""
    for path in sorted(Path(config.site_dir).rglob("*.html")):
        if found := _LOADED.search(path.read_text(encoding="utf-8")):
            raise PluginError(f"{path} loads something from the network: {found[0]}")
