"""The settings of the Analyse dock: the image, the region, the models and the scale."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari.layers import Image, Shapes
from qtpy.QtCore import Signal
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import QFileDialog, QSizePolicy, QVBoxLayout, QWidget

from napari_leukocls.classification.fine import offered_fine_classes
from napari_leukocls.config import AnalyzeConfig, make_config
from napari_leukocls.errors import InputError, LeukoclsError
from napari_leukocls.measurement.fine import CLASSES, FINE
from napari_leukocls.models.registry import active_classifier, find_model
from napari_leukocls.widgets.analyse.model import Request, region_in_box, region_in_polygons
from napari_leukocls.widgets.common import preferences
from napari_leukocls.widgets.common.controls import Folded, combo, fill, find, form, form_row, named
from napari_leukocls.widgets.common.depth import depth_box
from napari_leukocls.widgets.common.layer_geometry import box_in_view, closed_shapes, image_shape
from napari_leukocls.widgets.common.lifetime import Subscriptions
from napari_leukocls.widgets.common.number_boxes import DecimalBox
from napari_leukocls.widgets.common.session import Session, classifiers, segmenters
from napari_leukocls.widgets.common.smear_layers import (
    is_smear,
    is_stack,
    other_pixels,
    plane_of,
    projection_of,
    smear_of,
)
from napari_leukocls.widgets.texts import Analyse, Common

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_leukocls.analysis.region import Region

_FILE = "file…"

#: Other layers whose scale is looked at.
MOST_OTHERS = 12

#: The choice of the plane that the viewer shows.
SHOWN_PLANE = "shown"
_WHOLE, _VIEW = "whole", "view"


class AnalyseForm(QWidget):
    """Settings of an analysis.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
    session : Session
    for_batch : bool
        Leave out the settings that belong to one open image.
    """

    layer_chosen = Signal(object)
    problem = Signal(str)

    def __init__(self, viewer: ViewerModel, session: Session, for_batch: bool = False) -> None:
        super().__init__()
        self._viewer = viewer
        self._session = session
        self._for_batch = for_batch
        self._build()
        self._lay_out()
        self._connect()
        self.refresh_models()
        self.refresh_layers()
        self._show_planes(self.chosen_layer())

    def _build(self) -> None:
        self.layer = combo(Analyse.LAYER, Analyse.LAYER_TIP)
        self.segmenter = combo(Analyse.SEGMENTER, Analyse.SEGMENTER_TIP)
        self.classifier = combo(Analyse.CLASSIFIER, Analyse.CLASSIFIER_TIP)
        devices = [(text, name) for name, text in Analyse.DEVICES.items()]
        self.depth = depth_box(self._session, Subscriptions(self))
        self.shapes = combo(
            Analyse.SHAPES, Analyse.SHAPES_TIP, [(text, on) for on, text in Analyse.SHAPES_KINDS.items()]
        )
        self.device = combo(Analyse.DEVICE, Analyse.DEVICE_TIP, devices)
        self.device.setCurrentIndex(max(0, find(self.device, preferences.device())))
        kinds = [(text, name) for name, text in Analyse.SCALE_KINDS.items()]
        self.scale_kind = combo(Analyse.SCALE, Analyse.SCALE_TIP, kinds)
        self.scale_value = named(DecimalBox(), Analyse.SCALE_VALUE, Analyse.SCALE_VALUE_TIP)
        self.scale_value.hide()
        self.confidence = named(DecimalBox(), Analyse.CONFIDENCE, Analyse.CONFIDENCE_TIP)
        self.confidence.setRange(0, 100)
        self.confidence.setDecimals(0)
        self.confidence.setSingleStep(5)
        self.confidence.setSuffix(" %")
        self.confidence.setSpecialValueText(Analyse.CONFIDENCE_OWN)
        for box in (self.confidence, self.scale_value):
            box.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.region = combo(Analyse.REGION, Analyse.REGION_TIP)
        self.plane = combo(
            Analyse.PLANE, Analyse.PLANE_TIP, [(text, key) for key, text in Analyse.PLANES.items()]
        )

    def _lay_out(self) -> None:
        lines = form()
        if not self._for_batch:
            form_row(lines, Analyse.LAYER, self.layer)
            form_row(lines, Analyse.REGION, self.region)
            form_row(lines, Analyse.PLANE, self.plane)
            self._plane_caption = lines.labelForField(self.plane)
        settings = form()
        form_row(settings, Analyse.SEGMENTER, self.segmenter)
        form_row(settings, Analyse.CLASSIFIER, self.classifier)
        form_row(settings, Common.DEPTH, self.depth)
        form_row(settings, Analyse.SHAPES, self.shapes)
        form_row(settings, Analyse.CONFIDENCE, self.confidence)
        form_row(settings, Analyse.SCALE, self.scale_kind, self.scale_value)
        form_row(settings, Analyse.DEVICE, self.device)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addLayout(lines)
        self.settings = Folded(Analyse.SETTINGS, Analyse.SETTINGS_TIP)
        if self._for_batch:
            # The Batch dock folds them itself.
            column.addLayout(settings)
            return
        self.settings.body.addLayout(settings)
        self.settings.head.setChecked(True)
        column.addWidget(self.settings)

    def _connect(self) -> None:
        subscriptions = Subscriptions(self)
        events = self._viewer.layers.events
        for event in (events.inserted, events.removed, events.renamed):
            subscriptions.listen(event, self.refresh_layers)
        subscriptions.listen(self._viewer.layers.selection.events.active, self._follow_active)
        subscriptions.listen(self._session.models_changed, self.refresh_models)
        self.layer.currentIndexChanged.connect(lambda _: self.layer_chosen.emit(self.chosen_layer()))
        self.layer_chosen.connect(self._show_planes)
        self.scale_kind.currentIndexChanged.connect(self._on_scale_kind)
        self.segmenter.activated.connect(self._on_segmenter)

    def showEvent(self, event: QShowEvent) -> None:
        """Update the models: some may have been added or removed while the dock was hidden.

        Parameters
        ----------
        event : QShowEvent
        """
        self.refresh_models()
        super().showEvent(event)

    def chosen_layer(self) -> Image | None:
        """Return the selected image layer, or None if it is not in the viewer."""
        name = self.layer.currentData()
        return self._viewer.layers[name] if name is not None and name in self._viewer.layers else None

    def show_layer(self, layer: Image) -> None:
        """Show the name of an image layer that is shown already.

        Parameters
        ----------
        layer : napari.layers.Image
        """
        at = find(self.layer, layer.name)
        if at >= 0 and at != self.layer.currentIndex():
            was_blocked = self.layer.blockSignals(True)
            self.layer.setCurrentIndex(at)
            self.layer.blockSignals(was_blocked)
            self._show_planes(layer)

    def refresh_layers(self, _event: Any = None) -> None:
        """Update the lists of image layers and of regions.

        Parameters
        ----------
        _event : object
        """
        before = self.layer.currentData()
        images = [layer.name for layer in self._viewer.layers if is_smear(layer)]
        fill(self.layer, [(name, name) for name in images])
        self.layer.setEnabled(bool(images))
        fill(
            self.region,
            [
                *((text, name) for name, text in Analyse.REGIONS.items()),
                *(
                    (Analyse.REGION_SHAPES.format(name=layer.name), ("shapes", layer.name))
                    for layer in self._viewer.layers
                    if isinstance(layer, Shapes)
                ),
            ],
        )
        if before not in images and images:
            self.layer.setCurrentIndex(len(images) - 1)
        if self.layer.currentData() != before:
            self.layer_chosen.emit(self.chosen_layer())

    def _show_planes(self, layer: Image | None) -> None:
        """Offer the planes where the layer is a stack."""
        stack = layer is not None and is_stack(layer)
        if not self._for_batch:
            for one in (self.plane, self._plane_caption):
                one.setVisible(stack)

    def _follow_active(self, event: Any) -> None:
        active = event.value
        if is_smear(active):
            at = find(self.layer, active.name)
            if at >= 0:
                self.layer.setCurrentIndex(at)

    def refresh_models(self) -> None:
        """Update the list of models; the active one is the first."""
        try:
            models = [entry.name for entry in classifiers()]
        except LeukoclsError as error:
            self.problem.emit(str(error))
            return
        entries: list[tuple[str, Any]] = [(name, name) for name in models[1:]]
        if models:
            entries.insert(0, (Analyse.ACTIVE.format(name=models[0]), None))
        fill(self.classifier, entries)
        own = [self.segmenter.itemData(i) for i in range(self.segmenter.count())]
        files = [name for name in own if name not in segmenters() and name != _FILE]
        shown = [(Analyse.SEGMENTERS.get(name, f"cellpose {name}"), name) for name in segmenters()]
        shown += [(str(name), name) for name in files]
        fill(self.segmenter, [*shown, (Analyse.SEGMENTER_FILE, _FILE)])

    def _on_segmenter(self, index: int) -> None:
        if self.segmenter.itemData(index) != _FILE:
            return
        path, _ = QFileDialog.getOpenFileName(self, Analyse.SEGMENTER_FILE)
        if path:
            self.segmenter.insertItem(index, path, path)
        self.segmenter.setCurrentIndex(index if path else 0)

    def _on_scale_kind(self, _index: int) -> None:
        kind = self.scale_kind.currentData()
        self.scale_value.setVisible(kind != "auto")
        if kind == "pixel_size_um":
            self.scale_value.setRange(0.005, 1.4)
            self.scale_value.setDecimals(4)
            self.scale_value.setSingleStep(0.01)
            self.scale_value.setValue(0.1)
        elif kind == "diameter_px":
            self.scale_value.setRange(5, 2000)
            self.scale_value.setDecimals(1)
            self.scale_value.setSingleStep(1)
            self.scale_value.setValue(75)

    def config(self) -> AnalyzeConfig:
        """Return the settings, validated.

        One image is always analysed as finely as its model can, so that the depth can be changed afterwards. The
        files of a batch have the depth that is chosen.
        """
        options: dict[str, Any] = {
            "segmenter": self.segmenter.currentData(),
            "classifier": self.classifier.currentData(),
            "device": self.device.currentData(),
            "red_cells": self.shapes.currentData(),
            "depth": self.depth.currentData() if self._for_batch else self._finest(),
        }
        if self.confidence.value() > 0:
            options["min_confidence"] = self.confidence.value() / 100
        if self.scale_kind.currentData() != "auto":
            options[self.scale_kind.currentData()] = self.scale_value.value()
        return make_config(**options)

    def _finest(self) -> str:
        try:
            model = find_model(self.classifier.currentData() or active_classifier())
        except LeukoclsError:
            # The analysis says what is wrong with the model.
            return CLASSES
        return FINE if offered_fine_classes(model.path) else CLASSES

    @property
    def whole(self) -> bool:
        """Whether whole images are analysed, and not a part of one."""
        return bool(self.region.currentData() == _WHOLE)

    def request(self, layer: Image | None) -> Request:
        """Return what to analyse and how, with a copy of the image.

        Parameters
        ----------
        layer : napari.layers.Image or None

        Returns
        -------
        Request

        Raises
        ------
        LeukoclsError
            Where there is no smear, or it or the region cannot be analysed.
        """
        if layer is None:
            raise InputError(Analyse.NO_LAYER)
        point = self._viewer.dims.point
        plane = self.plane.currentData() if is_stack(layer) else SHOWN_PLANE
        shown = plane == SHOWN_PLANE
        image = smear_of(layer, point) if shown else projection_of(layer, plane)
        config = self.config().model_copy(update={"plane": plane_of(layer, point) if shown else plane})
        layers = {one.name: one for one in self._viewer.layers if is_smear(one) and one is not layer}
        others = [other_pixels(layers[name], point) for name in sorted(layers)][:MOST_OTHERS]
        return Request(image, config, self._region(layer), tuple(one for one in others if one is not None))

    def _region(self, layer: Image) -> Region | None:
        chosen = self.region.currentData()
        if chosen == _VIEW:
            return region_in_box(box_in_view(layer), image_shape(layer))
        if isinstance(chosen, tuple):
            if chosen[1] not in self._viewer.layers:
                raise InputError(f"the Shapes layer '{chosen[1]}' was removed: choose another region.")
            shapes = closed_shapes(layer, self._viewer.layers[chosen[1]])
            return region_in_polygons(shapes, image_shape(layer))
        return None
