"""Texts of the Explain dock."""

from __future__ import annotations

from napari_leukocls.widgets.texts.translate import _


class Explain:
    """The Explain dock."""

    TITLE = _("Explain")
    CHOOSE = _("Select one cell: click it in the smear or in the gallery.")
    BLIND = _("No cell is explained while the classes are hidden.")
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
