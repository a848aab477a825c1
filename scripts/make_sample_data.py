"""Draw the teaching smears of ``sample_data/`` with their truth.

Run from the root of the project: ``python scripts/make_sample_data.py``. The same version of the
project and of its libraries gives the same files.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np
import tifffile
from PIL import Image

from napari_leukocls.synthetic import (
    CameraRecipe,
    RedCellRecipe,
    SmearRecipe,
    StainRecipe,
    SyntheticSmear,
    render_smear,
)

WIDTH, HEIGHT = 2048, 1536

#: EXIF tags: resolution across and down, and its unit (3 is pixels per centimetre).
X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT = 0x011A, 0x011B, 0x0128

#: Of the smears that show one finding each: smaller, so that the folder stays small.
SMALL: dict[str, Any] = {"height": 768, "width": 1024, "um_per_px": 0.15}
#: Their stain and camera.
PLAIN_STAIN = StainRecipe(
    nucleus=(0.50, 0.76, 0.19),
    basophilia=(0.34, 0.33, 0.12),
    eosin=(0.06, 0.30, 0.20),
    haemoglobin=(0.10, 0.21, 0.14),
)
PLAIN_CAMERA = CameraRecipe(glass=(240, 236, 232), vignette=0.03, defocus_um=0.1, noise=1.2)

SMEARS: dict[str, tuple[int, SmearRecipe]] = {
    "synthetic_teaching_normal": (
        11,
        SmearRecipe(
            height=HEIGHT,
            width=WIDTH,
            um_per_px=0.16,
            red_cells=RedCellRecipe(
                count=640, pallor=0.55, overlap=0.15, clustering=0.2, poikilocytosis=0.03
            ),
            leukocytes={
                "segmented_neutrophil": 27,
                "band_neutrophil": 2,
                "lymphocyte": 15,
                "monocyte": 3,
                "eosinophil": 2,
                "basophil": 1,
            },
            platelets=48,
            debris=12,
            stain=StainRecipe(
                nucleus=(0.50, 0.78, 0.19),
                basophilia=(0.30, 0.33, 0.12),
                eosin=(0.06, 0.30, 0.20),
                haemoglobin=(0.13, 0.17, 0.10),
            ),
            camera=CameraRecipe(glass=(252, 236, 206), vignette=0.03, defocus_um=0.1, noise=1.2),
        ),
    ),
    "synthetic_teaching_left_shift": (
        23,
        SmearRecipe(
            height=HEIGHT,
            width=WIDTH,
            um_per_px=0.125,
            red_cells=RedCellRecipe(
                count=330, pallor=0.4, anisocytosis=0.08, polychromasia=0.07, poikilocytosis=0.14, overlap=0.2
            ),
            leukocytes={
                "segmented_neutrophil": 17,
                "band_neutrophil": 9,
                "immature_granulocyte": 9,
                "lymphocyte": 8,
                "monocyte": 4,
                "eosinophil": 2,
                "basophil": 2,
                "erythroblast": 5,
                "smudge_cell": 2,
            },
            platelets=30,
            platelet_clumping=0.4,
            debris=14,
            stain=StainRecipe(
                nucleus=(0.50, 0.76, 0.14),
                basophilia=(0.40, 0.32, 0.10),
                eosin=(0.05, 0.34, 0.18),
                haemoglobin=(0.07, 0.22, 0.16),
            ),
            camera=CameraRecipe(
                glass=(228, 224, 232), gradient_x=0.04, vignette=0.08, defocus_um=0.14, fringe=0.3, noise=1.5
            ),
        ),
    ),
    "synthetic_teaching_eosinophilia": (
        37,
        SmearRecipe(
            height=HEIGHT,
            width=WIDTH,
            um_per_px=0.19,
            red_cells=RedCellRecipe(
                count=820, pallor=0.75, pallor_size=0.55, anisocytosis=0.09, overlap=0.25
            ),
            leukocytes={
                "segmented_neutrophil": 20,
                "band_neutrophil": 1,
                "eosinophil": 12,
                "lymphocyte": 12,
                "monocyte": 4,
                "basophil": 1,
                "smudge_cell": 1,
            },
            platelets=60,
            debris=20,
            stain=StainRecipe(
                nucleus=(0.42, 0.84, 0.34),
                eosin=(0.05, 0.32, 0.34),
                haemoglobin=(0.20, 0.30, 0.16),
                azure=(0.26, 0.70, 0.26),
            ),
            camera=CameraRecipe(
                glass=(204, 214, 206), gradient_y=-0.05, vignette=0.1, defocus_um=0.18, noise=1.8
            ),
        ),
    ),
    "synthetic_teaching_spherocytes": (
        41,
        SmearRecipe(
            **SMALL,
            red_cells=RedCellRecipe(
                count=170,
                pallor=0.6,
                overlap=0,
                clustering=0.05,
                polychromasia=0.08,
                poikilocytosis=0.35,
                shapes={"spherocyte": 1.0},
            ),
            leukocytes={"segmented_neutrophil": 1, "lymphocyte": 1, "erythroblast": 3},
            platelets=8,
            debris=2,
            stain=PLAIN_STAIN,
            camera=PLAIN_CAMERA,
        ),
    ),
    "synthetic_teaching_schistocytes": (
        43,
        SmearRecipe(
            **SMALL,
            red_cells=RedCellRecipe(
                count=180,
                pallor=0.6,
                overlap=0,
                clustering=0.05,
                polychromasia=0.03,
                poikilocytosis=0.14,
                shapes={"fragment": 1.0},
            ),
            leukocytes={"segmented_neutrophil": 2, "monocyte": 1, "erythroblast": 2},
            platelets=2,
            debris=2,
            stain=PLAIN_STAIN,
            camera=PLAIN_CAMERA,
        ),
    ),
    "synthetic_teaching_targets_and_teardrops": (
        47,
        SmearRecipe(
            **SMALL,
            red_cells=RedCellRecipe(
                count=170,
                pallor=0.65,
                anisocytosis=0.1,
                overlap=0,
                clustering=0.05,
                polychromasia=0.02,
                poikilocytosis=0.5,
                shapes={"target": 0.5, "teardrop": 0.25, "hypochromic": 0.25},
            ),
            leukocytes={"segmented_neutrophil": 2, "lymphocyte": 1},
            platelets=8,
            debris=2,
            stain=PLAIN_STAIN,
            camera=PLAIN_CAMERA,
        ),
    ),
    "synthetic_teaching_rouleaux_and_heaps": (
        53,
        SmearRecipe(
            **SMALL,
            red_cells=RedCellRecipe(
                count=200,
                pallor=0.5,
                overlap=0,
                clustering=0.05,
                poikilocytosis=0.02,
                rouleaux=0.35,
                heaps=0.3,
            ),
            leukocytes={"lymphocyte": 2, "segmented_neutrophil": 1},
            platelets=8,
            debris=2,
            stain=PLAIN_STAIN,
            camera=PLAIN_CAMERA,
        ),
    ),
    "synthetic_teaching_platelet_clumps": (
        59,
        SmearRecipe(
            **SMALL,
            red_cells=RedCellRecipe(count=160, pallor=0.6, overlap=0, clustering=0.05, poikilocytosis=0.02),
            leukocytes={"segmented_neutrophil": 2, "lymphocyte": 1},
            platelets=10,
            platelet_clumping=0,
            platelet_clumps=4,
            debris=2,
            stain=PLAIN_STAIN,
            camera=PLAIN_CAMERA,
        ),
    ),
}


def save(smear: SyntheticSmear, folder: Path, stem: str) -> None:
    """Write the picture, its table of cells and its labels."""
    exif = Image.Exif()
    exif[RESOLUTION_UNIT] = 3
    exif[X_RESOLUTION] = exif[Y_RESOLUTION] = 1e4 / smear.um_per_px
    Image.fromarray(smear.pixels).save(folder / f"{stem}.jpg", quality=92, exif=exif)
    smear.table.to_csv(folder / f"{stem}_truth.csv", index=False, float_format="%.6g", lineterminator="\n")
    tifffile.imwrite(
        folder / f"{stem}_labels.tif",
        smear.labels.astype(np.int32),
        compression="zlib",
        compressionargs={"level": 9},
        predictor=True,
        metadata=None,
        resolution=(1e4 / smear.um_per_px, 1e4 / smear.um_per_px),
        resolutionunit="CENTIMETER",
    )


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), default=Path("sample_data"))
def main(folder: Path) -> None:
    """Draw the teaching smears into FOLDER (sample_data)."""
    folder.mkdir(parents=True, exist_ok=True)
    for stem, (seed, recipe) in SMEARS.items():
        smear = render_smear(recipe, seed)
        save(smear, folder, stem)
        found = ", ".join(f"{count} {name}" for name, count in sorted(smear.counts().items()))
        click.echo(f"{stem}: {found}")


if __name__ == "__main__":
    main()
