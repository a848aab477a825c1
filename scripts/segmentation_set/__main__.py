"""Command line of the segmentation set."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import click
import numpy as np

from napari_leukocls.segmentation.compact import load_compact

from . import LEUKOCYTE, PLATELET, RED_CELL
from .build import Made, build
from .from_hand import hand_made, pbc_crops
from .marks import Item
from .overlay import contours, sheet

BY_MARKS, BY_HAND = ("bccd", "chula", "boxes"), ("bcisc", "krd")
_NAMES = {RED_CELL: "red cells", LEUKOCYTE: "leukocytes", PLATELET: "platelets"}


@click.command()
@click.option(
    "--data",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    required=True,
    help="Folder with the sets.",
)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Output folder.")
@click.option(
    "--set",
    "sets",
    multiple=True,
    type=click.Choice([*BY_MARKS, *BY_HAND, "pbc"]),
    help="Only this set (can be repeated).",
)
@click.option(
    "--segmenter",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=Path("models/compact"),
    show_default=True,
    help="Model folder of the segmenter that outlines what nobody has, in bcisc, krd and pbc.",
)
@click.option("--pbc", "a_class", default=20, show_default=True, help="Crops of pbc, of each class.")
@click.option("--quality", default=92, show_default=True, help="WebP quality of the stored images.")
@click.option("--every", default=1, show_default=True, help="Only every n-th image, for a quick look.")
@click.option(
    "--sheets",
    type=click.Path(file_okay=False, path_type=Path),
    default=None,
    help="Also write contact sheets with the outlines here.",
)
@click.option("--sheet-step", default=1, show_default=True, help="Every n-th image goes on a sheet.")
def main(
    data: Path,
    out: Path,
    sets: tuple[str, ...],
    segmenter: Path,
    a_class: int,
    quality: int,
    every: int,
    sheets: Path | None,
    sheet_step: int,
) -> None:
    """Make instance masks from boxes, centres, image evidence, and leukocytes outlined by hand."""
    out.mkdir(parents=True, exist_ok=True)
    totals: dict[str, dict[str, list]] = defaultdict(lambda: defaultdict(list))
    pictures: dict[str, list[np.ndarray]] = defaultdict(list)
    chosen = sets or (*BY_MARKS, *BY_HAND, "pbc")
    marked = tuple(name for name in chosen if name in BY_MARKS)
    further = islice(_further(data, chosen, segmenter, a_class), 0, None, every)
    for number, (item, made) in enumerate(build(data, out, marked, quality, every, further)):
        facts = totals[item.set]
        facts["holdout"].append(item.holdout)
        facts["ignored"].append(float((made.labels == 65535).mean()))
        if len(made.sizes):
            facts["diameter"].append(float(np.median(made.sizes)))
        for kind in _NAMES:
            facts[_NAMES[kind]].append(int((made.kinds == kind).sum()))
            facts[f"{_NAMES[kind]} annotated"].append(int(made.annotated[made.kinds == kind].sum()))
        for kind, iou in made.agreement:
            facts[f"box IoU {_NAMES[kind]}"].append(iou)
        if sheets is not None and number % sheet_step == 0:
            picture = contours(made.image, made.labels, made.kinds, made.annotated, item.path.stem)
            pictures[item.set].append(picture)
    for name, facts in totals.items():
        click.echo(_summary(name, facts))
    if sheets is not None:
        for name, tiles in pictures.items():
            sheet(tiles, sheets, name)


def _further(data: Path, chosen: tuple[str, ...], folder: Path, a_class: int) -> Iterator[tuple[Item, Made]]:
    """Images of the sets for which the present segmenter is asked."""
    if not {*BY_HAND, "pbc"}.intersection(chosen):
        return
    segmenter = load_compact(folder, "cpu")
    yield from hand_made(data, chosen, segmenter)
    if "pbc" in chosen:
        yield from pbc_crops(data, segmenter, a_class)


def _summary(name: str, facts: dict[str, list]) -> str:
    lines = [
        f"{name}: {len(facts['holdout'])} images, {np.mean(facts['holdout']):.1%} held out, "
        f"{np.mean(facts['ignored']):.1%} of pixels ignored"
    ]
    for kind in _NAMES.values():
        lines.append(f"  {kind}: {sum(facts[kind])}, of them annotated {sum(facts[f'{kind} annotated'])}")
        iou = np.array(facts.get(f"box IoU {kind}", []))
        if len(iou):
            lines[-1] += (
                f"; box IoU median {np.median(iou):.3f}, below 0.8 {np.mean(iou < 0.8):.1%}, "
                f"below 0.5 {np.mean(iou < 0.5):.1%}, no mask {np.mean(iou == 0):.2%}"
            )
    if facts.get("diameter"):
        quartiles = np.percentile(facts["diameter"], [5, 25, 50, 75, 95]).round(1)
        lines.append(f"  red cell diameter, native px, 5/25/50/75/95 % of images: {quartiles.tolist()}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
