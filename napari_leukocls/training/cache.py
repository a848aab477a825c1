"""Crops that were cut before, kept in one SQLite file for each crop rule and segmenter.

A crop is found by its file's hash and its scale, so that a corrected label, a new crop or a resumed run cuts
only what is new. The file may be deleted at any time.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import sqlite3
from pathlib import Path

import numpy as np

from napari_leukocls.classification.crops import CropRule
from napari_leukocls.resources import user_data_dir

log = logging.getLogger(__name__)
#: Changes when crops are cut in another way with the same rule.
FORMAT = 1


def cache_folder() -> Path:
    """Folder of the cache; ``LEUKOCLS_CACHE`` overrides it."""
    override = os.environ.get("LEUKOCLS_CACHE")
    return Path(override) if override else user_data_dir() / "cache"


class CropCache:
    """Cut crops by key.

    A cache that cannot be read or written is said once in the log and not used: it saves time and nothing
    else.

    Parameters
    ----------
    rule : CropRule
    how : str
        How crops are found: the segmenter's hash, or a word where none is used.
    """

    def __init__(self, rule: CropRule, how: str) -> None:
        self.rule = rule
        self._how = f"{FORMAT}|{rule}|{how}"
        name = hashlib.sha256(self._how.encode()).hexdigest()[:16]
        self._file = cache_folder() / f"crops-{name}.sqlite"
        self._base: sqlite3.Connection | None = None
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._base = sqlite3.connect(self._file, timeout=30, check_same_thread=False)
            self._base.execute("PRAGMA journal_mode=WAL")
            self._base.execute("PRAGMA synchronous=NORMAL")
            self._base.execute(
                "CREATE TABLE IF NOT EXISTS crops (key TEXT PRIMARY KEY, found INT, data BLOB)"
            )
        except (OSError, sqlite3.Error) as error:
            self._give_up(error)

    def key(self, digest: str, um_per_px: float) -> str:
        """Key of a file's crop at a scale."""
        return f"{digest}@{um_per_px:.6g}"

    def get(self, key: str) -> tuple[np.ndarray, np.ndarray, bool] | None:
        """Crop (side, side, 3), kind votes (3,), and whether a cell was found; None where there is none."""
        if self._base is None:
            return None
        try:
            row = self._base.execute("SELECT found, data FROM crops WHERE key=?", (key,)).fetchone()
        except sqlite3.Error as error:
            self._give_up(error)
            return None
        side = self.rule.side_px
        if row is None or len(row[1]) != 12 + side * side * 3:
            return None
        kind = np.frombuffer(row[1], np.float32, 3)
        return np.frombuffer(row[1], np.uint8, offset=12).reshape(side, side, 3), kind, bool(row[0])

    def put(self, rows: list[tuple[str, np.ndarray, np.ndarray, bool]]) -> None:
        """Keep crops: rows of key, crop, kind votes, and whether a cell was found."""
        if self._base is None:
            return
        values = [
            (key, int(found), np.asarray(kind, np.float32).tobytes() + np.ascontiguousarray(crop).tobytes())
            for key, crop, kind, found in rows
        ]
        try:
            with self._base:
                self._base.executemany("INSERT OR REPLACE INTO crops VALUES (?, ?, ?)", values)
        except sqlite3.Error as error:
            self._give_up(error)

    def close(self) -> None:
        """Close the file."""
        if self._base is not None:
            self._base.close()
            self._base = None

    def _give_up(self, error: Exception) -> None:
        log.warning("the cache of crops %s is not used (%s); free space or delete it.", self._file, error)
        with contextlib.suppress(sqlite3.Error):
            self.close()
        self._base = None
