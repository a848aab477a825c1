"""The recipe of a synthetic smear: validated settings which, with a seed, determine it completely."""

from __future__ import annotations

import math

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from napari_leukocls.synthetic.palette import Colour, random_camera_colours, random_stain_vectors

#: Nucleated cells that can be drawn, by their names in the project's class scheme.
LEUKOCYTE_CLASSES = (
    "segmented_neutrophil",
    "band_neutrophil",
    "eosinophil",
    "basophil",
    "lymphocyte",
    "monocyte",
    "immature_granulocyte",
    "erythroblast",
    "smudge_cell",
)
#: Shapes of red cells that a recipe may ask for.
RED_CELL_SHAPES = (
    *("ovalocyte", "teardrop", "echinocyte", "spherocyte", "target", "stomatocyte", "fragment"),
    *("elliptocyte", "hypochromic", "microcyte", "macrocyte"),
)
#: Share of the field that cells may cover, counted without overlap, before a recipe is refused.
MAX_COVERAGE = 1.6


class _Recipe(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class StainRecipe(_Recipe):
    """Optical density, in red, green and blue, that one unit of each dye gives.

    Attributes
    ----------
    nucleus, basophilia, eosin, haemoglobin, azure : tuple of float
        Density (log10) per unit of dye; a dense nucleus and a thick red-cell rim are about one unit.
    """

    nucleus: Colour = (0.62, 0.80, 0.26)
    basophilia: Colour = (0.42, 0.36, 0.14)
    eosin: Colour = (0.06, 0.36, 0.24)
    haemoglobin: Colour = (0.14, 0.20, 0.13)
    azure: Colour = (0.32, 0.66, 0.22)


class CameraRecipe(_Recipe):
    """Glass, light, lens and sensor.

    Attributes
    ----------
    glass : tuple of float
        RGB (0-255) of empty glass at the middle of the field.
    gradient_y, gradient_x, vignette : float
        Relative change of the light from the middle to an edge, and to a corner.
    mottle : float
        Density (log10, standard deviation) of the dried plasma's unevenness.
    defocus_um : float
        Standard deviation of the blur, micrometres.
    fringe : float
        Strength of the bright rim that a refracting edge shows slightly out of focus.
    chromatic_px : float
        Radial shift of red against blue at the corner, pixels.
    sharpen : float
        Strength of the camera's own sharpening.
    flare : float
        Share of stray light.
    noise : float
        Standard deviation of sensor noise at full brightness, grey levels.
    noise_grain_px : float
        Blur of that noise (demosaicking makes it coarser than a pixel).
    jpeg_quality : int or None
        None keeps the pixels as they are.
    """

    glass: Colour = (246.0, 232.0, 214.0)
    gradient_y: float = Field(default=0.0, ge=-0.5, le=0.5)
    gradient_x: float = Field(default=0.0, ge=-0.5, le=0.5)
    vignette: float = Field(default=0.04, ge=0, le=0.7)
    mottle: float = Field(default=0.004, ge=0, le=0.1)
    defocus_um: float = Field(default=0.12, ge=0, le=5)
    fringe: float = Field(default=0.15, ge=0, le=2)
    chromatic_px: float = Field(default=0.0, ge=-4, le=4)
    sharpen: float = Field(default=0.0, ge=0, le=3)
    flare: float = Field(default=0.02, ge=0, le=0.6)
    noise: float = Field(default=2.0, ge=0, le=40)
    noise_grain_px: float = Field(default=0.6, ge=0, le=4)
    jpeg_quality: int | None = Field(default=None, ge=20, le=100)

    @field_validator("glass")
    @classmethod
    def _is_a_colour(cls, glass: Colour) -> Colour:
        if not all(1 <= value <= 255 for value in glass):
            raise ValueError("glass is red, green and blue, each from 1 to 255")
        return glass


class RedCellRecipe(_Recipe):
    """The red cells of a smear.

    Attributes
    ----------
    count : int
        Red cells whose centre lies in the field.
    diameter_um : float
        Median diameter; 7.5 by convention.
    anisocytosis : float
        Relative spread of the diameters.
    pallor, pallor_size : float
        Depth (0-1) and relative radius of the pale centre; they vary from cell to cell.
    rim : float
        How soft the edge of a cell is: 0 a flat disc, 1 a dome.
    poikilocytosis : float
        Share of cells of another shape than the round one.
    shapes : dict of str to float
        How often each of `RED_CELL_SHAPES` is drawn among these; empty for the usual mixture.
    polychromasia : float
        Share of larger, bluish young cells.
    refractile : float
        Share of cells with a drying artefact: a glassy hole.
    overlap : float
        Share of cells that may lie on another.
    clustering : float
        Share of cells that stick to one already there.
    squeeze : float
        Share of touching cells that flatten each other instead of overlapping.
    opacity : float
        How far an upper cell hides a lower one; at 0 their densities add.
    rouleaux : float
        Share of cells that lie in rouleaux, like fallen stacks of coins.
    heaps : float
        Share of cells that lie in heaps, over and under each other.
    """

    count: int = Field(default=120, ge=0, le=50_000)
    diameter_um: float = Field(default=7.5, ge=3, le=15)
    anisocytosis: float = Field(default=0.05, ge=0, le=0.4)
    pallor: float = Field(default=0.5, ge=0, le=1)
    pallor_size: float = Field(default=0.45, ge=0.1, le=0.8)
    rim: float = Field(default=0.4, ge=0, le=1)
    poikilocytosis: float = Field(default=0.08, ge=0, le=1)
    shapes: dict[str, float] = Field(default_factory=dict)
    polychromasia: float = Field(default=0.02, ge=0, le=1)
    refractile: float = Field(default=0.02, ge=0, le=1)
    overlap: float = Field(default=0.1, ge=0, le=1)
    clustering: float = Field(default=0.1, ge=0, le=1)
    squeeze: float = Field(default=0.5, ge=0, le=1)
    opacity: float = Field(default=0.1, ge=0, le=1)
    rouleaux: float = Field(default=0.0, ge=0, le=1)
    heaps: float = Field(default=0.0, ge=0, le=1)

    @field_validator("shapes")
    @classmethod
    def _can_be_drawn(cls, shapes: dict[str, float]) -> dict[str, float]:
        for name, share in shapes.items():
            if name not in RED_CELL_SHAPES:
                raise ValueError(f"no {name!r} can be drawn; choose from {', '.join(RED_CELL_SHAPES)}")
            if not share > 0:
                raise ValueError(f"the share of {name} must be above 0")
        return shapes

    @model_validator(mode="after")
    def _one_place_each(self) -> RedCellRecipe:
        if self.rouleaux + self.heaps > 1:
            raise ValueError("rouleaux and heaps together hold at most all cells: their shares exceed 1")
        return self


class SmearRecipe(_Recipe):
    """A whole smear field.

    Attributes
    ----------
    height, width : int
        Pixels.
    um_per_px : float
        Micrometres per pixel.
    red_cells : RedCellRecipe
    leukocytes : dict of str to int
        Number of nucleated cells of each of `LEUKOCYTE_CLASSES`.
    platelets : int
    platelet_clumping : float
        Share of platelets that lie beside another.
    platelet_clumps : int
        Clumps of 6 to 16 platelets, beside the `platelets`.
    fringe_cells : bool
        Also draw the cells whose centre is just outside, cut by the edge of the field.
    debris : int
        Stain precipitate, dust and grains out of focus: none of them a cell.
    scale_bar : bool
        Burn a scale bar into the picture, as some cameras do.
    arrow : bool
        Burn a coloured pointer into it.
    """

    height: int = Field(default=576, ge=32, le=16_384)
    width: int = Field(default=768, ge=32, le=16_384)
    um_per_px: float = Field(default=1 / 6, ge=0.02, le=2)
    red_cells: RedCellRecipe = RedCellRecipe()
    leukocytes: dict[str, int] = Field(default_factory=dict)
    platelets: int = Field(default=10, ge=0, le=20_000)
    platelet_clumping: float = Field(default=0.1, ge=0, le=1)
    platelet_clumps: int = Field(default=0, ge=0, le=500)
    fringe_cells: bool = True
    debris: int = Field(default=4, ge=0, le=2_000)
    scale_bar: bool = False
    arrow: bool = False
    stain: StainRecipe = StainRecipe()
    camera: CameraRecipe = CameraRecipe()

    @field_validator("leukocytes")
    @classmethod
    def _are_known(cls, leukocytes: dict[str, int]) -> dict[str, int]:
        for name, count in leukocytes.items():
            if name not in LEUKOCYTE_CLASSES:
                raise ValueError(f"no {name!r} can be drawn; choose from {', '.join(LEUKOCYTE_CLASSES)}")
            if count < 0:
                raise ValueError(f"the number of {name} cannot be negative")
        return leukocytes

    @model_validator(mode="after")
    def _fits(self) -> SmearRecipe:
        red = math.pi / 4 * self.red_cells.diameter_um**2 * self.red_cells.count
        white = math.pi / 4 * 13.0**2 * sum(self.leukocytes.values())
        covered = (red + white + 7.0 * (self.platelets + 11 * self.platelet_clumps)) / self.area_um2
        if covered > MAX_COVERAGE:
            raise ValueError(
                f"the cells would cover the field {covered:.1f} times; ask for fewer, or a larger field"
            )
        return self

    @property
    def area_um2(self) -> float:
        """Area of the field, square micrometres."""
        return self.height * self.width * self.um_per_px**2


def random_recipe(
    rng: np.random.Generator,
    height: int = 576,
    width: int = 768,
    um_per_px: float = 1 / 6,
    leukocyte_density: float = 2.2,
) -> SmearRecipe:
    """Draw a recipe whose stain, light, camera and blood differ strongly from the next one's.

    Parameters
    ----------
    rng : numpy.random.Generator
    height, width : int
        Pixels.
    um_per_px : float
    leukocyte_density : float
        Nucleated cells in 10,000 square micrometres, on average (far more than blood has, so that
        a small field teaches something).

    Returns
    -------
    SmearRecipe
    """
    area = height * width * um_per_px**2
    coverage = rng.choice(
        [rng.uniform(0.03, 0.25), rng.uniform(0.25, 0.5), rng.uniform(0.5, 0.85)], p=[0.2, 0.45, 0.35]
    )
    cell = math.pi / 4 * 7.5**2
    crowded = coverage > 0.45
    red = RedCellRecipe(
        count=int(coverage * area / cell),
        diameter_um=float(np.clip(rng.normal(7.5, 0.25), 6.8, 8.2)),
        anisocytosis=rng.uniform(0.03, 0.11),
        pallor=float(rng.choice([rng.uniform(0.0, 0.35), rng.uniform(0.35, 1.0)], p=[0.4, 0.6])),
        pallor_size=rng.uniform(0.28, 0.72),
        rim=rng.uniform(0.1, 0.9),
        poikilocytosis=float(rng.choice([rng.uniform(0, 0.12), rng.uniform(0.12, 0.6)], p=[0.7, 0.3])),
        polychromasia=rng.uniform(0, 0.08),
        refractile=float(rng.choice([0.0, rng.uniform(0.02, 0.3)], p=[0.6, 0.4])),
        overlap=rng.uniform(0.15, 0.8) if crowded else rng.uniform(0.0, 0.25),
        clustering=rng.uniform(0.05, 0.6),
        squeeze=rng.uniform(0.1, 1.0),
        opacity=float(rng.choice([rng.uniform(0, 0.25), rng.uniform(0.25, 0.95)], p=[0.6, 0.4])),
    )
    weights = rng.dirichlet(np.array([3.0, 1.2, 1.2, 1.0, 2.5, 1.5, 1.2, 1.2, 0.4]))
    n_white = rng.poisson(leukocyte_density * area / 1e4)
    room = (0.9 - coverage) * area / (math.pi / 4 * 13.0**2)
    counts = rng.multinomial(int(min(n_white, max(room, 1))) if area > 400 else 0, weights)
    n_platelets = int(rng.poisson(rng.choice([2.0, 6.0, 14.0, 30.0], p=[0.2, 0.4, 0.3, 0.1]) * area / 1e4))
    return SmearRecipe(
        height=height,
        width=width,
        um_per_px=um_per_px,
        red_cells=red,
        leukocytes={name: int(n) for name, n in zip(LEUKOCYTE_CLASSES, counts, strict=True) if n},
        platelets=n_platelets,
        platelet_clumping=float(rng.choice([0.0, rng.uniform(0.1, 0.6)], p=[0.6, 0.4])),
        debris=int(rng.poisson(rng.choice([1.0, 6.0]) * area / 1e4)),
        scale_bar=bool(rng.random() < 0.08),
        arrow=bool(rng.random() < 0.04),
        stain=StainRecipe(**random_stain_vectors(rng)),
        camera=_random_camera(rng),
    )


def _random_camera(rng: np.random.Generator) -> CameraRecipe:
    focus = rng.choice(
        [rng.uniform(0.05, 0.16), rng.uniform(0.16, 0.32), rng.uniform(0.32, 0.65)], p=[0.45, 0.38, 0.17]
    )
    return CameraRecipe(
        glass=random_camera_colours(rng),
        gradient_y=float(np.clip(rng.normal(0, 0.04), -0.15, 0.15)),
        gradient_x=float(np.clip(rng.normal(0, 0.04), -0.15, 0.15)),
        vignette=float(rng.choice([rng.uniform(0, 0.06), rng.uniform(0.06, 0.3)], p=[0.75, 0.25])),
        mottle=rng.uniform(0.001, 0.012),
        defocus_um=float(focus),
        fringe=float(rng.choice([rng.uniform(0, 0.15), rng.uniform(0.15, 0.7)], p=[0.5, 0.5])),
        chromatic_px=float(np.clip(rng.normal(0, 0.5), -1.5, 1.5)),
        sharpen=float(rng.choice([0.0, rng.uniform(0.2, 1.2)], p=[0.6, 0.4])),
        flare=rng.uniform(0, 0.2),
        noise=float(rng.choice([rng.uniform(0.4, 1.8), rng.uniform(1.8, 5)], p=[0.75, 0.25])),
        noise_grain_px=rng.uniform(0.5, 1.4),
        jpeg_quality=None if rng.random() < 0.25 else int(rng.integers(50, 97)),
    )
