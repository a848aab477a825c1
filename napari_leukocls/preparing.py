"""What is settled of a field before its cells are outlined: the light that it is seen in, and its scale."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from napari_leukocls.types import Scale, SmearImage

if TYPE_CHECKING:
    from napari_leukocls.pipeline import Engine
    from napari_leukocls.segmentation.light import Light

#: A given scale that is this many times off what the width of the stained parts suggests is doubted.
FAR = 3.5
#: Red cells side by side in what that is guessed from.
GUESSED_ON = 40


def as_scanned(engine: Engine) -> Engine:
    """Return the engine for a scanner's slide: its light was evened out when it was scanned."""
    return replace(engine, config=engine.config.model_copy(update={"even_light": False}))


def under_even_light(image: SmearImage, engine: Engine) -> tuple[SmearImage, Light | None]:
    """Return a field as the networks see it, and how it was lit; itself and None where the light is even."""
    from napari_leukocls.segmentation.light import as_seen, measure_light

    light = measure_light(image.pixels) if engine.config.even_light else None
    return replace(image, pixels=as_seen(image.pixels, light)), light


def find_scale(
    image: SmearImage, engine: Engine, fields: Callable[[], Sequence[np.ndarray]] | None = None
) -> tuple[Scale, list[str]]:
    """Take the scale from the user, else the file, else the red cells; say so where it is unsure.

    Parameters
    ----------
    image : SmearImage
    engine : Engine
    fields : callable, optional
        Gives the fields whose red cells are measured, where that is needed; by default the image itself.

    Returns
    -------
    scale : Scale
    warnings : list of str
    """
    from napari_leukocls.segmentation.scale import RED_CELL_UM, estimate_diameter, scale_of

    config, said = engine.config, None
    if config.diameter_px is not None:
        said = Scale(RED_CELL_UM / config.diameter_px, config.diameter_px, "user")
    elif config.pixel_size_um is not None:
        said = Scale(config.pixel_size_um, RED_CELL_UM / config.pixel_size_um, "user")
    elif image.um_per_px is not None:
        said = Scale(image.um_per_px, RED_CELL_UM / image.um_per_px, "metadata")
    if said is not None:
        return said, _doubts(said, image) if fields is None else []
    reading = estimate_diameter(engine.compact, [image.pixels] if fields is None else fields())
    scale = scale_of(reading, min(80.0, max(15.0, 0.12 * min(image.pixels.shape[:2]))))
    if scale.source == "unknown":
        return scale, ["the scale is unknown (no red cell found): give --diameter-px or --pixel-size-um."]
    if not scale.sure:
        note = (
            f"the scale is unsure (red cells {scale.red_cell_diameter_px:.0f} px from {scale.n_cells} cells, "
            f"spread {100 * scale.spread:.0f} %): check it, or give --diameter-px."
        )
        return scale, [note]
    return scale, []


def _doubts(said: Scale, image: SmearImage) -> list[str]:
    """A warning where a scale that was given is far from what the picture shows."""
    from napari_leukocls.segmentation.scale import guess_diameter

    # So much of the middle that cells of the given size are still large enough in what the guess looks at.
    side = int(np.ceil(GUESSED_ON * said.red_cell_diameter_px))
    rows, columns = (slice(max(0, (n - side) // 2), (n + side) // 2 + 1) for n in image.pixels.shape[:2])
    guess = guess_diameter(np.ascontiguousarray(image.pixels[rows, columns]))
    if guess is None or 1 / FAR < guess / said.red_cell_diameter_px < FAR:
        return []
    return [
        f"the scale ({said.um_per_px:.3g} um a pixel, from the {said.source}) makes red cells "
        f"{said.red_cell_diameter_px:.0f} px across, but what is stained here is about {guess:.0f} px wide: check it."
    ]


def steady_diameter(image: SmearImage, scale: Scale) -> float:
    """Return the red cell's diameter (pixels) to outline a field by: a measured one is rounded to a steady one."""
    from napari_leukocls.segmentation.scale import working_diameter

    if scale.source != "red_cell_ruler":
        return scale.red_cell_diameter_px
    return working_diameter(scale.red_cell_diameter_px, image.pixels.shape[:2])
