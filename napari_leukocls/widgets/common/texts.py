"""Texts of all docks."""

from __future__ import annotations

from gettext import translation

_ = translation("leukocls", fallback=True).gettext


def plural(forms: tuple[str, str], n: int, **values: object) -> str:
    """Fill in the text that fits a number.

    Parameters
    ----------
    forms : tuple of str
        The text for 1, and the text for all other numbers; ``{n}`` is the number.
    n : int
    **values
        For other names in braces.

    Returns
    -------
    str
    """
    return forms[n != 1].format(n=n, **values)


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


class Case:
    """The header of a slide, and what is done with it as a whole."""

    NOT_ANALYSED = _("This slide is not analysed yet: press Ctrl+Return.")
    INCOMPLETE = _("A field of this slide is not analysed yet: press Analyse, then sign.")
    CLOSED = (
        _("{n} field of this slide is not open: open it too, then sign."),
        _("{n} fields of this slide are not open: open them too, then sign."),
    )
    NAME_NEEDED = _("a slide needs a name: type one.")
    TO_ANALYSE = (_("{n} field to analyse"), _("{n} fields to analyse"))
    OF_GOAL = _("{n} of {goal}")
    OF_ALL = _("{n} counted, {waiting} to review")
    OPENING = _("Opening a slide")
    BACK = (
        _("{name} is open again, with {n} correction."),
        _("{name} is open again, with {n} corrections."),
    )
    SLIDE = _("Slide shown")
    SLIDE_TIP = _("The slides that are open. Choose one to see its fields, its count and its cells")
    NO_SLIDE = _("no slide")
    SIGNED_SLIDE = _("{name} ✓")
    FIELD = _("Field shown")
    FIELD_TIP = _(
        "The fields of this slide, which are counted together. Choose the one that the canvas shows"
    )
    FIELD_ENTRY = _("{i} of {n}: {name}")
    STATE = _("State of the slide")
    GO = _("Sign, export, next")
    GO_TIP = _(
        "Sign the count, write the files into the folder for results, and show the next slide. A slide that is not "
        "analysed yet is analysed (Ctrl+Return)"
    )
    DETAILS = _("Slide details")
    DETAILS_TIP = _("Name and identifier of the slide, its fields, and where its files are written")
    NAME = _("Slide name")
    NAME_TIP = _("Name of the slide, as it stands in the report")
    IDENTIFIER = _("Identifier")
    IDENTIFIER_TIP = _("Number of the sample, for example of the order. No name and no birthday of a patient")
    JOINS = _("New images are fields of this slide")
    JOINS_TIP = _("Images that you open are added to this slide, for example one by one at the microscope")
    JOIN = _("One slide of all open images")
    JOIN_TIP = _("Make fields of this slide of all open images that are not analysed yet")
    FOLDER = _("Folder for results")
    FOLDER_TIP = _("Folder into which signed slides are written. It is remembered")
    CHOOSE_FOLDER = _("Choose folder for results")
    PATTERN = _("Named")
    PATTERN_TIP = _(
        "Name of a slide's own folder. It may hold {slide}, {identifier}, {date} and {reviewer}. It is remembered"
    )
    FORMATS = _("Further formats")
    FORMATS_TIP = _(
        "Formats besides the tables, the picture and the report, separated by commas, such as xlsx, fhir, hl7, geojson"
    )
    MESSAGE = _("Message on the slide")
    ASK_TITLE = _("Sign {name}?")
    ASK = _("{doubts}\n\nSign all the same?")
    NOT_SIGNED = _("Not signed.")
    WHO = _("Enter your name at 'Reviewer' in the Review dock first: it stands under the signature.")
    BLIND = _("A blind second read is open: finish or interrupt it first.")
    HIDDEN = _("The count is hidden during the blind second read.")
    DONE = _("{name} is signed. Files in {folder}.")
    NO_NEXT = _("No further slide is open.")
    NO_ONE = _("Open a smear first: drag it in.")
    BAD_PATTERN = _(
        "the name of the folder may hold {{slide}}, {{identifier}}, {{date}} and {{reviewer}}, but not {word}."
    )
    ALONE = (
        _("{n} image is open as a slide of its own."),
        _(
            "{n} images are open as slides of their own, one is shown. 'One slide of all open images' in the slide "
            "details joins them."
        ),
    )


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


class Analyse:
    """The Analyse dock."""

    TITLE = _("Analyse")
    LAYER = _("Smear")
    LAYER_TIP = _("The image layer to analyse")
    ADAPT = _("Adapt to my laboratory…")
    ADAPT_TIP = _("Open the Train dock, where the model is adapted to your stain and camera")
    NO_LAYER = _("Open a smear first: drag it in, or File > Open Sample > Leukocls.")
    SEGMENTER = _("Outlines by")
    SEGMENTER_TIP = _(
        "The method that outlines the cells. 'compact' is part of the plugin and works for most smears"
    )
    SEGMENTERS = {
        "compact": _("compact (built in)"),
        "threshold": _("threshold (fast, simple)"),
    }
    SEGMENTER_FILE = _("cellpose model file…")
    CLASSIFIER = _("Classes by")
    CLASSIFIER_TIP = _(
        "The model that classifies the leukocytes. The active model is used if you choose no other"
    )
    ACTIVE = _("{name} (active)")
    DEVICE = _("Compute on")
    DEVICE_TIP = _("Automatic: the graphics card if there is one, else the processor")
    DEVICES = {
        "auto": _("automatic"),
        "cpu": _("processor (CPU)"),
        "cuda": _("NVIDIA card (CUDA)"),
        "mps": _("Apple graphics (MPS)"),
    }
    SCALE = _("Scale")
    SCALE_TIP = _(
        "The size of a pixel. Automatic: from the image file, else from the diameter of the red cells"
    )
    SCALE_KINDS = {
        "auto": _("automatic"),
        "pixel_size_um": _("pixel size, µm"),
        "diameter_px": _("red cell diameter, pixels"),
    }
    SCALE_VALUE = _("Scale value")
    SCALE_VALUE_TIP = _("Micrometres per pixel, or the diameter of a red cell in pixels")
    CONFIDENCE = _("Least probability")
    CONFIDENCE_TIP = _("A cell is marked for review if the probability of its class is lower than this")
    CONFIDENCE_OWN = _("model's own limit")
    PLANE = _("Plane")
    PLANE_TIP = _("Of a stack: the plane that the viewer shows, or one picture of all planes")
    PLANES = {
        "shown": _("the plane shown"),
        "sharpest": _("the sharpest plane"),
        "focus": _("extended depth of field"),
    }
    REGION = _("Region")
    REGION_TIP = _("Analyse the whole image, the part that the canvas shows, or the shapes of a Shapes layer")
    REGIONS = {"whole": _("whole image"), "view": _("visible part")}
    REGION_SHAPES = _("shapes: {name}")
    SETTINGS = _("Settings of the analysis")
    SETTINGS_TIP = _("Outlines, model, classes, scale and device")
    RUN = _("Analyse")
    RUN_TIP = _("Outline, classify and count the cells (Ctrl+Return)")
    SHOW = _("Show")
    SHOW_TIP = _("Which cells are coloured in the image")
    ALL_CLASSES = _("all classes")
    ONLY_REVIEW = _("to review only")
    ONLY_REVIEW_TIP = _("Colour only the cells that need review")
    FILLED = _("filled")
    FILLED_TIP = _("Fill the cells with their colour instead of drawing their outline")
    LEUKOCYTES = (_("{n} leukocyte counted"), _("{n} leukocytes counted"))
    TO_REVIEW = _("{n} to review")
    RED_CELLS = (_("{n} red cell"), _("{n} red cells"))
    SHAPES = _("Red cells")
    SHAPES_TIP = _(
        "Measure each red cell and tell its shape, or only count red cells. The findings are in the report, and each "
        "cell is in red_cells.csv"
    )
    SHAPES_KINDS = {True: _("measured, with shapes"), False: _("only counted")}
    PLATELETS = (_("{n} platelet"), _("{n} platelets"))
    SCALE_LINE = _("{um:.3g} µm per pixel, from {source}")
    SCALE_SOURCES = {
        "user": _("your setting"),
        "metadata": _("the file"),
        "red_cell_ruler": _("the red cells"),
        "other_images": _("images measured together"),
        "nuclei": _("the nuclei of leukocytes"),
        "model": _("the model's own scale"),
        "unknown": _("a guess: please set the scale"),
    }
    RESTORED = (
        _("{n} earlier correction of this slide is applied."),
        _("{n} earlier corrections of this slide are applied."),
    )
    DONE = _("Done in {time}.")
    EDITED = (
        _("Outline changed: {n} cell measured again."),
        _("Outlines changed: {n} cells measured again."),
    )
    PART = _("– {display}")
    NO_FINER = _(
        "The model '{model}' gave no finer classes for this slide: only corrections to a finer class are shown as one."
    )
    NO_SHIFT = _("Left shift: no neutrophil was told apart.")
    NO_WARNING = _("No warnings")
    WARNINGS = (_("{n} warning"), _("{n} warnings"))
    WARNINGS_TIP = _("Open or close the list of warnings")
    COLUMNS = (_("Class"), _("Cells"), _("%"), _("95 % limits"))
    COLUMN_TIPS = (
        _("Classes that are not part of the differential are listed below the others"),
        _("Counted cells: those that need no review, and those that a person has reviewed"),
        _("Percentage of the counted leukocytes"),
        _(
            "95 % confidence limits of the percentage (Clopper-Pearson). For other cells: number per 100 leukocytes"
        ),
    )
    PER_100 = _("{n:.1f} per 100")
    MORE = (
        _("Count {n} more leukocyte for limits of ± 3 % in every class."),
        _("Count {n} more leukocytes for limits of ± 3 % in every class."),
    )
    ENOUGH = _("The limits are within ± 3 % in every class.")
    NOTHING = _("No leukocyte is counted yet.")
    TABLE_NAME = _("Counts of the classes")
    CHART_NAME = _("Chart of the differential")
    CHART_TIP = _("Percentages of the leukocytes with 95 % limits")
    EXPORT = _("Export…")
    EXPORT_TIP = _("Write the tables, the picture and the report of the slide into a folder")
    EXPORT_TITLE = _("Folder for the results")
    EXPORTED = _("Written to {folder}.")
    LAYER_GONE = _("The image layer was removed during the analysis. The result is discarded.")


class Canvas:
    """The layers over the smear."""

    MEASURING = _("Measuring the changed cells")
    RING = _("Selected cell")
    COUNTED = _("Counted cells")
    HEATMAP = _("Heatmap")
    NO_REVIEW_DOCK = _("Open the Review dock to give classes with keys.")


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
    PROGRESS = _("{done} of {total} reviewed.")
    PROGRESS_NAME = _("Cells reviewed")
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
    FINISH_TIP = _("End the second read and compare it with the first")
    LEAVE = _("Interrupt")
    LEAVE_TIP = _("Leave the second read. It can be continued later")
    READ_LEFT = _("Second read: remaining")
    READ_OWN = _("Second read: your own classes")
    READ_PROGRESS = _("Second read by {reader}: {done} of {total}.")
    AGREED = (
        _("{first} and {second} agree on {agreed} of {n} cell."),
        _("{first} and {second} agree on {agreed} of {n} cells."),
    )
    KAPPA = _("Cohen's kappa {kappa:.2f} (95 % limits {low:.2f} to {high:.2f}).")
    SIGN = _("Sign the slide")
    SIGN_TIP = _("Sign the count. This is possible when no counted cell needs review")
    SIGNED = (_("Signed by {who}: {n} cell."), _("Signed by {who}: {n} cells."))


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


class Explain:
    """The Explain dock."""

    TITLE = _("Explain")
    CHOOSE = _("Select one cell: click it in the smear or in the gallery.")
    BLIND = _("No cell is explained during a blind second read.")
    TARGET = _("Explain class")
    TARGET_TIP = _("The class that the heatmap in the smear explains")
    BEST = _("most probable")
    WHY_NOT = _("Why not")
    WHY_NOT_TIP = _("A second class, with the heatmap of what supports it")
    SECOND_BEST = _("second most probable")
    METHOD = _("Method")
    METHOD_TIP = _("How the heatmap is computed. Score-CAM takes several seconds")
    OWN_METHOD = _("method of the model")
    METHODS = {
        "gradcam": "Grad-CAM",
        "gradcam++": "Grad-CAM++",
        "layercam": "LayerCAM",
        "hirescam": "HiResCAM",
        "eigencam": "EigenCAM",
        "scorecam": _("Score-CAM (slow)"),
    }
    OPACITY = _("Opacity")
    OPACITY_TIP = _("How strongly the heatmap covers the smear")
    FIRST_PICTURE = _("Heatmap of the class explained")
    SECOND_PICTURE = _("Heatmap of the second class")
    WHY = _("Why {display}?\n{percent:.0f} %")
    WHY_NOT_SHARE = _("Why not {display}?\n{percent:.0f} %")
    BADGES = {
        "trusted": _("Heatmaps of this model: passed all checks"),
        "weak": _("Heatmaps of this model: passed some checks, use with caution"),
        "failed": _("Heatmaps of this model: failed the checks, do not use them"),
        "unchecked": _("Heatmaps of this model: not checked"),
    }
    CHECKS = _("Figures of the checks")
    CHECKS_TIP = _("What the checks of this model's heatmaps have measured")
    CLASSES = _("Cell {id}: {classes}.")
    SHARE = _("{display} {percent:.1f} %")
    WORDS = _("Morphology, as predicted by the model: {words}.")
    NO_WORDS = _("This model does not predict the morphology of this cell.")


class Train:
    """The Train dock."""

    TITLE = _("Train")
    DATA = _("Data")
    SLIDES = _("Corrections of")
    SLIDES_TIP = _("Slides whose corrected cells are used for training")
    SLIDE = _("{name}: {n} corrected")
    NO_SLIDES = _("No slide has corrections yet.")
    PATHS = _("Labelled crops")
    PATHS_TIP = _(
        "Folders with one folder per class, tables with the columns file and class, "
        "and annotations of other programs"
    )
    ADD_FOLDER = _("Add folder…")
    ADD_FOLDER_TIP = _(
        "A folder that contains one folder per class, or a data set in the form of YOLO, COCO, Pascal VOC, LabelMe, "
        "CVAT or QuPath"
    )
    ADD_TABLE = _("Add table…")
    ADD_TABLE_TIP = _(
        "A table (CSV, Excel) with the columns file and class; optional: patient, slide, split, um_per_px. "
        "Or a file of annotations (COCO, CVAT, data.yaml of YOLO)"
    )
    TABLES = _(
        "Tables and annotations (*.csv *.tsv *.txt *.xlsx *.xls *.ods *.json *.geojson *.xml *.yaml *.yml);;"
        "All files (*)"
    )
    REMOVE = _("Remove")
    REMOVE_TIP = _("Remove the selected folder or table from the list")
    COUNTS = (_("{n} crop: {counts}"), _("{n} crops: {counts}"))
    NO_DATA = _("No data selected.")
    CHECK = _("Check again")
    CHECK_TIP = _(
        "Read all crops, search for leakage and duplicates, and show how they would be split. Data is checked by "
        "itself when it is added"
    )
    LEFT_OUT = _("Left out, since there are too few crops: {classes}.")
    CLASS_COUNT = _("{name} ({n})")
    FEW_NEW = _("{name} is new to the model and has few crops ({n}): at least {least} are better.")
    MODEL = _("Start from")
    MODEL_TIP = _("A model that is trained further, or a new network")
    FROM_MODEL = _("model: {name}")
    FROM_ARCH = _("new: {name}")
    FROM_PRESET = _("new: network of the recipe")
    PRESET = _("Recipe")
    PRESET_TIP = _("How the model is trained. Each setting of a recipe can be changed")
    RECIPES = {
        "adapt": _("adapt to my laboratory (few crops, minutes)"),
        "quick": _("fine-tune all layers (many crops, minutes)"),
        "thorough": _("train thoroughly (many crops, hours)"),
    }
    RECIPE_OF_PAPER = _("as published: {what}")
    NAME = _("Name")
    NAME_TIP = _("Name of the new model: letters, digits, - and _. If empty, a name is generated")
    NAME_HINT = _("generated")
    EPOCHS = _("Epochs")
    EPOCHS_TIP = _("How many times the training goes through all crops")
    AS_PRESET = _("as the recipe")
    MINUTES = _("Time limit")
    MINUTES_TIP = _("Stop the training after this time and keep the best model so far")
    NO_LIMIT = _("no limit")
    ADVANCED = _("Advanced")
    ADVANCED_TIP = _("All other settings. An empty field means: as in the recipe")
    START = _("Start training")
    START_TIP = _("Train in a separate process. napari can be used meanwhile")
    STOP = _("Stop, keep the best")
    STOP_TIP = _("Stop the training now and keep the best model so far")
    STOPPING = _("Stopping. The best model so far is saved…")
    LOSS = _("Loss")
    SCORE = _("Macro F1 on validation")
    LINES = (_("training"), _("validation"))
    SCORE_LINE = (_("macro F1"),)
    CURVES_TIP = _("One point per epoch")
    EPOCHS_AXIS = _("epochs")
    LOG = _("Log")
    LOG_TIP = _("Messages of the training")
    PROGRESS = _("Progress of the training")
    EPOCH = _("Epoch {epoch} of {epochs}")
    STEP = _("Step {number} of {of}: {what}")
    STEP_COUNT = _("{what} ({done} of {total})")
    STEPS = {
        "read": _("reading the crops"),
        "scale": _("measuring the scale"),
        "cut": _("cutting the crops"),
        "split": _("splitting the crops"),
        "features": _("computing features"),
        "judge": _("trying changes on crops that they were not made from"),
        "epochs": _("training"),
        "fit": _("fitting the probabilities"),
        "test": _("testing"),
    }
    EPOCHS_LEFT = _("Step {number} of {of}: epoch {epoch} of {epochs}")
    MAY_END = _("it may end earlier")
    PREPARING = _("Bringing the data together…")
    STOPPED_EARLY = _(
        "Stopped after epoch {epoch} of {epochs}. Kept: the model of epoch {best}, the best on validation."
    )
    STOPPED_FITTED = _("Stopped. Kept: the model as it was fitted so far.")
    STOPPED_FIRST = _("Stopped before there was anything to keep. The current model stays as it is.")
    ENDED_EARLY = _("The model of epoch {best} of {epochs} is kept, the best on validation.")
    STARTED = (
        _("Training on {device}: {n} crop, {classes}."),
        _("Training on {device}: {n} crops, {classes}."),
    )
    CLASSES = (_("{n} class"), _("{n} classes"))
    FAILED = _("The training failed: {error}")
    TRAINED = _("The training is finished. Comparing with the current model…")
    PREVIEW = (_("{n} crop, split by {by}. {warnings}"), _("{n} crops, split by {by}. {warnings}"))
    GROUPS = {"none": _("single crop"), "patient": _("patient"), "slide": _("slide")}
    NO_WARNINGS = _("No problems found.")
    SPLIT_COLUMNS = (_("Class"), _("training"), _("validation"), _("test"))
    SPLIT_NAME = _("Split of the crops")
    RESULTS = _("Results")
    VERDICT = {
        "better": _("Better."),
        "as good": _("As good."),
        "worse": _("Worse."),
        "cannot tell": _("Cannot tell: too few cells."),
    }
    NO_VERDICT = _("Not compared.")
    ACCURACY = _(
        "Accuracy {current:.1f} % with the current model, {new:.1f} % with the new one, on {n} cells."
    )
    DIFFERENCE = _("The true difference is between {low:+.1f} and {high:+.1f} points (95 % limits).")
    FEW = _("Too few cells to judge the recall of: {classes}.")
    LOST = _("If it is promoted, you lose: {what}.")
    CARRIED = _("Carried over, since only the last layer has changed: {what}.")
    RECALL_COLUMNS = (_("Class"), _("n"), _("current"), _("new"), _("verdict"))
    RECALL_NAME = _("Recall of each class in the current and the new model, with 95 % limits")
    VERDICTS = {"held": _("not lower"), "fell": _("lower"), "not judged": _("too few")}
    CONFUSION = _("Confusion matrices")
    MATRIX = _("Confusion matrix, {which} model")
    RELIABILITY = _("Reliability")
    NEW = _("new")
    CURRENT = _("current")
    FIGURE = _("{what}, {which} model")
    REPORT = _("Open report")
    REPORT_TIP = _("Open the full evaluation of the new model in the browser")
    PROMOTE = _("Promote")
    PROMOTE_ANYWAY = _("Promote anyway")
    PROMOTE_TIP = _(
        "Make the new model the active model, by the comparison above. It is refused if a class has a lower recall"
    )
    KEEP = _("Keep, not active")
    KEEP_TIP = _("Add the new model to the list in the Analyse dock. The active model stays the same")
    PROMOTED = _("'{name}' is now the active model.")
    RECHECK = _("Check its heatmaps")
    RECHECK_TIP = _(
        "Check the heatmaps of the new model on the crops of the test, which takes about a minute"
    )
    HAS_LOST = _("It has no {what}.")
    REFUSED = _("Not promoted: {reason}")
    KEPT = _("'{name}' can now be selected in the Analyse dock.")
    ADAPT_GROUP = _("Another laboratory")
    ADAPT = _("Adapt to my laboratory…")
    ADAPT_TIP = _(
        "Choose a folder of your laboratory: images, or about 100 crops in folders named after the classes"
    )
    ADAPT_TEXT = _(
        "If stain or camera differ from what the model knows, adapt it. Labelled crops help most; images without "
        "labels change stain and camera alone. The model is kept if it does not get better."
    )
    ADAPTED = _("Adapted. {text}")
    CLOSE_TITLE = _("A training is running")
    CLOSE_TEXT = _("Stop the training and close napari? The last checkpoint is kept.")


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
    TEACHING = (_("{name}: {n} cell"), _("{name}: {n} cells"))
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
    NO_ROUNDS = _("No round yet.")
    LOADING = _("Reading the slides and the record…")
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


class Sample:
    """Values of the sample, and flags."""

    TITLE = _("Sample and flags")
    TITLE_TIP = _("Counts of the analyser and the patient's number; flags by the rules of the laboratory")
    WBC = _("WBC")
    WBC_TIP = _("Leukocytes per litre, as the analyser counts them: absolute counts are made from it")
    WBC_HINT = _("7.5 (10⁹/L), or 7500 /µL")
    RBC = _("RBC")
    RBC_TIP = _("Red cells per litre, as the analyser counts them: platelets are estimated from it")
    RBC_HINT = _("4.6 (10¹²/L)")
    PATIENT = _("Patient number")
    PATIENT_TIP = _(
        "A number of the laboratory, not a name. Earlier counts of the same patient are found by it"
    )
    AGE = _("Age")
    AGE_TIP = _("Years, or 6 m, 3 w, 8 d; for the reference ranges of the laboratory")
    SEX = _("Sex")
    SEX_TIP = _("For the reference ranges of the laboratory")
    NOT_KNOWN = _("not known")
    FEMALE = _("female")
    MALE = _("male")
    NO_CASE = _("Analyse a smear first.")
    ABNORMAL = _("Abnormal: {text}")
    UNCERTAIN = _("Uncertain: {text}")
    NOTHING = _("No rule of the laboratory raises a flag.")
