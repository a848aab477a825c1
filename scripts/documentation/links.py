"""Links, headings and code of a page of Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_FENCE = re.compile(r"^(`{3,}|~{3,}).*?^\1\s*$", re.M | re.S)
_CODE = re.compile(r"(`+)(?!`).+?(?<!`)\1(?!`)")
_LINK = re.compile(r"(?P<image>!?)\[(?P<text>(?:[^\[\]]|\[[^\[\]]*\])*)\]\((?P<target>[^()\s]+)\)")


def without_code(text: str) -> str:
    """The text with its blocks and spans of code blanked out, so that positions stay."""
    for pattern in (_FENCE, _CODE):
        text = pattern.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), text)
    return text


def links(text: str) -> Iterator[re.Match[str]]:
    """The links and images of a page that are not within code."""
    yield from _LINK.finditer(without_code(text))


def is_external(target: str) -> bool:
    """Whether a link leads to a web page or a mail address."""
    return re.match(r"[a-z]+:", target) is not None


def slug(heading: str) -> str:
    """The anchor of a heading, as GitHub and Python-Markdown make it."""
    plain = re.sub(r"[`*]|\]\([^)]*\)|\[", "", heading)
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", plain).strip().lower())


def anchors(text: str) -> set[str]:
    """The anchors of the headings of a page."""
    found: set[str] = set()
    blank = _FENCE.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)
    for heading in re.findall(r"^#{1,6} +(.+?) *#* *$", blank, re.M):
        name, number = slug(heading), 0
        while (anchor := f"{name}_{number}" if number else name) in found:
            number += 1
        found.add(anchor)
    return found
