"""What the Batch dock does, without Qt."""

from __future__ import annotations

import csv
import queue
import threading
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_leukocls.config import AnalyzeConfig
from napari_leukocls.errors import InputError
from napari_leukocls.progress import CancelToken, Progress
from napari_leukocls.widgets.common.analysed import Analysed, Place, read_folder
from napari_leukocls.widgets.common.analysed import opened as fields_opened

if TYPE_CHECKING:
    from napari_leukocls.batch import SlideOutcome
    from napari_leukocls.io.inputs import SlideInput
    from napari_leukocls.widgets.common.session import Session

WAITING, WORKING, DONE, FAILED = "waiting", "working", "done", "failed"


@dataclass(frozen=True)
class Order:
    """Settings of one batch.

    Attributes
    ----------
    slides : tuple of SlideInput
    out : pathlib.Path
        Folder for the results.
    config : AnalyzeConfig
    workers : int
        Slides that are analysed at the same time.
    resume : bool
        Whether slides with results of the same settings and models are left out.
    """

    slides: tuple[SlideInput, ...]
    out: Path
    config: AnalyzeConfig
    workers: int = 1
    resume: bool = True


@dataclass
class Row:
    """A slide in the table of the batch."""

    slide_id: str
    source: str
    state: str = WAITING
    cells: int | None = None
    leukocytes: int | None = None
    to_review: int | None = None
    note: str = ""


def find_slides(folder: Path) -> tuple[SlideInput, ...]:
    """Return the slides in a folder.

    Parameters
    ----------
    folder : pathlib.Path
        Folder with images, one per slide.

    Returns
    -------
    tuple of SlideInput

    Raises
    ------
    InputError
        If it is not a folder, or contains no image.
    """
    from napari_leukocls.io.inputs import expand_inputs

    if not folder.is_dir():
        raise InputError(f"'{folder}' is not a folder: choose the folder that contains the slides.")
    slides = tuple(expand_inputs([folder]))
    if not any(slide.fields and slide.fields[0] != folder for slide in slides):
        raise InputError(f"'{folder}' contains no image: choose the folder that contains the slides.")
    return slides


def rows_of(slides: tuple[SlideInput, ...], out: Path) -> list[Row]:
    """Return the rows of the table before a run, with the results of earlier runs.

    Parameters
    ----------
    slides : tuple of SlideInput
    out : pathlib.Path
        Folder of the results.

    Returns
    -------
    list of Row
    """
    rows = [Row(slide.slide_id, slide.source) for slide in slides]
    for row in rows:
        if (out / row.slide_id / "cells.csv").is_file():
            row.state = DONE
    fill_numbers(rows, out)
    return rows


def fill_numbers(rows: list[Row], out: Path) -> None:
    """Read the numbers of finished slides from ``summary.csv``, which is updated while a batch runs.

    Parameters
    ----------
    rows : list of Row
        Changed in place.
    out : pathlib.Path
        Folder of the results.
    """
    try:
        with open(out / "summary.csv", encoding="utf-8", newline="") as stream:
            found = {row["slide_id"]: row for row in csv.DictReader(stream)}
    except (OSError, KeyError, csv.Error):
        # Not written yet; the numbers follow at the end of the run.
        return
    for row in rows:
        if row.state == DONE and row.slide_id in found:
            numbers = found[row.slide_id]
            row.cells, row.leukocytes = _whole(numbers.get("n_cells")), _whole(numbers.get("n_wbc"))
            row.to_review = _whole(numbers.get("n_review"))


def _whole(text: str | None) -> int | None:
    return int(text) if text and text.isdigit() else None


def work(order: Order, cancel: CancelToken) -> Generator[Progress, None, list[SlideOutcome]]:
    """Run a batch and yield its progress.

    The batch calls a function instead of yielding, so that it runs in a thread of its own.

    Parameters
    ----------
    order : Order
        Settings of the batch.
    cancel : CancelToken
        Checked between the steps.

    Yields
    ------
    Progress

    Returns
    -------
    list of SlideOutcome

    Raises
    ------
    LeukoclsError
        If the whole batch fails or is cancelled.
    """
    from napari_leukocls.batch import run_batch

    news: queue.Queue[Any] = queue.Queue()

    def run() -> None:
        try:
            news.put(
                run_batch(
                    order.slides,
                    order.out,
                    order.config,
                    workers=order.workers,
                    resume=order.resume,
                    progress=news.put,
                    cancel=cancel,
                )
            )
        except BaseException as error:  # noqa: BLE001 - it is raised again in the worker's thread
            news.put(error)

    thread = threading.Thread(target=run, name="leukocls-batch", daemon=True)
    thread.start()
    while True:
        item = news.get()
        if isinstance(item, Progress):
            yield item
        elif isinstance(item, BaseException):
            raise item
        else:
            value: list[SlideOutcome] = item
            return value


class Table:
    """The slides of a batch, and the state of each.

    Attributes
    ----------
    rows : list of Row
    out : pathlib.Path
        Folder of the results.
    """

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.out = Path()

    def begin(self, rows: list[Row], out: Path) -> None:
        """Show the slides of a run that starts.

        Parameters
        ----------
        rows : list of Row
        out : pathlib.Path
            Folder of the results.
        """
        self.rows, self.out = rows, out
        for row in rows:
            row.state = WAITING

    def on_progress(self, step: Progress) -> None:
        """Update the states from the progress of the run.

        Parameters
        ----------
        step : Progress
            Its message is the id of the slide.
        """
        for row in self.rows:
            if row.state in (WAITING, WORKING):
                if row.state == WORKING and step.stage == "slides" and row.slide_id != step.message:
                    done = (self.out / row.slide_id / "cells.csv").is_file()
                    row.state = DONE if done else FAILED
                    fill_numbers(self.rows, self.out)
                elif step.stage == "slides" and row.slide_id == step.message:
                    row.state = WORKING

    def on_outcomes(self, outcomes: list[SlideOutcome]) -> None:
        """Update the rows with the outcome of every slide.

        Parameters
        ----------
        outcomes : list of SlideOutcome
        """
        by_id = {outcome.slide_id: outcome for outcome in outcomes}
        for row in self.rows:
            outcome = by_id.get(row.slide_id)
            if outcome is None:
                continue
            row.state = outcome.status
            row.cells, row.leukocytes = outcome.n_cells, outcome.n_wbc
            row.to_review = outcome.n_review
            row.note = outcome.error or "; ".join(outcome.warnings)

    def run_warnings(self, outcomes: list[SlideOutcome]) -> list[str]:
        """List the warnings of the run as a whole, and of slides whose stain or camera the model does not know.

        Parameters
        ----------
        outcomes : list of SlideOutcome

        Returns
        -------
        list of str
            Of slides: each with its name.
        """
        from napari_leukocls.analysis.slide_familiarity import is_slide_warning
        from napari_leukocls.batch.run_familiarity import run_warnings

        own = [
            f"{outcome.slide_id}: {line}"
            for outcome in outcomes
            for line in outcome.warnings
            if is_slide_warning(line)
        ]
        return run_warnings(outcomes) or own

    def interrupted(self) -> None:
        """Mark slides that were running as waiting again."""
        for row in self.rows:
            if row.state == WORKING:
                row.state = WAITING


def opened(session: Session, folder: Path, cancel: CancelToken) -> Generator[Progress, None, list[Analysed]]:
    """Read the results of a slide, and apply the corrections of the review store.

    Parameters
    ----------
    session : Session
    folder : pathlib.Path
        Folder of results of the slide.
    cancel : CancelToken
        Checked between the steps.

    Yields
    ------
    Progress

    Returns
    -------
    list of Analysed
        Of its fields.

    Raises
    ------
    LeukoclsError
        If the results or an image cannot be read.
    """
    yield Progress("read", 0, 1)
    results = read_folder(folder)
    found: list[Analysed] = yield from fields_opened(session, results, Place(name=folder.name), cancel)
    return found
