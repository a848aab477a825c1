"""The scales that the images of a run have in common: measured before its slides are analysed."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from napari_leukocls.analysis.engine import cached_compact
from napari_leukocls.analysis.folder_scale import scales_of_images
from napari_leukocls.config import AnalyzeConfig
from napari_leukocls.io.inputs import SlideInput
from napari_leukocls.io.slides import is_slide
from napari_leukocls.progress import CancelToken
from napari_leukocls.segmentation.common_scale import CommonScale, CommonScales

#: Of images that lie alone in their folders.
ALONE = "images alone in their folders"


def groups_of(slides: Sequence[SlideInput]) -> dict[str, list[Path]]:
    """Group the images of a run: fields of one slide, else images of one folder, else the rest of the run.

    Parameters
    ----------
    slides : sequence of SlideInput

    Returns
    -------
    dict of str to list of Path
        Images of each group, of which there are two at least; whole slides are in none.
    """
    groups: dict[str, list[Path]] = defaultdict(list)
    for slide in slides:
        fields = [field for field in slide.fields if not is_slide(field)]
        groups[group_of(slide)].extend(fields)
    alone = [fields[0] for fields in groups.values() if len(fields) == 1]
    found = {name: fields for name, fields in groups.items() if len(fields) > 1}
    return {**found, **({ALONE: alone} if len(alone) > 1 else {})}


def group_of(slide: SlideInput) -> str:
    """Return the name of a slide's group: the slide itself if it has several fields, else its folder.

    Parameters
    ----------
    slide : SlideInput

    Returns
    -------
    str
    """
    return slide.slide_id if len(slide.fields) > 1 else str(Path(slide.fields[0]).parent)


def scales_of_run(
    slides: Sequence[SlideInput],
    config: AnalyzeConfig,
    known: Mapping[str, CommonScales],
    cancel: CancelToken,
) -> dict[str, CommonScales]:
    """Measure the common scale of each group of images, on the CPU.

    Parameters
    ----------
    slides : sequence of SlideInput
    config : AnalyzeConfig
        If it gives a scale, nothing is measured.
    known : mapping of str to CommonScales
        Groups that an earlier run has measured.
    cancel : CancelToken
        Checked between the groups.

    Returns
    -------
    dict of str to CommonScales
        By group.

    Raises
    ------
    ModelError
        If a model is missing or damaged.
    Cancelled
        If `cancel` was set.
    """
    if config.diameter_px is not None or config.pixel_size_um is not None:
        return {}
    found: dict[str, CommonScales] = {}
    for name, images in sorted(groups_of(slides).items()):
        cancel.check()
        if name in known:
            found[name] = known[name]
            continue
        found[name] = scales_of_images(images, config, cached_compact("cpu"))
    return found


def scales_for(slide: SlideInput, scales: Mapping[str, CommonScales]) -> CommonScales | None:
    """Return the common scales that hold for a slide.

    Parameters
    ----------
    slide : SlideInput
    scales : mapping of str to CommonScales
        By group.

    Returns
    -------
    CommonScales or None
    """
    return scales.get(group_of(slide), scales.get(ALONE))


def as_record(scales: CommonScales) -> dict[str, Any]:
    """Make a JSON record of common scales.

    Parameters
    ----------
    scales : CommonScales

    Returns
    -------
    dict
    """
    return {
        "by_size": [
            {"height": height, "width": width, "scale": None if one is None else asdict(one)}
            for (height, width), one in sorted(scales.by_size.items())
        ],
        "others": None if scales.others is None else asdict(scales.others),
    }


def of_earlier_run(manifest: Path, same: Mapping[str, Any]) -> dict[str, CommonScales]:
    """Read the common scales of an earlier run into the same folder, if it was made with the same settings and models.

    Parameters
    ----------
    manifest : Path
    same : mapping of str to object
        What must be as in the manifest.

    Returns
    -------
    dict of str to CommonScales
        Those that were sure; empty where there is no such manifest.
    """
    try:
        record = json.loads(manifest.read_text(encoding="utf-8"))
        if any(record[name] != value for name, value in same.items()):
            return {}
        read = {str(name): _from_record(one) for name, one in record["scales"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        # A damaged manifest only costs the time to measure again.
        return {}
    return {
        name: one
        for name, one in read.items()
        if all(scale is not None and scale.settled for scale in (*one.by_size.values(), one.others))
    }


def _from_record(record: Mapping[str, Any]) -> CommonScales:
    by_size = {
        (int(one["height"]), int(one["width"])): None if one["scale"] is None else CommonScale(**one["scale"])
        for one in record["by_size"]
    }
    others = record["others"]
    return replace(CommonScales(by_size), others=None if others is None else CommonScale(**others))
