"""Headers, cards, tables and outlines with anything in them: a right answer or one line, no traceback, no hang."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geojson
import numpy as np
import pytest
import shapely
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from napari_leukocls.classification.dataset import list_crops
from napari_leukocls.errors import LeukoclsError
from napari_leukocls.io.images import read_image
from napari_leukocls.io.slides import is_slide, open_slide
from napari_leukocls.measurement.cells import build_cell_table
from napari_leukocls.measurement.differential import differential
from napari_leukocls.models.card import read_card
from napari_leukocls.models.registry import find_model
from napari_leukocls.results.exports import write_exports
from napari_leukocls.scheme import default_scheme, load_scheme
from napari_leukocls.types import FieldResult, Scale, Segmentation, SmearImage
from tests.results import CLASSES

QUICK, THOROUGH = 40, 2000
RNG = np.random.default_rng(1)
NOISE = RNG.integers(0, 255, (70, 80, 3), dtype=np.uint8)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=6,
)


@st.composite
def edits(draw: st.DrawFn) -> list[tuple[float, bytes, int]]:
    """Changes of bytes: where (as a share, mostly near the head), what is put there, how much is cut out."""
    where = st.floats(0, 1, exclude_max=True).map(lambda share: share**3)
    values = st.binary(min_size=0, max_size=6) | st.sampled_from(
        [b"\xff" * 4, bytes(4), b"\x7f\xff\xff\xff", b"\0\0\0\x01"]
    )
    return draw(st.lists(st.tuples(where, values, st.integers(0, 6)), min_size=1, max_size=5))


def edited(raw: bytes, changes: list[tuple[float, bytes, int]]) -> bytes:
    for share, put, out in changes:
        place = int(share * len(raw))
        raw = raw[:place] + put + raw[place + out :]
    return raw


def one_line(error: LeukoclsError) -> None:
    text = str(error)
    assert text and "\n" not in text and len(text) < 1500


def write_pyramid(path: Path) -> None:
    description = "Aperio Image\r\n80x70 (64x64)|AppMag = 40|MPP = 0.2"
    with tifffile.TiffWriter(path) as tiff:
        for step in (1, 2):
            part = np.ascontiguousarray(NOISE[::step, ::step])
            tiff.write(part, tile=(32, 32), photometric="rgb", description=description, metadata=None)


SEEDS: dict[str, Callable[[Path], object]] = {
    "a.png": lambda path: Image.fromarray(NOISE).save(path),
    "a.jpg": lambda path: Image.fromarray(NOISE).save(path),
    "a.gif": lambda path: Image.fromarray(NOISE).save(path),
    "a.webp": lambda path: Image.fromarray(NOISE).save(path),
    "a.bmp": lambda path: Image.fromarray(NOISE).save(path),
    "a.jp2": lambda path: Image.fromarray(NOISE).save(path),
    "strips.tif": lambda path: tifffile.imwrite(path, NOISE, rowsperstrip=8, compression="lzw"),
    "ome.tif": lambda path: tifffile.imwrite(
        path, np.moveaxis(NOISE, -1, 0), ome=True, metadata={"axes": "CYX"}
    ),
    "tiles.tif": write_pyramid,
    "a.svs": write_pyramid,
}


def check_image(folder: Path, name: str, changes: list[tuple[float, bytes, int]]) -> None:
    path = folder / name
    SEEDS[name](path)
    path.write_bytes(edited(path.read_bytes(), changes))
    try:
        if is_slide(path):
            with open_slide(path) as slide:
                pixels = slide.read(0, 90, 5, 60, len(slide.levels) - 1)
        else:
            pixels = read_image(path).pixels
    except LeukoclsError as error:
        one_line(error)
    else:
        assert pixels.dtype == np.uint8 and pixels.shape[-1] == 3


def check_card(folder: Path, text: bytes) -> None:
    (folder / "model.json").write_bytes(text)
    try:
        read_card(folder)
    except LeukoclsError as error:
        one_line(error)


def replaced(card: Any, path: list[int], value: Any) -> Any:
    """A card in which what lies at a path (taken modulo what there is) is something else."""
    if not path or not isinstance(card, dict | list) or not card:
        return value
    keys = list(card) if isinstance(card, dict) else list(range(len(card)))
    key = keys[path[0] % len(keys)]
    copy = dict(card) if isinstance(card, dict) else list(card)
    copy[key] = replaced(card[key], path[1:], value)
    return copy


def check_table(folder: Path, text: bytes) -> None:
    (folder / "data.csv").write_bytes(text)
    try:
        list_crops(folder / "data.csv", default_scheme())
    except LeukoclsError as error:
        one_line(error)


cell = st.text(max_size=12) | st.sampled_from(
    ["a.png", "../../etc/passwd", "neutrophil", "", "nan", "1e999", '"']
)
rows = st.lists(st.lists(cell, max_size=5), max_size=6)
header = st.lists(st.sampled_from(["file", "class", "patient", "um_per_px", "x", ""]), max_size=6)


def csv_of(names: list[str], body: list[list[str]]) -> bytes:
    return "\n".join(",".join(line) for line in [names, *body]).encode("utf-8", "surrogatepass")


@st.composite
def smears(draw: st.DrawFn) -> FieldResult:
    """Cells of any shape, in any number of parts and with any holes, in a slide of any name."""
    height, width = draw(st.integers(1, 12)), draw(st.integers(1, 12))
    flat = draw(st.lists(st.integers(0, 3), min_size=height * width, max_size=height * width))
    labels = np.array(flat, np.int32).reshape(height, width)
    probabilities = st.floats(0, 1, width=32)
    kinds = np.array(draw(st.lists(probabilities, min_size=9, max_size=9)), np.float32).reshape(3, 3)
    name, um_per_px = draw(st.text(max_size=20)), draw(st.floats(0.01, 10) | st.just(float("nan")))
    found = Segmentation(labels, kinds, (235.0,) * 3, Scale(um_per_px, 7.5 / um_per_px, "user"))
    cells = build_cell_table(found, None, [], name, um_per_px, CLASSES)
    counts = differential(cells, default_scheme(), CLASSES, slide_id=name)
    pixels = np.zeros((height, width, 3), np.uint8)
    image = SmearImage(pixels, name, draw(st.text(max_size=20)))
    return FieldResult(cells, counts, {}, image=image, segmentation=found)


def refused_constant(text: str) -> None:
    raise AssertionError(f"{text} is no JSON")


def check_geojson(folder: Path, result: FieldResult) -> None:
    (path,) = write_exports(result, folder, ["geojson"])
    text = path.read_text(encoding="utf-8")
    features = json.loads(text, parse_constant=refused_constant)["features"]
    collection = geojson.loads(text)
    assert collection.is_valid, collection.errors()
    again = np.zeros_like(result.labels)
    y, x = np.mgrid[: again.shape[0], : again.shape[1]] + 0.5
    for feature in features:
        shape = shapely.from_geojson(json.dumps(feature["geometry"]))
        assert shape.is_valid
        again[shapely.contains_xy(shape, x, y)] = int(feature["properties"]["name"])
    assert np.array_equal(again, result.labels)


def properties(examples: int) -> tuple[Callable[..., None], ...]:
    """The properties, each with a number of examples."""
    many = settings(
        max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
    )

    @many
    @given(changes=edits(), name=st.sampled_from(sorted(SEEDS)))
    def images(tmp_path: Path, changes: list[tuple[float, bytes, int]], name: str) -> None:
        check_image(tmp_path, name, changes)

    @many
    @given(path=st.lists(st.integers(0, 40), min_size=1, max_size=4), value=json_values)
    def cards(tmp_path: Path, path: list[int], value: Any) -> None:
        card = json.loads((find_model("default").path / "model.json").read_text())
        check_card(tmp_path, json.dumps(replaced(card, path, value)).encode())

    @many
    @given(changes=edits())
    def card_bytes(tmp_path: Path, changes: list[tuple[float, bytes, int]]) -> None:
        check_card(tmp_path, edited((find_model("default").path / "model.json").read_bytes(), changes))

    @many
    @given(names=header, body=rows)
    def tables(tmp_path: Path, names: list[str], body: list[list[str]]) -> None:
        check_table(tmp_path, csv_of(names, body))

    @many
    @given(raw=st.binary(max_size=300))
    def table_bytes(tmp_path: Path, raw: bytes) -> None:
        check_table(tmp_path, b"file,class\n" + raw)

    @many
    @given(result=smears())
    def outlines(tmp_path: Path, result: FieldResult) -> None:
        check_geojson(tmp_path, result)

    return images, cards, card_bytes, tables, table_bytes, outlines


test_images, test_cards, test_card_bytes, test_tables, test_table_bytes, test_outlines = properties(QUICK)
_THOROUGH = dict(
    zip(
        ("images", "cards", "card_bytes", "tables", "table_bytes", "outlines"),
        properties(THOROUGH),
        strict=True,
    )
)


@pytest.mark.slow
@pytest.mark.parametrize("name", _THOROUGH)
def test_ten_thousand(name: str, tmp_path: Path) -> None:
    _THOROUGH[name](tmp_path=tmp_path)


@pytest.mark.parametrize(
    "text",
    [b"[" * 100_000, b'{"a":' * 100_000, b"1" * 10_000, b"\xff\xfe", b"", b"null", b"NaN", b'{"a":1,"a":2}'],
)
def test_cards_that_break_parsers(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "model.json").write_bytes(text)
    with pytest.raises(LeukoclsError):
        read_card(tmp_path)


@settings(max_examples=QUICK, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(changes=edits())
def test_schemes(tmp_path: Path, changes: list[tuple[float, bytes, int]]) -> None:
    import napari_leukocls

    shipped = Path(napari_leukocls.__file__).parent / "data" / "scheme.toml"
    file = tmp_path / "scheme.toml"
    file.write_bytes(edited(shipped.read_bytes(), changes))
    try:
        load_scheme(file)
    except LeukoclsError as error:
        one_line(error)


@settings(max_examples=QUICK, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(path=st.lists(st.integers(0, 9), min_size=1, max_size=6), value=json_values)
def test_zarr_metadata(tmp_path: Path, path: list[int], value: Any) -> None:
    zarr = pytest.importorskip("zarr", reason="needs the extra `wsi`")
    folder = tmp_path / "a.zarr"
    if folder.exists():
        shutil.rmtree(folder)
    group = zarr.open_group(str(folder), mode="w", zarr_format=3)
    group.create_array("0", data=np.moveaxis(NOISE, -1, 0), chunks=(1, 64, 64))
    scale = [{"type": "scale", "scale": [1, 0.2, 0.2]}]
    axes = [{"name": name, "unit": "micrometer"} for name in "cyx"]
    group.attrs["ome"] = {
        "multiscales": [{"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": scale}]}]
    }
    for file in (folder / "zarr.json", folder / "0" / "zarr.json"):
        whole = json.loads(file.read_text())
        file.write_text(json.dumps(replaced(whole, path, value)))
    try:
        with open_slide(folder) as slide:
            slide.read(0, 60, 0, 60)
    except LeukoclsError as error:
        one_line(error)
