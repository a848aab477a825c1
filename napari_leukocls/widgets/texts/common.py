"""Texts of several docks, of the stages of long work, and of the layers over the smear."""

from __future__ import annotations

from napari_leukocls.widgets.texts.translate import _

NOT_FOR_DIAGNOSIS = _("For research and training. Not for diagnosis.")


class Common:
    """Texts of several docks."""

    CANCEL = _("Cancel")
    CANCEL_TIP = _("Stop this work. Earlier results are kept")
    STOPPED = _("Stopped.")
    WORKING = _("Working")
    LEFT = _("about {time} left")
    SECONDS = _("{n} s")
    MINUTES = _("{n} min")
    DETAILS = _("Details")
    NUMBER_LIMITS = _("Give a number from {low} to {high}.")
    NUMBER_WHOLE = _("{text!r} is no whole number")
    NO_SLIDE = _("No slide yet: analyse a smear in the Analyse dock first.")
    REVIEWER = _("Reviewer")
    REVIEWER_TIP = _("Your name or initials. They are stored with every correction")
    REVIEWER_HINT = _("your name")
    BROWSE = _("Choose…")
    DEPTH = _("Classes shown")
    DEPTH_TIP = _(
        "Show and count the classes of the model, or also their finer classes: segmented and band neutrophils, "
        "promyelocytes, myelocytes and metamyelocytes. Cells that are too uncertain for a finer class are shown as "
        "'not told apart'"
    )
    DEPTHS = {"classes": _("the model's classes"), "fine": _("finer classes too")}
    MATRIX_TIP = _("Rows: the true class. Columns: the class that was given. The diagonal is right")
    MATRIX_CELL = _("{n} of {total} cells of the class {true} were called {given}")


class Stages:
    """Names of the stages of long work."""

    NAMES = {
        "load": _("Loading the models"),
        "scale": _("Measuring the scale"),
        "segment": _("Outlining the cells"),
        "classify": _("Classifying the leukocytes"),
        "red cells": _("Looking at the red cells"),
        "count": _("Counting"),
        "store": _("Reading earlier corrections"),
        "edit": _("Measuring the changed cells"),
        "compare": _("Searching for pictures that occur twice"),
        "slides": _("Slides"),
        "fields": _("Fields"),
        "explain": _("Computing the heatmap"),
        "write": _("Writing the files"),
        "check": _("Checking the crops"),
        "promote": _("Comparing the models"),
        "read": _("Reading the crops"),
    }


class Canvas:
    """The layers over the smear."""

    MEASURING = _("Measuring the changed cells")
    RING = _("Selected cell")
    COUNTED = _("Counted cells")
    HEATMAP = _("Heatmap")
    NO_REVIEW_DOCK = _("Open the Review dock to give classes with keys.")
