"""Which values of the analyser belong to which slide of a batch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from napari_leukocls.errors import ArgumentError
from napari_leukocls.measurement.sample_files import SampleFile
from napari_leukocls.measurement.samples import SampleValues


@dataclass(frozen=True)
class BatchSamples:
    """Values by slide.

    Attributes
    ----------
    values : mapping of str to SampleValues
        By the name of the slide.
    notes : mapping of str to tuple of str
        What is not used of a slide, and why: warnings of its result.
    """

    values: Mapping[str, SampleValues] = field(default_factory=dict)
    notes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def samples_of_slides(
    slide_ids: Iterable[str], file: SampleFile | None = None, typed: SampleValues | None = None
) -> BatchSamples:
    """Find the values of each slide.

    Parameters
    ----------
    slide_ids : iterable of str
    file : SampleFile, optional
        By the names of slides, or by the identifier that `typed` states.
    typed : SampleValues, optional
        What a person gives, for one slide; it goes before the file.

    Returns
    -------
    BatchSamples

    Raises
    ------
    ArgumentError
        If values are typed, and there are several slides.
    """
    names = list(slide_ids)
    if typed is not None and len(names) > 1:
        raise ArgumentError(
            f"the values of one sample cannot be those of {len(names)} slides: give a table of samples, or join the "
            "images to one slide."
        )
    values: dict[str, SampleValues] = {}
    notes: dict[str, tuple[str, ...]] = {}
    for name in names:
        keys = [name, *([typed.identifier] if typed is not None and typed.identifier else [])]
        found = None if file is None else file.of(*keys)
        lines = () if file is None else file.problems_of(*keys)
        if file is not None and found is None and not lines:
            lines = (f"the table of samples has no row for {name}: there are no counts per litre.",)
        if lines:
            notes[name] = lines
        both = _joined(typed, found)
        if both is not None:
            values[name] = both
    return BatchSamples(values, notes)


def _joined(typed: SampleValues | None, found: SampleValues | None) -> SampleValues | None:
    """What was typed, filled up from the file."""
    if typed is None or found is None:
        return typed or found
    given = {name: value for name, value in vars(typed).items() if value not in (None, "", False)}
    return replace(found, **given)


__all__ = ["BatchSamples", "samples_of_slides"]
