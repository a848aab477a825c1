"""Settings of an analysis: validated, versioned, and saved with every result."""

from __future__ import annotations

from numbers import Real
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from napari_leukocls.errors import ArgumentError
from napari_leukocls.io.planes import parse_plane
from napari_leukocls.types import LEAST_UM_PER_PX, MOST_UM_PER_PX

CONFIG_VERSION: Literal[1] = 1


class AnalyzeConfig(BaseModel):
    """Settings of one analysis; the same for the window, the command line, batches and the API.

    Attributes
    ----------
    segmenter : str
        ``compact``, ``threshold``, a named cellpose model, or the path of a cellpose model file.
    classifier : str or None
        Name of a model; None takes the active one.
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``mps``.
    diameter_px : float or None
        Diameter of a red cell in pixels; used instead of what is measured in the image.
    pixel_size_um : float or None
        Micrometres per pixel; used instead of the file's metadata and of what is measured in the image.
    plane : int or str
        Which plane of a stack is analysed: a number from 1, or ``first``, ``middle``, ``last``, ``sharpest``,
        ``focus``, ``mean``, ``min`` or ``max``.
    even_light : bool
        Whether light that is weaker towards the edges of a field is evened out before the analysis.
    min_confidence : float or None
        Probability below which a cell needs review; None takes the model's own threshold.
    heatmaps : int
        Heatmaps of each class in the report.
    batch_size : int
        Crops that the classifier takes at a time.
    depth : str
        ``classes`` counts the classes of the model; ``fine`` also their finer classes (segmented and band neutrophils,
        stages of immature granulocytes), if the model tells them apart.
    red_cells : bool
        Whether red cells are measured and sorted by shape (``red_cells.csv``, and findings of red cells).
    red_cell_model : str
        Name of the model of the shapes.
    formats : tuple of str
        Exports written in addition to the tables: names of `napari_leukocls.results.exports.FORMATS`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[1] = CONFIG_VERSION
    segmenter: str = "compact"
    classifier: str | None = Field(default=None, min_length=1)
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    diameter_px: float | None = Field(default=None, ge=5, lt=5000)
    pixel_size_um: float | None = Field(default=None, gt=LEAST_UM_PER_PX, lt=MOST_UM_PER_PX)
    plane: int | str = "first"
    even_light: bool = True
    min_confidence: float | None = Field(default=None, ge=0, le=1)
    heatmaps: int = Field(default=0, ge=0, le=1000)
    batch_size: int = Field(default=32, ge=1, le=4096)
    depth: Literal["classes", "fine"] = "classes"
    red_cells: bool = True
    red_cell_model: str = Field(default="red_cells", min_length=1)
    formats: tuple[str, ...] = ()

    @field_validator("plane")
    @classmethod
    def _known_plane(cls, plane: int | str) -> int | str:
        try:
            return parse_plane(plane)
        except ArgumentError as error:
            raise ValueError(str(error)) from error

    @model_validator(mode="after")
    def _one_scale(self) -> AnalyzeConfig:
        if self.diameter_px is not None and self.pixel_size_um is not None:
            raise ValueError("give either a red-cell diameter or a pixel size, not both")
        return self


def check_um_per_px(value: float | None) -> None:
    """Refuse a pixel size that no microscope's camera has.

    Parameters
    ----------
    value : float or None
        Micrometres per pixel; None is not checked.

    Raises
    ------
    ArgumentError
        If it is no number, or not between `LEAST_UM_PER_PX` and `MOST_UM_PER_PX`.
    """
    if value is not None and not isinstance(value, Real):
        raise ArgumentError(f"the pixel size {value!r} is no number: give micrometres per pixel.")
    if value is not None and not LEAST_UM_PER_PX < value < MOST_UM_PER_PX:
        raise ArgumentError(
            f"a pixel size of {value:g} um is not possible in a microscope's image ({LEAST_UM_PER_PX:g} to "
            f"{MOST_UM_PER_PX:g} um): give the size on the slide, not on the camera's chip."
        )


def make_config(**options: object) -> AnalyzeConfig:
    """Build the settings of an analysis.

    Parameters
    ----------
    **options
        Fields of `AnalyzeConfig`.

    Returns
    -------
    AnalyzeConfig

    Raises
    ------
    ArgumentError
        If an option is unknown or wrong; in one line that names it.
    """
    try:
        return AnalyzeConfig(**options)  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        if not where:
            raise ArgumentError(f"{first['msg'].removeprefix('Value error, ')}.") from error
        if first["type"] == "value_error":
            # Of a check of our own: a whole sentence that names what is wrong.
            raise ArgumentError(
                f"{where}: {first['msg'].removeprefix('Value error, ').rstrip('.')}."
            ) from error
        says = first["msg"].removeprefix("Input ")
        raise ArgumentError(f"{where}: {says} (got {first.get('input')!r}).") from error
