"""Whole slides: surveyed at low resolution, analysed in tiles, written as they are made."""

from __future__ import annotations

from napari_leukocls.wholeslide.analysis import write_whole_slide

__all__ = ["write_whole_slide"]
