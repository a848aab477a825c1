"""A reproduction from data to report, step by step; steps that are done are not done again."""

from __future__ import annotations

import json
import time
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from napari_leukocls.analysis.engine import cached_classifier
from napari_leukocls.classification.dataset import list_crops
from napari_leukocls.classification.labelled_crop import LabelledCrop
from napari_leukocls.classification.single_cell import cut_labelled
from napari_leukocls.device import resolve_device
from napari_leukocls.errors import InputError, LeukoclsError, ModelError
from napari_leukocls.evaluation.compare import iter_compare
from napari_leukocls.evaluation.predict import assess
from napari_leukocls.evaluation.report import KINDS, write_evaluation, write_figures
from napari_leukocls.explanation import cam
from napari_leukocls.explanation.samples import make_samples, occlusion_figure, randomisation_figure
from napari_leukocls.io.atomic import make_folder
from napari_leukocls.io.serialise import sha256_of, write_json
from napari_leukocls.models.card import read_card
from napari_leukocls.models.crop_rule import CropRule
from napari_leukocls.models.registry import CARD_NAME, WEIGHTS_NAME
from napari_leukocls.progress import CancelToken, Progress, Steps
from napari_leukocls.reproduction import crops
from napari_leukocls.reproduction.papers import paper
from napari_leukocls.reproduction.plan import Run, Settings, fingerprint, runs
from napari_leukocls.reproduction.report import augmentation_figure, write_report
from napari_leukocls.scheme import default_scheme
from napari_leukocls.segmentation.registry import compact
from napari_leukocls.training.events import LAST, TrainEvent
from napari_leukocls.training.process import TrainProcess
from napari_leukocls.training.run import iter_train

#: Cells that are explained with each network, and in a quick reproduction.
EXPLAINED, QUICK_EXPLAINED = 12, 3
#: Training crops that are shown as the training varies them.
VARIED_CROPS = 5
#: Batch sizes that a quick reproduction times, and seconds that this may take.
QUICK_BATCHES, QUICK_BUDGET_S = (1, 8), 5.0
#: Kinds of files of a quick reproduction's figures.
QUICK_KINDS = ("png",)
#: Seconds between two looks at a training's process.
PAUSE_S = 0.2


def iter_reproduce(settings: Settings, cancel: CancelToken | None = None) -> Steps[dict[str, Any]]:
    """Train, measure, compare and explain the networks of a paper, and write its tables beside ours.

    The same settings go on where an earlier call stopped.

    Parameters
    ----------
    settings : Settings
    cancel : CancelToken, optional

    Yields
    ------
    Progress

    Returns
    -------
    dict
        As ``summary.json``: ``rows`` of the tables, ``notes``, and the ``report``.

    Raises
    ------
    InputError
        If the data is not what the paper needs, or the folder holds another reproduction.
    LeukoclsError
        If a training fails.
    """
    token = cancel or CancelToken()
    of = paper(settings.paper)
    out = make_folder(settings.out)
    table = out / crops.FILE
    made = runs(settings, table)
    _agree(out, fingerprint(settings, made))
    yield Progress("data", 0, 1)
    if not table.is_file():
        _, name, notes = yield from crops.prepare(of, settings.data, made[0].config, out, settings.quick)
        write_json(out / "data.json", {"set": name, "notes": notes})
    data: dict[str, Any] = json.loads((out / "data.json").read_text(encoding="utf-8"))
    for run in made:
        token.check()
        yield from iter_trained(run, settings.own_process, token)
    device = resolve_device(settings.device)
    kinds = QUICK_KINDS if settings.quick else KINDS
    for run in made:
        yield from iter_evaluated(model_of(run), table, out / "evaluations" / run.name, device, token, kinds)
        if settings.external:
            folder = out / "external" / run.name
            yield from iter_evaluated(model_of(run), Path(settings.external), folder, device, token, kinds)
    yield from _compared(made, table, out / "comparison", settings, token)
    lost = []
    for number, run in enumerate(made):
        token.check()
        yield Progress("explain", number, len(made), run.name)
        lost += _explained(run, table, out / "explanations" / run.name, device, settings.quick)
    _show_variations(made[0], table, out / "figures", kinds)
    yield Progress("report", 0, 1)
    return write_report(settings, of, [run.name for run in made], data["set"], [*data["notes"], *lost])


def model_of(run: Run) -> Path:
    """Return the folder of a training's model.

    Parameters
    ----------
    run : Run

    Returns
    -------
    Path
    """
    return Path(run.config.out) / run.config.model_name


def _agree(out: Path, asked: Mapping[str, Any]) -> None:
    """Refuse a folder of another reproduction: its parts would not belong together."""
    file = out / "plan.json"
    # Before the crops are divided nothing is done: a command that was refused may be given again with another option.
    if not file.is_file() or not (out / crops.FILE).is_file():
        write_json(file, dict(asked))
        return
    there = json.loads(file.read_text(encoding="utf-8"))
    plain = json.loads(json.dumps(asked))
    different = [name for name in plain if there.get(name) != plain[name]]
    if different:
        raise InputError(
            f"{out} holds a reproduction with other settings ({', '.join(different)}): give the same command, or "
            "another folder."
        )


def iter_trained(run: Run, own_process: bool, token: CancelToken) -> Generator[Progress, None, None]:
    """Train a network unless its model is there; an interrupted training goes on from its checkpoint.

    Parameters
    ----------
    run : Run
    own_process : bool
        Train in a process of its own.
    token : CancelToken

    Yields
    ------
    Progress

    Raises
    ------
    LeukoclsError
        If the training fails.
    """
    if (model_of(run) / CARD_NAME).is_file():
        return
    events = _in_process(run, token) if own_process else iter_train(run.config, token)
    last: TrainEvent | None = None
    for event in events:
        last = event
        if event.kind == "progress":
            yield Progress(event.data["stage"], event.data["done"], event.data["total"], run.name)
        elif event.kind == "epoch":
            words = f"{run.name}: validation macro-F1 {event.data['val_macro_f1']:.4f}"
            yield Progress("train", event.data["epoch"], event.data["epochs"], words)
    if last is None or last.kind not in ("finished", "stopped"):
        why = last.data.get("message", "") if last is not None else ""
        raise LeukoclsError(f"the training of {run.name} failed: {why}")


def _in_process(run: Run, token: CancelToken) -> Generator[TrainEvent, None, None]:
    process = TrainProcess(run.config)
    process.start()
    try:
        ended = False
        while not ended:
            token.check()
            for event in process.poll():
                ended = ended or event.kind in LAST
                yield event
            time.sleep(0 if ended else PAUSE_S)
    finally:
        # Its last checkpoint stays: the same command goes on from it.
        process.kill()


def iter_evaluated(
    model: Path,
    data: Path,
    folder: Path,
    device: str,
    token: CancelToken,
    kinds: Sequence[str] = KINDS,
) -> Generator[Progress, None, None]:
    """Evaluate a model unless the report of these weights is there.

    Parameters
    ----------
    model : Path
        Folder of the model.
    data : Path
        Labelled crops.
    folder : Path
        For the files of the evaluation.
    device : str
    token : CancelToken
    kinds : sequence of str
        Of the figures' files.

    Yields
    ------
    Progress
    """
    if _is_evaluated(model, folder):
        return
    table, metrics, details = yield from assess(str(model), data, device, None, token)
    write_evaluation(folder, table, metrics, details, kinds)


def _is_evaluated(model: Path, folder: Path) -> bool:
    """Whether a folder has the whole report of a model as it is now."""
    if not (folder / "report.html").is_file():
        return False
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    same: bool = metrics["weights_sha256"] == sha256_of(model / WEIGHTS_NAME)
    return same


def _compared(
    made: Sequence[Run], table: Path, folder: Path, settings: Settings, token: CancelToken
) -> Generator[Progress, None, None]:
    if (folder / "report.html").is_file():
        return
    batches, budget = (QUICK_BATCHES, QUICK_BUDGET_S) if settings.quick else (None, None)
    models = [str(model_of(run)) for run in made]
    yield from iter_compare(
        models, table, folder, settings.device, cancel=token, batches=batches, budget_s=budget
    )


def _explained(run: Run, table: Path, folder: Path, device: str, quick: bool) -> list[str]:
    """Draw the maps of some test crops, the same for each network; a note where that is not possible."""
    if (folder / "samples.json").is_file():
        return []
    classifier = cached_classifier(model_of(run), device)
    some = _some_crops(table, "test", QUICK_EXPLAINED if quick else EXPLAINED)
    pixels = _pixels(some, classifier.card.crop, device)
    try:
        samples = make_samples(classifier, pixels, cam.default_method(classifier.card))
    except ModelError as error:
        return [f"{run.name} is not explained: {error}"]
    make_folder(folder)
    figures = {
        "randomisation": randomisation_figure(samples, run.name),
        "occlusion": occlusion_figure(samples, run.name),
    }
    write_figures(folder, figures, {}, QUICK_KINDS if quick else KINDS)
    names = np.array(samples.classes, dtype=np.str_)
    np.savez_compressed(folder / "maps.npz", crops=samples.crops, maps=samples.maps, classes=names)
    true, files = [crop.class_name for crop in some], [crop.file for crop in some]
    write_json(folder / "samples.json", {**samples.figures(), "files": files, "true": true})
    return []


def _show_variations(run: Run, table: Path, folder: Path, kinds: Sequence[str]) -> None:
    """Draw some training crops, and what the training makes of them."""
    if (folder / "augmentation.png").is_file():
        return
    some = _some_crops(table, "train", VARIED_CROPS)
    pixels = _pixels(some, read_card(model_of(run)).crop, "cpu")
    figure = augmentation_figure(pixels, [crop.class_name for crop in some], run.config)
    write_figures(make_folder(folder), {"augmentation": figure}, {}, kinds)


def _some_crops(table: Path, part: str, count: int) -> list[LabelledCrop]:
    """Crops of a part, of the classes in turn."""
    every = [crop for crop in list_crops(table, default_scheme()) if crop.split == part]
    return [every[row] for row in _of_each_class([crop.class_name for crop in every], count)]


def _pixels(crops: Sequence[LabelledCrop], rule: CropRule, device: str) -> np.ndarray:
    segmenter = compact(device)
    return np.stack([cut_labelled(crop, float("nan"), segmenter, rule).crop for crop in crops])


def _of_each_class(names: Sequence[str], count: int) -> list[int]:
    """Rows of the classes in turn, as many as are asked for."""
    waiting = {name: [row for row, other in enumerate(names) if other == name] for name in sorted(set(names))}
    chosen: list[int] = []
    while len(chosen) < count and any(waiting.values()):
        chosen += [rows.pop(0) for rows in waiting.values() if rows]
    return chosen[:count]
