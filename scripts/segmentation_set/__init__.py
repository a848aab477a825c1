"""Instance masks for training the segmenter, from boxes, centres and image evidence.

No public set of whole smear fields comes with instance masks drawn by hand. This package makes them from
what there is: boxes (``bccd``, ``boxes``) and centres of red cells (``chula``). A cell's outline is where the
stain rises above the glass; touching cells are parted by a watershed that starts at the annotated places.
Foreground that nobody annotated, and that cannot be told, is marked :data:`IGNORE` and belongs in no loss.

Run it as ``python -m scripts.segmentation_set --data ../shared/data --out FOLDER``.
"""

from __future__ import annotations

#: Label of pixels that belong in no loss and in no score.
IGNORE = 65535
#: Diameter of a red cell in the stored images, px.
STORED_DIAMETER = 45.0
#: Diameter of a red cell by convention, um.
RED_CELL_UM = 7.5

RED_CELL, LEUKOCYTE, PLATELET = 1, 2, 3

__all__ = ["IGNORE", "LEUKOCYTE", "PLATELET", "RED_CELL", "RED_CELL_UM", "STORED_DIAMETER"]
