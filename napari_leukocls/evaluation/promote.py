"""The promotion gate: a new model replaces the current one unless a class's recall falls by more than chance.

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
from napari_leukocls.evaluation.shared_classes import ground_of, project
from napari_leukocls.io.atomic import atomic_text, make_folder
from napari_leukocls.io.serialise import json_text, to_plain
from napari_leukocls.models.install import activate
from napari_leukocls.models.provenance import refuse_seen, seen_files
from napari_leukocls.models.registry import ModelEntry, active_classifier, find_model
from napari_leukocls.progress import CancelToken, Progress, ProgressCallback, drain
from napari_leukocls.scheme import default_scheme
from napari_leukocls.segmentation.registry import compact

if TYPE_CHECKING:
    from napari_leukocls.classification.classifier import Classifier
    from napari_leukocls.classification.dataset import Dataset
    from napari_leukocls.evaluation.gate import ClassVerdict
    from napari_leukocls.evaluation.predict import Seen
    from napari_leukocls.evaluation.shared_classes import Ground

#: Fewest cells of the largest class with which the gate can say no at all.
MIN_CELLS = 3


@dataclass(frozen=True)
class Promotion:
    """What the gate says.

    Attributes
    ----------
    promote : bool
    reason : str
        One line.
    new, current : ModelEntry
    classes : tuple of ClassVerdict
        Of the current model.
    overall : dict
        Accuracy over all cells.
    figures : dict
        The rest of ``promotion.json``: models, data, calibration and review of both, new classes, the rule.
    notes : tuple of str
        What to know besides; one line each.
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
        """As ``promotion.json``."""
        return to_plain(
            {
                "promote": self.promote,
                "reason": self.reason,
                **self.figures,
                "per_class": {row.name: row.as_dict() for row in self.classes},
                "overall": self.overall,
                "notes": list(self.notes),
            }
        )


def decide(
    new: str,
    current: str | None,
    data: str | Path,
    device: str = "auto",
    um_per_px: float | None = None,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> Promotion:
    """Do what `iter_decide` does, in one go."""
    return drain(iter_decide(new, current, data, device, um_per_px, cancel), progress)


def iter_decide(
    new: str,
    current: str | None,
    data: str | Path,
    device: str = "auto",
    um_per_px: float | None = None,
    cancel: CancelToken | None = None,
) -> Generator[Progress, None, Promotion]:
    """Show both models the same cells and judge every class; nothing is written.

    Parameters
    ----------
    new : str
        Name or folder of a model.
    current : str or None
        Name or folder of the model that it is to replace; by default the active one.
    data : path-like
        Labelled crops that the new model was not trained on; of a CSV with a column ``split`` those of the
        test part alone.
    device : str
    um_per_px : float, optional
        Of crops whose row does not say it.
    cancel : CancelToken, optional

    Yields
    ------
    Progress

    Raises
    ------
    InputError
        Where the new model was trained on some of the crops, or there are too few.
    """
    entries = (find_model(new), find_model(current or active_classifier()))
    place = resolve_device(device)
    classifiers = [cached_classifier(entry.path, place) for entry in entries]
    yield Progress("read", 0, 1, "reading the crops")
    dataset = yield from read_crops(data)
    notes = refuse_seen(entries[0], dataset.crops)
    notes += _fairness(entries[1], dataset)
    coarsen = default_scheme().coarsen
    labels = [crop.class_name for crop in dataset.crops]
    ground = ground_of(labels, classifiers[1].classes, coarsen)
    most = max((ground.count(place) for place in range(len(ground.classes))), default=0)
    if most < MIN_CELLS:
        raise InputError(
            f"no class of '{entries[1].name}' has {MIN_CELLS} cells in {data}: nothing can be judged; "
            "give more."
        )
    looks = yield from predict_models(
        dataset, classifiers, compact(place), um_per_px, cancel or CancelToken()
    )
    if dataset.skipped:
        notes.append(f"{len(dataset.skipped)} files could not be read and were skipped.")
    figures = {"data": str(data), "n": len(ground.rows), "scale_notes": looks.notes}
    return _judged(entries, classifiers, ground, looks.seen, labels, notes, figures)


def _judged(
    entries: tuple[ModelEntry, ModelEntry],
    classifiers: Sequence[Classifier],
    ground: Ground,
    seen: Sequence[Seen],
    labels: Sequence[str],
    notes: list[str],
    figures: dict[str, Any],
) -> Promotion:
    coarsen = default_scheme().coarsen
    said = [
        project(ground, one.predictions.probabilities, classifier.classes, coarsen).argmax(axis=1)
        for one, classifier in zip(seen, classifiers, strict=True)
    ]
    offered = {coarsen(name, ground.classes) for name in classifiers[0].classes}
    unknown = [name for name in ground.classes if name not in offered]
    verdicts = judge_classes(ground, said[1], said[0], unknown)
    overall = judge_overall(ground, said[1], said[0])
    if not overall["within_margin"]:
        notes.append(
            f"overall accuracy may be up to {-100 * overall['difference_ci95'][0]:.1f} points lower: "
            "more cells would tell."
        )
    figures |= {
        "new": _facts(entries[0], classifiers[0], seen[0], ground, said[0]),
        "current": _facts(entries[1], classifiers[1], seen[1], ground, said[1]),
        "new_classes": _new_classes(classifiers, seen[0], labels),
        "not_judged": [row.name for row in verdicts if row.verdict == "not judged"],
        "rule": rule(),
    }
    promote = not overall["fell"] and all(row.verdict != "fell" for row in verdicts)
    text = reason(entries[0].name, verdicts, overall)
    return Promotion(promote, text, *entries, tuple(verdicts), overall, figures, tuple(notes))


def _facts(
    entry: ModelEntry, classifier: Classifier, seen: Seen, ground: Ground, said: np.ndarray
) -> dict[str, Any]:
    """What is shown of a model beside its recalls; it does not decide."""
    review = seen.needs_review[ground.rows]
    right = said == ground.truth
    best = seen.predictions.probabilities[ground.rows].max(axis=1)
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
    classifiers: Sequence[Classifier], seen: Seen, labels: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Recall in classes that only the new model knows; they do not decide."""
    coarsen = default_scheme().coarsen
    said = np.array(classifiers[0].classes)[seen.predictions.probabilities.argmax(axis=1)]
    rows: dict[str, dict[str, Any]] = {}
    for name in classifiers[0].classes:
        if coarsen(name, classifiers[1].classes) in classifiers[1].classes:
            continue
        mine = np.array([coarsen(label, (name,)) == name for label in labels])
        rows[name] = {
            "n": int(mine.sum()),
            "recall_new": float((said[mine] == name).mean()) if mine.any() else None,
        }
    return rows


def _fairness(current: ModelEntry, dataset: Dataset) -> list[str]:
    """Say where the current model has an unfair advantage: it was trained on these crops."""
    files, _ = seen_files(current, dataset.crops)
    if not files:
        return []
    return [f"'{current.name}' was trained on {len(files)} of these crops: it looks better than it is."]


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
    """Decide, write ``promotion.json``, and on yes make the new model the active one.

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
    # A folder that cannot be written to is said before the work.
    make_folder(out_dir)
    decision = decide(new, current, data, device, um_per_px, progress, cancel)
    carry_out(decision, out_dir)
    return decision


def carry_out(decision: Promotion, out_dir: str | Path) -> str:
    """Write ``promotion.json`` into a folder, and on yes make the new model the active one.

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
