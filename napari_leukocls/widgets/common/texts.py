"""Texts of all docks."""

from __future__ import annotations

from gettext import translation

_ = translation("leukocls", fallback=True).gettext

NOT_FOR_DIAGNOSIS = _("For research and training. Not for diagnosis.")


class Common:
    """Texts of several docks."""

    CANCEL = _("Cancel")
    CANCEL_TIP = _("Stop this work; what was there before stays")
    STOPPED = _("Stopped.")
    WORKING = _("Working")
    LEFT = _("about {time} left")
    SECONDS = _("{n} s")
    MINUTES = _("{n} min")
    DETAILS = _("Details")
    NO_SLIDE = _("No slide yet: analyse a smear in the Analyse dock first.")
    REVIEWER = _("Reviewer")
    REVIEWER_TIP = _("Your name or initials; every correction carries it")
    REVIEWER_HINT = _("your name")
    BROWSE = _("Choose…")


class Stages:
    """Names of the stages of long work."""

    NAMES = {
        "load": _("Loading the models"),
        "scale": _("Reading the scale"),
        "segment": _("Outlining the cells"),
        "classify": _("Classifying the leukocytes"),
        "count": _("Counting"),
        "store": _("Opening the slide's record"),
        "edit": _("Measuring the changed cells"),
        "slides": _("Slides"),
        "fields": _("Fields"),
        "explain": _("Computing the heatmap"),
        "write": _("Writing the files"),
        "check": _("Checking the crops"),
        "promote": _("Asking the gate"),
        "read": _("Reading the crops"),
    }


class Analyse:
    """The Analyse dock."""

    TITLE = _("Analyse")
    LAYER = _("Smear")
    LAYER_TIP = _("The image layer to analyse")
    NO_LAYER = _("Open a smear first: drag it in, or File > Open Sample > Leukocls.")
    SEGMENTER = _("Outlines by")
    SEGMENTER_TIP = _(
        "What finds the outlines of the cells. 'compact' comes with the plugin and suits most smears"
    )
    SEGMENTERS = {
        "compact": _("compact (built in)"),
        "threshold": _("threshold (fast, plain)"),
    }
    SEGMENTER_FILE = _("cellpose model file…")
    CLASSIFIER = _("Classes by")
    CLASSIFIER_TIP = _("The model that names the leukocytes; (active) is the one used unless you choose")
    ACTIVE = _("{name} (active)")
    DEVICE = _("Compute on")
    DEVICE_TIP = _("Automatic takes the graphics card where there is one")
    DEVICES = {
        "auto": _("automatic"),
        "cpu": _("processor (CPU)"),
        "cuda": _("NVIDIA card (CUDA)"),
        "mps": _("Apple graphics (MPS)"),
    }
    SCALE = _("Scale")
    SCALE_TIP = _("How large a pixel is. Automatic reads it from the file, else from the red cells")
    SCALE_KINDS = {
        "auto": _("automatic"),
        "pixel_size_um": _("pixel size, µm"),
        "diameter_px": _("red cell, pixels"),
    }
    SCALE_VALUE = _("Scale value")
    SCALE_VALUE_TIP = _("Micrometres per pixel, or the diameter of a red cell in pixels")
    CONFIDENCE = _("Sure from")
    CONFIDENCE_TIP = _("A cell whose best class is less probable than this goes to review")
    CONFIDENCE_OWN = _("model's own limit")
    REGION = _("Region")
    REGION_TIP = _("Analyse the whole image, what the canvas shows, or the shapes of a Shapes layer")
    REGIONS = {"whole": _("whole image"), "view": _("what is in view")}
    REGION_SHAPES = _("shapes: {name}")
    RUN = _("Analyse")
    RUN_TIP = _("Outline, classify and count the cells (Ctrl+Return)")
    SHOW = _("Show")
    SHOW_TIP = _("Which cells are coloured on the image")
    ALL_CLASSES = _("all classes")
    ONLY_REVIEW = _("to review only")
    ONLY_REVIEW_TIP = _("Colour only the cells that the model is unsure of")
    FILLED = _("filled")
    FILLED_TIP = _("Fill the cells with their colour instead of drawing their outline")
    TOTALS = _(
        "{leukocytes} leukocytes counted, {to_review} to review, {red_cells} red cells, {platelets} platelets"
    )
    SCALE_LINE = _("{um:.3g} µm per pixel, from {source}")
    SCALE_SOURCES = {
        "user": _("your setting"),
        "metadata": _("the file"),
        "red_cell_ruler": _("the red cells"),
        "model": _("the model's own scale"),
        "unknown": _("nothing: please set it"),
    }
    RESTORED = _("{n} earlier corrections of this slide are back.")
    DONE = _("Done in {time}.")
    EDITED = _("Outlines changed: {n} cells measured again.")
    EDIT_HINT = _(
        "Outlines can be edited with the paint, erase and fill tools of the cells layer; M picks the number "
        "of a new cell. Only the changed cells are measured and classified again."
    )
    NO_WARNING = _("No warnings")
    ONE_WARNING = _("1 warning")
    WARNINGS = _("{n} warnings")
    WARNINGS_TIP = _("Open or close the list of warnings")
    COLUMNS = (_("Class"), _("Cells"), _("%"), _("95 % limits"))
    COLUMN_TIPS = (
        _("Classes outside the differential stand below"),
        _("Settled cells: the model is sure of them, or a person has settled them"),
        _("Percent of the leukocytes"),
        _("95 % limits of the percentage (Clopper-Pearson); per 100 leukocytes, what is counted beside them"),
    )
    PER_100 = _("{n:.1f} per 100")
    MORE_TIP = _("Count {n} more leukocytes for limits of ± 3 %")
    MORE = _("Count {n} more leukocytes for limits of ± 3 % in every class.")
    ENOUGH = _("Limits are within ± 3 % in every class.")
    NOTHING = _("No settled leukocyte yet.")
    TABLE_NAME = _("Counts of the classes")
    CHART_NAME = _("Chart of the differential")
    CHART_TIP = _("Percent of the leukocytes with 95 % limits")
    EXPORT = _("Export…")
    EXPORT_TIP = _("Write the slide's tables, picture and report into a folder")
    EXPORT_TITLE = _("Folder for the results")
    EXPORTED = _("Written to {folder}.")
    REVIEW = _("Review cells")
    REVIEW_TIP = _("Open the Review dock")
    LAYER_GONE = _("The smear's layer was removed meanwhile; the result is dropped.")


class Canvas:
    """What is drawn over the smear."""

    MEASURING = _("Measuring the changed cells")
    RING = _("Selected cell")
    HEATMAP = _("Heatmap")


class Review:
    """The Review dock."""

    TITLE = _("Review")
    SHOW = _("Show")
    SHOW_TIP = _("Which cells the gallery shows")
    SORT = _("Sort by")
    SORT_TIP = _("Order of the gallery")
    SORTS = {"doubt": _("least certain first"), "size": _("largest first"), "place": _("place on the smear")}
    GROUP = _("{text} ({n})")
    WAITING = _("To review")
    NUCLEATED = _("All leukocytes")
    UNLIKE = _("Readers disagree")
    GALLERY = _("Gallery of cells")
    GALLERY_TIP = _(
        "Choose cells with a click, Ctrl or Shift; press the key of a class, or drag them onto its button. "
        "Return confirms the class shown"
    )
    TILE_TIP = _("cell {id}: {what}")
    CLASS_BUTTON = _("{key}  {short}")
    CLASS_TIP = _("{display}: give this class to the chosen cells (key {key}), or drop cells here")
    MORE = _("More classes")
    MORE_TIP = _("All other classes, each with its key")
    CONFIRM = _("Confirm")
    CONFIRM_TIP = _("The class shown is right (Return)")
    UNDO = _("Undo")
    UNDO_TIP = _("Take the last correction back (Ctrl+Z)")
    REDO = _("Redo")
    REDO_TIP = _("Put back what was undone (Ctrl+Shift+Z)")
    BACK = _("Back")
    BACK_TIP = _("Return to the view of the smear before the jump to a cell")
    NOTHING_CHOSEN = _("Choose one or more cells in the gallery first.")
    NOTHING_TO_UNDO = _(
        "There is nothing to undo. What was said before the last analysis stands: class such a cell again to change it."
    )
    NOTHING_TO_REDO = _("There is nothing to redo.")
    SECTION = _("{display}: {place} of {n}")
    SECTION_NAME = _("Class at the top of the gallery")
    NAME_FIRST = _("Enter your name at 'Reviewer' first: every correction carries it.")
    READER_FIRST = _("Enter the second reader's name first.")
    NO_READING = _("No second read is under way.")
    GOAL = _("Count")
    GOAL_TIP = _("How many leukocytes to count; no more cells are offered once that many are settled")
    GOALS = {
        None: _("all leukocytes"),
        100: _("100 leukocytes"),
        200: _("200 leukocytes"),
        400: _("400 leukocytes"),
    }
    PROGRESS = _("{done} of {total} reviewed.")
    PROGRESS_NAME = _("Cells reviewed")
    SHORT = _("{n} leukocytes short of {goal}.")
    MET = _("The goal of {goal} is met.")
    ALL_DONE = _("Nothing is left to review.")
    CORRECTED = _("{n} cells: {display}. Saved.")
    CORRECTED_ONE = _("Cell {id}: {display}. Saved.")
    CONFIRMED = _("{n} confirmed. Saved.")
    UNDONE = _("Undone.")
    REDONE = _("Redone.")
    SECOND = _("Second read and signature")
    SECOND_TIP = _("A blind second reader, agreement, and signing the slide")
    READER = _("Second reader")
    READER_TIP = _("Name of another person, who classes the same cells without seeing the first result")
    START = _("Start blind read")
    START_TIP = _("Hide all classes and show the counted cells to the second reader")
    FINISH = _("Finish read")
    FINISH_TIP = _("End the second read and compare it with the first")
    LEAVE = _("Interrupt")
    LEAVE_TIP = _("Leave the second read; it goes on later where it was left")
    READ_LEFT = _("Second read: left")
    READ_PROGRESS = _("Second read by {reader}: {done} of {total}.")
    AGREED = _("{first} and {second} agree on {agreed} of {n} cells.")
    KAPPA = _("Cohen's kappa {kappa:.2f} (95 % limits {low:.2f} to {high:.2f}).")
    SIGN = _("Sign the slide")
    SIGN_TIP = _("Sign the count; refused while a counted cell needs review")
    SIGNED = _("Signed by {who}: {n} cells.")
    EMPTY = _("No cell here.")


class Explain:
    """The Explain dock."""

    TITLE = _("Explain")
    CHOOSE = _("Choose one cell: click it on the smear or in the gallery.")
    BLIND = _("Nothing is explained during a blind second read.")
    TARGET = _("Explain class")
    TARGET_TIP = _("The class that the heatmap on the smear explains")
    BEST = _("the best class")
    WHY_NOT = _("Why not")
    WHY_NOT_TIP = _("Another class to set beside it: what speaks for that one")
    SECOND_BEST = _("the second best class")
    METHOD = _("Method")
    METHOD_TIP = _("How the heatmap is computed; Score-CAM takes seconds")
    OWN_METHOD = _("the model's own")
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
    SECOND_PICTURE = _("Heatmap of the class beside it")
    WHY = _("Why {display}?\n{percent:.0f} %")
    WHY_NOT_SAID = _("Why not {display}?\n{percent:.0f} %")
    BADGES = {
        "trusted": _("Heatmaps of this model: checked and trusted"),
        "weak": _("Heatmaps of this model: weak, read with care"),
        "failed": _("Heatmaps of this model: failed the checks, do not rely on them"),
        "unchecked": _("Heatmaps of this model: not checked"),
    }
    CLASSES = _("Cell {id}: {classes}.")
    SHARE = _("{display} {percent:.1f} %")
    WORDS = _("Morphology, as read by the model: {words}.")
    NO_WORDS = _("This model has no morphology in words for this cell.")


class Train:
    """The Train dock."""

    TITLE = _("Train")
    DATA = _("Data")
    SLIDES = _("Corrections of")
    SLIDES_TIP = _("Slides whose corrected cells are learnt from")
    SLIDE = _("{name}: {n} corrected")
    NO_SLIDES = _("No slide has corrections yet.")
    PATHS = _("Labelled crops")
    PATHS_TIP = _("Folders of class folders, and tables with columns file and class")
    ADD_FOLDER = _("Add folder…")
    ADD_FOLDER_TIP = _("A folder whose folders are named after classes")
    ADD_TABLE = _("Add table…")
    ADD_TABLE_TIP = _("A CSV with columns file and class, and optionally patient, slide, split, um_per_px")
    REMOVE = _("Remove")
    REMOVE_TIP = _("Take the chosen folder or table off the list")
    COUNTS = _("{total} crops: {counts}")
    NO_DATA = _("No data chosen.")
    CHECK = _("Check the data")
    CHECK_TIP = _("Read all crops, look for leakage and doubles, and show how they would be split")
    MODEL = _("Start from")
    MODEL_TIP = _("A model to go on from, or a new network")
    FROM_MODEL = _("model: {name}")
    FROM_ARCH = _("new: {name}")
    FROM_RECIPE = _("new: as the recipe says")
    PRESET = _("Recipe")
    PRESET_TIP = _("A set of settings; every one can be changed")
    NAME = _("Name")
    NAME_TIP = _("Name of the new model; letters, digits, - and _")
    NAME_HINT = _("made up")
    EPOCHS = _("Epochs")
    EPOCHS_TIP = _("How often all crops are seen; as the recipe says by default")
    AS_RECIPE = _("as the recipe")
    MINUTES = _("At most, min")
    MINUTES_TIP = _("Stop softly after this time and keep the best")
    NO_LIMIT = _("no limit")
    ADVANCED = _("Advanced")
    ADVANCED_TIP = _("All other settings; empty means: as the recipe says")
    START = _("Start training")
    START_TIP = _("Train in a process of its own; napari stays free")
    STOP = _("Stop, keep the best")
    STOP_TIP = _("End the training now; the best model so far is kept")
    STOPPING = _("Stopping: the best so far is being kept…")
    LOSS = _("Loss")
    SCORE = _("Macro F1 on validation")
    LINES = (_("training"), _("validation"))
    SCORE_LINE = (_("macro F1"),)
    CURVES_TIP = _("Grows with every epoch")
    EPOCHS_AXIS = _("epochs")
    LOG = _("Log")
    LOG_TIP = _("What the training says")
    PROGRESS = _("Progress of the training")
    EPOCH = _("Epoch {epoch} of {epochs}")
    STARTED = _("Training on {device}: {crops} crops, {classes} classes.")
    FAILED = _("The training failed: {error}")
    TRAINED = _("Trained. Comparing with the current model…")
    PREVIEW = _("{crops} crops, split by {by}. {warnings}")
    GROUPS = {"none": _("single crops"), "patient": _("patient"), "slide": _("slide")}
    NO_WARNINGS = _("Nothing suspicious found.")
    SPLIT_COLUMNS = (_("Class"), _("train"), _("check"), _("test"))
    SPLIT_NAME = _("Split of the crops")
    RESULTS = _("Results")
    YES = _("Yes: {reason}")
    NO = _("No: {reason}")
    RECALL_COLUMNS = (_("Class"), _("n"), _("current"), _("new"), _("verdict"))
    RECALL_NAME = _("Recall of each class, current and new model, with limits")
    VERDICTS = {"held": _("held"), "fell": _("fell"), "not judged": _("too few")}
    CONFUSION = _("Confusion matrix")
    RELIABILITY = _("Reliability")
    NEW = _("new")
    CURRENT = _("current")
    FIGURE = _("{what}, {which} model")
    REPORT = _("Open report")
    REPORT_TIP = _("Open the full evaluation of the new model in the browser")
    PROMOTE = _("Promote")
    PROMOTE_TIP = _("Make the new model the active one; only where no class's recall falls")
    KEEP = _("Keep, not active")
    KEEP_TIP = _("Add the new model to the list of the Analyse dock without making it the active one")
    PROMOTED = _("'{name}' is the active model now.")
    REFUSED = _("Not promoted: {reason}")
    KEPT = _("'{name}' can be chosen in the Analyse dock.")
    CLOSE_TITLE = _("A training is running")
    CLOSE_TEXT = _("Stop the training and close napari? The last checkpoint is kept.")


class Batch:
    """The Batch dock."""

    TITLE = _("Batch")
    FOLDER = _("Slides in")
    FOLDER_TIP = _("Folder of images; each image is one slide")
    OUT = _("Results to")
    OUT_TIP = _("Folder for one folder of results a slide, and summary.csv")
    WORKERS = _("At a time")
    WORKERS_TIP = _("Slides that are analysed at the same time, each with models of its own")
    RESUME = _("Go on where an earlier run stopped")
    RESUME_TIP = _("Slides that are done with the same settings and models are left alone")
    OPTIONS = _("Options")
    OPTIONS_TIP = _("Outlines, classes, scale and device, as in the Analyse dock")
    START = _("Start batch")
    START_TIP = _("Analyse all slides of the folder")
    TABLE = _("Slides of the batch")
    TABLE_TIP = _("State of each slide; double-click opens one for review")
    COLUMNS = (_("Slide"), _("State"), _("Cells"), _("WBC"), _("Review"))
    STATES = {"waiting": _("waiting"), "working": _("at work"), "done": _("done"), "failed": _("failed")}
    OPEN = _("Open for review")
    OPEN_TIP = _("Open the chosen slide with its cells; corrections made before come back")
    SHOW = _("Show folder")
    SHOW_TIP = _("Open the folder of the results")
    CHOOSE = _("Choose a slide in the table first.")
    DONE = _("{done} slides done; results in {folder}.")
    FAILED_SOME = _("{n} failed: see the tips in the table.")
    STOPPED = _("Stopped. Start again to go on.")
    SUMMARY = _(
        "{done} of {total} slides done, {leukocytes} leukocytes counted, {to_review} cells to review."
    )
    OPENED = _("{slide} is open: go on in the Review dock.")
    NO_FOLDER = _("There are no results yet.")
