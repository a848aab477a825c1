"""One way of doing one task, in a process of its own, so that the peak of memory is its own: see `benchmarks.rivals`.

    python -m benchmarks.rival_ways WAY [--data FOLDER] [--small] [--array FILE.npy]

Prints JSON: ``seconds`` for one unit (a megapixel or a cell) when everything is loaded, ``memory_mb`` (the most that
the process took beyond the libraries, which are the same for all), and ``accuracy`` where there is a truth, or
``left_out`` with the reason.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import timm
import torch
from cellpose import models as cellpose_models
from cellpose.vit import CPSAM
from PIL import Image
from safetensors.torch import load_file
from sklearn.linear_model import LogisticRegression

from benchmarks.cyto_net import TILE, WIDTHS, CytoNet
from benchmarks.heatmaps import one_by_one
from napari_leukocls.analysis.engine import load_engine
from napari_leukocls.benchmark._images import leukocyte_crops
from napari_leukocls.classification.dataset import Dataset, read_dataset
from napari_leukocls.classification.labelled_crop import LabelledCrop
from napari_leukocls.classification.loading import load_classifier
from napari_leukocls.config import make_config
from napari_leukocls.evaluation.detection import mask_average_precision
from napari_leukocls.evaluation.predict import predict_models
from napari_leukocls.explanation import cam
from napari_leukocls.models.registry import find_model
from napari_leukocls.paths import sample_smear
from napari_leukocls.progress import CancelToken, drain
from napari_leukocls.segmentation.registry import compact, segmenter
from scripts.pack_crops import is_heldout

#: The bundled smear whose outlines are known, its pixel size, and the diameter of its red cells.
SMEAR_UM_PER_PX, RED_CELL_UM = 0.16, 7.5
#: Crops of each class that the timm loop learns from and that both are tested on.
TO_LEARN, TO_TEST = 40, 12
TIMM = "mobilenetv2_100"
TIMM_WEIGHTS = "weights/mobilenetv2_100_imagenet1001.safetensors"


def peak_mb() -> float:
    """Largest memory of this process so far, megabytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of a call, and what it returns."""
    start = time.perf_counter()
    found = work()
    return time.perf_counter() - start, found


def outlines(name: str, small: bool) -> dict[str, Any]:
    """Outline a bundled smear of known scale with a segmenter, and compare with what was drawn.

    Parameters
    ----------
    name : str
        Of the segmenter.
    small : bool
        A quarter of the smear.

    Returns
    -------
    dict
        ``accuracy`` is cellpose's average precision of masks at IoU 0.5.
    """
    path = sample_smear()
    pixels = np.asarray(Image.open(path).convert("RGB"))
    truth = tifffile.imread(path.with_name(f"{path.stem}_labels.tif"))
    if small:
        pixels, truth = pixels[:512, :512], truth[:512, :512]
    made = segmenter(name, "cpu")
    diameter = RED_CELL_UM / SMEAR_UM_PER_PX
    drain(made.segment(pixels[:256, :256], diameter))
    seconds, found = timed(lambda: drain(made.segment(pixels, diameter)))
    precision = mask_average_precision(found.labels, truth, [0.5])[0]
    return {"seconds": seconds / (pixels.size / 3e6), "accuracy": float(precision)}


def cpsam_outlines(small: bool) -> dict[str, Any]:
    """The same with cellpose's newest network, where its weights are on this computer."""
    for name in ("cpsam_v2", "cpsam"):
        if (Path(cellpose_models.MODEL_DIR) / name).is_file():
            return outlines(name, small)
    return {"left_out": "the weights of cpsam are not on this computer, and nothing is downloaded"}


def network(net: torch.nn.Module, channels: int, side: int, tiles: int) -> dict[str, Any]:
    """One network alone on tiles, per megapixel of what it sees."""
    batch = torch.rand(tiles, channels, side, side)
    with torch.inference_mode():
        net.eval()(batch)
        seconds, _ = timed(lambda: net(batch))
    return {"seconds": seconds / (tiles * side**2 / 1e6)}


def labelled(data: Path | None) -> tuple[list[LabelledCrop], list[LabelledCrop]] | str:
    """Crops of PBC to learn from, and held-out ones to test on; or why there are none."""
    if data is None or not (data / "pbc").is_dir() or not (data / TIMM_WEIGHTS).is_file():
        return "no labelled crops are given (--data, with the folders pbc and weights)"
    learn: list[LabelledCrop] = []
    test: list[LabelledCrop] = []
    known = find_model("default").card()["classes"]
    for folder in sorted(path for path in (data / "pbc").iterdir() if path.is_dir()):
        name = {"ig": "immature_granulocyte"}.get(folder.name, folder.name)
        crops = (
            [LabelledCrop(one.name, one, name) for one in sorted(folder.glob("*.jpg"))]
            if name in known
            else []
        )
        learn += [one for one in crops if not is_heldout(one.file)][:TO_LEARN]
        test += [one for one in crops if is_heldout(one.file)][:TO_TEST]
    return learn, test


def share_right(predicted: Sequence[str], dataset: Sequence[LabelledCrop]) -> float:
    """Share of crops that got their class."""
    return float(np.mean([name == crop.class_name for name, crop in zip(predicted, dataset, strict=True)]))


def classes_here(data: Path | None, small: bool) -> dict[str, Any]:
    """`default` from the files of crops to their classes, with scale and outlines as in an evaluation."""
    found = labelled(data)
    if isinstance(found, str):
        return {"left_out": found}
    test = found[1][:: 3 if small else 1]
    classifier, outliner = load_classifier(find_model("default").path, "cpu"), compact("cpu")

    def work(crops: Sequence[LabelledCrop]) -> tuple[Dataset, np.ndarray]:
        dataset = drain(read_dataset(crops))
        (outputs,) = drain(predict_models(dataset, [classifier], outliner, None, CancelToken())).models
        return dataset, outputs.predictions.probabilities.argmax(axis=1)

    work(test[:2])
    seconds, (dataset, rows) = timed(lambda: work(test))
    accuracy = share_right([classifier.classes[row] for row in rows], dataset.crops)
    return {"seconds": seconds / len(test), "accuracy": accuracy, "cells": len(test)}


def classes_timm(data: Path | None, small: bool) -> dict[str, Any]:
    """What a person would write with timm: images one by one, and a linear layer on the features of ImageNet."""
    found = labelled(data)
    if isinstance(found, str) or data is None:
        return {"left_out": str(found)}
    learn, test = found[0][:: 4 if small else 1], found[1][:: 3 if small else 1]
    net = timm.create_model(TIMM, num_classes=1001, pad_type="same")
    net.load_state_dict(load_file(data / TIMM_WEIGHTS))
    net.reset_classifier(0)
    net.eval()
    prepare = timm.data.create_transform((3, 224, 224), mean=(0.5,) * 3, std=(0.5,) * 3)

    def features(crops: Sequence[LabelledCrop]) -> np.ndarray:
        with torch.inference_mode():
            return np.concatenate(
                [net(prepare(Image.open(one.path).convert("RGB"))[None]).numpy() for one in crops]
            )

    head = LogisticRegression(C=0.1, max_iter=2000).fit(features(learn), [one.class_name for one in learn])
    seconds, given = timed(lambda: head.predict(features(test)))
    return {"seconds": seconds / len(test), "accuracy": share_right(list(given), test), "cells": len(test)}


def heatmaps(mine: bool, small: bool, array: Path | None) -> dict[str, Any]:
    """Heatmaps of `default`, by this program or by a loop over pytorch-grad-cam; the maps are kept to be compared."""
    classifier = load_classifier(find_model("default").path, "cpu")
    method = cam.default_method(classifier.card)
    crops = leukocyte_crops(load_engine(make_config(device="cpu")), 8 if small else 32)
    targets = classifier.predict(crops).probabilities.argmax(axis=1)
    draw = cam.heatmaps if mine else one_by_one
    draw(classifier, crops[:2], targets[:2], method)
    seconds, maps = timed(lambda: draw(classifier, crops, targets, method))
    if array is not None:
        np.save(array, maps)
    return {"seconds": seconds / len(crops)}


def do(way: str, data: Path | None, small: bool, array: Path | None) -> dict[str, Any]:
    """Do one way."""
    ways: dict[str, Callable[[], dict[str, Any]]] = {
        "outlines_compact": lambda: outlines("compact", small),
        "outlines_watershed": lambda: outlines("threshold", small),
        "outlines_cpsam": lambda: cpsam_outlines(small),
        "network_compact": lambda: network(compact("cpu").net, 3, 256, 4),
        "network_cyto": lambda: network(CytoNet(), WIDTHS[0], TILE, 4),
        "network_cpsam": lambda: network(CPSAM(dtype=torch.float32), 3, 256, 1),
        "classes_default": lambda: classes_here(data, small),
        "classes_timm": lambda: classes_timm(data, small),
        "heatmaps_here": lambda: heatmaps(True, small, array),
        "heatmaps_gradcam": lambda: heatmaps(False, small, array),
    }
    libraries = peak_mb()
    found = ways[way]()
    return found if "left_out" in found else found | {"memory_mb": round(peak_mb() - libraries)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("way")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--array", type=Path)
    args = parser.parse_args()
    print(json.dumps(do(args.way, args.data, args.small, args.array)))


if __name__ == "__main__":
    main()
