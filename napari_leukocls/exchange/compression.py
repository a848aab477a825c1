"""Smaller models: hybrids without the heads that contribute least, and networks in eight bits.

What either costs in accuracy, and gains in size and speed, is measured on labelled crops in the same call.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from sklearn.metrics import f1_score

from napari_leukocls.architectures.papers.pruning import prune
from napari_leukocls.classification.classifier import join_kinds
from napari_leukocls.classification.dataset import list_crops, read_dataset, truth_of
from napari_leukocls.classification.loading import load_classifier
from napari_leukocls.errors import InputError, ModelError
from napari_leukocls.evaluation.compare import iter_compare
from napari_leukocls.evaluation.predict import cut_all, read_crops
from napari_leukocls.evaluation.speed import Speed, measure_speed
from napari_leukocls.exchange.onnx import write_onnx
from napari_leukocls.io.atomic import atomic_bytes
from napari_leukocls.models.card import make_card
from napari_leukocls.models.install import check_model_name, write_model
from napari_leukocls.models.registry import find_model
from napari_leukocls.models.weights import OOD_PREFIX
from napari_leukocls.progress import CancelToken, Progress, Steps
from napari_leukocls.scheme import default_scheme
from napari_leukocls.segmentation.registry import compact
from napari_leukocls.types import Predictions

if TYPE_CHECKING:
    from napari_leukocls.classification.classifier import Classifier
    from napari_leukocls.classification.dataset import Dataset

#: Crops by which the ranges of activations are found.
CALIBRATION = 128
#: Crops on which attention is measured.
ATTENTION = 64
#: Operations that are done in eight bits; the input's normalisation and the probabilities stay in floating point.
OPERATIONS = (
    *(
        "Conv",
        "Gemm",
        "MatMul",
        "Add",
        "Relu",
        "Clip",
        "MaxPool",
        "AveragePool",
        "GlobalAveragePool",
        "Concat",
    ),
)
#: Batch sizes that are timed.
BATCHES = (1, 8, 32)
#: Loss of accuracy, in points, from which on a line warns of it.
LOSS_POINTS = 1.0

Ask = Callable[[np.ndarray], np.ndarray]


def iter_prune(
    model: str,
    data: str | Path,
    out: str | Path,
    blocks: int = 0,
    heads: int = 0,
    device: str = "cpu",
    budget_s: float | None = None,
) -> Steps[dict[str, Any]]:
    """Write a hybrid without the blocks and heads of least contribution, and compare it with the whole one.

    Parameters
    ----------
    model : str
        Name or folder.
    data : path-like
        Labelled crops. Attention is measured on some of them, and the comparison is made on them; of a table with a
        column ``split``, on its test part.
    out : path-like
        Folder of the new model; the comparison is written beside it, in ``comparison``.
    blocks, heads : int
        How many are removed.
    device : str
    budget_s : float, optional
        Seconds for the timing.

    Yields
    ------
    Progress

    Returns
    -------
    dict
        As ``compare.json``, with the ``model`` (the new folder) and its ``arguments``.

    Raises
    ------
    ModelError
        If the model is no hybrid, or more is to be removed than there is.
    """
    entry = find_model(model)
    classifier = load_classifier(entry.path, "cpu")
    target = Path(out)
    check_model_name(target.name)
    if not blocks and not heads:
        raise ModelError("nothing is to be removed: say how many blocks or heads.")
    dataset = yield from read_crops(data)
    rule = classifier.card.crop
    rows = np.unique(np.linspace(0, len(dataset) - 1, ATTENTION).astype(int))
    crops, _ = yield from cut_all(dataset.keep(rows.tolist(), []), rule, compact("cpu"), None, CancelToken())
    yield Progress("prune", 0, 1)
    net, arguments = prune(classifier.net, classifier.tensor(crops), blocks=blocks, heads=heads)
    values = classifier.card.model_dump(exclude={"weights_sha256", "validation", "test", "confusion_matrix"})
    values |= {
        "name": target.name,
        "arguments": {**classifier.card.arguments, **arguments},
        "explanation_checks": None,
        "known_limits": [
            *classifier.card.known_limits,
            f"Pruned of {classifier.card.name}: {blocks} blocks and {heads} heads fewer; temperature, review threshold "
            "and out-of-distribution score are those of the whole network.",
        ],
    }
    tensors = {**net.state_dict()}
    tensors |= {
        f"{OOD_PREFIX}{name}": torch.from_numpy(value) for name, value in classifier.ood_tensors.items()
    }
    write_model(target, make_card(values, f"of {target.name}"), tensors)
    beside = target.parent / "comparison"
    result = yield from iter_compare([str(entry.path), str(target)], data, beside, device, budget_s=budget_s)
    return {**result, "model": str(target), "arguments": arguments}


def iter_quantise(
    model: str,
    data: str | Path,
    path: str | Path,
    budget_s: float | None = None,
) -> Steps[dict[str, Any]]:
    """Write a model in eight bits as ONNX, and compare it with floating point, in torch and in ONNX Runtime.

    Weights and activations are quantised after the training (QDQ format). The ranges of activations are those of some
    crops that are not of the test part, or of the same crops if the data names no parts; their classes are not used.

    Parameters
    ----------
    model : str
        Name or folder.
    data : path-like
        Labelled crops.
    path : path-like
        Of the ONNX file.
    budget_s : float, optional
        Seconds for the timing.

    Yields
    ------
    Progress

    Returns
    -------
    dict
        ``n``, ``path``, ``ranges_of`` (on which crops the ranges were found), ``warning`` (empty if little accuracy
        is lost), and ``rows``: ``torch``, ``onnx`` and
        ``onnx_int8`` with ``accuracy``, ``macro_f1``, ``agreement`` (with torch), ``mb``, ``ms_batch1`` and
        ``ms_best``.

    Raises
    ------
    ModelError
        If a library is missing, or the architecture cannot be exported.
    """
    entry = find_model(model)
    classifier = load_classifier(entry.path, "cpu")
    runtime, quantization = _libraries()
    token = CancelToken()
    dataset = yield from read_crops(data)
    crops, kinds = yield from cut_all(dataset, classifier.card.crop, compact("cpu"), None, token)
    others = yield from _others(data)
    ranges, where = crops, "the same crops"
    if len(others):
        where = "crops that are not of the test part"
        ranges, _ = yield from cut_all(others, classifier.card.crop, compact("cpu"), None, token)
    truth = np.array(truth_of(dataset, classifier.classes))
    if not np.isin(truth, classifier.classes).any():
        raise InputError("no crop is of a class that the model knows: give other data.")
    with tempfile.TemporaryDirectory(prefix="leukocls-quantise-") as scratch:
        files = {"onnx": Path(scratch) / "float.onnx", "onnx_int8": Path(scratch) / "int8.onnx"}
        yield Progress("export", 0, 1)
        write_onnx(classifier, files["onnx"])
        yield Progress("quantise", 0, 1)
        _quantise(files["onnx"], files["onnx_int8"], ranges, quantization)
        asks: dict[str, Ask] = {"torch": lambda some: classifier.predict(some, 32).probabilities}
        asks |= {name: _session(file, runtime) for name, file in files.items()}
        yield Progress("time", 0, 1)
        speeds = _timed(asks, crops, budget_s)
        sizes = {
            "torch": entry.weights.stat().st_size,
            **{name: file.stat().st_size for name, file in files.items()},
        }
        rows = _rows(asks, classifier, crops, kinds, truth, speeds, sizes)
        atomic_bytes(Path(path), files["onnx_int8"].read_bytes())
    lost = 100 * (rows[0]["accuracy"] - rows[-1]["accuracy"])
    warning = f"eight bits cost {lost:.1f} points of accuracy." if lost >= LOSS_POINTS else ""
    return {"n": len(truth), "path": str(path), "ranges_of": where, "warning": warning, "rows": rows}


def _others(data: str | Path) -> Steps[Dataset]:
    """Some crops of the parts that are not the test part; none if the data names no parts."""
    crops = [crop for crop in list_crops(data, default_scheme()) if crop.split in ("train", "validation")]
    rows: list[int] = (
        np.unique(np.linspace(0, len(crops) - 1, CALIBRATION).astype(int)).tolist() if crops else []
    )
    return (yield from read_dataset([crops[row] for row in rows]))


def _libraries() -> tuple[Any, Any]:
    try:
        import onnxruntime
        from onnxruntime import quantization
    except ImportError as error:
        raise ModelError(
            f"eight bits need {error.name}: install napari-leukocls[onnx] (pip or uv)."
        ) from error
    return onnxruntime, quantization


def _quantise(source: Path, target: Path, crops: np.ndarray, quantization: Any) -> None:
    """Quantise a network, with the ranges that activations have on some crops."""
    rows = np.unique(np.linspace(0, len(crops) - 1, CALIBRATION).astype(int))
    batches: Iterator[dict[str, np.ndarray]] = iter(
        [{"crops": _as_input(crops[some])} for some in np.array_split(rows, max(1, len(rows) // 8))]
    )

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(batches, None)

    prepared = source.with_name("prepared.onnx")
    before = logging.root.manager.disable
    # The library warns of each bias that is not stored as one, which does not concern the user.
    logging.disable(logging.WARNING)
    try:
        quantization.shape_inference.quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        quantization.quantize_static(
            str(prepared),
            str(target),
            Reader(),
            op_types_to_quantize=list(OPERATIONS),
            quant_format=quantization.QuantFormat.QDQ,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            per_channel=True,
            # Processors without VNNI add products of eight bits in sixteen, which overflow with the whole range.
            reduce_range=True,
        )
    finally:
        logging.disable(before)


def _as_input(crops: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(crops.transpose(0, 3, 1, 2)).astype(np.float32)


def _session(file: Path, runtime: Any) -> Ask:
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = runtime.InferenceSession(file.read_bytes(), options, providers=["CPUExecutionProvider"])

    def ask(crops: np.ndarray) -> np.ndarray:
        parts = [
            session.run(None, {"crops": _as_input(crops[at : at + 32])})[0] for at in range(0, len(crops), 32)
        ]
        return np.concatenate(parts)

    return ask


def _timed(asks: dict[str, Ask], crops: np.ndarray, budget_s: float | None) -> dict[str, Speed]:
    def work(ask: Ask) -> Callable[[int, int], object]:
        return lambda batch, turn: ask(crops[np.arange(turn * batch, (turn + 1) * batch) % len(crops)])

    return measure_speed({name: work(ask) for name, ask in asks.items()}, BATCHES, budget_s=budget_s)


def _rows(
    asks: dict[str, Ask],
    classifier: Classifier,
    crops: np.ndarray,
    kinds: np.ndarray,
    truth: np.ndarray,
    speeds: dict[str, Speed],
    sizes: dict[str, int],
) -> list[dict[str, Any]]:
    classes = np.array(classifier.classes)
    known = np.isin(truth, classes)
    rows: list[dict[str, Any]] = []
    first: np.ndarray | None = None
    for name, ask in asks.items():
        scores = ask(crops).astype(np.float32)
        plain = Predictions(classifier.classes, scores, np.zeros(len(scores), np.float32), np.inf)
        guess = classes[join_kinds(plain, kinds).probabilities.argmax(axis=1)]
        first = guess if first is None else first
        rows.append(
            {
                "name": name,
                "accuracy": float((guess == truth)[known].mean()),
                "macro_f1": float(f1_score(truth[known], guess[known], average="macro", zero_division=0)),
                "agreement": float((guess == first).mean()),
                "mb": sizes[name] / 1e6,
                "ms_batch1": speeds[name].single.ms,
                "ms_best": speeds[name].best.ms,
                "best_batch": speeds[name].best.batch,
            }
        )
    return rows
