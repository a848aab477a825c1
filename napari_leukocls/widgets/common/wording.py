"""Messages in the words of the docks: they name controls where the command line names options. No Qt."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from napari_leukocls.widgets.texts import Analyse, Batch, Review, Train

if TYPE_CHECKING:
    from napari_leukocls.review import Agreement

#: Advice of the command line, and what a person does in a dock instead; the first match of several is taken.
_PHRASES: tuple[tuple[str, str], ...] = (
    (r"leave it out with --leave-out", f"write it at 'leave out' ({Train.ADVANCED})"),
    (r"use --device cpu", f"choose '{Analyse.DEVICES['cpu']}' at '{Analyse.DEVICE}'"),
    (r"another --device", f"another choice at '{Analyse.DEVICE}'"),
    (r"--segmenter compact", f"'compact' at '{Analyse.SEGMENTER}'"),
    (r"--preset adapt", f"the recipe '{Train.RECIPES['adapt']}'"),
    (r"--no-rehearse", f"'rehearse' set to False ({Train.ADVANCED})"),
    (r"--freeze head", f"'freeze' set to head ({Train.ADVANCED})"),
    (r"start anew with --restart", "start anew under another name"),
    (r", or --replace it", ""),
    (r"--resume", f"'{Batch.RESUME}'"),
    (r"--arch NAME", f"a network at '{Train.MODEL}'"),
    (r"--weights(?: FILE)?", f"'weights' ({Train.ADVANCED})"),
    (r"see leukocls train --help", f"see the names under {Train.ADVANCED}"),
    (r"--format ", ""),
    (r"--group-by auto", f"'group by' set to auto ({Train.ADVANCED})"),
)
#: Two dashes begin an option at the start of a word only: names of files may hold them, too.
_START = r"(?<![^\s'\"(`])(?=--)"
#: What is left: an option of a training, which has a field of the same name.
_OPTION = re.compile(_START + r"--([a-z][a-z0-9-]*)")


def in_dock_words(text: str) -> str:
    """Rewrite a message of the program for a person at a dock.

    Parameters
    ----------
    text : str
        For example ``train again with a lower --lr``.

    Returns
    -------
    str
        The same without options of the command line: ``train again with a lower 'lr' (Advanced)``.
    """
    if "--" not in text:
        return text
    for pattern, words in _PHRASES:
        start = _START if pattern.startswith("--") else ""
        text = re.sub(start + pattern, words.replace("\\", r"\\"), text)
    return _OPTION.sub(lambda found: f"'{found[1].replace('-', ' ')}' ({Train.ADVANCED})", text)


def kappa_words(found: Agreement) -> str:
    """Write Cohen's kappa of two readers.

    Parameters
    ----------
    found : Agreement

    Returns
    -------
    str
        With its limits, where there are any: none follow from readers who agree on every cell. "" without a kappa.
    """
    if not math.isfinite(found.kappa):
        return ""
    if not (math.isfinite(found.low) and math.isfinite(found.high)):
        return Review.KAPPA_ALONE.format(kappa=found.kappa)
    return Review.KAPPA.format(kappa=found.kappa, low=found.low, high=found.high)
