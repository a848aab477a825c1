"""The model card: what a classifier is, what it was trained on, and how it wants its crops."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from napari_leukocls.errors import ModelError
from napari_leukocls.models.registry import CARD_NAME, read_card_json


@dataclass(frozen=True)
class CropRule:
    """How a model wants its crops; stored in its card.

    Attributes
    ----------
    side_um : float
        Side of the square crop, micrometres.
    side_px : int
        Side of the square crop, pixels.
    margin_um : float or None
        What is farther than this from the cell's outline is painted over with the colour of glass, so
        that neighbours and background cannot speak for the cell; None keeps them.
    white : float or None
        Grey level (0-255) that empty glass is brought to in each channel; None leaves colours alone.
    red_cell : tuple of float or None
        Optical density of red cells (natural logarithm, RGB) that a smear's stain is drawn towards; None
        leaves the stain alone.
    red_cell_share : float
        How far it is drawn there: 0 not at all, 1 the whole way.
    """

    side_um: float = 22.4
    side_px: int = 128
    margin_um: float | None = 1.0
    white: float | None = 235.0
    red_cell: tuple[float, float, float] | None = None
    red_cell_share: float = 0.5

    @property
    def um_per_px(self) -> float:
        """Size of a crop's pixel, micrometres."""
        return self.side_um / self.side_px


FORMAT_VERSION = 1


class CropSettings(BaseModel):
    """`CropRule` as the card stores it."""

    model_config = ConfigDict(extra="forbid")

    side_um: float = Field(gt=1, lt=200)
    side_px: int = Field(ge=16, le=1024)
    margin_um: float | None = Field(default=1.0, ge=0, le=50)
    white: float | None = Field(default=235.0, ge=1, le=255)
    red_cell: tuple[float, float, float] | None = None
    red_cell_share: float = Field(default=0.5, ge=0, le=1)

    def rule(self) -> CropRule:
        """Return the rule."""
        return CropRule(**self.model_dump())


class SecondOpinion(BaseModel):
    """Another model that is asked about cells that a model is unsure of."""

    model_config = ConfigDict(extra="forbid")

    model: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class ModelCard(BaseModel):
    """Contents of ``model.json``.

    Attributes
    ----------
    architecture, arguments
        Name in the registry, and what its builder is called with besides the number of classes.
    classes
        In the order of the network's outputs.
    mean, std
        Per channel, of pixels scaled to 0-1.
    stain
        Method and reference of the stain normalisation; empty for none.
    temperature
        Divides the logits.
    second_look
        Largest probability below which a cell is looked at again: its mirror images are shown to the network
        as well, or where there is a `second_opinion` the cell is shown to that model.
    second_opinion
        Name of that model and SHA-256 of its weights; it has the same classes and crops.
    review_threshold
        Largest probability below which a cell needs review.
    ood
        Method and threshold of the out-of-distribution score; its tensors are ``ood.*`` in the weights.
    """

    model_config = ConfigDict(extra="allow")

    format_version: int = FORMAT_VERSION
    name: str
    kind: str = "classifier"
    architecture: str
    arguments: dict[str, Any] = {}
    classes: list[str] = Field(min_length=2)
    input_size: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    crop: CropSettings
    stain: dict[str, Any] = {}
    temperature: float = Field(default=1.0, gt=0)
    second_look: float = Field(default=0.0, ge=0, le=1)
    second_opinion: SecondOpinion | None = None
    review_threshold: float = Field(default=0.5, ge=0, le=1)
    ood: dict[str, Any] = {}
    licence: str = ""
    intended_use: str = ""
    known_limits: list[str] = []

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

    @model_validator(mode="after")
    def _one_size(self) -> ModelCard:
        if self.input_size != (self.crop.side_px, self.crop.side_px):
            raise ValueError(f"input_size {self.input_size} is not the crop's side of {self.crop.side_px} px")
        return self


def read_card(folder: Path) -> ModelCard:
    """Read and check the card of a classifier.

    Raises
    ------
    ModelError
        Where the card is missing, damaged or lacks something; the line names the field.
    """
    data = read_card_json(folder)
    if data.get("kind", "classifier") != "classifier":
        raise ModelError(f"{folder.name} is a {data['kind']}, not a classifier: see leukocls models list.")
    try:
        return ModelCard(**data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "its settings"
        what = first["msg"].removeprefix("Value error, ")
        raise ModelError(f"the card {folder / CARD_NAME} is wrong at {where}: {what}.") from error
