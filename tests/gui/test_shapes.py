"""Red cells by shape in the Review dock, as a person uses it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from acting import click_tile, control, pick, press, pump

from napari_leukocls.config import AnalyzeConfig
from napari_leukocls.widgets.common.session import session_of
from napari_leukocls.widgets.common.slide_model import SlideModel
from tests.results import make_result, with_shapes


def test_a_person_gives_shapes_by_keys(viewer: Any, dock: Callable[[str], Any]) -> None:
    from napari_leukocls.widgets.common.canvas import canvas_of

    result = with_shapes(make_result("field", (480, 640), every=3))
    session = session_of(viewer)
    session.set_reviewer("A. Reader")
    image = viewer.add_image(result.image.pixels, name="field")
    review = dock("Review")
    pump(0.5)  # a new image becomes a case of its own
    slide = SlideModel(result, session.store.add_slide(result), AnalyzeConfig())
    canvas_of(viewer).show(slide, image)
    session.show(slide)
    pump(0.3)
    pick(review, "Cells", "Red cells by shape")
    pump(0.2)
    gallery = control(review, "Gallery of cells")
    assert [section.title for section in gallery.cells.sections][:2] == ["To review", "Normal red cell"]
    first = gallery.cells.ids[0]
    click_tile(gallery, 0)
    press(gallery, "4")
    table = slide.result.red_cells
    assert table is not None
    row = table.set_index("cell_id").loc[first]
    assert (row["shape"], row["reviewer"], bool(row["needs_review"])) == ("spherocyte", "A. Reader", False)
    assert "1 of" in review.progress.text()
    pick(review, "Cells", "Leukocytes")
    pump(0.2)
    assert "Normal red cell" not in [section.title for section in gallery.cells.sections]
