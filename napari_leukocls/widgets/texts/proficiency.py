"""Texts of the Proficiency dock."""

from __future__ import annotations

from napari_leukocls.widgets.texts.translate import _


class Proficiency:
    """The Proficiency dock."""

    TITLE = _("Proficiency")
    LEARNER = _("Learner")
    LEARNER_TIP = _(
        "Name of the person who classifies the cells. The record over time is kept under this name"
    )
    LEARNER_HINT = _("name of the learner")
    SLIDES = _("Slides with a reference")
    SLIDES_TIP = _(
        "Tick the slides whose cells are asked: bundled teaching smears, whose classes are known exactly, and slides "
        "that a person has signed"
    )
    TEACHING = (_("{name}, {n} cell"), _("{name}, {n} cells"))
    SIGNED = (_("{name}: {n} cell, signed by {by}"), _("{name}: {n} cells, signed by {by}"))
    IS_OPEN = _("{name}: open in this window, where its classes are seen")
    CELLS = _("Cells asked")
    CELLS_TIP = _("So many cells are drawn at random, and asked in a random order")
    ALL = _("all")
    COMPARE = _("Compared as")
    COMPARE_TIP = _(
        "Compare the usual classes, or also their finer ones. In the usual ones, band and segmented cells are the same"
    )
    REQUIRED = _("Wanted agreement")
    REQUIRED_TIP = _(
        "The agreement with the reference that your laboratory wants. The certificate says if it is reached"
    )
    NOT_REQUIRED = _("none")
    START = _("Start round")
    START_TIP = _("Show one cell after another, without its class")
    RECORD = _("Record of {learner}")
    RECORD_NAME = _("Rounds so far")
    RECORD_TIP = _("All rounds of this learner. A double-click opens one")
    RECORD_COLUMNS = (_("Date"), _("Slides"), _("Cells"), _("Agreement"), _("Kappa"))
    NOT_FINISHED = _("open")
    OPEN = _("Open round")
    OPEN_TIP = _("Go on with an open round, or see the result of a finished one")
    CHOOSE_ROUND = _("Select a round in the table first.")
    TREND = _("Agreement over time, %")
    TREND_TIP = _("One point per finished round, with its 95 % limits")
    PLACE = _("Cell {place} of {n}")
    ANSWERED = _("{answered} of {n} answered.")
    PICTURE = _("Cell to classify")
    PICTURE_TIP = _("The cell in the middle is asked. Press the key of its class")
    NO_PICTURE = _("The review store no longer has the picture of this cell.")
    ANSWER = _("Your answer: {display}.")
    NO_ANSWER = _("No answer yet.")
    CLASS_TIP = _("{display}: give this class to the cell (key {key}), and go on to the next")
    BACK = _("Back")
    BACK_TIP = _("Return to the cell before, to see or change its answer (Left)")
    NEXT = _("Next")
    NEXT_TIP = _("Go on to the next cell without an answer, or else the next one (Right)")
    FINISH = _("Finish round")
    FINISH_TIP = _("End the round and compare it with the reference. Answers cannot be changed afterwards")
    LEAVE = _("Interrupt")
    LEAVE_TIP = _("Leave the round. It can be continued later")
    ALL_ANSWERED = _("All cells have an answer. Check them with Back, or finish the round.")
    UNANSWERED = (
        _("{n} cell has no answer and will be left out. Finish the round?"),
        _("{n} cells have no answer and will be left out. Finish the round?"),
    )
    HEADING = _("{learner}, {date}: {slides}")
    CONFUSION = _("Which classes were mixed up")
    CONFUSION_TIP = _("Rows: the class of the reference. Columns: your class")
    CLASS_TABLE = _("Agreement by class")
    CLASS_COLUMNS = (_("Class"), _("Ref."), _("You"), _("Both"), _("Found, %"))
    FOUND = _("{found} ({limits})")
    COUNT_TABLE = _("The count with Rümke's limits")
    COUNT_COLUMNS = (_("Class"), _("Ref., %"), _("Rümke"), _("You, %"), _("Within"))
    COUNT_NOTE = _(
        "Rümke's limits say where a percentage may lie by chance if other cells of the slide are counted. Here both "
        "counts are of the same cells, so that agreement and kappa are stricter."
    )
    YES = _("yes")
    NO = _("no")
    DIFFERING = (_("{n} cell differs from the reference"), _("{n} cells differ from the reference"))
    NONE_DIFFERS = _("No cell differs from the reference.")
    DIFFERING_TIP = _(
        "The cell, and beside it a cell of the class that you gave and one of the reference's class"
    )
    THE_CELL = _("Cell {place}")
    YOU = _("You: {display}")
    REFERENCE = _("Reference: {display}")
    NO_EXAMPLE = _("no example")
    MORE_DIFFER = _("The first {n} are shown; the certificate lists all.")
    CERTIFICATE = _("Save certificate…")
    CERTIFICATE_TIP = _("Save the result with the record over time as a page to print: PDF or HTML")
    CERTIFICATE_KINDS = _("PDF (*.pdf);;Page for the browser (*.html)")
    SAVED = _("Written to {file}.")
    DONE = _("Back to the rounds")
    DONE_TIP = _("Show the slides and the record over time again")
