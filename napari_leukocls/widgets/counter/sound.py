"""The sounds of the counter: a click for a key, another tone at the goal; the computer's beep where Qt has no sound."""

from __future__ import annotations

import math
import struct
import wave
from pathlib import Path
from typing import Any

from qtpy.QtCore import QTemporaryDir, QUrl
from qtpy.QtWidgets import QApplication

#: Samples per second.
RATE = 22_050
#: Tones of each sound: frequency, Hz, and duration, seconds.
TONES = {
    "count": ((1_200.0, 0.035),),
    "undo": ((500.0, 0.06),),
    "goal": ((880.0, 0.14), (1_175.0, 0.14), (1_568.0, 0.28)),
    "refused": ((220.0, 0.25),),
}


def samples(tones: tuple[tuple[float, float], ...]) -> bytes:
    """Return tones as 16-bit samples, faded at both ends so that they do not crack.

    Parameters
    ----------
    tones : tuple of tuple
        Frequency, Hz, and duration, seconds, of each.

    Returns
    -------
    bytes
    """
    values = []
    for frequency, seconds in tones:
        n = round(RATE * seconds)
        fade = max(1, n // 6)
        for i in range(n):
            loud = 9_000 * min(1.0, i / fade, (n - i) / fade)
            values.append(round(loud * math.sin(2 * math.pi * frequency * i / RATE)))
    return struct.pack(f"<{len(values)}h", *values)


class Sounds:
    """Plays the sounds of the counter. Qt's sound library is loaded when the first one is played."""

    def __init__(self) -> None:
        self.on = True
        #: What was played last, for those who cannot hear it.
        self.last = ""
        self._effects: dict[str, Any] | None = None
        self._folder = QTemporaryDir()

    def play(self, name: str) -> None:
        """Play a sound, unless sound is off.

        Parameters
        ----------
        name : {"count", "undo", "goal", "refused"}
        """
        self.last = name
        if not self.on:
            return
        if self._effects is None:
            self._effects = self._load()
        effect = self._effects.get(name)
        if effect is None:
            QApplication.beep()
        else:
            effect.play()

    def _load(self) -> dict[str, Any]:
        """Return Qt's effects by name; none where there is no sound library or no loudspeaker."""
        try:
            from qtpy.QtMultimedia import QMediaDevices, QSoundEffect
        except ImportError:
            return {}
        if not self._folder.isValid() or QMediaDevices.defaultAudioOutput().isNull():
            return {}
        found = {}
        for name, tones in TONES.items():
            path = Path(self._folder.path()) / f"{name}.wav"
            with wave.open(str(path), "wb") as file:
                file.setnchannels(1)
                file.setsampwidth(2)
                file.setframerate(RATE)
                file.writeframes(samples(tones))
            effect = QSoundEffect()
            effect.setSource(QUrl.fromLocalFile(str(path)))
            found[name] = effect
        return found
