"""A model made the active one: copied into the user's models where it lies elsewhere."""

from __future__ import annotations

import json
import re

from napari_leukocls.errors import ModelError
from napari_leukocls.provenance import file_sha256
from napari_leukocls.resources import (
    CARD_NAME,
    ModelEntry,
    find_model,
    list_models,
    read_card,
    set_active_classifier,
)


def activate(entry: ModelEntry) -> ModelEntry:
    """Make a model the active one; one that lies elsewhere is copied into the user's models first.

    A bundled model, and another model of the same name, are never overwritten: the copy then gets a number.

    Returns
    -------
    ModelEntry
        Of the active model.
    """
    from napari_leukocls.classification.store import install_folder
    from napari_leukocls.io.atomic import atomic_text

    taken = {one.name: one for one in list_models()}
    same = taken.get(entry.name)
    if same is not None and same.origin != "environment" and same.path.resolve() == entry.path.resolve():
        set_active_classifier(entry.name)
        return same
    # A folder may be called anything; a model's name goes into tables and file names.
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", entry.name).strip("-._") or "model"
    name, number = plain, 2
    while name in taken and not _same(taken[name], entry):
        name, number = f"{plain}-{number}", number + 1
    if name not in taken or taken[name].origin == "environment":
        target = install_folder(entry.path, name, replace=True)
        card = read_card(target)
        if card.get("name") != name:
            card["name"] = name
            atomic_text(target / CARD_NAME, json.dumps(card, indent=1, ensure_ascii=False) + "\n")
    set_active_classifier(name)
    return find_model(name)


def _same(one: ModelEntry, other: ModelEntry) -> bool:
    """Whether two folders hold one model: the same weights, and cards that differ in the name at most."""
    try:
        cards = [{**entry.card(), "name": ""} for entry in (one, other)]
        return cards[0] == cards[1] and file_sha256(one.weights) == file_sha256(other.weights)
    except (ModelError, OSError):
        # What cannot be read is another model: it is left alone.
        return False
