"""Models in from other programs' files, and out to them."""

from __future__ import annotations

import gc
import json
import pickle
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_leukocls.cli import main
from napari_leukocls.errors import ArgumentError, ModelError, OutputError
from napari_leukocls.exchange import ImportSettings, export_model, import_model
from napari_leukocls.models.crop_rule import CropRule
from napari_leukocls.models.registry import find_model

CLASSES = ("neutrophil", "lymphocyte", "other, odd")


@pytest.fixture(autouse=True)
def own_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LEUKOCLS_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
def network() -> Any:
    import torch

    from napari_leukocls import architectures

    torch.manual_seed(0)
    return architectures.create("resnet18", len(CLASSES)).eval()


SETTINGS = ImportSettings("resnet18", CLASSES, {}, side_px=64)


def save_torch(content: Any, path: Path) -> Path:
    import torch

    torch.save(content, path)
    return path


@pytest.mark.parametrize("wrap", ["plain", "state_dict", "module."])
def test_a_torch_state_dict_predicts_as_its_network(wrap: str, network: Any, tmp_path: Path) -> None:
    import torch

    from napari_leukocls.classification.loading import load_classifier

    state = network.state_dict()
    if wrap == "module.":
        state = {f"module.{key}": value for key, value in state.items()}
    content = {"state_dict": state, "epoch": 3} if wrap == "state_dict" else state
    folder = import_model(save_torch(content, tmp_path / "net.pth"), "mine", SETTINGS)
    classifier = load_classifier(find_model("mine").path, "cpu")
    crops = np.random.default_rng(0).integers(0, 255, (2, 64, 64, 3), dtype=np.uint8)
    with torch.no_grad():
        wanted = network(classifier.tensor(crops)).softmax(1).numpy()
    assert folder.name == "mine" and classifier.classes == CLASSES
    assert np.allclose(classifier.predict(crops).probabilities, wanted, atol=1e-5)


def test_safetensors_are_imported(network: Any, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file(network.state_dict(), tmp_path / "net.safetensors")
    assert import_model(tmp_path / "net.safetensors", None, SETTINGS).name == "net"


def test_a_network_of_whole_images_is_imported_as_one(network: Any, tmp_path: Path) -> None:
    settings = replace(SETTINGS, whole_image=True, side_um=30.0)
    import_model(save_torch(network.state_dict(), tmp_path / "net.pth"), "whole", settings)
    rule = find_model("whole").card()["crop"]
    assert rule["whole_image"] and rule["side_known"] and rule["side_um"] == 30.0
    assert rule["margin_um"] is None and rule["white"] is None


def test_a_package_says_what_its_images_are() -> None:
    from napari_leukocls.exchange import bioimage

    cells, images = CropRule(), CropRule(30.0, 64, None, None, whole_image=True, central_share=0.8)
    assert "22.4 um a side" in bioimage._side(cells) and "painted" in bioimage._made(cells)
    assert "whole images of one cell (the middle 80 %" in bioimage._made(images)
    assert bioimage._side(replace(images, side_known=False)) == "of unknown size on the slide"


class Evil:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (open, (str(self.path), "w"))


def test_a_pickle_that_runs_code_is_refused(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    (tmp_path / "evil.pth").write_bytes(pickle.dumps({"state_dict": Evil(trace)}))
    with pytest.raises(ModelError, match="state_dict"):
        import_model(tmp_path / "evil.pth", "evil", SETTINGS)
    assert not trace.exists()


def test_what_does_not_fit_says_what_to_change(network: Any, tmp_path: Path) -> None:
    file = save_torch(network.state_dict(), tmp_path / "net.pth")
    with pytest.raises(ModelError, match="as many --classes as it has outputs"):
        import_model(file, "a", ImportSettings("resnet18", ("a", "b"), {}))
    with pytest.raises(ModelError, match="--arch that it was made with"):
        import_model(file, "a", ImportSettings("resnet34", CLASSES, {}))
    with pytest.raises(ArgumentError, match="--arch NAME and --classes"):
        import_model(file, "a")
    with pytest.raises(ArgumentError, match="cannot name a model"):
        import_model(file, "../a", SETTINGS)
    (tmp_path / "cut.pth").write_bytes(file.read_bytes()[:5000])
    with pytest.raises(ModelError, match="damaged"):
        import_model(tmp_path / "cut.pth", "a", SETTINGS)


def test_a_model_travels_as_a_zip_and_is_not_replaced_unasked(tmp_path: Path) -> None:
    (asked,) = export_model("default", tmp_path / "d.zip")["left_out"]
    assert "accurate" in asked and "not in this file" in asked
    import_model(tmp_path / "d.zip", "copy")
    assert find_model("copy").weights.read_bytes() == find_model("default").weights.read_bytes()
    with pytest.raises(OutputError, match="--replace"):
        import_model(tmp_path / "d.zip", "copy")
    import_model(tmp_path / "d.zip", "copy", replace=True)


def test_a_zip_cannot_write_elsewhere(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        archive.writestr("../../model.json", json.dumps({}))
        archive.writestr("../../weights.safetensors", b"")
    with pytest.raises(ModelError):
        import_model(tmp_path / "z.zip", "z")
    assert not (tmp_path / "model.json").exists() and not (tmp_path.parent / "model.json").exists()


def test_the_command_line_imports_and_exports(
    network: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = save_torch(network.state_dict(), tmp_path / "net.pth")
    words = ["models", "import", str(file), "--arch", "resnet18", "--classes", "a,b,c", "--input-size", "64"]
    assert main(words) == 0
    assert "--classifier net" in capsys.readouterr().out
    assert main(["models", "export", "net", str(tmp_path / "net.txt")]) == 2
    assert "*.onnx" in capsys.readouterr().err
    assert main(["models", "export", "net", str(tmp_path / "net.zip")]) == 0


def test_an_exported_network_says_what_it_does_not_do() -> None:
    pytest.importorskip("torch")
    from napari_leukocls.exchange.onnx import left_out
    from napari_leukocls.models.card import read_card

    of_default = left_out(read_card(find_model("default").path))
    assert "asks the model accurate about cells with a probability below 0.9" in of_default[0]
    of_accurate = left_out(read_card(find_model("accurate").path))
    assert "as mirror images" in of_accurate[0] and all("second time" not in part for part in of_default)
    assert "unlike the training cells" in of_default[-1]


def test_tiles_of_the_segmenter_are_stretched_as_the_program_does() -> None:
    from napari_leukocls.exchange.segmenter import MAPS, MapsOfTiles, example_tiles, stretched
    from napari_leukocls.segmentation.compact import absorbance, load_compact

    tiles = example_tiles(1)
    assert tiles.shape == (1, 3, 256, 256)
    seen = 1 - absorbance(tiles[0].transpose(1, 2, 0).astype(np.uint8)).transpose(2, 0, 1)
    assert np.abs(stretched(tiles)[0] - seen).max() < 1e-3
    import torch

    segmenter = load_compact(find_model("compact").path, "cpu")
    with torch.no_grad():
        maps = MapsOfTiles(segmenter.net)(torch.from_numpy(stretched(tiles))).numpy()
    assert maps.shape == (1, len(MAPS), 256, 256)
    # Cells and glass are both there, and most of what is no glass is red cells.
    kinds = maps[0, 3:].argmax(axis=0)
    assert 0.1 < (kinds > 0).mean() < 0.9 and (kinds == 1).sum() > (kinds > 1).sum()


@pytest.mark.slow
def test_onnx_gives_the_same_probabilities(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra onnx")
    pytest.importorskip("onnxscript", reason="needs the extra onnx")
    from napari_leukocls.classification.loading import load_classifier
    from napari_leukocls.exchange.onnx import example_crops

    result = export_model("default", tmp_path / "d.onnx")
    assert result["largest_difference"] < 1e-3
    session = onnxruntime.InferenceSession(tmp_path / "d.onnx", providers=["CPUExecutionProvider"])
    classifier = load_classifier(find_model("default").path, "cpu")
    crops = example_crops(classifier, 5)
    (given,) = session.run(None, {"crops": crops})
    notes = session.get_modelmeta().custom_metadata_map
    assert json.loads(notes["classes"]) == list(classifier.classes)
    assert notes["left_out"] == " ".join(result["left_out"]) and "accurate" in notes["left_out"]
    assert np.allclose(given.sum(1), 1, atol=1e-5)


@pytest.mark.slow
# bioimageio.spec leaves files of a package open until they are collected.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("name", ["default", "accurate", "red_cells", "compact"])
def test_a_bioimage_package_runs_there(name: str, tmp_path: Path) -> None:
    core = pytest.importorskip("bioimageio.core", reason="needs the extra bioimageio")
    result = export_model(name, tmp_path / "d.bioimageio.zip")
    assert result["largest_difference"] < 1e-3
    summary = core.test_model(tmp_path / "d.bioimageio.zip")
    assert summary.status in ("passed", "valid-format") and not [e for d in summary.details for e in d.errors]
    with zipfile.ZipFile(tmp_path / "d.bioimageio.zip") as package:
        page = package.read("README.md").decode()
    assert result["left_out"] and all(f"- {part}" in page for part in result["left_out"])
    gc.collect()
