"""The promotion gate: a new model replaces the current one unless a class's recall falls significantly.

The rule is that of `napari_leukocls.evaluation.gate`.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_leukocls.analysis.engine import cached_classifier
from napari_leukocls.device import resolve_device
from napari_leukocls.errors import InputError
from napari_leukocls.evaluation.calibration import binned_gaps, bins_of
from napari_leukocls.evaluation.gate import judge_classes, judge_overall, reason, rule
from napari_leukocls.evaluation.predict import predict_models, read_crops
from napari_leukocls.evaluation.shared_classes import project, shared_crops
from napari_leukocls.io.atomic import atomic_text, make_folder
from napari_leukocls.io.serialise import json_text, to_plain
from napari_leukocls.models.install import activate
from napari_leukocls.models.provenance import note_seen, refuse_seen
from napari_leukocls.models.registry import ModelEntry, active_classifier, find_model
from napari_leukocls.plurals import count_text
from napari_leukocls.progress import CancelToken, Progress, ProgressCallback, drain
from napari_leukocls.scheme import default_scheme
from napari_leukocls.segmentation.registry import compact

if TYPE_CHECKING:
    from napari_leukocls.classification.classifier import Classifier
    from napari_leukocls.evaluation.gate import ClassVerdict
    from napari_leukocls.evaluation.predict import ModelOutputs
    from napari_leukocls.evaluation.shared_classes import SharedCrops

#: Fewest cells of the largest class: with fewer, no fall is significant.
MIN_CELLS = 3


@dataclass(frozen=True)
class Promotion:
    """The decision of the promotion gate.

    Attributes
    ----------
    promote : bool
    reason : str
        One line.
    new, current : ModelEntry
    classes : tuple of ClassVerdict
        One a class of the current model.
    overall : dict
        Accuracy over all cells.
    figures : dict
        The rest of ``promotion.json``: models, data, calibration and review of both, new classes, the rule.
    notes : tuple of str
        Further facts; one line each.
    """

    promote: bool
    reason: str
    new: ModelEntry
    current: ModelEntry
    classes: tuple[ClassVerdict, ...]
    overall: dict[str, Any]
    figures: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the record that ``promotion.json`` holds."""
        record: dict[str, Any] = to_plain(
            {
                "promote": self.promote,
                "reason": self.reason,
                **self.figures,
                "per_class": {row.name: row.as_dict() for row in self.classes},
                "overall": self.overall,
                "notes": list(self.notes),
            }
        )
        return record


def decide(
    new: str,
    current: str | None,
    data: str | Path,
    device: str = "auto",
    um_per_px: float | None = None,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> Promotion:
    """Do the same as `iter_decide`, with progress reported to a function.

    Parameters
    ----------
    new, current, data, device, um_per_px, cancel
        As for `iter_decide`.
    progress : callable, optional
        Called with each Progress.

    Returns
    -------
    Promotion

    Raises
    ------
    InputError
        As `iter_decide`.
    """
    return drain(iter_decide(new, current, data, device, um_per_px, cancel), progress)


def iter_decide(
    new: str,
    current: str | None,
    data: str | Path,
    device: str = "auto",
    um_per_px: float | None = None,
    cancel: CancelToken | None = None,
) -> Generator[Progress, None, Promotion]:
    """Classify the same cells with both models and judge every class; nothing is written.

    Parameters
    ----------
    new : str
        Name or folder of a model.
    current : str or None
        Name or folder of the model to be replaced; by default the active one.
    data : path-like
        Labelled crops that the new model was not trained on. Of a CSV file with a column ``split``, the rows
        of the test part alone are used.
    device : str
    um_per_px : float, optional
        Pixel size of the crops whose row states none.
    cancel : CancelToken, optional

    Yields
    ------
    Progress

    Returns
    -------
    Promotion

    Raises
    ------
    InputError
        If the new model was trained on some of the crops, or there are too few crops.
    """
    entries = (find_model(new), find_model(current or active_classifier()))
    device = resolve_device(device)
    classifiers = [cached_classifier(entry.path, device) for entry in entries]
    yield Progress("read", 0, 1, "reading the crops")
    dataset = yield from read_crops(data)
    notes = refuse_seen(entries[0], dataset.crops)
    notes += [*dataset.notes, *note_seen(entries[1], dataset.crops)]
    coarsen = default_scheme().coarsen
    labels = [crop.class_name for crop in dataset.crops]
    shared = shared_crops(labels, classifiers[1].classes, coarsen)
    most = max((shared.count(i) for i in range(len(shared.classes))), default=0)
    if most < MIN_CELLS:
        raise InputError(
            f"no class of '{entries[1].name}' has {MIN_CELLS} cells in {data}, so that no class can be judged; "
            "give more labelled crops."
        )
    outputs = yield from predict_models(
        dataset, classifiers, compact(device), um_per_px, cancel or CancelToken()
    )
    if dataset.skipped:
        unread = "files could not be read and were"
        files = count_text(len(dataset.skipped), "file could not be read and was", unread)
        notes.append(f"{files} skipped.")
    figures = {"data": str(data), "n": len(shared.rows), "scale_notes": outputs.notes}
    return _judged(entries, classifiers, shared, outputs.models, labels, notes, figures)


def _judged(
    entries: tuple[ModelEntry, ModelEntry],
    classifiers: Sequence[Classifier],
    shared: SharedCrops,
    outputs: Sequence[ModelOutputs],
    labels: Sequence[str],
    notes: list[str],
    figures: dict[str, Any],
) -> Promotion:
    coarsen = default_scheme().coarsen
    predicted = [
        project(shared, one.predictions.probabilities, classifier.classes, coarsen).argmax(axis=1)
        for one, classifier in zip(outputs, classifiers, strict=True)
    ]
    offered = {coarsen(name, shared.classes) for name in classifiers[0].classes}
    unknown = [name for name in shared.classes if name not in offered]
    verdicts = judge_classes(shared, predicted[1], predicted[0], unknown)
    overall = judge_overall(shared, predicted[1], predicted[0])
    if not overall["within_margin"]:
        notes.append(
            f"overall accuracy may be up to {-100 * overall['difference_ci95'][0]:.1f} points lower: "
            "evaluate more cells for a narrower interval."
        )
    figures |= {
        "new": _facts(entries[0], classifiers[0], outputs[0], shared, predicted[0]),
        "current": _facts(entries[1], classifiers[1], outputs[1], shared, predicted[1]),
        "new_classes": _new_classes(classifiers, outputs[0], labels),
        "not_judged": [row.name for row in verdicts if row.verdict == "not judged"],
        "rule": rule(),
    }
    promote = not overall["fell"] and all(row.verdict != "fell" for row in verdicts)
    text = reason(entries[0].name, verdicts, overall)
    return Promotion(promote, text, *entries, tuple(verdicts), overall, figures, tuple(notes))


def _facts(
    entry: ModelEntry,
    classifier: Classifier,
    outputs: ModelOutputs,
    shared: SharedCrops,
    predicted: np.ndarray,
) -> dict[str, Any]:
    """Figures of a model that are reported and do not influence the decision."""
    review = outputs.needs_review[shared.rows]
    right = predicted == shared.truth
    best = outputs.predictions.probabilities[shared.rows].max(axis=1)
    gap = binned_gaps(best, right, bins_of(best), np.ones((1, len(best))))[0][0]
    return {
        "name": entry.name,
        "path": str(entry.path),
        "origin": entry.origin,
        "weights_sha256": classifier.digest,
        "classes": list(classifier.classes),
        "ece": float(gap),
        "review_rate": float(review.mean()),
        "accuracy_not_reviewed": float(right[~review].mean()) if (~review).any() else None,
    }


def _new_classes(
    classifiers: Sequence[Classifier], outputs: ModelOutputs, labels: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Recall in classes that only the new model knows; it does not influence the decision."""
    coarsen = default_scheme().coarsen
    predicted = np.array(classifiers[0].classes)[outputs.predictions.probabilities.argmax(axis=1)]
    rows: dict[str, dict[str, Any]] = {}
    for name in classifiers[0].classes:
        if coarsen(name, classifiers[1].classes) in classifiers[1].classes:
            continue
        is_class = np.array([coarsen(label, (name,)) == name for label in labels])
        rows[name] = {
            "n": int(is_class.sum()),
            "recall_new": float((predicted[is_class] == name).mean()) if is_class.any() else None,
        }
    return rows


def promote(
    new: str,
    current: str | None,
    data: str | Path,
    out_dir: str | Path = ".",
    device: str = "auto",
    um_per_px: float | None = None,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> Promotion:
    """Decide, write ``promotion.json``, and make the new model the active one if it passes.

    Parameters
    ----------
    new, current, data, device, um_per_px, progress, cancel
        As for `iter_decide`.
    out_dir : path-like
        For ``promotion.json``.

    Returns
    -------
    Promotion
    """
    # A folder that cannot be written to is reported before the models are evaluated.
    make_folder(out_dir)
    decision = decide(new, current, data, device, um_per_px, progress, cancel)
    carry_out(decision, out_dir)
    return decision


def carry_out(decision: Promotion, out_dir: str | Path) -> str:
    """Write ``promotion.json`` into a folder, and make the new model the active one if it passes.

    Parameters
    ----------
    decision : Promotion
    out_dir : path-like

    Returns
    -------
    str
        Name of the model that is active now.
    """
    folder = make_folder(out_dir)
    active = activate(decision.new) if decision.promote else None
    name = active.name if active else active_classifier()
    record = decision.to_json() | {"active": name}
    text = json_text(record)
    atomic_text(folder / "promotion.json", text)
    if active is not None and active.origin == "user":
        atomic_text(active.path / "promotion.json", text)
    return name
