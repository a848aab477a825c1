"""Spin boxes under a German, a French and an English desktop."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pytestqt.qtbot import QtBot
from qtpy.QtCore import QLocale
from qtpy.QtTest import QTest

from napari_leukocls.errors import ArgumentError
from napari_leukocls.training.config import TrainConfig
from napari_leukocls.widgets.common.number_boxes import DecimalBox, WholeBox
from napari_leukocls.widgets.train.form import advanced_settings, parsed


@pytest.fixture(params=["en_GB", "de_DE", "fr_FR", "de_CH", "ar_EG"])
def _language(request: pytest.FixtureRequest) -> Iterator[None]:
    before = QLocale()
    QLocale.setDefault(QLocale(request.param))
    yield
    QLocale.setDefault(before)


def typed(box: DecimalBox | WholeBox, text: str) -> float:
    box.setFocus()
    box.selectAll()
    QTest.keyClicks(box, text)
    box.interpretText()
    return float(box.value())


def pixel_size(qtbot: QtBot) -> DecimalBox:
    box = DecimalBox()
    qtbot.addWidget(box)
    box.setRange(0.005, 1.4)
    box.setDecimals(4)
    box.setValue(0.1)
    return box


@pytest.mark.usefixtures("_language")
@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.16", 0.16),
        ("0,16", 0.16),
        (",2", 0.2),
        ("1,234", 1.234),
        ("1.234", 1.234),
        ("16", 0.1),
        ("0,1,6", 0.1),
    ],
)
def test_a_pixel_size_takes_both_signs(qtbot: QtBot, text: str, value: float) -> None:
    assert typed(pixel_size(qtbot), text) == pytest.approx(value)


@pytest.mark.usefixtures("_language")
def test_what_is_not_clear_leaves_the_number_as_it_was(qtbot: QtBot) -> None:
    box = DecimalBox()
    qtbot.addWidget(box)
    box.setRange(5, 2000)
    box.setDecimals(1)
    box.setValue(75)
    for text in ("1,234", "1.234,5", "1'234", "9999"):
        assert typed(box, text) == 75, text
    assert typed(box, "95,5") == 95.5 and typed(box, "1234") == 1234


@pytest.mark.usefixtures("_language")
def test_percent_and_whole_numbers_take_no_decimals(qtbot: QtBot) -> None:
    percent = DecimalBox()
    qtbot.addWidget(percent)
    percent.setRange(0, 100)
    percent.setDecimals(0)
    percent.setSuffix(" %")
    percent.setSpecialValueText("the model's own")
    assert typed(percent, "85") == 85
    assert typed(percent, "0.9") == 85 and typed(percent, "0,9") == 85
    percent.setValue(0)
    assert percent.text() == "the model's own" and typed(percent, "90 %") == 90
    epochs = WholeBox()
    qtbot.addWidget(epochs)
    epochs.setRange(0, 10_000)
    assert typed(epochs, "25") == 25
    for text in ("2.5", "2,5", "1.000", "1,000", "99999"):
        assert typed(epochs, text) == 25, text


def test_typed_settings_of_a_training_take_both_signs() -> None:
    by_name = {setting.name: setting for setting in advanced_settings()}
    assert parsed(by_name["lr"], "0,001") == 0.001 and parsed(by_name["um_per_px"], "0,16") == 0.16
    assert (
        parsed(by_name["mean"], "0.5,0.4,0.3") == parsed(by_name["mean"], "0,5; 0,4; 0,3") == (0.5, 0.4, 0.3)
    )
    assert parsed(by_name["mean"], "0,5, 0,4, 0,3") == (0.5, 0.4, 0.3)
    with pytest.raises(ArgumentError, match="lr: .*write one of these"):
        parsed(by_name["lr"], "1,000")
    assert set(by_name) <= set(TrainConfig.model_fields)
