"""The checks of a model's heatmaps anew, on labelled crops: its weights are not those that were checked."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from napari_leukocls.analysis.engine import cached_classifier
from napari_leukocls.classification.dataset import list_crops
from napari_leukocls.classification.single_cell import CentralCell, common_scales, cut_central
from napari_leukocls.device import resolve_device
from napari_leukocls.errors import InputError
from napari_leukocls.explanation import cam
from napari_leukocls.explanation.checks import check_model
from napari_leukocls.explanation.trust import State, badge
from napari_leukocls.io.serialise import to_plain
from napari_leukocls.models.card import read_card
from napari_leukocls.models.card_parts import ExplanationChecks
from napari_leukocls.models.install import write_card
from napari_leukocls.progress import CancelToken, Progress, Steps, staged
from napari_leukocls.scheme import default_scheme
from napari_leukocls.segmentation.registry import compact

#: Crops that are checked at most, taken evenly from all.
MOST_CROPS = 48
#: Fewer cells give no figures worth writing down.
LEAST_CROPS = 8


def iter_recheck(
    folder: Path, data: Path, device: str = "auto", cancel: CancelToken | None = None
) -> Steps[State]:
    """Check the heatmaps of a model by its own method, and write the figures into its card.

    Parameters
    ----------
    folder : Path
        Of the model.
    data : Path
        Labelled crops that the model was not trained on.
    device : str
    cancel : CancelToken, optional

    Yields
    ------
    Progress

    Returns
    -------
    str
        What the badge of the model says now: ``trusted``, ``weak`` or ``failed``.

    Raises
    ------
    InputError
        If the crops are too few, or hold no cell.
    """
    token = cancel or CancelToken()
    classifier = cached_classifier(folder, resolve_device(device))
    method = cam.default_method(classifier.card)
    cells = yield from _cells(folder, data, device, token)
    crops = np.stack([cell.crop for cell in cells])
    targets = classifier.predict(crops).probabilities.argmax(axis=1)
    steps = check_model(classifier, crops, targets, method, [cell.mask for cell in cells])
    figures, _ = yield from staged("check", token, steps)
    stated = {**figures, "crops": f"{len(cells)} labelled crops of this laboratory, not trained on"}
    checks = ExplanationChecks(
        format_version=1, weights_sha256=classifier.digest, methods={method: to_plain(stated)}
    )
    card = read_card(folder).model_copy(update={"explanation_checks": checks})
    write_card(folder, card)
    return badge(card, method)[0]


def _cells(folder: Path, data: Path, device: str, token: CancelToken) -> Steps[list[CentralCell]]:
    """Cut the central cells of some crops."""
    listed = [crop for crop in list_crops(data, default_scheme()) if crop.split in ("", "test")]
    chosen = np.unique(np.linspace(0, len(listed) - 1, min(MOST_CROPS, len(listed))).astype(int))
    rule = read_card(folder).crop
    outlines = compact(resolve_device(device))
    crops = [listed[place] for place in chosen]
    # Of whole images, only the outline depends on the scale: none is drawn where it is unknown.
    own = float("nan") if rule.whole_image else rule.um_per_px
    scales, _ = common_scales(
        [crop.file for crop in crops],
        [crop.size() for crop in crops],
        lambda index: crops[index].pixels(),
        [crop.um_per_px for crop in crops],
        own,
        outlines,
    )
    found = []
    for done, (crop, scale) in enumerate(zip(crops, scales, strict=True)):
        token.check()
        yield Progress("read", done, len(chosen))
        cell = cut_central(crop.pixels(), scale or own, outlines, rule)
        if cell.found:
            found.append(cell)
    if len(found) < LEAST_CROPS:
        raise InputError(
            f"{len(found)} cells are too few to check heatmaps: give at least {LEAST_CROPS} crops for the test."
        )
    return found
