"""All kinds of pictures from every way in: the same pixels, pixel size and notes, or the same refusal."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from napari_leukocls._reader import get_reader
from napari_leukocls.batch import run_batch
from napari_leukocls.config import make_config
from napari_leukocls.errors import ArgumentError, InputError
from napari_leukocls.io.inputs import expand_inputs
from napari_leukocls.io.slides import read_smear
from napari_leukocls.results.reader import read_result
from napari_leukocls.types import SmearImage
from napari_leukocls.widgets.common.layer_geometry import image_shape, placement_of
from napari_leukocls.widgets.common.smear_layers import plane_of, smear_of
from tests.corpus import KINDS, OTHER, RGB, STACK, UM, Kind


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("corpus")
    for kind in KINDS:
        kind.write(place / kind.name)
    return place


@pytest.fixture(scope="module")
def viewer_model() -> Iterator[Any]:
    """What opens files as the window does, without a window."""
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    from napari.components import ViewerModel
    from napari.plugins import _initialize_plugins

    _initialize_plugins()
    yield ViewerModel


def _close(smear: SmearImage, expected: np.ndarray, tolerance: float) -> None:
    assert smear.pixels.shape == expected.shape
    difference = np.abs(smear.pixels.astype(int) - expected)
    assert np.percentile(difference, 99) <= tolerance, difference.max()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_the_right_pixels_scale_and_words(kind: Kind, folder: Path) -> None:
    if kind.pixels is None:
        with pytest.raises(InputError, match=kind.words):
            read_smear(folder / kind.name)
        return
    smear, _ = read_smear(folder / kind.name)
    _close(smear, kind.pixels, kind.tolerance)
    assert smear.um_per_px == (None if kind.um is None else pytest.approx(kind.um, rel=1e-3))
    if kind.words:
        assert kind.words in " | ".join(smear.notes)
    else:
        assert not any("pixels of" in note for note in smear.notes)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_layer_of_napari_gives_what_the_command_line_reads(
    kind: Kind, folder: Path, viewer_model: Any
) -> None:
    path = folder / kind.name
    if not path.suffix or kind.name in ("a.jp2", "lab.tif", "32bit.tif"):
        pytest.skip("napari's own reader does not read it as an image")
    (layer,) = viewer_model().open(str(path))
    if kind.pixels is None or kind.window == "refused":
        with pytest.raises(
            InputError, match=kind.words if kind.pixels is None else "open the file with Leukocls"
        ):
            smear_of(layer)
        return
    window = smear_of(layer)
    smear, _ = read_smear(path, turned=kind.window != "stored")
    np.testing.assert_array_equal(window.pixels, smear.pixels)
    assert (window.um_per_px, window.notes, window.source) == (smear.um_per_px, smear.notes, smear.source)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_layer_of_this_plugin_shows_what_is_analysed(kind: Kind, folder: Path, viewer_model: Any) -> None:
    path = folder / kind.name
    if path.suffix.lower() not in (".tif", ".tiff"):
        pytest.skip("left to napari's own reader")
    if kind.pixels is None:
        reader = get_reader(str(path))
        assert reader is not None
        with pytest.raises(InputError, match=kind.words):
            reader(str(path))
        return
    (layer,) = viewer_model().open(str(path), plugin="napari-leukocls")
    window, (smear, _) = smear_of(layer), read_smear(path)
    np.testing.assert_array_equal(window.pixels, smear.pixels)
    np.testing.assert_array_equal(np.asarray(layer.data[0] if layer.ndim == 3 else layer.data), smear.pixels)
    assert window.um_per_px == (None if smear.um_per_px is None else pytest.approx(smear.um_per_px))
    assert window.notes == smear.notes


def test_a_folder_leaves_none_of_them_out(folder: Path) -> None:
    found = {slide.fields[0].name for slide in expand_inputs([folder])}
    assert found == {kind.name for kind in KINDS}


@pytest.mark.parametrize("name", ["stack.tif", "z.ome.tif", "imagej_z.tif", "pages.tif", "animation.png"])
@pytest.mark.parametrize("plugin", ["napari", "napari-leukocls"])
def test_the_window_takes_the_plane_that_is_shown(
    name: str, plugin: str, folder: Path, viewer_model: Any
) -> None:
    if plugin != "napari" and not name.endswith(".tif"):
        pytest.skip("left to napari's own reader")
    viewer = viewer_model()
    (layer,) = viewer.open(str(folder / name), plugin=plugin)
    viewer.dims.set_current_step(0, 1)
    window = smear_of(layer, viewer.dims.point)
    np.testing.assert_array_equal(window.pixels, OTHER)
    smear, _ = read_smear(folder / name, plane=2)
    assert window.notes == smear.notes and any("number 2 was used" in note for note in smear.notes)
    assert plane_of(layer, viewer.dims.point) == 2


@pytest.mark.parametrize(
    ("plane", "expected"),
    [
        ("first", RGB),
        ("2", OTHER),
        (3, STACK[2]),
        ("middle", OTHER),
        ("last", STACK[2]),
        ("min", STACK.min(axis=0)),
        ("max", STACK.max(axis=0)),
        ("mean", np.rint(STACK.mean(axis=0)).astype(np.uint8)),
    ],
)
@pytest.mark.parametrize("name", ["stack.tif", "z.ome.tif", "imagej_z.tif"])
def test_a_plane_of_a_stack_is_named(name: str, plane: Any, expected: np.ndarray, folder: Path) -> None:
    smear, _ = read_smear(folder / name, plane=plane)
    np.testing.assert_array_equal(smear.pixels, expected)
    assert any(note.startswith("3 pages") for note in smear.notes)


def test_a_plane_that_is_not_there_is_an_error(folder: Path) -> None:
    with pytest.raises(InputError, match="has 3 pages: there is no number 4"):
        read_smear(folder / "stack.tif", plane=4)
    with pytest.raises(InputError, match="is one picture and no stack: there is no plane 2"):
        read_smear(folder / "plain.tif", plane=2)


def test_a_layer_that_was_changed_gives_its_own_pixels(folder: Path, viewer_model: Any) -> None:
    (layer,) = viewer_model().open(str(folder / "ome.ome.tif"))
    layer.data = np.ascontiguousarray(layer.data[10:50, 10:70])
    window = smear_of(layer)
    np.testing.assert_array_equal(window.pixels, RGB[10:50, 10:70])
    assert "the layer differs from its file: the pixels of the layer were analysed" in window.notes


def test_a_layer_that_shows_something_else_is_refused(
    folder: Path, viewer_model: Any, tmp_path: Path
) -> None:
    # Grey with alpha: napari takes height, width and the two channels for three dimensions.
    Image.fromarray(RGB).convert("LA").save(tmp_path / "a.png")
    (layer,) = viewer_model().open(str(tmp_path / "a.png"))
    with pytest.raises(InputError, match="does not show the picture that its file holds"):
        smear_of(layer)


def test_the_command_line_and_batches_take_a_named_plane(folder: Path, tmp_path: Path) -> None:
    for plane, expected in (("2", OTHER), ("min", STACK.min(axis=0))):
        config = make_config(segmenter="threshold", device="cpu", pixel_size_um=0.16, plane=plane)
        (outcome,) = run_batch(expand_inputs([folder / "stack.tif"]), tmp_path / plane, config)
        assert outcome.status == "done", outcome.error
        assert any("3 pages" in warning for warning in outcome.warnings)
        result = read_result(tmp_path / plane / "stack")
        np.testing.assert_array_equal(result.image.pixels, expected)
        assert result.run["settings"]["plane"] in (2, "min")
    with pytest.raises(ArgumentError, match="names no plane of a stack"):
        make_config(plane="sharp")


def test_a_size_that_a_person_gave_the_layer_is_kept(folder: Path, viewer_model: Any) -> None:
    (layer,) = viewer_model().open(str(folder / "ome.ome.tif"))
    layer.scale, layer.units = (2 * UM, 2 * UM), ("um", "um")
    assert smear_of(layer).um_per_px == pytest.approx(2 * UM)


@pytest.mark.parametrize("name", ["z.ome.tif", "stack.tif", "ome.ome.tif"])
def test_outlines_lie_on_the_plane_that_was_analysed(name: str, folder: Path, viewer_model: Any) -> None:
    viewer = viewer_model()
    (layer,) = viewer.open(str(folder / name), plugin="napari-leukocls")
    labels = viewer.add_labels(np.ones(RGB.shape[:2], np.uint16), **placement_of(layer))
    np.testing.assert_allclose(labels.extent.world[:, -2:], layer.extent.world[:, -2:])
    assert image_shape(layer) == RGB.shape
