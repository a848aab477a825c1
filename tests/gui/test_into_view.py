"""What was scrolled to stays in view while the dock around it grows, until a person scrolls."""

from __future__ import annotations

from typing import Any

from qtpy.QtWidgets import QLabel, QScrollArea, QVBoxLayout, QWidget

from napari_leukocls.widgets.common.into_view import IntoView
from tests.gui.acting import pump, until


def test_a_part_stays_in_view_while_what_is_above_it_grows(qtbot: Any) -> None:
    area, page = QScrollArea(), QWidget()
    qtbot.addWidget(area)
    column = QVBoxLayout(page)
    above, part, below = QLabel("form"), QLabel("step 1 of 5"), QLabel("log")
    for label, height in ((above, 300), (part, 20), (below, 600)):
        label.setMinimumHeight(height)
        column.addWidget(label)
    area.setWidgetResizable(True)
    area.setWidget(page)
    area.resize(300, 200)
    area.show()
    qtbot.waitExposed(area)

    def seen() -> bool:
        return bool(part.visibleRegion().boundingRect() == part.rect())

    assert not seen()
    IntoView(part).start()
    until(seen, 5)
    above.setMinimumHeight(900)
    until(lambda: part.y() > 900, 5)
    until(seen, 5)

    # Whoever scrolls away is not called back.
    area.verticalScrollBar().setValue(0)
    above.setMinimumHeight(1500)
    until(lambda: part.y() > 1500, 5)
    pump(0.2)
    assert area.verticalScrollBar().value() == 0
