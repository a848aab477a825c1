"""Batches of slides: whole or not begun, resumed where they stopped, on one process or many machines."""

from __future__ import annotations

from napari_leukocls.batch.job import SlideOutcome
from napari_leukocls.batch.run import run_batch

__all__ = ["SlideOutcome", "run_batch"]
