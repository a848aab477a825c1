"""How large a pixel is: from the user, the file, the red cells, other images of the folder, or nuclei."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from napari_leukocls.progress import CancelToken
from napari_leukocls.segmentation.common_scale import (
    AGREE_OCTAVES,
    FEW_RED_CELLS,
    CommonScale,
    believable,
    contradicts,
    measure_common_scale,
    pooled,
)
from napari_leukocls.segmentation.negative import read_negative
from napari_leukocls.segmentation.nuclear_scale import WIDER_ERROR, read_nuclei
from napari_leukocls.segmentation.red_cell_ruler import (
    AGREES,
    GOOD_QUALITY,
    MIN_RED_CELLS,
    NOTHING,
    Reading,
    RedCellRuler,
    guess_diameter,
    working_diameter,
)
from napari_leukocls.types import Scale, SmearImage

if TYPE_CHECKING:
    from napari_leukocls.config import AnalyzeConfig
    from napari_leukocls.segmentation.base import Outlines
    from napari_leukocls.segmentation.compact import CompactSegmenter
    from napari_leukocls.segmentation.nuclear_scale import ScaleReading

#: Diameter of a red cell on a dried film, micrometres (normal 6.7-7.7); a convention, stated in results.
RED_CELL_UM = 7.5
#: A given scale is doubted where red cells measure this many times more or less than it says. Red cells of people
#: are 6.7 to 7.7 um across, of microcytosis down to 5.5: far from this factor.
DOUBTED = 1.6
#: The same where neither red cells nor nuclei can be measured, and only the width of what is stained is known.
DOUBTED_BY_STAIN = 3.5
#: Red cells side by side in the part of a field that is measured for that.
DOUBT_CELLS = 40
#: Expected error of a reading from which the scale is unsure, octaves.
UNSURE_OCTAVES = 0.3
#: ... and from which it is worth nothing.
LOST_OCTAVES = 1.0
#: Few red cells are believed where they differ from what nuclei say by less than this, octaves.
FEW_AGREE = 0.4
GIVE = "give the diameter of a red cell or the pixel size"
INVERTED = (
    "the picture is inverted (its cells are brighter than the glass): nothing that is counted in it holds. Turn its "
    "colours round, or take it in bright field."
)


@dataclass(frozen=True)
class FoundScale:
    """The scale of an image, and how it was found.

    Attributes
    ----------
    scale : Scale
    warnings : tuple of str
    outlines : Outlines or None
        Of the whole image at `steady_diameter`, where they were made to measure red cells.
    inverted : bool
        Whether cells are brighter than the glass: no count of such a picture holds.
    """

    scale: Scale
    warnings: tuple[str, ...] = ()
    outlines: Outlines | None = None
    inverted: bool = False


def find_scale(
    image: SmearImage,
    config: AnalyzeConfig,
    compact: CompactSegmenter,
    fields: Callable[[], Sequence[np.ndarray]] | None = None,
    common: CommonScale | None = None,
    others: Sequence[np.ndarray] = (),
    cancel: CancelToken | None = None,
) -> FoundScale:
    """Take the scale from the user, else the file, else the red cells, else other images, else nuclei.

    Parameters
    ----------
    image : SmearImage
    config : AnalyzeConfig
        Its ``diameter_px`` and ``pixel_size_um`` are the user's scale.
    compact : CompactSegmenter
        Outlines the red cells that are measured.
    fields : callable, optional
        Gives the fields that are measured, where that is needed; by default the image itself.
    common : CommonScale, optional
        Of images that are taken to be from the same microscope.
    others : sequence of numpy.ndarray, (H, W, 3), uint8
        Such images, which are measured where the image's own red cells are too few.
    cancel : CancelToken, optional
        Asked between the tiles that are looked at.

    Returns
    -------
    FoundScale

    Raises
    ------
    Cancelled
        Where `cancel` was set.
    """
    given = given_scale(image, config)
    images = [image.pixels] if fields is None else fields()
    negatives = [read_negative(pixels, compact, cancel) for pixels in images]
    inverted = [one for one in negatives if one is not None]
    if 2 * len(inverted) >= len(images) > 0:
        # What red cells of the picture itself would say is no size of a cell.
        scale = given or replace(_measured(inverted[0]), sure=False)
        return FoundScale(scale, (INVERTED,), inverted=True)
    if given is not None:
        return _compared(given, image, compact, cancel) if fields is None else FoundScale(given)
    ruler = RedCellRuler(compact, images, cancel)
    if common is not None:
        found = _of_other_images(common, image, ruler, images)
    else:
        found = _own(image, ruler, images)
        if others and (found.scale.source != "red_cell_ruler" or not found.scale.sure):
            shared, _ = measure_common_scale([*images, *others], compact)
            if shared is not None:
                found = _of_other_images(shared, image, ruler, images)
    return replace(found, outlines=ruler.outlines(steady_diameter(image, found.scale)))


def given_scale(image: SmearImage, config: AnalyzeConfig) -> Scale | None:
    """Return the scale that the user or the file states.

    Parameters
    ----------
    image : SmearImage
    config : AnalyzeConfig

    Returns
    -------
    Scale or None
    """
    if config.diameter_px is not None:
        return Scale(RED_CELL_UM / config.diameter_px, config.diameter_px, "user")
    if config.pixel_size_um is not None:
        return Scale(config.pixel_size_um, RED_CELL_UM / config.pixel_size_um, "user")
    if image.um_per_px is not None:
        return Scale(image.um_per_px, RED_CELL_UM / image.um_per_px, "metadata")
    return None


def steady_diameter(image: SmearImage, scale: Scale) -> float:
    """Return the diameter of a red cell with which a field is segmented.

    Parameters
    ----------
    image : SmearImage
    scale : Scale
        If it was measured, its diameter is rounded to one of a fixed series.

    Returns
    -------
    float
        Pixels.
    """
    if scale.source in ("user", "metadata"):
        return scale.red_cell_diameter_px
    return working_diameter(scale.red_cell_diameter_px, image.pixels.shape[:2])


def _own(image: SmearImage, ruler: RedCellRuler, images: Sequence[np.ndarray]) -> FoundScale:
    """The scale by what the image itself shows."""
    guesses = [guess for guess in map(guess_diameter, images) if guess is not None]
    reading = ruler.settle(float(np.median(guesses))) if guesses else NOTHING
    if reading.sure and reading.n_cells >= 2 * MIN_RED_CELLS:
        # Nuclei could not speak against so many.
        return FoundScale(_measured(reading))
    nuclei = _nuclei(images)
    reading = _red_cells(ruler, nuclei, guesses)
    if believable(reading, nuclei):
        return FoundScale(_measured(reading))
    few = reading.n_cells and nuclei.diameter_px
    if few and abs(np.log2(reading.diameter_px / nuclei.diameter_px)) <= max(FEW_AGREE, nuclei.octaves):
        return _of_few_cells(reading, nuclei)
    if reading.n_cells >= FEW_RED_CELLS and reading.quality >= GOOD_QUALITY:
        # Red cells that look like red cells of this size are believed before the size of what is dark, and said.
        scale = replace(_measured(reading), sure=False)
        return FoundScale(scale, (_unsure_note(scale),))
    # In a wide image without leukocytes, what is taken for nuclei may be anything.
    if nuclei.octaves <= (WIDER_ERROR if reading.n_cells else LOST_OCTAVES):
        return FoundScale(_read_by(nuclei), (_nuclei_note(nuclei),))
    if reading.n_cells:
        scale = replace(_measured(reading), sure=False)
        return FoundScale(scale, (_unsure_note(scale),))
    fallback = min(80.0, max(15.0, 0.12 * min(image.pixels.shape[:2])))
    scale = Scale(RED_CELL_UM / fallback, fallback, "unknown", 0, 1.0, sure=False)
    return FoundScale(scale, (f"the scale is unknown (nothing to measure was found): {GIVE}.",))


def _nuclei(images: Sequence[np.ndarray]) -> ScaleReading:
    return pooled([read_nuclei(pixels) for pixels in images])


def _red_cells(ruler: RedCellRuler, nuclei: ScaleReading, guesses: Sequence[float]) -> Reading:
    """Measure red cells near a guess, near what nuclei say, and where both come to nothing at all sizes."""
    if not guesses:
        return NOTHING
    reading = ruler.settle(float(np.median(guesses)))
    far = nuclei.diameter_px and reading.n_cells and contradicts(nuclei, reading.diameter_px)
    if believable(reading, nuclei) or (reading.quality >= GOOD_QUALITY and not far):
        return reading
    if nuclei.octaves <= LOST_OCTAVES:
        other = ruler.settle(nuclei.diameter_px)
        if believable(other, nuclei):
            return other
        reading = max(reading, other, key=lambda one: one.quality)
    return max(reading, ruler.search(), key=lambda one: one.quality)


def _of_few_cells(reading: Reading, nuclei: ScaleReading) -> FoundScale:
    """Join the reading of few red cells and that of nuclei, each by its certainty."""
    own = float(np.hypot(0.12, 0.25 / np.sqrt(reading.n_cells)))
    weight = np.array([1 / own**2, 1 / nuclei.octaves**2])
    mean = float((weight * np.log2([reading.diameter_px, nuclei.diameter_px])).sum() / weight.sum())
    octaves = float(1 / np.sqrt(weight.sum()))
    scale = _measured(replace(reading, diameter_px=2.0**mean))
    scale = replace(scale, octaves=octaves, sure=octaves <= UNSURE_OCTAVES)
    return FoundScale(scale, () if scale.sure else (_unsure_note(scale),))


def _of_other_images(
    common: CommonScale,
    image: SmearImage,
    ruler: RedCellRuler,
    images: Sequence[np.ndarray],
) -> FoundScale:
    """The common scale, unless the image's own red cells or nuclei are against it."""
    shared = Scale(
        RED_CELL_UM / common.diameter_px,
        common.diameter_px,
        "other_images",
        common.n_cells,
        common.spread,
        common.sure,
        octaves=common.octaves,
        n_images=common.n_images,
    )
    reading = ruler.look(working_diameter(common.diameter_px, image.pixels.shape[:2]))
    if reading.sure and abs(np.log2(reading.diameter_px / common.diameter_px)) <= AGREE_OCTAVES:
        return FoundScale(shared)
    nuclei = _nuclei(images)
    guesses = [guess for guess in map(guess_diameter, images) if guess is not None]
    if not believable(reading, nuclei) and guesses:
        # Red cells of another size are found where the stained objects are as wide.
        reading = ruler.settle(float(np.median(guesses)))
    if believable(reading, nuclei) or contradicts(nuclei, common.diameter_px):
        own = _own(image, ruler, images)
        differ = abs(np.log2(own.scale.red_cell_diameter_px / common.diameter_px)) > AGREE_OCTAVES
        if own.scale.source == "nuclei" and differ and common.n_cells >= MIN_RED_CELLS:
            # Where the others have red cells, what is dark here need not be a nucleus.
            note = (
                f"the nuclei here do not fit the scale of the other images (red cells {common.diameter_px:.0f} px "
                f"across), which is used: check it, or {GIVE}."
            )
            return FoundScale(replace(shared, sure=False), (note,))
        if own.scale.source != "unknown" and differ:
            note = (
                f"this image differs from the others: its red cells are about {own.scale.red_cell_diameter_px:.0f} px "
                f"across, theirs {common.diameter_px:.0f} px; its own scale is used."
            )
            return FoundScale(own.scale, (*own.warnings, note))
        if own.scale.source == "red_cell_ruler" and own.scale.sure:
            return FoundScale(shared)
    note = (
        f"too few red cells to measure the scale: that of {count_images(common.n_images)} measured together is used "
        f"(red cells {common.diameter_px:.0f} px across)."
    )
    if not common.sure:
        note = f"{note[:-1]}; it is unsure: check it, or {GIVE}."
    return FoundScale(shared, (note,))


def count_images(n: int) -> str:
    """Write a number of images.

    Parameters
    ----------
    n : int

    Returns
    -------
    str
        For example ``1 image`` or ``8 images``.
    """
    return "1 image" if n == 1 else f"{n} images"


def _compared(
    given: Scale, image: SmearImage, compact: CompactSegmenter, cancel: CancelToken | None
) -> FoundScale:
    """Compare a given scale with the red cells, or with nuclei; where they differ much it is unsure."""
    expected = given.red_cell_diameter_px
    # The middle of a large field is enough, and keeps cells of the given size large enough to be measured.
    part = _middle(image.pixels, DOUBT_CELLS * expected)
    ruler = RedCellRuler(compact, [part], cancel)
    outlines = None
    guess, nuclei = guess_diameter(part), read_nuclei(part)
    if guess is not None:
        reading = ruler.look(expected)
        if part.shape == image.pixels.shape:
            outlines = ruler.outlines(expected)
        if reading.sure and abs(np.log2(reading.diameter_px / expected)) <= AGREES:
            if abs(np.log2(guess / expected)) <= np.log2(DOUBTED_BY_STAIN):
                return FoundScale(given, (), outlines)
            # Seen many times too large, the grain within cells passes for cells of the given size.
            part = _middle(image.pixels, DOUBT_CELLS * max(guess, expected))
            ruler, nuclei = RedCellRuler(compact, [part], cancel), read_nuclei(part)
            if not believable(_red_cells(ruler, nuclei, [guess]), nuclei):
                return FoundScale(given, (), outlines)
    doubt = _doubt(expected, ruler, nuclei, part)
    if doubt is None:
        return FoundScale(given, (), outlines)
    what, found = doubt
    warning = (
        f"the scale ({given.um_per_px:.3g} um a pixel, from the {given.source}) makes red cells "
        f"{expected:.0f} px across, but {what} about {found:.0f} px wide: check it. At a wrong "
        "scale, what is said of focus and quality does not hold either."
    )
    return FoundScale(replace(given, sure=False), (warning,), outlines)


def _middle(pixels: np.ndarray, side: float) -> np.ndarray:
    """The middle of an image, at most `side` pixels wide and high."""
    half = int(np.ceil(side)) // 2
    rows, columns = (slice(max(0, n // 2 - half), n // 2 + half + 1) for n in pixels.shape[:2])
    return np.ascontiguousarray(pixels[rows, columns])


def _doubt(
    expected: float, ruler: RedCellRuler, nuclei: ScaleReading, part: np.ndarray
) -> tuple[str, float] | None:
    """What speaks against a given scale, and the diameter that it says; None where nothing does."""
    guess = guess_diameter(part)
    if guess is None:
        return None
    reading = _red_cells(ruler, nuclei, [guess])
    if believable(reading, nuclei):
        differs = abs(np.log2(reading.diameter_px / expected)) > np.log2(DOUBTED)
        words = f"the {reading.n_cells} red cells that were measured are"
        return (words, reading.diameter_px) if differs else None
    if nuclei.diameter_px:
        differs = abs(np.log2(nuclei.diameter_px / expected)) > max(np.log2(DOUBTED), 3 * nuclei.octaves)
        return ("by the nuclei in view they would be", nuclei.diameter_px) if differs else None
    if 1 / DOUBTED_BY_STAIN < guess / expected < DOUBTED_BY_STAIN:
        return None
    return "what is stained here is", guess


def _measured(reading: Reading) -> Scale:
    return Scale(
        RED_CELL_UM / reading.diameter_px,
        reading.diameter_px,
        "red_cell_ruler",
        reading.n_cells,
        reading.spread,
        reading.sure,
    )


def _read_by(nuclei: ScaleReading) -> Scale:
    return Scale(
        RED_CELL_UM / nuclei.diameter_px,
        nuclei.diameter_px,
        "nuclei",
        sure=nuclei.octaves <= UNSURE_OCTAVES,
        octaves=nuclei.octaves,
    )


def _nuclei_note(nuclei: ScaleReading) -> str:
    percent = 100 * (2**nuclei.octaves - 1)
    note = (
        f"too few red cells to measure the scale: it is read from the nuclei of leukocytes "
        f"(red cells about {nuclei.diameter_px:.0f} px across, uncertain by {percent:.0f} %)"
    )
    return f"{note}." if nuclei.octaves <= UNSURE_OCTAVES else f"{note}: check it, or {GIVE}."


def _unsure_note(scale: Scale) -> str:
    return (
        f"the scale is unsure (red cells {scale.red_cell_diameter_px:.0f} px from {scale.n_cells} cells, "
        f"spread {100 * scale.spread:.0f} %): check it, or {GIVE}."
    )
