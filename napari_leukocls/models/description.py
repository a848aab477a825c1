"""The card of a model in the words of a reader: what it is, what it was trained on, how good it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from napari_leukocls.models.card import ModelCard, make_card
from napari_leukocls.models.card_parts import Figures
from napari_leukocls.models.registry import CARD_NAME, ModelEntry
from napari_leukocls.plurals import count_text

#: Figures of a set of cells: field of the card, and its name.
FIGURES = (
    ("accuracy", "accuracy"),
    ("balanced_accuracy", "balanced accuracy"),
    ("macro_f1", "macro F1"),
    ("ece", "calibration error"),
    ("review_rate", "sent to review"),
    ("accuracy_not_reviewed", "accuracy of the others"),
)


def describe(entry: ModelEntry) -> dict[str, str | list[str]]:
    """Describe a model by its card.

    Parameters
    ----------
    entry : ModelEntry

    Returns
    -------
    dict of str to (str or list of str)
        Text, or lines of a list, by heading. What the card does not say is left out.

    Raises
    ------
    ModelError
        If the card is missing or damaged, or a field of a classifier's card is wrong.
    """
    values = entry.card()
    parts: dict[str, str | list[str]] = {"name": entry.name, "kind": str(values.get("kind", "classifier"))}
    card = make_card(values, entry.path / CARD_NAME) if parts["kind"] == "classifier" else None
    parts |= {"folder": str(entry.path), "architecture": _architecture(values)}
    if entry.weights.is_file():
        parts["size"] = f"{entry.weights.stat().st_size / 1e6:.1f} MB of weights"
    if card is not None:
        parts |= {"classes": f"{len(card.classes)}: {', '.join(card.classes)}", "input": _input(card)}
        parts["to review"] = _to_review(card)
        parts["second look"] = _second_look(card)
    parts |= {name: _text(values.get(name)) for name in ("licence", "intended_use")}
    parts["limits"] = _lines(values.get("known_limits"))
    parts["trained on"] = _trained_on(values.get("training_data"))
    parts["parts"] = _method(values.get("split"))
    if card is not None:
        parts["adapted"] = _adapted(card)
        parts["figures (95 % limits in brackets)"] = [_measured(*one) for one in figure_sets(card).items()]
        parts["heatmaps"] = _heatmaps(card)
    return {name.replace("_", " "): part for name, part in parts.items() if part}


def figure_sets(card: ModelCard) -> dict[str, Figures]:
    """The sets of cells that a card has figures of, by name.

    Parameters
    ----------
    card : ModelCard

    Returns
    -------
    dict of str to Figures
        The test first; empty if the card has none.
    """
    sets = {
        "test": card.test,
        "validation": card.validation,
        "measured": card.metrics,
        "another microscope": card.other_microscope,
        "a third microscope": card.third_microscope,
        **(card.laboratories or {}),
    }
    return {
        f"{name}: {one.set}" if one.set and one.set != name else name: one
        for name, one in sets.items()
        if one is not None and any(getattr(one, field) is not None for field, _ in FIGURES)
    }


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _lines(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value] if value else []
    return [str(one) for one in value] if isinstance(value, Sequence) else []


def _architecture(values: Mapping[str, Any]) -> str:
    """The network by its registered name, with its arguments."""
    arguments = values.get("arguments")
    if not isinstance(arguments, Mapping) or not arguments:
        return str(values.get("architecture", ""))
    if "member" in arguments and "count" in arguments:
        others = arguments.get("others") or []
        members = [f"{arguments['count']} x {arguments['member']}", *(str(one["member"]) for one in others)]
        return f"{values.get('architecture')} of {', '.join(members)}"
    given = ", ".join(f"{name}={value}" for name, value in arguments.items())
    return f"{values.get('architecture')} ({given})"


def _input(card: ModelCard) -> str:
    rule = card.crop
    height, width = card.input_size
    size = f"{rule.side_um:g} µm a side" if rule.side_known else "of unknown size on the slide"
    if rule.whole_image:
        return f"images of one cell, resized to {height} x {width} px, {size}"
    margin = (
        ""
        if rule.margin_um is None
        else f"; what is farther than {rule.margin_um:g} µm from the cell is painted over"
    )
    return f"crops of {height} x {width} px, {size}{margin}"


def _to_review(card: ModelCard) -> str:
    ways = [f"probability below {card.review_threshold:.2f}"]
    if card.review_thresholds:
        limits = ", ".join(f"{name} {limit:.2f}" for name, limit in card.review_thresholds.items())
        ways = [f"probability below the limit of the class ({limits}; others {card.review_threshold:.2f})"]
    if card.ood.threshold is not None:
        ways.append(f"score of unknown cells {card.ood.threshold:.2f} or more")
    return f"cells with a {', or a '.join(ways)}"


def _second_look(card: ModelCard) -> str:
    if not card.second_look:
        return ""
    how = "with their mirror images" if card.second_opinion is None else f"by {card.second_opinion.model}"
    return f"cells with a probability below {card.second_look:.2f} are classified again, {how}"


def _trained_on(data: Any) -> list[str]:
    if not isinstance(data, Mapping):
        return _lines(data)
    counts = data.get("counts")
    cells = []
    if isinstance(counts, Mapping) and counts:
        by_class = ", ".join(f"{name} {number}" for name, number in counts.items())
        cells = [f"{count_text(sum(counts.values()), 'crop')}: {by_class}"]
    return [*_lines(data.get("sources")), *cells]


def _method(split: Any) -> str:
    return _text(split.get("method")) if isinstance(split, Mapping) else _text(split)


def _adapted(card: ModelCard) -> str:
    change = card.adaptation
    if change is None:
        return ""
    parts = [f"from {change.of}" if change.of else ""]
    if change.without_labels:
        parts.append(f"to {count_text(change.images or 0, 'image')} without labels")
    elif change.crops is not None:
        parts.append(f"to {count_text(change.crops, 'labelled crop')}")
    if change.new_classes:
        parts.append(f"with the new classes {', '.join(change.new_classes)}")
    return " ".join(part for part in parts if part)


def _measured(name: str, one: Figures) -> str:
    """The figures of one set of cells, with what these cells were to the model."""
    parts = []
    for field, words in FIGURES:
        value, limits = getattr(one, field), getattr(one, f"{field}_ci95", None)
        if value is not None:
            interval = f" ({limits[0]:.3f} to {limits[1]:.3f})" if limits and None not in limits else ""
            parts.append(f"{words} {value:.3f}{interval}")
    cells = "" if one.n is None else f", {count_text(one.n, 'cell')}"
    what = f" [{one.role or one.touched}]" if one.role or one.touched else ""
    return f"{name}{cells}: {', '.join(parts)}{what}"


def _heatmaps(card: ModelCard) -> str:
    if card.gradcam is None or card.gradcam.method is None:
        return ""
    checked = card.explanation_checks
    agree = ""
    if checked is not None and checked.weights_sha256 is not None:
        same = checked.weights_sha256 == card.weights_sha256
        agree = "; checked with these weights" if same else "; checked with other weights"
    layer = card.gradcam.layer
    where = f" at {layer if isinstance(layer, str) else ', '.join(layer)}" if layer else ""
    return f"{card.gradcam.method}{where}{agree}"
