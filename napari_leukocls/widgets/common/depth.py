"""The list in which a person chooses how finely classes are shown; all docks show the same choice."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_leukocls.widgets.common.controls import combo, find
from napari_leukocls.widgets.texts import Common

if TYPE_CHECKING:
    from qtpy.QtWidgets import QComboBox

    from napari_leukocls.widgets.common.lifetime import Subscriptions
    from napari_leukocls.widgets.common.session import Session


def depth_box(session: Session, subscriptions: Subscriptions) -> QComboBox:
    """Make a list of choices that sets the depth of a session and follows it.

    Parameters
    ----------
    session : Session
    subscriptions : Subscriptions
        Of the dock.

    Returns
    -------
    QComboBox
    """
    box = combo(Common.DEPTH, Common.DEPTH_TIP, [(text, key) for key, text in Common.DEPTHS.items()])

    def follow(depth: str) -> None:
        was_blocked = box.blockSignals(True)
        box.setCurrentIndex(max(0, find(box, depth)))
        box.blockSignals(was_blocked)

    follow(session.depth)
    box.currentIndexChanged.connect(lambda _: session.set_depth(box.currentData()))
    subscriptions.listen(session.depth_changed, follow)
    return box
