"""Texts of the Train dock."""

from __future__ import annotations

from napari_leukocls.widgets.texts.translate import _


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
    PRESET_TIP = _(
        "How the model is trained. Adapting takes minutes and few crops, fine-tuning minutes and many crops, thorough "
        "training hours and many crops. Each setting of a recipe can be changed"
    )
    RECIPES = {
        "adapt": _("adapt to my laboratory"),
        "quick": _("fine-tune all layers"),
        "thorough": _("train thoroughly (hours)"),
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
