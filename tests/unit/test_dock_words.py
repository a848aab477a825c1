"""Messages in docks: no option of the command line, whatever part of the program they come from."""

from __future__ import annotations

import ast
import math
import re
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

import napari_leukocls
from napari_leukocls.review import Agreement
from napari_leukocls.training.config import preset_names, preset_summary
from napari_leukocls.widgets.common.wording import in_dock_words, kappa_words

PACKAGE = Path(napari_leukocls.__file__).parent
#: Parts whose messages no dock shows.
ELSEWHERE = ("cli", "widgets", "benchmark", "exchange")


def messages() -> list[str]:
    """All texts of the program that name an option, but those that only a command shows."""
    found = []
    for file in sorted(PACKAGE.rglob("*.py")):
        if file.relative_to(PACKAGE).parts[0] in ELSEWHERE:
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.Raise, ast.Assign, ast.Call)):
                for part in ast.walk(node):
                    if isinstance(part, ast.Constant) and isinstance(part.value, str):
                        if re.search(r"(?<![-\w])--[a-z]", part.value):
                            found.append(part.value)
    return sorted(set(found))


def test_there_are_messages_that_name_options() -> None:
    assert any("--leave-out" in text for text in messages())


@pytest.mark.parametrize("text", [*messages(), *map(preset_summary, preset_names())])
def test_no_message_in_a_dock_names_an_option(text: str) -> None:
    assert not re.search(r"(?<!-)--[a-z]", in_dock_words(text)), in_dock_words(text)


def test_advice_names_the_control_of_the_dock() -> None:
    text = "the class 'artefact' has one crop: add some, or leave it out with --leave-out."
    assert in_dock_words(text).endswith("add some, or write it at 'leave out' (Advanced).")
    assert in_dock_words("train again with a lower --lr.") == "train again with a lower 'lr' (Advanced)."
    assert "'processor (CPU)' at 'Compute on'" in in_dock_words("use --device cpu or a smaller image")
    for text in ("two -- dashes", "'/data/a--b/slide--lr.png' cannot be read: copy it again."):
        assert in_dock_words(text) == text


def test_kappa_of_readers_who_agree_on_every_cell_has_no_limits() -> None:
    agreed = Agreement("A", "B", 5, 1.0, 1.0, math.nan, math.nan, pd.DataFrame(), pd.DataFrame())
    assert kappa_words(agreed) == "Cohen's kappa 1.00."
    with_limits = replace(agreed, kappa=0.8, low=0.6, high=0.95)
    assert kappa_words(with_limits) == "Cohen's kappa 0.80 (95 % limits 0.60 to 0.95)."
    assert kappa_words(replace(agreed, kappa=math.nan)) == ""
