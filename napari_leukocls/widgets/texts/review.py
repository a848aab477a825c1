"""Texts of the Review dock."""

from __future__ import annotations

from napari_leukocls.widgets.texts.translate import _


class Review:
    """The Review dock."""

    SHOW = _("Show")
    SHOW_TIP = _("Which cells the gallery shows")
    SORT = _("Sort by")
    SORT_TIP = _("Order of the gallery")
    SORTS = {
        "doubt": _("least certain first"),
        "size": _("largest first"),
        "place": _("position in the smear"),
    }
    GROUP = _("{text} ({n})")
    PART = _("– {display}")
    WAITING = _("To review")
    NUCLEATED = _("All leukocytes")
    UNLIKE = _("Readers disagree")
    GALLERY = _("Gallery of cells")
    GALLERY_TIP = _(
        "Select cells by clicking, also with Ctrl or Shift. Press the key of a class, or drag the cells onto "
        "its button or its heading. Return confirms the class shown. Ctrl and the wheel change the size of the cells"
    )
    TILE_TIP = _("Cell {id}: {what}")
    CLASS_BUTTON = _("{key}  {short}")
    #: Texts on buttons of classes whose short name is a sign.
    CLASS_SHORT = {"not_classed": _("none")}
    CLASS_TIP = _("{display}: assign this class to the selected cells (key {key}), or drop cells here")
    MORE = _("More classes")
    MORE_TIP = _("All other classes with their keys")
    CONFIRM = _("Confirm")
    CONFIRM_TIP = _("The class shown is correct (Return)")
    UNDO = _("Undo")
    UNDO_TIP = _("Undo the last correction (Ctrl+Z)")
    REDO = _("Redo")
    REDO_TIP = _("Redo the correction that was undone (Ctrl+Shift+Z)")
    BACK = _("Back")
    BACK_TIP = _("Return to the part of the smear that was shown before a cell was selected (Ctrl+B)")
    NEXT = _("Next class")
    NEXT_TIP = _("Go on to the next class of the gallery (Ctrl+Down); Ctrl+Up goes back")
    NEXT_CLASS = _("{left} is looked through. Next: {title}, {figures}.")
    NEXT_FIRST = _("Next: {title}, {figures}.")
    LAST_CLASS = _("This was the last class.")
    EMPTY = _("No cells in this list.")
    SIZE = _("Size of the cells")
    SIZE_TIP = _("How large the cells are shown. Ctrl and the wheel over the gallery change it, too")
    KIND = _("Cells")
    KIND_TIP = _("Which kind of cells the gallery shows")
    LEUKOCYTES = _("Leukocytes")
    RED_CELLS = _("Red cells by shape")
    ALL_RED_CELLS = _("All shapes")
    UNMEASURED = _("Not measured")
    SHAPES_REVIEWED = (_("{done} of {n} shape reviewed"), _("{done} of {n} shapes reviewed"))
    GALLERY_PAGE = _("Gallery")
    GALLERY_PAGE_TIP = _("Judge the cells that the program found")
    COUNTER_PAGE = _("Counter")
    COUNTER_PAGE_TIP = _(
        "Count cells with keys, as on a bench counter, while you look at the smear or through the microscope"
    )
    VIEW = _("View")
    VIEW_TIP = _("How large this dock is")
    VIEWS = {
        "narrow": _("Beside the smear"),
        "wide": _("Large, beside the smear"),
        "window": _("In a window of its own"),
    }
    SETTINGS = _("Settings of the review")
    SETTINGS_LINE = _("Settings: {text}")
    SETTINGS_TIP = _("Reviewer, number of cells to count, order, and how finely classes are shown")
    NO_NAME = _("no name yet")
    NOTHING_CHOSEN = _("Select one or more cells in the gallery or on the smear first.")
    NOTHING_TO_UNDO = _(
        "There is nothing to undo. Corrections from before the last analysis cannot be undone: assign the class again."
    )
    NOTHING_TO_REDO = _("There is nothing to redo.")
    FIGURES = _("{n} · {percent:.1f} %")
    FIGURES_PER_100 = _("{n} · {per_100:.1f} per 100 leukocytes")
    HEADING_NAME = _("Class at the top of the gallery")
    HEADING_TIP = _(
        "Click the heading of a class to select all its cells; drop cells on it to give them the class"
    )
    NAME_FIRST = _("Enter your name at 'Reviewer' first: it is stored with every correction.")
    READER_FIRST = _("Enter the second reader's name first.")
    NO_READING = _("No second read has been started.")
    GOAL = _("Count")
    GOAL_TIP = _(
        "How many leukocytes to count. When so many are counted, no more cells are offered for review"
    )
    GOALS = {
        None: _("all leukocytes"),
        100: _("100 leukocytes"),
        200: _("200 leukocytes"),
        400: _("400 leukocytes"),
    }
    PROGRESS = _("{done} of {total} settled.")
    PROGRESS_NAME = _("Cells settled")
    SHORT = (_("{n} leukocyte short of {goal}."), _("{n} leukocytes short of {goal}."))
    MET = _("The goal of {goal} is reached.")
    ALL_DONE = _("Nothing is left to review.")
    CORRECTED = _("{n} cells: {display}. Saved.")
    CORRECTED_ONE = _("Cell {id}: {display}. Saved.")
    CONFIRMED = (_("{n} cell confirmed. Saved."), _("{n} cells confirmed. Saved."))
    UNDONE = _("Undone.")
    REDONE = _("Redone.")
    SECOND = _("Second read and signature")
    SECOND_TIP = _("A blind second read, its agreement with the first read, and the signature")
    READER = _("Second reader")
    READER_TIP = _("Name of another person, who classifies the same cells without seeing the first result")
    START = _("Start blind read")
    START_TIP = _("Hide all classes, and show the counted cells to the second reader")
    FINISH = _("Finish read")
    ALL_READ = _("Every cell has a class: press 'Finish read'.")
    FINISH_TIP = _("End the second read and compare it with the first")
    LEAVE = _("Interrupt")
    LEAVE_TIP = _("Leave the second read. It can be continued later")
    READ_LEFT = _("Still to read")
    READ_OWN = _("Your own classes")
    READ_PROGRESS = _("Second read by {reader}: {done} of {total}.")
    AGREED = (
        _("{first} and {second} agree on {agreed} of {n} cell."),
        _("{first} and {second} agree on {agreed} of {n} cells."),
    )
    KAPPA = _("Cohen's kappa {kappa:.2f} (95 % limits {low:.2f} to {high:.2f}).")
    KAPPA_ALONE = _("Cohen's kappa {kappa:.2f}.")
    SIGN = _("Sign the slide")
    SIGN_TIP = _("Sign the count. This is possible when no counted cell needs review")
    SIGNED = (_("Signed by {who}: {n} cell."), _("Signed by {who}: {n} cells."))
