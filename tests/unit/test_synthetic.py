"""The synthetic smears: their truth must be exact, since models and counts are judged by it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from napari_leukocls.synthetic import (
    LEUKOCYTE_CLASSES,
    CameraRecipe,
    RedCellRecipe,
    SmearRecipe,
    StainRecipe,
    SyntheticSmear,
    random_recipe,
    render_smear,
)

CLEAR = CameraRecipe(noise=0, defocus_um=0.05, fringe=0, vignette=0, mottle=0, flare=0)


@pytest.fixture(scope="module")
def mixed() -> SyntheticSmear:
    """A field with every class, sparse enough that nothing hides."""
    recipe = SmearRecipe(
        height=512,
        width=640,
        red_cells=RedCellRecipe(count=40, overlap=0, clustering=0, poikilocytosis=0, polychromasia=0),
        leukocytes={name: 2 for name in LEUKOCYTE_CLASSES},
        platelets=12,
        debris=6,
        camera=CLEAR,
    )
    return render_smear(recipe, seed=3)


def check_truth(smear: SyntheticSmear) -> None:
    """Labels are 1..N without gaps, and every cell's row says what its mask shows."""
    recipe = smear.recipe
    assert smear.pixels.shape == (recipe.height, recipe.width, 3)
    assert smear.pixels.dtype == np.uint8
    assert smear.labels.shape == (recipe.height, recipe.width)
    assert smear.labels.dtype == np.int32
    present = np.unique(smear.labels)
    assert present[present > 0].tolist() == [cell.cell_id for cell in smear.cells]
    assert [cell.cell_id for cell in smear.cells] == list(range(1, len(smear.cells) + 1))
    for cell in smear.cells:
        ys, xs = np.nonzero(smear.labels == cell.cell_id)
        assert cell.bbox == (ys.min(), xs.min(), ys.max() + 1, xs.max() + 1)
        assert cell.centroid == pytest.approx((ys.mean(), xs.mean()))
        assert 0 < cell.visible_fraction <= 1


def test_same_recipe_and_seed_give_the_same_smear():
    recipe = random_recipe(np.random.default_rng(5), 160, 200)
    first, again, other = render_smear(recipe, 9), render_smear(recipe, 9), render_smear(recipe, 10)
    assert np.array_equal(first.pixels, again.pixels)
    assert np.array_equal(first.labels, again.labels)
    assert first.cells == again.cells
    assert not np.array_equal(first.pixels, other.pixels)


def test_a_recipe_survives_json():
    recipe = random_recipe(np.random.default_rng(6), 96, 128)
    back = SmearRecipe.model_validate_json(recipe.model_dump_json())
    assert back == recipe
    assert np.array_equal(render_smear(back, 1).pixels, render_smear(recipe, 1).pixels)


def test_masks_and_rows_agree(mixed):
    check_truth(mixed)


def test_counts_are_those_that_were_asked_for(mixed):
    expected = {name: 2 for name in LEUKOCYTE_CLASSES} | {"red_cell": 40, "platelet": 12}
    assert mixed.counts() == expected


def test_table_has_a_row_for_each_cell(mixed):
    table = mixed.table
    assert table["cell_id"].tolist() == [cell.cell_id for cell in mixed.cells]
    assert set(table["kind"]) == {"red_cell", "leukocyte", "platelet"}
    leukocytes = table.loc[table["kind"] == "leukocyte", "class"]
    assert set(leukocytes) == set(LEUKOCYTE_CLASSES)
    assert (table["bbox_y1"] > table["bbox_y0"]).all()


@pytest.mark.parametrize("um_per_px", [0.08, 1 / 6, 0.3])
def test_sizes_are_physical(um_per_px):
    side = int(100 / um_per_px)
    recipe = SmearRecipe(
        height=side,
        width=side,
        um_per_px=um_per_px,
        red_cells=RedCellRecipe(
            count=50, overlap=0, clustering=0, squeeze=0, poikilocytosis=0, polychromasia=0
        ),
        leukocytes={"lymphocyte": 4, "monocyte": 4},
        platelets=20,
        debris=0,
    )
    table = render_smear(recipe, 4).table
    diameter = table.groupby("class")["diameter_um"].median()
    assert diameter["red_cell"] == pytest.approx(7.5, abs=0.35)
    assert 7 < diameter["lymphocyte"] < 12
    assert 12.5 < diameter["monocyte"] < 19.5
    assert 1.4 < diameter["platelet"] < 4.2
    assert diameter["lymphocyte"] < diameter["monocyte"]


def test_cells_differ_from_the_glass_and_the_glass_has_its_colour(mixed):
    # A ring of one micrometre round cells is lens blur and pressed edges, not glass.
    from scipy import ndimage

    glass = ~ndimage.binary_dilation(mixed.labels > 0, iterations=6)
    median = np.median(mixed.pixels[glass], axis=0)
    assert median == pytest.approx(mixed.recipe.camera.glass, abs=3)
    light = mixed.pixels.astype(float).sum(-1)
    for cell in mixed.cells:
        assert light[mixed.labels == cell.cell_id].mean() < light[glass].mean() - 15, cell


def test_overlapping_red_cells_darken_each_other():
    red = RedCellRecipe(count=60, overlap=1, clustering=1, squeeze=0, opacity=0, pallor=0, poikilocytosis=0)
    smear = render_smear(
        SmearRecipe(height=384, width=384, red_cells=red, platelets=0, debris=0, camera=CLEAR), 2
    )
    dark = smear.pixels[..., 1][smear.labels > 0]
    once = StainRecipe().haemoglobin[1]
    glass = smear.recipe.camera.glass[1]
    assert (dark < glass * 10 ** (-1.6 * once)).mean() > 0.02
    assert any(cell.visible_fraction < 0.9 and not cell.fringe for cell in smear.cells)


def test_the_upper_cell_owns_the_pixels(mixed):
    whole = [cell for cell in mixed.cells if cell.kind == "platelet" and cell.visible_fraction == 1]
    assert whole, "platelets lie on top, so that most are seen whole"
    leukocytes = [cell for cell in mixed.cells if cell.kind == "leukocyte"]
    inner = [c for c in leukocytes if min(c.bbox[:2]) > 0 and c.bbox[2] < 512 and c.bbox[3] < 640]
    assert all(cell.visible_fraction > 0.9 for cell in inner)


def test_an_empty_field_is_glass_alone():
    recipe = SmearRecipe(
        height=64, width=80, red_cells=RedCellRecipe(count=0), platelets=0, debris=0, camera=CLEAR
    )
    smear = render_smear(recipe, 0)
    assert smear.cells == ()
    assert not smear.labels.any()
    assert len(smear.table) == 0
    assert smear.pixels.reshape(-1, 3).std(axis=0).max() < 2


def test_marks_and_dirt_own_no_pixels():
    plain = SmearRecipe(height=256, width=256, red_cells=RedCellRecipe(count=0), platelets=0, debris=40)
    marked = plain.model_copy(update={"scale_bar": True, "arrow": True})
    assert not render_smear(plain, 1).labels.any()
    smear = render_smear(marked, 1)
    assert not smear.labels.any()
    assert not np.array_equal(smear.pixels, render_smear(plain, 1).pixels)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"leukocytes": {"hepatocyte": 1}}, "hepatocyte"),
        ({"leukocytes": {"monocyte": -1}}, "negative"),
        ({"red_cells": RedCellRecipe(count=5000)}, "ask for fewer"),
        ({"height": 8}, "height"),
        ({"um_per_px": float("nan")}, "um_per_px"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_recipe_that_cannot_be_drawn_is_refused(change, word):
    with pytest.raises(ValidationError, match=word):
        SmearRecipe(**change)


def test_recipes_differ_strongly():
    recipes = [random_recipe(np.random.default_rng(seed), 256, 256) for seed in range(40)]
    glass = np.array([recipe.camera.glass for recipe in recipes])
    red = np.array([recipe.stain.haemoglobin for recipe in recipes])
    assert glass.std(axis=0).min() > 10
    assert (red.max(axis=0) / red.min(axis=0)).min() > 3


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    height=st.integers(64, 200),
    width=st.integers(64, 200),
    um_per_px=st.floats(0.05, 0.6),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_random_recipe_has_exact_truth(height, width, um_per_px, seed):
    recipe = random_recipe(np.random.default_rng(seed), height, width, um_per_px)
    check_truth(render_smear(recipe, seed))


def test_rouleaux_and_heaps_lie_over_each_other_and_are_named():
    red = RedCellRecipe(count=60, rouleaux=0.3, heaps=0.4, overlap=0, clustering=0)
    smear = render_smear(SmearRecipe(height=600, width=800, red_cells=red, platelets=0, camera=CLEAR), 4)
    check_truth(smear)
    table = smear.table[~smear.table["fringe"]]
    grouped = table[table["group"] != ""]
    assert 0.5 < len(grouped) / 60 <= 0.75
    assert set(grouped["group"].str.split().str[0]) == {"rouleau", "heap"}
    hidden = table.groupby("group")["visible_fraction"].min()
    assert (hidden[hidden.index != ""] < 0.9).all()
    sizes = grouped.groupby("group").size()
    assert sizes.max() <= 17


def test_outlines_are_whole_where_masks_are_covered():
    red = RedCellRecipe(count=40, heaps=0.8, overlap=0, clustering=0)
    smear = render_smear(SmearRecipe(height=600, width=600, red_cells=red, platelets=0, camera=CLEAR), 5)
    for cell, outline in zip(smear.cells, smear.outlines, strict=True):
        y, x = outline.T
        area = 0.5 * abs(np.sum(x * np.roll(y, 1) - y * np.roll(x, 1))) * smear.um_per_px**2
        assert 2 * np.sqrt(area / np.pi) == pytest.approx(cell.diameter_um, rel=0.03)


def test_clumps_of_platelets_are_beside_the_others():
    recipe = SmearRecipe(red_cells=RedCellRecipe(count=10), platelets=5, platelet_clumps=2, camera=CLEAR)
    table = render_smear(recipe, 6).table
    platelets = table[table["kind"] == "platelet"]
    assert set(platelets["group"]) <= {"", "clump 1", "clump 2"}
    assert 12 <= (platelets["group"] != "").sum() <= 32


def test_a_recipe_names_its_shapes():
    red = RedCellRecipe(
        count=80, poikilocytosis=1, polychromasia=0, overlap=0, shapes={"elliptocyte": 1, "microcyte": 1}
    )
    smear = render_smear(SmearRecipe(red_cells=red, platelets=0, camera=CLEAR), 7)
    table = smear.table[~smear.table["fringe"]]
    assert set(table["shape"]) == {"elliptocyte", "microcyte"}
    assert table.groupby("shape")["diameter_um"].median()["microcyte"] < 6


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"shapes": {"cube": 1}}, "no 'cube' can be drawn"),
        ({"shapes": {"target": 0}}, "above 0"),
        ({"rouleaux": 0.7, "heaps": 0.6}, "exceed 1"),
    ],
)
def test_wrong_red_cells_are_refused(wrong, words):
    with pytest.raises(ValidationError, match=words):
        RedCellRecipe(**wrong)
