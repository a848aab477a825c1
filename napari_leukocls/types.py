"""The data that flows through the product. No torch, Qt or napari here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import pandas as pd

#: Pixel sizes, micrometres, between which a microscope's picture lies: beyond, a red cell is under 5 pixels wide.
LEAST_UM_PER_PX, MOST_UM_PER_PX = 0.001, 1.5
#: What the segmenter's side can tell apart, in the order of its probabilities.
CELL_KINDS = ("red_cell", "leukocyte", "platelet")
ScaleSource = Literal["user", "metadata", "red_cell_ruler", "other_images", "nuclei", "model", "unknown"]
#: How sure a finding is.
FindingState = Literal["certain", "possible", "absent"]


@dataclass(frozen=True)
class SmearImage:
    """One smear field, decoded.

    Attributes
    ----------
    pixels : numpy.ndarray, (H, W, 3), uint8
        RGB. Of a whole slide: an object that decodes the part that is indexed.
    slide_id : str
        Unique within a run; the stem of the file's name.
    source : str
        Path of the file, or name of the layer.
    um_per_px : float or None
        Pixel size in micrometres from the file's metadata, where it has one.
    notes : tuple of str
        What was converted while reading ("16-bit grey, scaled to 8 bit"); shown as warnings.
    """

    pixels: np.ndarray
    slide_id: str
    source: str
    um_per_px: float | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scale:
    """The physical size of a pixel and its source.

    Attributes
    ----------
    um_per_px : float
        Micrometres per pixel of the full-resolution image.
    red_cell_diameter_px : float
        Diameter of a typical red cell, pixels of the full-resolution image (7.5 um by convention).
    source : str
        ``user``, ``metadata``, ``red_cell_ruler``, ``other_images`` (measured in images of the same folder, run or
        viewer), ``nuclei`` (of leukocytes), ``model`` (the classifier's own) or ``unknown``.
    n_cells : int
        Red cells that were measured; 0 where the ruler was not used.
    spread : float
        Robust relative spread (1.4826 MAD / median) of those diameters.
    sure : bool
        False if a person should check the estimate.
    octaves : float
        Error that is expected, octaves (log2), where other images or nuclei gave the scale; else 0.
    n_images : int
        Images that were measured together; 0 where the image's own scale is used.
    """

    um_per_px: float
    red_cell_diameter_px: float
    source: ScaleSource
    n_cells: int = 0
    spread: float = 0.0
    sure: bool = True
    octaves: float = 0.0
    n_images: int = 0


@dataclass(frozen=True)
class Segmentation:
    """Outlines of cells.

    Attributes
    ----------
    labels : numpy.ndarray, (H, W), int32
        0 is the background. A cell has its ``cell_id``; after cells were deleted the ids have gaps. Of a whole
        slide: an object that reads the part that is indexed.
    kind_probabilities : numpy.ndarray, (N, 3), float32
        Row i - 1 belongs to label i; columns as in `CELL_KINDS`. Of a whole slide: no row.
    glass_colour : tuple of float
        Median RGB (0-255) of the empty glass; (nan, nan, nan) where there is none.
    scale : Scale
    warnings : tuple of str
    red_cell_density : tuple of float or None
        Median optical density (natural logarithm, RGB) of the red cells; None where too few were found.
    light : Light or None
        How the field was lit, if that was evened out before the analysis.
    outlines : mapping of int to numpy.ndarray, (M, 2), float32
        The whole outline of each cell that another one covers in part, by ``cell_id``: x, y in pixels, where the
        corner of the first pixel is (0, 0); the last point is not the first again. Such outlines overlap, and in
        `labels` each pixel has one owner. A cell without an entry is what `labels` shows.
    heaps : tuple of numpy.ndarray, (M, 2), float32
        Outlines of heaps that are too thick to count, in the same coordinates. No cell is counted in them, and
        their area belongs to no density.
    """

    labels: np.ndarray
    kind_probabilities: np.ndarray
    glass_colour: tuple[float, float, float]
    scale: Scale
    warnings: tuple[str, ...] = ()
    red_cell_density: tuple[float, float, float] | None = None
    light: Light | None = None
    outlines: Mapping[int, np.ndarray] = field(default_factory=dict)
    heaps: tuple[np.ndarray, ...] = ()


@dataclass(frozen=True)
class FineShares:
    """How probable the finer classes of cells are, each within the class that it is a part of.

    Attributes
    ----------
    classes : tuple of str, length L
        The finer classes.
    parents : tuple of str, length L
        The class of the model that each is a part of.
    shares : numpy.ndarray, (N, L), float32
        P(finer class | class); those of one parent sum to 1.
    thresholds : tuple of float, length L
        A cell whose largest share within a class is below it is not told apart. Equal within a parent.
    """

    classes: tuple[str, ...]
    parents: tuple[str, ...]
    shares: np.ndarray
    thresholds: tuple[float, ...]


@dataclass(frozen=True)
class Predictions:
    """Classes of a batch of crops, as a classifier predicts them.

    Attributes
    ----------
    classes : tuple of str, length C
    probabilities : numpy.ndarray, (N, C), float32
        Temperature-scaled softmax.
    ood_score : numpy.ndarray, (N,), float32
        Larger is less like the training data.
    ood_threshold : float
        At or above it a cell needs review.
    fine : FineShares, optional
        Of the finer classes, if they were asked for.
    differences : numpy.ndarray, (N, K), float32
        How the picture of each cell differs from known cells of its class, for the test of the whole slide
        (`napari_leukocls.classification.familiarity`); no column if the model has no such test.
    """

    classes: tuple[str, ...]
    probabilities: np.ndarray
    ood_score: np.ndarray
    ood_threshold: float
    fine: FineShares | None = None
    differences: np.ndarray | None = None


@dataclass(frozen=True)
class Signature:
    """Whether a count is reviewed and signed, by whom, and which cells it leaves out.

    Attributes
    ----------
    state : {"unreviewed", "provisional", "signed"}
        ``unreviewed``: no person has given a class. ``provisional``: reviewed, but not signed, or changed since.
    signed_by, signed_at : str
        Name, and time (UTC, ISO 8601); "" unless signed.
    goal : int or None
        Leukocytes to count; None for all.
    second_reader : str
        Who read the same cells blind; "" if nobody has finished.
    kappa : float or None
        Cohen's kappa of the two readers; None where there is none.
    left_out : mapping of str to int
        Cells that wait for review and are not counted, by the class that the classifier gave.
    lifted : str
        Who changed what after the last signature, which is not valid any more; "" if nobody did.
    """

    state: Literal["unreviewed", "provisional", "signed"] = "unreviewed"
    signed_by: str = ""
    signed_at: str = ""
    goal: int | None = None
    second_reader: str = ""
    kappa: float | None = None
    left_out: Mapping[str, int] = field(default_factory=dict)
    lifted: str = ""

    @property
    def is_signed(self) -> bool:
        """Whether the count is signed, so that it is final and not preliminary."""
        return self.state == "signed"

    def words(self) -> str:
        """Describe the state in one line, for reports, tables and windows.

        Returns
        -------
        str
            For example ``provisional: 14 cells are left out (9 lymphocytes, 5 monocytes)``.
        """
        if self.is_signed:
            parts = [f"signed by {self.signed_by} on {self.signed_at[:10]}"]
        else:
            parts = [
                "provisional" if self.state == "provisional" else "provisional, not yet reviewed by a person"
            ]
        if self.second_reader:
            kappa = "" if self.kappa is None else f", kappa {self.kappa:.2f}"
            parts[0] += f"; second read by {self.second_reader}{kappa}"
        if self.left_out or not self.is_signed:
            parts.append(self._left_out_words())
        text = ": ".join(parts)
        return f"{text}; {self.lifted}" if self.lifted else text

    def _left_out_words(self) -> str:
        n = sum(self.left_out.values())
        if not n:
            return "no cell is left out"
        most_first = sorted(self.left_out.items(), key=lambda item: (-item[1], item[0]))
        classes = ", ".join(f"{count} {_class_words(name, count)}" for name, count in most_first)
        return f"{n} {'cell is' if n == 1 else 'cells are'} left out ({classes})"


def _class_words(name: str, n: int) -> str:
    """A class as a word in the middle of a sentence."""
    word = name.replace("_", " ")
    return word if n == 1 or name == "not_classed" else f"{word}s"


@dataclass(frozen=True)
class Finding:
    """One flag, grade or estimate of a slide: a row of ``findings.csv``.

    `napari_leukocls.measurement.findings` says how findings are named, added to a result, written and read.

    Attributes
    ----------
    name : str
        Lower-case letters, digits and underscores; unique within a slide.
    value : float
        The figure; nan where it could not be measured.
    low, high : float
        95 % limits of the figure, in the same unit; nan where there are none.
    unit : str
        UCUM (``%``, ``10*9/L``, ``um``, ``/100{WBCs}``, ``{cells}``); "" for a number without a unit.
    state : {"certain", "possible", "absent"}
        Whether the rule's limit is reached: for certain, perhaps, or not. A finding without a rule is a figure alone,
        and its state is ``certain``.
    rule : str
        The rule in words, with its limit ("Schistocytes >= 1 % (2+)"); "" for a figure that no rule judges.
    text : str
        One sentence for a person.
    """

    name: str
    value: float
    low: float
    high: float
    unit: str
    state: FindingState
    rule: str
    text: str


@dataclass(frozen=True)
class SlideResult:
    """The cells and the count of one slide: a single field, several fields, or a whole slide.

    Attributes
    ----------
    slide_id : str
        Name of the slide, and of its folder of results.
    source : str
        Where the pixels came from (a path, or the name of a layer).
    um_per_px : float
        Pixel size in micrometres. Of a slide of several fields: that of its last field;
        ``run["um_per_px"]`` lists all.
    cells : pandas.DataFrame
        One row a cell, columns as in ``cells.csv``.
    counts : pandas.DataFrame
        One row a class, columns as in ``counts.csv``.
    run : dict
        Settings, model names and hashes, versions, times: ``run.json``.
    warnings : tuple of str
    signature : Signature
        Who signed the count, and which cells it leaves out.
    findings : tuple of Finding
        What was measured beside the counts; the flags that the rules of the laboratory raise are made from the counts
        and from these when a result is written.
    red_cells : pandas.DataFrame or None
        One row a red cell, columns as in ``red_cells.csv``; None if red cells were not looked at. Of a whole slide: the
        cells of a sample of its tiles.
    """

    slide_id: str
    source: str
    um_per_px: float
    cells: pd.DataFrame
    counts: pd.DataFrame
    run: dict[str, Any]
    warnings: tuple[str, ...] = ()
    signature: Signature = field(default_factory=Signature, kw_only=True)
    findings: tuple[Finding, ...] = field(default=(), kw_only=True)
    red_cells: pd.DataFrame | None = field(default=None, kw_only=True)


@dataclass(frozen=True)
class FieldResult(SlideResult):
    """The cells, the count, the image and the outlines of one field.

    `slide_id` and `source` are those of the image, and `um_per_px` is that of the segmentation's scale.

    Attributes
    ----------
    image : SmearImage
    segmentation : Segmentation
    """

    slide_id: str = field(init=False)
    source: str = field(init=False)
    um_per_px: float = field(init=False)
    image: SmearImage = field(kw_only=True)
    segmentation: Segmentation = field(kw_only=True)

    def __post_init__(self) -> None:
        # The dataclass is frozen, so its own assignment is refused.
        object.__setattr__(self, "slide_id", self.image.slide_id)
        object.__setattr__(self, "source", self.image.source)
        object.__setattr__(self, "um_per_px", self.segmentation.scale.um_per_px)

    @property
    def labels(self) -> np.ndarray:
        """Label image, (H, W) int32; the value of a cell is its ``cell_id``."""
        return self.segmentation.labels


#: A fall of the light of at least this share becomes a warning: the microscope may need adjusting.
NOTED_FALL = 0.25


@dataclass(frozen=True)
class Light:
    """How bright the glass is across a field.

    Attributes
    ----------
    coefficients : tuple of float
        Of 1, x, y, x^2, xy, y^2 in the logarithm of the brightness, with x and y from -1 to 1 across the box; the
        brightest point is 0.
    fall : float
        1 less the darkest glass's share of the brightest; 0 where the light was left as it is.
    surround : float
        Share of the picture that is the black around a round field of view; 0 where there is none.
    box : tuple of int
        y0, x0, y1, x1 of what it was measured on, in pixels of the image.
    """

    coefficients: tuple[float, ...]
    fall: float
    surround: float
    box: tuple[int, int, int, int]

    @property
    def note(self) -> str:
        """Text for the list of warnings; "" if the light fell too little to mention."""
        notes = []
        if self.fall >= NOTED_FALL:
            notes.append(f"the light falls by {100 * self.fall:.0f} % across the field: evened out")
        if self.surround:
            notes.append(f"the black around the field of view ({100 * self.surround:.0f} %) is left out")
        return "; ".join(notes) + "." if notes else ""
