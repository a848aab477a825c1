"""The masks that the segmenter is trained on, made from drawn fields whose truth is known."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from scripts.segmentation_set import IGNORE, LEUKOCYTE, PLATELET, RED_CELL, by_hand
from scripts.segmentation_set.__main__ import main
from scripts.segmentation_set.marks import is_held_out
from scripts.segmentation_set.shapes import whole_box

GLASS, RED, PALLOR, NUCLEUS, SPECK = (
    (225, 222, 228),
    (190, 140, 145),
    (218, 205, 210),
    (95, 50, 140),
    (130, 80, 160),
)


def _disc(
    image: np.ndarray, centre: tuple[int, int], radius: int, colour: tuple[int, int, int]
) -> np.ndarray:
    mask = np.zeros(image.shape[:2], np.uint8)
    cv2.circle(mask, centre, radius, 1, -1)
    image[mask > 0] = colour
    return mask > 0


def _grain(image: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, 2, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


@pytest.fixture
def boxed(tmp_path: Path) -> tuple[Path, dict[str, np.ndarray]]:
    """A 575 px field: two touching red cells, a leukocyte, a platelet, and a red cell nobody boxed."""
    image = np.full((575, 575, 3), GLASS, np.uint8)
    truth = {}
    for name, centre in (("left", (120, 130)), ("right", (246, 130)), ("stray", (120, 440))):
        truth[name] = _disc(image, centre, 66, RED)
        _disc(image, centre, 22, PALLOR)
    truth["white"] = _disc(image, (400, 400), 100, NUCLEUS)
    truth["platelet"] = _disc(image, (430, 110), 20, SPECK)
    for folder in ("images", "labels"):
        (tmp_path / "data" / "boxes" / folder).mkdir(parents=True)
    lines = []
    for name, kind in (("left", 1), ("right", 1), ("white", 0), ("platelet", 2), ("left", 1)):
        rows, columns = np.nonzero(truth[name])
        x0, x1, y0, y1 = columns.min() - 3, columns.max() + 4, rows.min() - 3, rows.max() + 4
        values = np.array([x0 + x1, y0 + y1, 2 * (x1 - x0), 2 * (y1 - y0)]) / 1150
        lines.append(f"{kind} " + " ".join(f"{v:.5f}" for v in values))
    base = tmp_path / "data" / "boxes"
    cv2.imwrite(str(base / "images" / "a.jpg"), _grain(image)[..., ::-1])
    (base / "labels" / "a.txt").write_text("\n".join(lines))
    return tmp_path, truth


def _run(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    arguments = ["--data", str(folder / "data"), "--out", str(folder / "out"), "--set", name]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    with np.load(folder / "out" / name / "a.npz") as stored:
        return stored["labels"], stored["kinds"], stored["annotated"]


def _iou(one: np.ndarray, two: np.ndarray) -> float:
    return float((one & two).sum() / (one | two).sum())


def test_boxed_cells_get_their_own_outlines(boxed: tuple[Path, dict[str, np.ndarray]]) -> None:
    folder, truth = boxed
    labels, kinds, annotated = _run(folder, "boxes")
    assert labels.dtype == np.uint16 and labels.shape == (190, 190)
    assert sorted(kinds) == [RED_CELL, RED_CELL, LEUKOCYTE, PLATELET]  # the repeated box is gone
    assert annotated.all()
    size = labels.shape[::-1]
    small = {
        n: cv2.resize(m.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0.5
        for n, m in truth.items()
    }
    for name, kind in (("left", RED_CELL), ("right", RED_CELL), ("white", LEUKOCYTE), ("platelet", PLATELET)):
        best = max(range(len(kinds)), key=lambda i: _iou(labels == i + 1, small[name]))
        assert kinds[best] == kind
        assert _iou(labels == best + 1, small[name]) > (0.6 if kind == PLATELET else 0.85), name


def test_cell_without_a_box_is_ignored_with_its_pallor(boxed: tuple[Path, dict[str, np.ndarray]]) -> None:
    folder, _ = boxed
    labels, _, _ = _run(folder, "boxes")
    x, y = round(120 * 190 / 575), round(440 * 190 / 575)
    assert (labels[y - 15 : y + 16, x] == IGNORE).all()
    assert labels[5, 185] == 0


def test_index_tells_scale_counts_and_hold_out(boxed: tuple[Path, dict[str, np.ndarray]]) -> None:
    folder, _ = boxed
    (folder / "data" / "boxes" / "pbc_match.csv").write_text("file,pbc_file\na.jpg,BA_1.jpg\n")
    _run(folder, "boxes")
    header, row = (folder / "out" / "index.csv").read_text().splitlines()
    facts = dict(zip(header.split(","), row.split(","), strict=True))
    assert facts["holdout"] == str(int(is_held_out("BA_1.jpg")))  # a match follows its other name
    assert float(facts["um_per_px_stored"]) == pytest.approx(7.5 / 45, rel=1e-3)
    assert (facts["n_rbc"], facts["n_wbc"], facts["n_plt"]) == ("2", "1", "1")
    assert "repeated" in facts["problems"]


def test_centres_part_touching_cells_and_unmarked_cells_are_told_apart(tmp_path: Path) -> None:
    image = np.full((480, 640, 3), GLASS, np.uint8)
    places = [(100 + 70 * i, 100) for i in range(6)] + [(300, 250), (334, 250)]
    for place in places:
        _disc(image, place, 19, RED)
        _disc(image, place, 6, PALLOR)
    _disc(image, (450, 350), 38, NUCLEUS)
    cv2.rectangle(image, (520, 430), (620, 436), (40, 230, 40), -1)
    base = tmp_path / "data" / "chula"
    (base / "images").mkdir(parents=True)
    (base / "labels_xy_type").mkdir()
    cv2.imwrite(str(base / "images" / "a.jpg"), _grain(image)[..., ::-1])
    marked = places[1:]
    (base / "labels_xy_type" / "a.txt").write_text("\n".join(f"{x} {y} 0" for x, y in marked))
    labels, kinds, annotated = _run(tmp_path, "chula")
    at = [int(labels[y, x]) for x, y in places]
    assert len(set(at)) == len(places) and 0 not in at and IGNORE not in at
    assert [int(annotated[i - 1]) for i in at] == [0] + [1] * len(marked)
    assert kinds[labels[350, 450] - 1] == LEUKOCYTE
    assert (kinds == RED_CELL).sum() == len(places)
    assert (labels[433, 525:615] == IGNORE).all()


def test_a_fifth_is_held_out() -> None:
    share = np.mean([is_held_out(f"BloodImage_{i:05d}.jpg") for i in range(4000)])
    assert 0.18 < share < 0.22


def test_box_cut_by_the_edge_is_completed_to_a_round_cell() -> None:
    cap = np.array([0.0, 50.0, 10.0, 90.0])  # the right 10 px of a disc of 50 px
    whole = whole_box(cap, 200, 200, 45.0)
    assert whole[2] == 10.0 and whole[2] - whole[0] == pytest.approx(50, abs=1)
    inside = np.array([50.0, 50.0, 90.0, 95.0])
    assert np.array_equal(whole_box(inside, 200, 200, 45.0), inside)


@pytest.fixture
def outlined_by_hand(tmp_path: Path) -> Path:
    """A field of 1000x800 with a leukocyte that has two lobes, its crop at half size, and the crop's mask."""
    field = np.full((800, 1000, 3), GLASS, np.uint8)
    for centre in ((200, 200), (700, 150), (850, 600), (330, 420)):
        _disc(field, centre, 60, RED)
        _disc(field, centre, 20, PALLOR)
    cytoplasm = _disc(field, (500, 430), 110, (200, 180, 215))
    for x in (455, 545):
        _disc(field, (x, 430), 35, NUCLEUS)
    small = cv2.resize(_grain(field), None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    mask = cv2.resize(cytoplasm.astype(np.uint8) * 255, (500, 400), interpolation=cv2.INTER_AREA)
    base = tmp_path / "data" / "bcisc"
    for folder in ("fields/neutrophil", "crops/neutrophil", "cell_masks"):
        (base / folder).mkdir(parents=True)
    cv2.imwrite(str(base / "fields/neutrophil/1-1.png"), _grain(field)[..., ::-1])
    cv2.imwrite(str(base / "crops/neutrophil/a.png"), small[87:343, 122:378, ::-1])
    cv2.imwrite(str(base / "cell_masks/a.png"), mask[87:343, 122:378])
    row = "crops/neutrophil/a.png,neutrophil,1,fields/neutrophil/1-1.png"
    (base / "labels.csv").write_text(f"file,class,slide,field\n{row}\n")
    return tmp_path / "data"


def test_a_crops_mask_is_put_where_the_crop_lies_in_its_field(outlined_by_hand: Path) -> None:
    (field,) = by_hand.bcisc_fields(outlined_by_hand)
    assert field.pixels.shape == (400, 500, 3) and field.masks.max() == 1
    y, x = np.nonzero(field.masks)
    assert (y.mean(), x.mean()) == pytest.approx((215, 250), abs=1.5)
    assert len(y) == pytest.approx(np.pi * 55**2, rel=0.03)
    assert list(by_hand.bcisc_fields(outlined_by_hand, slide="4")) == []


def test_a_tight_cut_holds_the_whole_cell_and_little_else(outlined_by_hand: Path) -> None:
    (crop,) = by_hand.bcisc_crops(outlined_by_hand)
    cut = by_hand.cut_tight(crop, 0.1)
    assert cut is not None and cut.pixels.shape[:2] == cut.masks.shape
    assert (cut.masks > 0).sum() == (crop.masks > 0).sum()
    assert max(cut.masks.shape) == pytest.approx(110 * 1.2, abs=6)


def test_the_hand_mask_is_one_leukocyte_beside_the_segmenters_red_cells(outlined_by_hand: Path) -> None:
    out = outlined_by_hand.parent / "out"
    arguments = ["--data", str(outlined_by_hand), "--out", str(out), "--set", "bcisc"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    (stored,) = (out / "bcisc").glob("field_*.npz")
    with np.load(stored) as truth:
        labels, kinds, annotated = truth["labels"], truth["kinds"], truth["annotated"]
    assert kinds[annotated == 1].tolist() == [LEUKOCYTE]
    assert (kinds == RED_CELL).sum() >= 3
    own = labels == np.flatnonzero(annotated)[0] + 1
    # 110 px in a field whose red cells are taken to be 120 px across, at 45 px a red cell.
    assert own.sum() == pytest.approx(np.pi * (110 * 45 / 120) ** 2, rel=0.05)
    assert not set(np.unique(labels)) - set(range(len(kinds) + 1)) - {IGNORE}
