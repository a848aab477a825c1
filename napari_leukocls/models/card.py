"""The card of a classifier: what it is, how it was made, how good it is, and how it wants its crops.

`read_card` is the only reader of a card, and `napari_leukocls.models.install.write_model` the only writer. Fields
that other programs add are kept. Names in ``model.json`` may be added; they are never renamed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_serializer,
    field_validator,
    model_serializer,
    model_validator,
)

from napari_leukocls.errors import ModelError
from napari_leukocls.models.registry import CARD_NAME, read_card_json

FORMAT_VERSION = 1


@dataclass(frozen=True)
class CropRule:
    """How a model wants its crops. The limits of the fields hold for cards.

    Attributes
    ----------
    side_um : float
        Side of the square crop, micrometres.
    side_px : int
        Side of the square crop, pixels.
    margin_um : float or None
        What is farther than this from the cell's outline (micrometres) is painted over with the colour of glass,
        so that neighbours and background cannot influence the class; None keeps them.
    white : float or None
        Grey level (0-255) that empty glass is brought to in each channel; None leaves colours alone.
    red_cell : tuple of float or None
        Optical density of red cells (natural logarithm, RGB) that a smear's stain is drawn towards; None
        leaves the stain alone.
    red_cell_share : float
        How far the stain is drawn there: 0 not at all, 1 the whole way.
    whole_image : bool
        The model takes images of one cell as they are: the middle of the image is resized to `side_px`, and nothing
        is outlined. In an analysis of a field, the square of `side_um` around a cell stands for such an image.
    central_share : float
        Share of each side of a whole image that is kept, in the middle.
    side_known : bool
        Whether `side_um` was stated or measured. If not, whole images can be classified, but no field.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    side_um: Annotated[float, Field(gt=1, lt=200)] = 22.4
    side_px: Annotated[int, Field(ge=16, le=1024)] = 128
    margin_um: Annotated[float, Field(ge=0, le=50)] | None = 1.0
    white: Annotated[float, Field(ge=1, le=255)] | None = 235.0
    red_cell: tuple[float, float, float] | None = None
    red_cell_share: Annotated[float, Field(ge=0, le=1)] = 0.5
    whole_image: bool = False
    central_share: Annotated[float, Field(gt=0, le=1)] = 1.0
    side_known: bool = True

    @property
    def um_per_px(self) -> float:
        """Size of a crop's pixel, micrometres."""
        return self.side_um / self.side_px


def _rows(value: Any) -> Any:
    """The rows of a matrix; earlier versions wrote ``{"of": "test", "rows": [...]}``."""
    return value["rows"] if isinstance(value, Mapping) and "rows" in value else value


#: Rows are the true classes, columns the predicted ones, both in the order of the card's classes.
ConfusionMatrix = Annotated[list[list[int]], BeforeValidator(_rows)]

#: Lower and upper limit of a 95 % interval.
Limits = list[float | None]


class CardPart(BaseModel):
    """A part of a card. What is not known is left out when it is written; what others add is kept."""

    model_config = ConfigDict(extra="allow")

    @model_serializer(mode="wrap")
    def _without_unknown(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = handler(self)
        return {
            name: value
            for name, value in values.items()
            if value is not None or name in self.model_fields_set
        }


class SecondOpinion(BaseModel):
    """Another model that classifies the cells that a model is unsure of."""

    model_config = ConfigDict(extra="forbid")

    model: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class OutOfDistribution(CardPart):
    """The score of how unlike the training cells a cell is; its tensors are ``ood.*`` in the weights.

    Attributes
    ----------
    method : str or None
    threshold : float or None
        Cells with at least this score need review; None sends none.
    """

    method: str | None = None
    threshold: float | None = None


class Softening(CardPart):
    """How the temperature grows with the out-of-distribution score: it is multiplied with a factor.

    The factor is 1 up to a score of `start`, `most` from a score of `end` on, and on a straight line between.

    Attributes
    ----------
    start, end : float
        Scores.
    most : float
    """

    start: float
    end: float
    most: float = Field(ge=1, le=20)

    @model_validator(mode="after")
    def _rising(self) -> Softening:
        if not self.start < self.end:
            raise ValueError(f"start {self.start} is not below end {self.end}")
        return self


class FamiliarityTest(CardPart):
    """The test whether a slide's stain and camera are like those that the model knows.

    Its tensors are ``ood.slide_*`` in the weights.

    Attributes
    ----------
    layers : list of str
        Dotted names of earlier layers whose statistics are compared.
    limit : float or None
        Slides farther than this from every known laboratory are warned of; None warns of none.
    least_cells : int
        Slides with fewer classified cells are not tested.
    known : list of str or None
        The laboratories that the reference was fitted on.
    """

    layers: list[str] = []
    limit: float | None = None
    least_cells: int = Field(default=20, ge=1)
    known: list[str] | None = None


class Figures(CardPart):
    """How good a model is on one set of cells, as ``metrics.json`` names it.

    Attributes
    ----------
    role : str or None
        What these cells were to the model: ``trained``, ``validation``, or ``left out``.
    touched : str or None
        When, and how often, this set was used.
    set : str or None
        Which cells these are.
    n : int or None
        How many cells.
    confusion_matrix : list of list of int or None
        Rows are the true classes, columns the predicted ones, in the order of the card's classes.
    per_class : dict or None
        Precision, recall, F1 and their limits by class.
    per_class_recall : dict or None
    """

    role: str | None = None
    touched: str | None = None
    set: str | None = None
    n: int | None = None
    accuracy: float | None = None
    accuracy_ci95: Limits | None = None
    balanced_accuracy: float | None = None
    balanced_accuracy_ci95: Limits | None = None
    macro_f1: float | None = None
    macro_f1_ci95: Limits | None = None
    mcc: float | None = None
    mcc_ci95: Limits | None = None
    kappa: float | None = None
    kappa_ci95: Limits | None = None
    auc_macro: float | None = None
    auc_macro_ci95: Limits | None = None
    ece: float | None = None
    ece_ci95: Limits | None = None
    review_rate: float | None = None
    review_rate_ci95: Limits | None = None
    accuracy_not_reviewed: float | None = None
    accuracy_not_reviewed_ci95: Limits | None = None
    per_class: dict[str, dict[str, Any]] | None = None
    per_class_recall: dict[str, float | None] | None = None
    confusion_matrix: ConfusionMatrix | None = None


class TrainingData(CardPart):
    """What a model was trained on.

    Attributes
    ----------
    sources : list of str or None
        Names and licences of the data sets.
    files_sha256 : str or None
        SHA-256 of the sorted names, or of the sorted hashes, of the training files.
    counts : dict of str to int or None
        Training cells of each class.
    counts_raabin : dict of str to int or None
        The same of a second laboratory.
    counts_by_laboratory : dict of str to dict or None
        Training cells of each class, by laboratory, beside those in `counts`.
    left_out : int or None
        Crops that were not used.
    """

    sources: list[str] | None = None
    files_sha256: str | None = None
    counts: dict[str, int] | None = None
    counts_raabin: dict[str, int] | None = None
    counts_by_laboratory: dict[str, dict[str, int]] | None = None
    left_out: int | None = None


class SplitRecord(CardPart):
    """How cells were divided into training, validation and test.

    Attributes
    ----------
    method : str or None
    seed : int or None
    grouped_by : str or None
        What is never divided: patient, slide or picture.
    shares : list of float or None
        Of training, validation and test.
    counts : dict or None
        Cells of each class in each part.
    files_sha256 : dict of str to str or None
        One SHA-256 for each part.
    leakage : dict or None
        Patients or slides that are in more than one part.
    files : str or None
        The table beside the card that lists all files.
    train, validation : list of str or None
        SHA-256 of each file of the part, where there is no such table.
    """

    method: str | None = None
    seed: int | None = None
    grouped_by: str | None = None
    shares: list[float] | None = None
    counts: dict[str, dict[str, int]] | None = None
    files_sha256: dict[str, str] | None = None
    leakage: dict[str, Any] | None = None
    files: str | None = None
    train: list[str] | None = None
    validation: list[str] | None = None


class Training(CardPart):
    """How the weights were made.

    Attributes
    ----------
    preset : str or None
    settings : dict or None
        Settings that differ from the defaults.
    seed : int or None
    epochs, best_epoch : int or None
        Epochs that were run, and the number of the one that was kept, from 1.
    ended_because : str or None
    seconds : float or None
    accuracy : float or None
        Share of the training crops, varied as in the training, that were right in the epoch that was kept.
    device : str or None
    finished : str or None
        Time in UTC.
    repeats : dict or None
        Figures of repeated trainings on other splits.
    runs : list of dict or None
        Trainings whose weights were joined.
    weights : str or None
        How they were joined.
    started_from : str or dict or None
        The model that it was trained on from.
    """

    preset: str | None = None
    settings: dict[str, Any] | None = None
    seed: int | None = None
    epochs: int | None = None
    best_epoch: int | None = None
    ended_because: str | None = None
    seconds: float | None = None
    accuracy: float | None = None
    device: str | None = None
    finished: str | None = None
    repeats: dict[str, Any] | None = None
    runs: list[dict[str, Any]] | None = None
    weights: str | None = None
    started_from: str | dict[str, Any] | None = None


class Adaptation(CardPart):
    """How a model was adapted to another laboratory, from few crops or from images without labels.

    Attributes
    ----------
    of : str or None
        The model that was adapted.
    without_labels : bool or None
        Whether it was adapted to images without labels.
    images, cells : int or None
        Images without labels, and leukocytes in them.
    crops, units : int or None
        Labelled crops that it was fitted on, and the patients, slides or single pictures that they are of.
    new_classes : list of str or None
    rehearsed : int or None
        Stored cells of the known classes that were fitted on too.
    recall : dict or None
        Mean recall before and after, on the known classes, this laboratory's cells and new classes.
    changed : str or None
        What was changed.
    check : dict or None
        What the change gains on crops that it was not learnt from; without labels, whether two halves of the cells
        agree.
    how : str or None
        How that was measured.
    """

    of: str | None = None
    without_labels: bool | None = None
    images: int | None = None
    cells: int | None = None
    crops: int | None = None
    units: int | None = None
    new_classes: list[str] | None = None
    rehearsed: int | None = None
    recall: dict[str, dict[str, Any]] | None = None
    changed: str | None = None
    check: dict[str, Any] | None = None
    how: str | None = None


class GradCam(CardPart):
    """Where heatmaps are read.

    Attributes
    ----------
    layer : str or list of str or None
        Dotted names of layers of the network.
    reshape : str or None
        How the layer's output becomes a map; None finds it out.
    method : str or None
        The method that checked best; None is Grad-CAM.
    """

    layer: str | list[str] | None = None
    reshape: str | None = None
    method: str | None = None


class ExplanationChecks(CardPart):
    """Checks of a model's heatmaps.

    Attributes
    ----------
    format_version : int or None
    weights_sha256 : str or None
        Of the weights that were checked.
    methods : dict
        Figures by heatmap method, as `napari_leukocls.explanation.checks.check_model` gives them.
    """

    format_version: int | None = None
    weights_sha256: str | None = None
    methods: dict[str, dict[str, Any]] = {}


class ModelCard(CardPart):
    """Contents of ``model.json`` of a classifier.

    Attributes
    ----------
    format_version : int
    name : str
    kind : str
        ``classifier``.
    architecture : str
        Name in the registry of architectures.
    arguments : dict
        What its builder is called with besides the number of classes.
    classes : list of str
        In the order of the network's outputs.
    input_size : tuple of int
        Height and width of the network's input, pixels.
    mean, std : tuple of float
        Per channel, of pixels scaled to 0-1.
    crop : CropRule
    stain : dict
        As `napari_leukocls.classification.stain.fit_reference` gives it; empty for no stain normalisation.
    temperature : float
        Divides the logits.
    second_look : float
        Cells whose largest probability is below this are classified a second time: with their mirror images, or
        by the `second_opinion`.
    second_opinion : SecondOpinion or None
        Name of that model and SHA-256 of its weights; it has the same classes and crops.
    review_threshold : float
        Cells whose largest probability is below this need review.
    review_thresholds : dict of str to float or None
        The same for cells of some predicted classes, instead of `review_threshold`.
    ood : OutOfDistribution
    softening : Softening or None
        None: one temperature for all cells.
    familiarity : FamiliarityTest or None
        None: slides are not tested.
    licence, intended_use : str
    known_limits : list of str
    prior : dict of str to float or None
        Factor on the odds of each class, already in the bias of the last layer.
    start : str or None
        Weights that the training started from.
    gradcam : GradCam or None
    training_data : TrainingData or str or None
    split : SplitRecord or str or None
    training : Training or str or None
    adaptation : Adaptation or None
    versions : dict of str to str or None
        Of the libraries that it was trained with.
    validation, test : Figures or None
    metrics : Figures or None
        Figures of a card that does not say on which part they were measured.
    confusion_matrix : list of list of int or None
        Of the test. Rows are the true classes, columns the predicted ones, in the order of `classes`.
    weights_sha256 : str or None
        SHA-256 of ``weights.safetensors``; set when the model is written.
    out_of_distribution_check : dict or None
    laboratories : dict of str to Figures, or None
        Figures by laboratory, each with the role that it had: trained, validation or left out.
    other_microscope, third_microscope : Figures or None
    explanation_checks : ExplanationChecks or None
    """

    format_version: int = FORMAT_VERSION
    name: str
    kind: str = "classifier"
    architecture: str
    arguments: dict[str, Any] = {}
    classes: list[str] = Field(min_length=2)
    input_size: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    crop: CropRule
    stain: dict[str, Any] = {}
    temperature: float = Field(default=1.0, gt=0)
    second_look: float = Field(default=0.0, ge=0, le=1)
    second_opinion: SecondOpinion | None = None
    review_threshold: float = Field(default=0.5, ge=0, le=1)
    review_thresholds: dict[str, Annotated[float, Field(ge=0, le=1)]] | None = None
    ood: OutOfDistribution = OutOfDistribution()
    softening: Softening | None = None
    familiarity: FamiliarityTest | None = None
    licence: str = ""
    intended_use: str = ""
    known_limits: list[str] = []
    prior: dict[str, float] | None = None
    start: str | None = None
    gradcam: GradCam | None = None
    training_data: TrainingData | str | None = None
    split: SplitRecord | str | None = None
    training: Training | str | None = None
    adaptation: Adaptation | None = None
    versions: dict[str, str] | None = None
    validation: Figures | None = None
    test: Figures | None = None
    metrics: Figures | None = None
    confusion_matrix: ConfusionMatrix | None = None
    weights_sha256: str | None = None
    out_of_distribution_check: dict[str, Any] | None = None
    laboratories: dict[str, Figures] | None = None
    other_microscope: Figures | None = None
    third_microscope: Figures | None = None
    explanation_checks: ExplanationChecks | None = None

    @field_validator("format_version")
    @classmethod
    def _known_version(cls, value: int) -> int:
        if value > FORMAT_VERSION:
            raise ValueError(f"format {value} is newer than this version understands: update napari-leukocls")
        return value

    @field_validator("classes")
    @classmethod
    def _distinct(cls, value: list[str]) -> list[str]:
        if len(set(value)) != len(value):
            raise ValueError("a class is listed twice")
        return value

    @field_serializer("crop")
    def _cells_or_images(self, value: CropRule) -> dict[str, Any]:
        """The fields on whole images are written for models that take such images alone."""
        about_images = () if value.whole_image else ("whole_image", "central_share", "side_known")
        return {name: part for name, part in asdict(value).items() if name not in about_images}

    @field_validator("crop", mode="before")
    @classmethod
    def _both_sides(cls, value: Any) -> Any:
        """A card states the size of its crops; the defaults of `CropRule` are for new models."""
        for name in ("side_um", "side_px"):
            if isinstance(value, Mapping) and name not in value:
                raise ValueError(f"crop.{name} is missing")
        return value

    @model_validator(mode="after")
    def _one_size(self) -> ModelCard:
        if self.input_size != (self.crop.side_px, self.crop.side_px):
            raise ValueError(f"input_size {self.input_size} is not the crop's side of {self.crop.side_px} px")
        return self

    @property
    def tested_matrix(self) -> list[list[int]] | None:
        """Confusion matrix of the test, wherever the card holds it."""
        for figures in (self.test, self.metrics):
            if figures is not None and figures.confusion_matrix is not None:
                return figures.confusion_matrix
        return self.confusion_matrix


def make_card(values: Mapping[str, Any], source: str | Path) -> ModelCard:
    """Check the fields of a card.

    Parameters
    ----------
    values : mapping
        Contents of ``model.json``.
    source : str or Path
        Where they come from, for the message.

    Returns
    -------
    ModelCard

    Raises
    ------
    ModelError
        If a field is missing or wrong; the line names it.
    """
    try:
        return ModelCard.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "its settings"
        what = first["msg"].removeprefix("Value error, ")
        raise ModelError(f"the card {source} is wrong at {where}: {what}.") from error


def read_card(folder: Path) -> ModelCard:
    """Read and check the card of a classifier.

    Parameters
    ----------
    folder : Path
        Of the model.

    Returns
    -------
    ModelCard

    Raises
    ------
    ModelError
        If the card is missing or damaged, a field is missing or wrong (the line names it), or the model is no
        classifier.
    """
    values = read_card_json(folder)
    if values.get("kind", "classifier") != "classifier":
        raise ModelError(f"{folder.name} is a {values['kind']}, not a classifier: see leukocls models list.")
    return make_card(values, folder / CARD_NAME)
