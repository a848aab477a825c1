"""Settings of an analysis: validated, versioned, and saved with every result."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from napari_leukocls.errors import ArgumentError
from napari_leukocls.types import LEAST_UM_PER_PX, MOST_UM_PER_PX

CONFIG_VERSION: Literal[1] = 1


class AnalyzeConfig(BaseModel):
    """Settings of one analysis; the same for window, command line, batch and API.

    Attributes
    ----------
    segmenter : str
        ``compact``, ``threshold``, a named cellpose model, or the path of a cellpose model file.
    classifier : str or None
        Name of a model; None takes the active one.
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``mps``.
    diameter_px : float or None
        Diameter of a red cell in pixels, overriding the ruler.
    pixel_size_um : float or None
        Micrometres per pixel, overriding the file's metadata and the ruler.
    even_light : bool
        Even out light that falls towards the edges of a field before it is looked at.
    min_confidence : float or None
        Probability below which a cell needs review; None takes the model's own threshold.
    heatmaps : int
        Heatmaps per class in the report.
    formats : tuple of str
        Exports beside the tables: names of `napari_leukocls.results.exports.FORMATS`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[1] = CONFIG_VERSION
    segmenter: str = "compact"
    classifier: str | None = Field(default=None, min_length=1)
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    diameter_px: float | None = Field(default=None, ge=5, lt=5000)
    pixel_size_um: float | None = Field(default=None, gt=LEAST_UM_PER_PX, lt=MOST_UM_PER_PX)
    even_light: bool = True
    min_confidence: float | None = Field(default=None, ge=0, le=1)
    heatmaps: int = Field(default=0, ge=0, le=1000)
    batch_size: int = Field(default=32, ge=1, le=4096)
    formats: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _one_scale(self) -> AnalyzeConfig:
        if self.diameter_px is not None and self.pixel_size_um is not None:
            raise ValueError("give either a red-cell diameter or a pixel size, not both")
        return self


def check_um_per_px(value: float | None) -> None:
    """Refuse a pixel size that no microscope's camera has.

    Raises
    ------
    ArgumentError
        Where it is given and not above `LEAST_UM_PER_PX` and below `MOST_UM_PER_PX`.
    """
    if value is not None and not LEAST_UM_PER_PX < value < MOST_UM_PER_PX:
        raise ArgumentError(
            f"a pixel of {value:g} um is none of a microscope's picture ({LEAST_UM_PER_PX:g} to "
            f"{MOST_UM_PER_PX:g} um): give the size in the slide's plane, not that of the camera's chip."
        )


def make_config(**options: object) -> AnalyzeConfig:
    """Build an `AnalyzeConfig`, with a one-line `ArgumentError` where an option is wrong."""
    try:
        return AnalyzeConfig(**options)  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        if not where:
            raise ArgumentError(f"{first['msg'].removeprefix('Value error, ')}.") from error
        raise ArgumentError(f"{where}: {first['msg']} (got {first.get('input')!r}).") from error
