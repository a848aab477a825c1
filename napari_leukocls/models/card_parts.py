"""The parts of a model's card: figures, data, split, training, adaptation, explanations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)


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
    layer : str or None
        Dotted name of an earlier layer whose channel means the score takes too.
    """

    method: str | None = None
    threshold: float | None = None
    layer: str | None = None


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
    ece_if_calibrated : float or None
        Calibration error that a perfectly calibrated model would show on as many cells, on average.
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
    ece_if_calibrated: float | None = None
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
