"""Texts of the counter."""

from __future__ import annotations

from napari_leukocls.widgets.texts.translate import _


class Counter:
    """The counter of the Review dock."""

    WHAT = _("Count of: {name}")
    AT_MICROSCOPE = _("microscope, {day}")
    GOAL = _("Count to")
    GOAL_TIP = _("How many leukocytes to count; a tone tells when they are counted")
    GOALS = {
        100: _("100 leukocytes"),
        200: _("200 leukocytes"),
        400: _("400 leukocytes"),
        None: _("no end"),
    }
    OF_GOAL = _("{n} of {goal}")
    PROGRESS = _("Leukocytes counted with keys")
    SOUND = _("Sound")
    SOUND_TIP = _("A click for each key, and a tone at the goal")
    HIDE = _("Hide the program's classes while I count")
    HIDE_TIP = _("The count is one's own only if the classes of the program are not seen")
    KEY_NAME = _("Count {display}")
    KEY_TIP = _(
        "{display}: key {key}. A cell that is chosen on the smear first is compared with the program's class"
    )
    UNDO = _("Take back")
    UNDO_TIP = _("Take back the last key (Backspace)")
    AGAIN = _("New count")
    AGAIN_TIP = _("Begin a new count of this slide. The one before stays in the review store")
    FINISH = _("Finish and compare")
    FINISH_TIP = _("End the count, keep it with the slide, and set it beside the count of the program")
    TABLE = _("Your count beside the program's")
    TABLE_TIP = _(
        "Percentages of the leukocytes, and the limits within which two counts may differ by chance"
    )
    COLUMNS = (_("Class"), _("You"), _("%"), _("Program %"), _("Limits"), "")
    COLUMN_TIPS = (
        _("Classes of the differential"),
        _("Cells that you have counted"),
        _("Your percentage of the leukocytes"),
        _("The program's percentage of the leukocytes, with the corrections"),
        _(
            "Within these limits a count of so many cells may lie without differing from the program's (Rümke)"
        ),
        _("Whether the counts differ by more than chance"),
    )
    DIFFERS = _("differs")
    MATCHED = (
        _("Of {n} cell chosen on the smear, you and the program agree on {agreed}."),
        _("Of {n} cells chosen on the smear, you and the program agree on {agreed}."),
    )
    NOT_MATCHED = _("No cell was chosen on the smear, so the classes are not compared cell by cell.")
    REACHED = _("{goal} leukocytes are counted. Press 'Finish and compare'.")
    FULL = _("{goal} leukocytes are counted already: finish the count, or choose a higher number.")
    UNDONE = _("Taken back: {display}.")
    NOTHING = _("There is nothing to take back.")
    STARTED = _("A new count. Press the key of a class for each cell.")
    RESUMED = (
        _("Your open count of this slide goes on: {n} leukocyte so far."),
        _("Your open count of this slide goes on: {n} leukocytes so far."),
    )
    FINISHED = _("The count is kept with the slide. Below it stands beside the program's.")
    FINISHED_ALONE = _("The count is kept. There is no count of the program to compare with.")
