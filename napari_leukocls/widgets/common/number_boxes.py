"""Spin boxes that take a point and a comma as the decimal sign, under any language of the desktop."""

from __future__ import annotations

import re

from qtpy.QtCore import QPoint
from qtpy.QtGui import QValidator
from qtpy.QtWidgets import QDoubleSpinBox, QSpinBox, QToolTip

from napari_leukocls.decimals import parse_decimal
from napari_leukocls.widgets.texts import Common

#: Texts that stay while they are typed: no letters. A sign that is left out at once would make another number.
_BEGUN = re.compile(r"[\d\We]*", re.IGNORECASE)


class DecimalBox(QDoubleSpinBox):
    """A spin box of decimal numbers.

    ``0.16`` and ``0,16`` are the same number. Signs between thousands are not taken: the number before comes back,
    and a tool tip says why. A box without decimals takes whole numbers only.
    """

    def __init__(self) -> None:
        super().__init__()
        # The number before is that of the last time, and not of the first digits that are typed.
        self.setKeyboardTracking(False)

    def valueFromText(self, text: str) -> float:
        """Return the number of a text.

        Parameters
        ----------
        text : str
            With prefix and suffix.
        """
        try:
            return self._parsed(text)
        except ValueError:
            return float(self.value())

    def validate(self, text: str, position: int) -> tuple[QValidator.State, str, int]:
        """Tell whether a text is a number, or may become one.

        Parameters
        ----------
        text : str
        position : int
            Of the cursor.
        """
        if text == self.specialValueText():
            return QValidator.State.Acceptable, text, position
        try:
            allowed = self.minimum() <= self._parsed(text) <= self.maximum()
        except ValueError:
            begun = _BEGUN.fullmatch(self._bare(text))
            return QValidator.State.Intermediate if begun else QValidator.State.Invalid, text, position
        return QValidator.State.Acceptable if allowed else QValidator.State.Intermediate, text, position

    def fixup(self, text: str) -> str:
        """Bring the number before back, and say why.

        Parameters
        ----------
        text : str
            What was typed.
        """
        try:
            self._parsed(text)
            why = Common.NUMBER_LIMITS.format(
                low=self.textFromValue(self.minimum()), high=self.textFromValue(self.maximum())
            )
        except ValueError as error:
            why = f"{error}."
        _explain(self, why)
        return f"{self.prefix()}{self.textFromValue(self.value())}{self.suffix()}"

    def _parsed(self, text: str) -> float:
        bare = self._bare(text)
        value = parse_decimal(bare, self.minimum(), self.maximum())
        if self.decimals() == 0 and value != round(value):
            raise ValueError(Common.NUMBER_WHOLE.format(text=bare))
        return value

    def _bare(self, text: str) -> str:
        return _bare(text, self.prefix(), self.suffix())


class WholeBox(QSpinBox):
    """A spin box of whole numbers; a point or a comma in them is not taken for a sign between thousands."""

    def __init__(self) -> None:
        super().__init__()
        # The number before is that of the last time, and not of the first digits that are typed.
        self.setKeyboardTracking(False)

    def valueFromText(self, text: str) -> int:
        """Return the number of a text.

        Parameters
        ----------
        text : str
            With prefix and suffix.
        """
        bare = _bare(text, self.prefix(), self.suffix())
        return int(bare) if bare.isdecimal() else self.value()

    def validate(self, text: str, position: int) -> tuple[QValidator.State, str, int]:
        """Tell whether a text is a whole number, or may become one.

        Parameters
        ----------
        text : str
        position : int
            Of the cursor.
        """
        bare = _bare(text, self.prefix(), self.suffix())
        if text == self.specialValueText():
            state = QValidator.State.Acceptable
        elif bare.isdecimal():
            allowed = self.minimum() <= int(bare) <= self.maximum()
            state = QValidator.State.Acceptable if allowed else QValidator.State.Intermediate
        else:
            # What is typed stays to be seen until the box is left; then the number before comes back.
            begun = _BEGUN.fullmatch(bare)
            state = QValidator.State.Intermediate if begun else QValidator.State.Invalid
        return state, text, position

    def fixup(self, text: str) -> str:
        """Bring the number before back, and say why.

        Parameters
        ----------
        text : str
            What was typed.
        """
        bare = _bare(text, self.prefix(), self.suffix())
        limits = Common.NUMBER_LIMITS.format(low=self.minimum(), high=self.maximum())
        _explain(self, limits if bare.isdecimal() else Common.NUMBER_WHOLE.format(text=bare))
        return f"{self.prefix()}{self.textFromValue(self.value())}{self.suffix()}"


def _bare(text: str, prefix: str, suffix: str) -> str:
    """A text without the prefix and the suffix of its box."""
    return text.removeprefix(prefix).removesuffix(suffix).removesuffix(suffix.strip()).strip()


def _explain(box: QSpinBox | QDoubleSpinBox, why: str) -> None:
    """Show beneath a box why its number did not change."""
    if box.isVisible():
        QToolTip.showText(box.mapToGlobal(QPoint(0, box.height())), why, box)
