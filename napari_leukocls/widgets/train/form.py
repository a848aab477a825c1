"""The forms of the Train dock: data and settings."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QComboBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLineEdit,
    QListWidget,
    QListWidgetItem,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_leukocls.architectures import registry
from napari_leukocls.decimals import parse_decimal
from napari_leukocls.errors import ArgumentError, LeukoclsError
from napari_leukocls.training.config import TrainConfig, make_train_config, preset_names, preset_summary
from napari_leukocls.widgets.common.controls import Folded, button, combo, fill, form, form_row, label, named
from napari_leukocls.widgets.common.lifetime import Subscriptions
from napari_leukocls.widgets.common.number_boxes import DecimalBox, WholeBox
from napari_leukocls.widgets.common.session import Session, classifiers
from napari_leukocls.widgets.common.wording import in_dock_words
from napari_leukocls.widgets.texts import Train, plural
from napari_leukocls.widgets.train.data_model import Sources, class_counts, iter_corrected_slides, new_folder

#: Settings with a control of their own, and settings that the dock sets.
PLAIN = {"version", "preset", "data", "corrections", "out", "name", "arch", "from_model", "epochs", "minutes"}
_MODEL, _ARCH, _PRESET = "model", "arch", "preset"


@dataclass(frozen=True)
class Setting:
    """A training setting with a control.

    Attributes
    ----------
    name, help : str
    default : object
    choices : tuple
        The allowed values; empty if the value is typed.
    number : bool
        Whether it is a decimal number.
    """

    name: str
    help: str
    default: Any
    choices: tuple[Any, ...] = ()
    number: bool = False


def advanced_settings() -> list[Setting]:
    """Return the settings without a control of their own, in their order."""
    found = []
    for name, info in TrainConfig.model_fields.items():
        if name in PLAIN:
            continue
        kind = info.annotation
        choices: tuple[Any, ...] = (False, True) if kind is bool else ()
        if get_origin(kind) is not None and all(isinstance(one, str) for one in get_args(kind)):
            choices = get_args(kind)
        found.append(Setting(name, info.description or "", info.default, choices, _is_number(kind)))
    return found


def _is_number(annotation: Any) -> bool:
    """Whether a field holds a float, or a float or None."""
    return annotation is float or float in (_is_part(part) for part in get_args(annotation))


def _is_part(annotation: Any) -> Any:
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def parsed(setting: Setting, text: str) -> Any:
    """Convert the text that a person typed for a setting.

    Parameters
    ----------
    setting : Setting
    text : str

    Returns
    -------
    object

    Raises
    ------
    ArgumentError
        If the text is not valid for the setting.
    """
    if isinstance(setting.default, (tuple, dict)) or setting.name in ("mean", "std"):
        try:
            if setting.name in ("mean", "std"):
                return tuple(parse_decimal(part) for part in _parts(text))
            if isinstance(setting.default, dict):
                return json.loads(text)
            return tuple(part.strip() for part in text.split(",") if part.strip())
        except ValueError as error:
            raise ArgumentError(f"{setting.name}: '{text}' cannot be read ({error}).") from error
    if setting.number:
        try:
            return parse_decimal(text)
        except ValueError as error:
            raise ArgumentError(f"{setting.name}: {error}.") from error
    return text


def _parts(text: str) -> list[str]:
    """Numbers of a list: between semicolons or spaces where there are some, else between commas."""
    sign = ";" if ";" in text else None if len(text.split()) > 1 else ","
    return [part.strip().rstrip(",") for part in text.split(sign)]


def recipes() -> list[tuple[str, str]]:
    """Return the presets by what they do, those of published studies last.

    Returns
    -------
    list of tuple of str
        Text and name of each preset.
    """
    names = preset_names()
    own = [(text, name) for name, text in Train.RECIPES.items() if name in names]
    papers = [name for name in names if name not in Train.RECIPES]
    return own + [(Train.RECIPE_OF_PAPER.format(what=_subject(name)), name) for name in papers]


def _subject(name: str) -> str:
    """What a preset trains: the first words of its summary."""
    return re.split(r" with | \(|, ", preset_summary(name), maxsplit=1)[0] + f" ({name})"


class DataForm(QWidget):
    """The sources of labelled crops.

    Parameters
    ----------
    session : Session
    """

    changed = Signal()
    problem = Signal(str)

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self._wrong = False
        self.slides = named(QListWidget(), Train.SLIDES, Train.SLIDES_TIP)
        self.paths = named(QListWidget(), Train.PATHS, Train.PATHS_TIP)
        for one in (self.slides, self.paths):
            one.setMinimumHeight(self.fontMetrics().height() * 3)
            one.setMaximumHeight(self.fontMetrics().height() * 5)
            one.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
            one.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        self.counts = label(Train.NO_DATA)
        buttons = QHBoxLayout()
        buttons.addWidget(button(Train.ADD_FOLDER, Train.ADD_FOLDER_TIP, self._add_folder))
        buttons.addWidget(button(Train.ADD_TABLE, Train.ADD_TABLE_TIP, self._add_table))
        buttons.addWidget(button(Train.REMOVE, Train.REMOVE_TIP, self._remove))
        lines = form()
        form_row(lines, Train.SLIDES, self.slides)
        form_row(lines, Train.PATHS, self.paths)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addLayout(lines)
        column.addLayout(buttons)
        column.addWidget(self.counts)
        self.slides.itemChanged.connect(lambda _: self.refresh_counts())
        self._job = Subscriptions(self).job(Train.SLIDES)
        self._job.done.connect(self._show_slides)
        self._job.failed.connect(self.problem)

    def refresh_slides(self) -> None:
        """Update the slides with corrections. The review store is read in a thread."""
        self._job.start(lambda _: iter_corrected_slides(self._session), show_activity=False)

    def _show_slides(self, found: list[tuple[str, str, int]]) -> None:
        """Offer slides; what was ticked stays ticked."""
        ticked = set(self.sources().slides)
        known = {self.slides.item(i).data(Qt.ItemDataRole.UserRole) for i in range(self.slides.count())}
        was_blocked = self.slides.blockSignals(True)
        self.slides.clear()
        for key, name, n in found:
            item = QListWidgetItem(Train.SLIDE.format(name=name, n=n))
            item.setData(Qt.ItemDataRole.UserRole, key)
            item.setFlags(item.flags() | Qt.ItemFlag.ItemIsUserCheckable)
            on = key in ticked or key not in known
            item.setCheckState(Qt.CheckState.Checked if on else Qt.CheckState.Unchecked)
            self.slides.addItem(item)
        if not self.slides.count():
            item = QListWidgetItem(Train.NO_SLIDES)
            item.setFlags(Qt.ItemFlag.NoItemFlags)
            self.slides.addItem(item)
        self.slides.blockSignals(was_blocked)
        self.refresh_counts()

    def sources(self) -> Sources:
        """Return the selected sources."""
        keys = []
        for i in range(self.slides.count()):
            item = self.slides.item(i)
            key = item.data(Qt.ItemDataRole.UserRole)
            if key and item.checkState() == Qt.CheckState.Checked:
                keys.append(str(key))
        paths = [Path(self.paths.item(i).text()) for i in range(self.paths.count())]
        return Sources(tuple(keys), tuple(paths))

    def refresh_counts(self) -> None:
        """Show the number of crops of each class."""
        try:
            counts = class_counts(self._session, self.sources())
        except LeukoclsError as error:
            self._wrong = True
            self.problem.emit(in_dock_words(str(error)))
            counts = {}
        else:
            # Only what was said of the data goes.
            if self._wrong:
                self.problem.emit("")
            self._wrong = False
        scheme = self._session.scheme
        parts = [f"{scheme[name].display if name in scheme else name} {n}" for name, n in counts.items()]
        total = sum(counts.values())
        text = plural(Train.COUNTS, total, counts=", ".join(parts)) if total else Train.NO_DATA
        self.counts.setText(text)
        self.changed.emit()

    def add(self, path: str) -> None:
        """Add a folder or a table of labelled crops.

        Parameters
        ----------
        path : str
            Nothing is done if it is empty.
        """
        if path:
            item = QListWidgetItem(path)
            item.setToolTip(path)
            self.paths.addItem(item)
            self.refresh_counts()

    def _add_folder(self) -> None:
        self.add(QFileDialog.getExistingDirectory(self, Train.ADD_FOLDER))

    def _add_table(self) -> None:
        self.add(QFileDialog.getOpenFileName(self, Train.ADD_TABLE, filter=Train.TABLES)[0])

    def _remove(self) -> None:
        for item in self.paths.selectedItems():
            self.paths.takeItem(self.paths.row(item))
        self.refresh_counts()


class SettingsForm(QWidget):
    """The settings of a training."""

    def __init__(self) -> None:
        super().__init__()
        self.model = combo(Train.MODEL, Train.MODEL_TIP)
        self.preset = combo(Train.PRESET, Train.PRESET_TIP, recipes())
        for i in range(self.preset.count()):
            tip = in_dock_words(preset_summary(self.preset.itemData(i)))
            self.preset.setItemData(i, tip, Qt.ItemDataRole.ToolTipRole)
        self.name = named(QLineEdit(), Train.NAME, Train.NAME_TIP)
        self.name.setPlaceholderText(Train.NAME_HINT)
        self.epochs = named(WholeBox(), Train.EPOCHS, Train.EPOCHS_TIP)
        self.epochs.setRange(0, 10_000)
        self.epochs.setSpecialValueText(Train.AS_PRESET)
        self.minutes = named(DecimalBox(), Train.MINUTES, Train.MINUTES_TIP)
        self.minutes.setRange(0, 100_000)
        self.minutes.setDecimals(0)
        self.minutes.setSuffix(" min")
        self.minutes.setSpecialValueText(Train.NO_LIMIT)
        for box in (self.epochs, self.minutes):
            box.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.advanced = Folded(Train.ADVANCED, Train.ADVANCED_TIP)
        self._settings: list[tuple[Setting, QWidget]] = []
        self.advanced.head.toggled.connect(self._fill_advanced)
        lines = form()
        form_row(lines, Train.MODEL, self.model)
        form_row(lines, Train.PRESET, self.preset)
        form_row(lines, Train.NAME, self.name)
        form_row(lines, Train.EPOCHS, self.epochs)
        form_row(lines, Train.MINUTES, self.minutes)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addLayout(lines)
        column.addWidget(self.advanced)

    def refresh_models(self) -> None:
        """Update the list of models and of new networks."""
        entries: list[tuple[str, Any]] = [
            (Train.FROM_MODEL.format(name=entry.name), (_MODEL, entry.name)) for entry in classifiers()
        ]
        entries.append((Train.FROM_PRESET, (_PRESET, "")))
        entries += [(Train.FROM_ARCH.format(name=name), (_ARCH, name)) for name in registry.list()]
        fill(self.model, entries)

    def _fill_advanced(self, opened: bool) -> None:
        """Make the controls when they are first wanted."""
        if not opened or self._settings:
            return
        lines = form()
        # Some names are long: in a narrow dock their controls are placed below them.
        lines.setRowWrapPolicy(QFormLayout.RowWrapPolicy.WrapLongRows)
        for setting in advanced_settings():
            tip = setting.help or setting.name
            if setting.choices:
                box = combo(setting.name, tip, [(Train.AS_PRESET, None)])
                for choice in setting.choices:
                    box.addItem(str(choice), choice)
                control: QWidget = box
            else:
                control = named(QLineEdit(), setting.name, tip)
                control.setPlaceholderText("" if setting.default is None else str(setting.default))
            self._settings.append((setting, control))
            form_row(lines, setting.name.replace("_", " "), control)
        self.advanced.body.addLayout(lines)

    def config(self, data: Path | str) -> Any:
        """Return the settings, validated.

        Parameters
        ----------
        data : pathlib.Path or str
            Folder or table of labelled crops.

        Returns
        -------
        TrainConfig

        Raises
        ------
        ArgumentError
            If a setting is not valid.
        """
        options: dict[str, Any] = {}
        kind, name = self.model.currentData()
        if kind != _PRESET:
            options["from_model" if kind == _MODEL else "arch"] = name
        if self.name.text().strip():
            options["name"] = self.name.text().strip()
        if self.epochs.value():
            options["epochs"] = self.epochs.value()
        if self.minutes.value():
            options["minutes"] = self.minutes.value()
        for setting, control in self._settings:
            if isinstance(control, QComboBox):
                if control.currentData() is not None:
                    options[setting.name] = control.currentData()
            elif control.text().strip():
                options[setting.name] = parsed(setting, control.text().strip())
        out = new_folder(self.name.text().strip() or str(name) or str(self.preset.currentData()))
        return make_train_config(self.preset.currentData(), data=str(data), out=str(out), **options)
