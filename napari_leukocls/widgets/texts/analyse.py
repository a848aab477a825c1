"""Texts of the Analyse dock."""

from __future__ import annotations

from napari_leukocls.widgets.texts.translate import _


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
    RUN_TIP = _("Outline, classify and count the cells (Ctrl+Return, as long as the slide is not analysed)")
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
    SHAPES_KINDS = {True: _("by shape"), False: _("only counted")}
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
