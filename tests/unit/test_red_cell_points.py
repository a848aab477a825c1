"""Red cells against known centres: the rule of comparison, drawn heaps, and the fields that were marked by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_leukocls.evaluation.detection import Found
from napari_leukocls.progress import drain
from napari_leukocls.segmentation.registry import compact
from napari_leukocls.synthetic import RedCellRecipe, SmearRecipe, render_smear
from scripts.evaluate_red_cells import Marked, compare, read_marked
from scripts.evaluate_segmentation import read_pixels, segment
from scripts.pack_crops import is_heldout

DATA = Path("../shared/data")
needs_data = pytest.mark.skipif(not (DATA / "krd").is_dir(), reason="../shared/data is not here")


def marked(points: list[tuple[float, float]], heap: list[bool]) -> Marked:
    return Marked("krd", "a.jpg", np.array(points, float), np.array(heap))


def test_cells_are_matched_one_to_one_and_by_place() -> None:
    truth = marked([(50, 50), (60, 50), (150, 150), (190, 150)], [True, True, False, False])
    found = compare(np.array([(52.0, 50), (149, 151), (110, 40)]), truth, 40.0, (200, 200))
    assert found["heap"] == Found(1, 1, 1)
    assert found["side"] == Found(1, 0, 1)
    assert compare(np.zeros((0, 2)), truth, 40.0, (200, 200))["side"] == Found(0, 0, 2)


def test_what_is_cut_at_the_edge_says_nothing() -> None:
    truth = marked([(2, 100), (100, 100)], [False, False])
    assert compare(np.array([(100.0, 100)]), truth, 40.0, (200, 200))["side"] == Found(1, 0, 0)
    both = compare(np.array([(100.0, 100), (100, 198)]), truth, 40.0, (200, 200))
    assert both["side"] == Found(1, 0, 0)


def test_the_points_are_of_fields_that_were_never_trained_on() -> None:
    fields = read_marked()
    assert len(fields) == 30 and sum(len(one.points) for one in fields) > 1500
    assert {one.set for one in fields} == {"bccd", "chula", "bcisc", "krd"}
    assert all(is_heldout(Path(one.file).name) for one in fields)
    assert all(one.heap.any() for one in fields if one.set == "bccd")


@pytest.mark.parametrize(
    ("heaps", "rouleaux", "most"), [(0.0, 0.0, 0.04), (0.4, 0.0, 0.15), (0.0, 0.3, 0.35)]
)
def test_drawn_red_cells_are_counted(heaps: float, rouleaux: float, most: float) -> None:
    red = RedCellRecipe(count=110, heaps=heaps, rouleaux=rouleaux, overlap=0.0, clustering=0.1)
    smear = render_smear(SmearRecipe(red_cells=red, platelets=4, debris=0), 7)
    true = sum(cell.kind == "red_cell" for cell in smear.cells)
    outlines = drain(compact("cpu").segment(smear.pixels, 45.0))
    assert outlines.kind_votes is not None
    found = int((outlines.kind_votes.argmax(axis=1) == 1).sum())
    assert abs(found - true) <= most * true


@needs_data
@pytest.mark.parametrize(("file", "least"), [("basophil/1017.jpg", 0.95), ("neutrophil/1239.jpg", 0.85)])
def test_marked_fields_are_found_again(file: str, least: float) -> None:
    (truth,) = [one for one in read_marked() if one.file == file]
    labels, kinds, diameter = segment(read_pixels(DATA / "krd" / file), "compact", None)
    ids = np.flatnonzero(kinds == 0) + 1
    centres = np.array([np.argwhere(labels == cell).mean(axis=0)[::-1] + 0.5 for cell in ids])
    found = compare(centres, truth, diameter, labels.shape)
    assert (found["side"] + found["heap"]).f1 >= least
