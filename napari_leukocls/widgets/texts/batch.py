"""Texts of the Batch dock."""

from __future__ import annotations

from napari_leukocls.widgets.texts.translate import _


class Batch:
    """The Batch dock."""

    TITLE = _("Batch")
    FOLDER = _("Slides in")
    FOLDER_TIP = _("Folder with images. Each image is one slide")
    OUT = _("Results in")
    OUT_TIP = _("Folder for the results: one folder per slide, and summary.csv")
    WORKERS = _("In parallel")
    WORKERS_TIP = _(
        "Number of slides that are analysed at the same time. Each needs memory for its own models"
    )
    RESUME = _("Continue an earlier run")
    RESUME_TIP = _("Slides that were analysed with the same settings and models are not analysed again")
    OPTIONS = _("Options")
    OPTIONS_TIP = _("Settings of the analysis, as in the Analyse dock")
    START = _("Start batch")
    START_TIP = _("Analyse all slides of the folder")
    TABLE = _("Slides of the batch")
    TABLE_TIP = _("State of each slide. A double-click opens a slide for review")
    COLUMNS = (_("Slide"), _("State"), _("Cells"), _("WBC"), _("Review"))
    STATES = {"waiting": _("waiting"), "working": _("running"), "done": _("done"), "failed": _("failed")}
    OPEN = _("Open for review")
    OPEN_TIP = _("Open the selected slide with its cells and its earlier corrections")
    SHOW = _("Show folder")
    SHOW_TIP = _("Open the folder with the results")
    CHOOSE = _("Select a slide in the table first.")
    FINISHED = (_("{n} slide done. Results in {folder}."), _("{n} slides done. Results in {folder}."))
    FAILED_SOME = _("{n} failed: the tool tips in the table give the reasons.")
    STOPPED = _("Stopped. Start again to continue.")
    SLIDES_DONE = (_("{done} of {n} slide done"), _("{done} of {n} slides done"))
    LEUKOCYTES = (_("{n} leukocyte counted"), _("{n} leukocytes counted"))
    TO_REVIEW = (_("{n} cell to review"), _("{n} cells to review"))
    OPENED = _("{slide} is open. It can be reviewed in the Review dock.")
    NO_FOLDER = _("There are no results yet.")
