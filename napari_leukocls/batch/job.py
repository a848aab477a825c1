"""A slide of a batch: the job before it is analysed, and the outcome after."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_leukocls.config import AnalyzeConfig
    from napari_leukocls.io.inputs import SlideInput
    from napari_leukocls.measurement.samples import SampleValues
    from napari_leukocls.segmentation.common_scale import CommonScales


@dataclass(frozen=True)
class SlideOutcome:
    """How one slide of a run ended: ``done`` or ``failed``, with the one-line error of the latter.

    ``resumed`` is true where an earlier run had done it and nothing has changed since.
    """

    slide_id: str
    status: str
    error: str | None
    seconds: float
    n_cells: int
    n_wbc: int
    n_review: int
    warnings: tuple[str, ...] = ()
    resumed: bool = False


@dataclass(frozen=True)
class Job:
    """One slide to do, as it travels to the process that does it.

    Attributes
    ----------
    slide : SlideInput
        With the paths as the user gave them, which the results quote.
    base : pathlib.Path
        Folder that relative paths of fields start from.
    out_dir : pathlib.Path
        Folder of the run, absolute.
    config : AnalyzeConfig
    models : mapping of str to str or None
        Role of a model to the SHA-256 of its card and weights, when the run started.
    version : str
        Version of the program that started the run.
    resume : bool
        Whether to keep an earlier result of the same job.
    threads : int or None
        Threads of the networks; None leaves the number to them.
    notes : tuple of str
        What the run knows of the slide before it is read; they become warnings.
    scales : CommonScales or None
        Of the images of the same folder or slide.
    sample : SampleValues or None
        Counts of the analyser, and what else is known of the sample.
    rules : str
        Digest of the laboratory's rules; "" if it has none.
    """

    slide: SlideInput
    base: Path
    out_dir: Path
    config: AnalyzeConfig
    models: Mapping[str, str | None]
    version: str
    resume: bool = False
    threads: int | None = None
    notes: tuple[str, ...] = ()
    scales: CommonScales | None = None
    sample: SampleValues | None = None
    rules: str = ""

    @property
    def fields(self) -> tuple[Path, ...]:
        """The slide's fields, absolute: the process may stand in another folder."""
        return tuple(self.base / field for field in self.slide.fields)


@dataclass(frozen=True)
class SlideDone:
    """An outcome, and the slide's row of ``summary.csv`` where it has one."""

    outcome: SlideOutcome
    row: Mapping[str, Any] | None = None


def failure(slide_id: str, error: str, seconds: float = 0.0) -> SlideDone:
    """Record that a slide failed.

    Parameters
    ----------
    slide_id : str
    error : str
        One line: what is wrong.
    seconds : float

    Returns
    -------
    SlideDone
    """
    return SlideDone(SlideOutcome(slide_id, "failed", error, seconds, 0, 0, 0))


def success(
    row: Mapping[str, Any], warnings: tuple[str, ...], seconds: float, *, resumed: bool = False
) -> SlideDone:
    """Record that a slide is done.

    Parameters
    ----------
    row : mapping
        Its row of ``summary.csv``.
    warnings : tuple of str
    seconds : float
    resumed : bool
        Whether an earlier run had analysed it.

    Returns
    -------
    SlideDone
    """
    cells, wbc, review = (int(row[name]) for name in ("n_cells", "n_wbc", "n_review"))
    outcome = SlideOutcome(str(row["slide_id"]), "done", None, seconds, cells, wbc, review, warnings, resumed)
    return SlideDone(outcome, row)
