"""Pruned and quantised models: written, loaded, and compared with what they were made of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from crops_for_training import make_crops, settings, train

from napari_leukocls.classification.loading import load_classifier
from napari_leukocls.cli.models import models
from napari_leukocls.errors import ModelError
from napari_leukocls.exchange import compression
from napari_leukocls.progress import drain


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_crops(tmp_path_factory.mktemp("compression") / "crops", each=14)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    from napari_leukocls.evaluation import speed

    monkeypatch.setattr(speed, "BUDGET_S", 0.3)
    monkeypatch.setattr(speed, "BATCHES", (1, 4))
    monkeypatch.setattr(compression, "BATCHES", (1, 4))


def test_eight_bits_are_smaller_and_nearly_as_right(data: Path, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    model, _ = train(settings(data, tmp_path / "out", epochs=4, near_duplicates=False))
    file = tmp_path / "small.onnx"
    words = ["quantise", str(model), "--data", str(model / "split.csv"), "--out", str(file)]
    shown = CliRunner().invoke(models, words, catch_exceptions=False).output
    assert "onnx_int8" in shown and "not of the test part" in shown
    result = drain(compression.iter_quantise(str(model), model / "split.csv", file, budget_s=0.3))
    rows = {row["name"]: row for row in result["rows"]}
    assert rows["onnx_int8"]["mb"] < 0.6 * rows["onnx"]["mb"]
    assert rows["onnx"]["agreement"] == 1 and rows["onnx_int8"]["agreement"] >= 0.6
    assert all(row["ms_batch1"] > 0 for row in rows.values())
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    kinds = {node.op_type for node in __import__("onnx").load(str(file)).graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds
    classifier = load_classifier(model, "cpu")
    crops = np.random.default_rng(0).integers(0, 255, (4, 32, 32, 3), dtype=np.uint8)
    (given,) = session.run(None, {"crops": crops.transpose(0, 3, 1, 2).astype(np.float32)})
    assert given.shape == (4, len(classifier.classes)) and np.allclose(given.sum(1), 1, atol=1e-3)


def test_a_pruned_hybrid_is_a_model_of_its_own(data: Path, tmp_path: Path) -> None:
    config = settings(data, tmp_path / "out", arch="customcnn_vit", epochs=1, batch_size=16)
    model, _ = train(config)
    out = tmp_path / "pruned" / "smaller"
    result = drain(compression.iter_prune(str(model), data, out, blocks=1, heads=3, budget_s=0.3))
    assert result["arguments"] == {"heads": [5]}
    before, after = result["models"]
    assert after["parameters"] < before["parameters"] and after["mb"] < before["mb"]
    again = load_classifier(out, "cpu")
    assert again.card.arguments["heads"] == [5] and "Pruned of made" in again.card.known_limits[-1]
    assert (tmp_path / "pruned" / "comparison" / "report.html").is_file()


def test_what_cannot_be_pruned_is_refused(data: Path, tmp_path: Path) -> None:
    model, _ = train(settings(data, tmp_path / "out", epochs=1))
    with pytest.raises(ModelError, match="only the hybrids"):
        drain(compression.iter_prune(str(model), data, tmp_path / "x" / "less", heads=1))
    with pytest.raises(ModelError, match="nothing is to be removed"):
        drain(compression.iter_prune(str(model), data, tmp_path / "x" / "less"))
