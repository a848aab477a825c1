"""The card of a classifier: what it is, how it was made, how good it is, and how it wants its crops.

`read_card` is the only reader of a card, and `napari_leukocls.models.install.write_model` the only writer. Fields
that other programs add are kept. Names in ``model.json`` may be added; they are never renamed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    Field,
    ValidationError,
    field_serializer,
    field_validator,
    model_validator,
)

from napari_leukocls.errors import ModelError
from napari_leukocls.models.card_parts import (
    Adaptation,
    CardPart,
    ConfusionMatrix,
    ExplanationChecks,
    FamiliarityTest,
    Figures,
    GradCam,
    OutOfDistribution,
    SecondOpinion,
    Softening,
    SplitRecord,
    Training,
    TrainingData,
)
from napari_leukocls.models.crop_rule import CropRule
from napari_leukocls.models.registry import CARD_NAME, read_card_json

FORMAT_VERSION = 1


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
