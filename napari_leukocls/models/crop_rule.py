"""How a model wants its crops."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import (
    ConfigDict,
    Field,
)


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
