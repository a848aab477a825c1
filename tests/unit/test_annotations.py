"""Annotations of other programs: each form is written here, and read back as labelled crops."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from pycocotools import mask as runs

from napari_leukocls.classification.dataset import Listing, list_labelled
from napari_leukocls.datasets.coco import polygons_of
from napari_leukocls.errors import InputError
from napari_leukocls.scheme import default_scheme

HEIGHT, WIDTH = 120, 200
#: x0, y0, x1, y1 and class of the cells of a field.
CELLS = ((20, 30, 60, 70, "Neutrophil"), (100, 40, 150, 90, "lymphocyte"))


def field(path: Path, seed: int = 0, turned: bool = False) -> Path:
    """A field of noise with two discs."""
    pixels = np.random.default_rng(seed).integers(200, 240, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    for x0, y0, x1, y1, _ in CELLS:
        pixels[mask_of((x0, y0, x1, y1)) > 0] = (90, 60, 150)
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels)
    if turned:
        exif = Image.Exif()
        exif[0x0112] = 6
        image.rotate(90, expand=True).save(path, exif=exif, quality=100)
    else:
        image.save(path)
    return path


def mask_of(box: tuple[int, ...]) -> np.ndarray:
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    x0, y0, x1, y1 = box[:4]
    ellipse = ((x - (x0 + x1) / 2) / (x1 - x0)) ** 2 + ((y - (y0 + y1) / 2) / (y1 - y0)) ** 2
    return (ellipse < 0.25).astype(np.uint8)


def listed(path: Path) -> Listing:
    return list_labelled(path, default_scheme())


def check(path: Path, *, outlined: bool = False, slack: int = 1, n: int = 2) -> Listing:
    """The two cells, where they are and as they are called."""
    listing = listed(path)
    assert len(listing.crops) == n
    first = sorted(listing.crops, key=lambda crop: (crop.path.name, crop.box or ()))[:2]
    for crop, (*box, name) in zip(first, CELLS, strict=True):
        assert crop.class_name == default_scheme().resolve(name)
        assert crop.box is not None and np.abs(np.subtract(crop.box, box)).max() <= slack, crop.box
        mask = crop.cell_mask()
        assert (mask is not None) is outlined
        if mask is not None:
            assert mask.shape == crop.pixels().shape[:2]
            colours = crop.pixels()[mask > 127].mean(axis=0)
            assert np.abs(colours - (90, 60, 150)).max() < 12, colours
    return listing


def yolo(root: Path, stem: str, lines: str) -> None:
    (root / "labels").mkdir(parents=True, exist_ok=True)
    (root / "labels" / f"{stem}.txt").write_text(lines)


def yolo_line(cell: tuple[Any, ...], number: int) -> str:
    x0, y0, x1, y1 = cell[:4]
    values = ((x0 + x1) / 2 / WIDTH, (y0 + y1) / 2 / HEIGHT, (x1 - x0) / WIDTH, (y1 - y0) / HEIGHT)
    return f"{number} " + " ".join(f"{value:.6f}" for value in values) + "\n"


def coco(images: list[Path], segmentation: Any = None, **more: Any) -> dict[str, Any]:
    return {
        "images": [
            {"id": i, "file_name": path.name, "height": HEIGHT, "width": WIDTH, **more}
            for i, path in enumerate(images)
        ],
        "categories": [{"id": 7, "name": "Neutrophil"}, {"id": 9, "name": "lymphocyte"}],
        "annotations": [
            {
                "id": 10 * i + j,
                "image_id": i,
                "category_id": 7 if name == "Neutrophil" else 9,
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "iscrowd": 0,
                **({} if segmentation is None else {"segmentation": segmentation((x0, y0, x1, y1))}),
            }
            for i in range(len(images))
            for j, (x0, y0, x1, y1, name) in enumerate(CELLS)
        ],
    }


def test_yolo_with_classes_txt(tmp_path: Path) -> None:
    for i in range(2):
        field(tmp_path / "images" / f"f{i}.png", i)
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "classes.txt").write_text("Neutrophil\nlymphocyte\n")
    yolo(tmp_path, "f0", "".join(yolo_line(cell, i) for i, cell in enumerate(CELLS)))
    yolo(tmp_path, "f1", "")
    listing = check(tmp_path)
    assert listing.kind == "YOLO boxes" and listing.images_without_label == 1
    assert listing.crops[0].file.startswith("images/f0.png#")


@pytest.mark.parametrize("names", [["Neutrophil", "lymphocyte"], {0: "Neutrophil", 1: "lymphocyte"}])
def test_yolo_with_a_yaml_file_and_parts(tmp_path: Path, names: Any) -> None:
    for part in ("train", "val"):
        field(tmp_path / part / "images" / f"{part}.png", seed=len(part))
        yolo(tmp_path / part, part, "".join(yolo_line(cell, i) for i, cell in enumerate(CELLS)))
    settings = {"path": ".", "train": "train/images", "val": "./val/images", "names": names, "nc": 2}
    (tmp_path / "data.yaml").write_text(yaml.safe_dump(settings))
    for source in (tmp_path, tmp_path / "data.yaml"):
        listing = check(source, n=4)
        assert {(crop.path.stem, crop.split) for crop in listing.crops} == {
            ("train", "train"),
            ("val", "validation"),
        }


def test_yolo_polygons_confidences_and_a_picture_that_is_turned(tmp_path: Path) -> None:
    field(tmp_path / "f.jpg", turned=True)
    (tmp_path / "classes.txt").write_text("Neutrophil\nlymphocyte\n")
    (ring,) = polygons_of(mask_of(CELLS[0]))
    shares = " ".join(f"{v / (HEIGHT if i % 2 else WIDTH):.6f}" for i, v in enumerate(ring))
    (tmp_path / "f.txt").write_text(f"0 {shares}\n" + yolo_line(CELLS[1], 1).strip() + " 0.93\n")
    listing = listed(tmp_path)
    assert [crop.box is not None and crop.path.stem for crop in listing.crops] == ["f", "f"]
    outlined = next(crop for crop in listing.crops if crop.outline)
    assert np.abs(np.subtract(outlined.box, CELLS[0][:4])).max() <= 1
    assert np.abs(outlined.pixels()[outlined.cell_mask() > 127].mean(axis=0) - (90, 60, 150)).max() < 12


@pytest.mark.parametrize(
    ("lines", "names", "says"),
    [
        ("0 0.5 0.5 0.1 0.1\n", None, "write classes.txt"),
        ("5 0.5 0.5 0.1 0.1\n", "a\nb\n", "line 1: class 5 has no name"),
        ("0 100 60 20 20\n", "a\nb\n", "may be pixels"),
    ],
)
def test_wrong_yolo_is_refused(tmp_path: Path, lines: str, names: str | None, says: str) -> None:
    field(tmp_path / "images" / "f.png")
    yolo(tmp_path, "f", lines)
    if names:
        (tmp_path / "classes.txt").write_text(names)
    with pytest.raises(InputError, match=says):
        listed(tmp_path)


def test_boxes_beyond_the_image_are_cut_or_left_out_and_counted(tmp_path: Path) -> None:
    field(tmp_path / "images" / "f.png")
    (tmp_path / "classes.txt").write_text("Neutrophil\nlymphocyte\n")
    good = "".join(yolo_line(cell, i) for i, cell in enumerate(CELLS))
    yolo(tmp_path, "f", good + "1 0.99 0.5 0.2 0.1\n1 1.5 0.5 0.1 0.1\n1 0.5 0.5 0 0.1\n1 0.5 x\n")
    listing = check(tmp_path, n=3)
    text = " ".join(listing.notes)
    assert listing.outside == 3 and "2 boxes are empty or outside" in text and "1 box reaches beyond" in text
    assert "1 line is wrong" in text
    assert max(crop.box[2] for crop in listing.crops if crop.box) == WIDTH


def polygon(box: tuple[int, ...]) -> list[list[float]]:
    return [list(ring) for ring in polygons_of(mask_of(box))]


def packed(box: tuple[int, ...]) -> dict[str, Any]:
    made = runs.encode(np.asfortranarray(mask_of(box)))
    return {"size": made["size"], "counts": made["counts"].decode()}


def plain(box: tuple[int, ...]) -> dict[str, Any]:
    flat = mask_of(box).T.reshape(-1)
    edges = np.flatnonzero(np.diff(flat)) + 1
    return {"size": [HEIGHT, WIDTH], "counts": np.diff([0, *edges.tolist(), flat.size]).tolist()}


@pytest.mark.parametrize("segmentation", [None, polygon, packed, plain])
def test_coco(tmp_path: Path, segmentation: Any) -> None:
    images = [field(tmp_path / "images" / f"f{i}.png", i) for i in range(2)]
    (tmp_path / "annotations").mkdir()
    path = tmp_path / "annotations" / "instances_val2017.json"
    path.write_text(json.dumps(coco(images, segmentation)))
    for source in (tmp_path, path):
        listing = check(source, outlined=segmentation is not None, n=4)
        assert listing.kind == "COCO annotations" and {crop.split for crop in listing.crops} == {"validation"}


def test_run_lengths_are_read_as_pycocotools_writes_them(tmp_path: Path) -> None:
    mask = mask_of(CELLS[0]) | mask_of(CELLS[1])
    mask[0, 0] = mask[-1, -1] = mask[60, 3] = 1
    path = field(tmp_path / "f.png")
    data = coco([path])
    data["annotations"] = data["annotations"][:1]
    made = runs.encode(np.asfortranarray(mask))
    data["annotations"][0] |= {"segmentation": {"size": made["size"], "counts": made["counts"].decode()}}
    data["annotations"][0]["bbox"] = [0, 0, WIDTH, HEIGHT]
    (tmp_path / "c.json").write_text(json.dumps(data))
    (crop,) = listed(tmp_path).crops
    drawn = crop.cell_mask()
    assert drawn is not None and int((drawn > 127).sum()) == int(mask.sum())


def test_coco_in_folders_of_parts_as_roboflow_writes_it(tmp_path: Path) -> None:
    for part in ("train", "valid", "test"):
        image = field(tmp_path / part / f"{part}.jpg", len(part))
        (tmp_path / part / "_annotations.coco.json").write_text(json.dumps(coco([image])))
    listing = listed(tmp_path)
    assert {(crop.path.stem, crop.split) for crop in listing.crops} == {
        ("train", "train"), ("valid", "validation"), ("test", "test")
    }  # fmt: skip


def test_labels_of_an_image_of_another_size_are_left_out(tmp_path: Path) -> None:
    images = [field(tmp_path / f"f{i}.png", i) for i in range(2)]
    data = coco(images)
    data["images"][1] |= {"height": 1000, "width": 2000}
    (tmp_path / "c.json").write_text(json.dumps(data))
    listing = check(tmp_path)
    assert "the labels of 1 image are left out: they are of another size" in " ".join(listing.notes)


@pytest.mark.parametrize(
    "change", [{"annotations": [{"id": 1}]}, {"categories": [{"id": 1}]}, {"images": [3]}]
)
def test_damaged_coco_is_refused_in_one_line(tmp_path: Path, change: dict[str, Any]) -> None:
    path = tmp_path / "c.json"
    path.write_text(json.dumps(coco([field(tmp_path / "f.png")]) | change))
    with pytest.raises(InputError, match="no whole COCO file") as caught:
        listed(path)
    assert "\n" not in str(caught.value)


def voc(image: Path, *, named: str | None = None) -> str:
    objects = "".join(
        f"<object><name>{name}</name><bndbox><xmin>{x0 + 1}</xmin><ymin>{y0 + 1}</ymin><xmax>{x1}</xmax>"
        f"<ymax>{y1}</ymax></bndbox></object>"
        for x0, y0, x1, y1, name in CELLS
    )
    return (
        f"<annotation><folder>x</folder><filename>{named or image.name}</filename><size><width>{WIDTH}</width>"
        f"<height>{HEIGHT}</height><depth>3</depth></size>{objects}</annotation>"
    )


def test_pascal_voc(tmp_path: Path) -> None:
    for i, part in enumerate(("train", "val")):
        image = field(tmp_path / "JPEGImages" / f"f{i}.png", i)
        (tmp_path / "Annotations").mkdir(exist_ok=True)
        # A copied annotation that still names another image.
        (tmp_path / "Annotations" / f"f{i}.xml").write_text(voc(image, named="f0.jpg"))
        (tmp_path / "ImageSets" / "Main").mkdir(parents=True, exist_ok=True)
        (tmp_path / "ImageSets" / "Main" / f"{part}.txt").write_text(f"f{i}\n")
    listing = check(tmp_path, slack=0, n=4)
    assert listing.kind == "Pascal VOC annotations"
    assert {(crop.path.stem, crop.split) for crop in listing.crops} == {("f0", "train"), ("f1", "validation")}


def test_cvat(tmp_path: Path) -> None:
    field(tmp_path / "images" / "a" / "f0.png")
    for i in range(1, 3):
        field(tmp_path / "images" / f"f{i}.png", i)
    (x0, y0, x1, y1, _), second = CELLS
    ring = ";".join(f"{x},{y}" for x, y in np.reshape(polygon(second)[0], (-1, 2)))
    left, top, right, bottom = second[:4]
    flat = mask_of(second)[top:bottom, left:right].reshape(-1)
    edges = np.flatnonzero(np.diff(flat)) + 1
    rle = ", ".join(map(str, np.diff([0, *edges.tolist(), flat.size]).tolist()))
    size = f'width="{WIDTH}" height="{HEIGHT}"'
    (tmp_path / "annotations.xml").write_text(
        f"<annotations><version>1.1</version>"
        f'<image id="0" name="a/f0.png" subset="Train" {size}><box label="Neutrophil" xtl="{x0}" ytl="{y0}" xbr="{x1}" '
        f'ybr="{y1}"/><polygon label="cell" points="{ring}"><attribute name="class">lymphocyte</attribute></polygon>'
        f'<points label="cell" points="1,2"/></image>'
        f'<image id="1" name="f1.png" subset="Test" {size}><ellipse label="Neutrophil" cx="{(x0 + x1) / 2}" '
        f'cy="{(y0 + y1) / 2}" rx="{(x1 - x0) / 2}" ry="{(y1 - y0) / 2}"/><mask label="lymphocyte" rle="{rle}" '
        f'left="{left}" top="{top}" width="{right - left}" height="{bottom - top}"/></image>'
        f'<image id="2" name="f2.png" {size}><tag label="Monocyte"/></image></annotations>'
    )
    listing = listed(tmp_path)
    rows = sorted((crop.path.stem, crop.class_name, crop.split, bool(crop.outline)) for crop in listing.crops)
    assert rows == [
        ("f0", "lymphocyte", "train", True),
        ("f0", "neutrophil", "train", False),
        ("f1", "lymphocyte", "test", True),
        ("f1", "neutrophil", "test", True),
        ("f2", "monocyte", "", False),
    ]
    assert "1 marks that are no area" in " ".join(listing.notes)
    for crop in listing.crops:
        mask = crop.cell_mask()
        if mask is not None:
            assert np.abs(crop.pixels()[mask > 127].mean(axis=0) - (90, 60, 150)).max() < 12
    whole = next(crop for crop in listing.crops if crop.path.stem == "f2")
    assert whole.box is None and whole.pixels().shape == (HEIGHT, WIDTH, 3)


def test_labelme(tmp_path: Path) -> None:
    image = field(tmp_path / "f.png")
    (x0, y0, x1, y1, first), second = CELLS
    left, top, right, bottom, name = second
    buffer = io.BytesIO()
    Image.fromarray(mask_of(second)[top:bottom, left:right] * 255).save(buffer, "PNG")
    shapes = [
        {
            "label": first,
            "shape_type": "circle",
            "points": [[(x0 + x1) / 2, (y0 + y1) / 2], [x1, (y0 + y1) / 2]],
        },
        {
            "label": name,
            "shape_type": "mask",
            "points": [[left, top], [right, bottom]],
            "mask": base64.b64encode(buffer.getvalue()).decode(),
        },
        {"label": name, "shape_type": "point", "points": [[5, 5]]},
    ]
    content = {
        "version": "5.4",
        "imagePath": f"..\\x\\{image.name}",
        "imageHeight": HEIGHT,
        "imageWidth": WIDTH,
    }
    (tmp_path / "f.json").write_text(json.dumps(content | {"shapes": shapes}))
    listing = check(tmp_path, outlined=True)
    assert listing.kind == "LabelMe annotations" and "1 shapes that are no area" in " ".join(listing.notes)
    boxes = [
        {"label": label, "shape_type": "rectangle", "points": [[c, d], [a, b]]} for a, b, c, d, label in CELLS
    ]
    (tmp_path / "f.json").write_text(json.dumps(content | {"shapes": boxes}))
    check(tmp_path)
    (tmp_path / "f.json").write_text(
        json.dumps(content | {"shapes": [], "flags": {"monocyte": True, "blurred": False}})
    )
    assert [(crop.class_name, crop.box) for crop in listed(tmp_path).crops] == [("monocyte", None)]


def test_qupath(tmp_path: Path) -> None:
    field(tmp_path / "f.ome.tif")
    features = [
        {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": [np.reshape(polygon(cell)[0], (-1, 2)).tolist()]},
            "properties": {
                "objectType": "detection",
                "classification": {"name": cell[4], "color": [1, 2, 3]},
            },
        }
        for cell in CELLS
    ]
    features.append(
        {"type": "Feature", "geometry": {"type": "Point", "coordinates": [1, 2]}, "properties": {}}
    )
    path = tmp_path / "f.geojson"
    for content in ({"type": "FeatureCollection", "features": features}, features):
        path.write_text(json.dumps(content))
        listing = check(tmp_path, outlined=True)
        assert "1 objects without a class" in " ".join(listing.notes)
    field(tmp_path / "g.png")
    path.rename(tmp_path / "other.geojson")
    with pytest.raises(InputError, match="no image has its name"):
        listed(tmp_path)


def test_two_labels_of_one_cell_are_refused_and_a_repeated_one_counts_once(tmp_path: Path) -> None:
    data = coco([field(tmp_path / "f.png")])
    data["annotations"].append({**data["annotations"][0], "id": 99})
    path = tmp_path / "c.json"
    path.write_text(json.dumps(data))
    assert "1 label is repeated" in " ".join(check(tmp_path).notes)
    data["annotations"][-1]["category_id"] = 9
    path.write_text(json.dumps(data))
    with pytest.raises(InputError, match="labelled as 'neutrophil' and as 'lymphocyte'"):
        listed(tmp_path)


def test_damaged_files_among_others_are_said(tmp_path: Path) -> None:
    for i in range(2):
        image = field(tmp_path / f"f{i}.png", i)
        (tmp_path / f"f{i}.xml").write_text(voc(image) if i else "<annotation><obj")
    assert "1 file of annotations is damaged and left out: f0.xml" in " ".join(check(tmp_path).notes)
    for i in range(2):
        (tmp_path / f"f{i}.xml").unlink()
        shapes = [{"label": "MO", "shape_type": "rectangle", "points": [[5, 5], [30, 30]]}]
        text = json.dumps({"imagePath": f"f{i}.png", "shapes": shapes})
        (tmp_path / f"f{i}.json").write_text(text if i else text[:20])
    assert "damaged and left out: f0.json" in " ".join(listed(tmp_path).notes)


def test_annotations_of_two_programs_are_not_guessed(tmp_path: Path) -> None:
    image = field(tmp_path / "f.png")
    (tmp_path / "c.json").write_text(json.dumps(coco([image])))
    (tmp_path / "f.xml").write_text(voc(image))
    with pytest.raises(InputError, match="of COCO and of VOC"):
        listed(tmp_path)
    assert len(listed(tmp_path / "c.json").crops) == len(listed(tmp_path / "f.xml").crops) == 2


@pytest.mark.parametrize("name", ["x.json", "x.xml", "x.yaml", "x.geojson", "x.png"])
def test_what_is_no_annotation_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text('{"a": [1]}')
    with pytest.raises(InputError) as caught:
        listed(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_missing_images_are_kept_for_the_one_who_counts_them(tmp_path: Path) -> None:
    image = field(tmp_path / "f.png")
    (tmp_path / "c.json").write_text(json.dumps(coco([image, tmp_path / "gone.png"])))
    listing = listed(tmp_path)
    assert [crop.path.is_file() for crop in listing.crops] == [True, True, False, False]
    with pytest.raises(InputError):
        listing.crops[-1].pixels()


def test_a_cell_at_the_edge_keeps_its_place_in_the_middle(tmp_path: Path) -> None:
    data = coco([field(tmp_path / "f.png")])
    data["annotations"] = [{**data["annotations"][0], "bbox": [0, 0, 30, 30]}]
    (tmp_path / "c.json").write_text(json.dumps(data))
    (crop,) = listed(tmp_path).crops
    pixels = crop.pixels()
    assert pixels.shape == (75, 75, 3) and len(np.unique(pixels[:20, :20].reshape(-1, 3), axis=0)) == 1
    assert crop.surroundings().shape == (HEIGHT, WIDTH, 3) and crop.size() == (HEIGHT, WIDTH)
