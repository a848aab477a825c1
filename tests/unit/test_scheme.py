"""The class scheme: spellings that people have, coarser classes, and a laboratory's own file."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_leukocls.errors import ArgumentError
from napari_leukocls.scheme import default_scheme, load_scheme

CONTRACT = (
    "neutrophil segmented_neutrophil band_neutrophil eosinophil basophil lymphocyte variant_lymphocyte "
    "plasma_cell monocyte immature_granulocyte promyelocyte myelocyte metamyelocyte blast erythroblast "
    "smudge_cell platelet red_cell normal_red_cell macrocyte microcyte spherocyte target_cell stomatocyte "
    "ovalocyte teardrop_cell burr_cell schistocyte hypochromic_red_cell elliptocyte artefact not_classed"
).split()
MODEL = (
    "neutrophil eosinophil basophil lymphocyte monocyte immature_granulocyte erythroblast platelet".split()
)

SPELLINGS = {
    "neutrophil": "Neutrophils|NEUTROPHIL|neut|01_Neutrophil|neutrophil cells|Neutrophilic granulocytes",
    "segmented_neutrophil": "SNE|NGS|seg|Segs|SegmentedNeutrophil|neutrophil_segmented|segmented neutrophils",
    "band_neutrophil": "BNE|NGB|bands|stab|Neutrophil (band)|band-neutrophils",
    "eosinophil": "EOSINOPHIL|EO|EOS|eosi|Eosinophils",
    "basophil": "BA|BAS|baso|BASOPHIL",
    "lymphocyte": "LY|LYT|lymphs|Lymphocyte (typical)|Large Lymph",
    "variant_lymphocyte": "LYA|atypical lymphocytes|Reactive lymphocyte",
    "plasma_cell": "plasma cells|PLM|Plasma-Cell",
    "monocyte": "MO|MON|mono|Monocytes",
    "immature_granulocyte": "ig|IG|Immature Granulocytes",
    "promyelocyte": "PMY|PMO|PMB|promyelocytes",
    "myelocyte": "MY|MYB|Myelocyte",
    "metamyelocyte": "MMY|MMZ|metamyelocytes",
    "blast": "MYO|MOB|myeloblast|BlastCells|lymphoblasts",
    "erythroblast": "ERB|EBO|NRBC|nRBCs|normoblast|Nucleated red blood cells",
    "smudge_cell": "KSC|smudge|Smudge-Cells|basket cell",
    "platelet": "PLATELET|Platelets|PLT|thrombocyte",
    "red_cell": "rbc|RBCs|red blood cell|Erythrocytes|redCells",
    "normal_red_cell": "Normal cell|normal RBCs|discocyte",
    "macrocyte": "Macrocytes|macro",
    "microcyte": "micro|Microcytes",
    "spherocyte": "SPHEROCYTE|Spherocytes",
    "target_cell": "Target|target cells|codocyte",
    "stomatocyte": "Stomatocytes",
    "ovalocyte": "Oval cells|Ovalocytes",
    "teardrop_cell": "Teardrop|tear-drop cells|dacrocytes",
    "burr_cell": "Burr cells|echinocytes",
    "schistocyte": "Schistocytes|fragmented red cells",
    "hypochromic_red_cell": "hypochromia|Hypochromic cells",
    "elliptocyte": "Elliptocytes",
    "artefact": "ART|artifacts|Debris",
    "not_classed": "unknown|unidentified|not-classed",
}


@pytest.mark.parametrize("name", SPELLINGS)
def test_spellings_that_people_have(name: str) -> None:
    scheme = default_scheme()
    for text in [*SPELLINGS[name].split("|"), name, name.upper(), name + "s", f"  {name.replace('_', ' ')} "]:
        assert scheme.resolve(text) == name, text


@pytest.mark.parametrize("text", ["", "WBC", "cells", "../..", "giraffe", "123", "leukocyte"])
def test_what_names_no_class_is_not_guessed(text: str) -> None:
    assert default_scheme().resolve(text) is None


@given(st.text())
def test_resolve_takes_any_text(text: str) -> None:
    assert default_scheme().resolve(text) in (None, *CONTRACT)


def test_the_classes_of_the_contract_are_all_there() -> None:
    scheme = default_scheme()
    assert list(scheme.names) == CONTRACT
    counted = {entry.name for entry in scheme if entry.counted_in_differential}
    outside = {
        "erythroblast",
        "smudge_cell",
        "platelet",
        "red_cell",
        "artefact",
        "not_classed",
        *scheme.shapes(),
    }
    assert scheme.shapes() == CONTRACT[18:30]
    assert counted == set(CONTRACT) - outside
    assert {entry.name for entry in scheme if entry.per_100_wbc} == {"erythroblast", "smudge_cell"}
    assert scheme["monocyte"].loinc == "26485-3"
    assert scheme["immature_granulocyte"].loinc == ""


def test_coarsening_stops_at_the_models_class() -> None:
    scheme = default_scheme()
    assert scheme.coarsen("band_neutrophil", MODEL) == "neutrophil"
    assert scheme.coarsen("metamyelocyte", MODEL) == "immature_granulocyte"
    assert scheme.coarsen("band_neutrophil", ["band_neutrophil", "neutrophil"]) == "band_neutrophil"
    assert scheme.coarsen("blast", MODEL) == "blast"
    assert scheme.coarsen("variant_lymphocyte", MODEL) == "variant_lymphocyte"


def test_colours_stay_apart_for_the_colour_blind() -> None:
    """CIEDE2000 between any two classes of the shipped model, with Machado's (2009) full dichromacies."""
    from skimage.color import deltaE_ciede2000, rgb2lab

    kinds = {
        "normal": np.eye(3),
        "protanopia": [[0.1523, 1.0526, -0.2049], [0.1145, 0.7863, 0.0992], [-0.0039, -0.0481, 1.0521]],
        "deuteranopia": [[0.3673, 0.8606, -0.2280], [0.2801, 0.6725, 0.0474], [-0.0118, 0.0429, 0.9689]],
    }
    scheme = default_scheme()
    srgb = np.array([scheme[name].rgb for name in [*MODEL, "red_cell"]]) / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    for kind, matrix in kinds.items():
        seen = np.clip(linear @ np.array(matrix).T, 0, 1)
        shown = np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055)
        lab = rgb2lab(shown)
        nearest = min(float(deltaE_ciede2000(a, b)) for a, b in itertools.combinations(lab, 2))
        assert nearest > 10, kind


def test_a_laboratory_adds_a_class_and_changes_another(tmp_path: Path) -> None:
    file = tmp_path / "lab.toml"
    file.write_text(
        '[[classes]]\nname = "hairy_cell"\ncolour = "#123456"\nkind = "leukocyte"\n'
        'counted_in_differential = true\nparent = "lymphocyte"\naliases = ["HAC"]\n'
        '[[classes]]\nname = "monocyte"\ndisplay = "Mono"\naliases = ["big one", "BAS"]\n',
        encoding="utf-8",
    )
    scheme = load_scheme(file)
    assert scheme.resolve("hac") == scheme.resolve("Hairy cells") == "hairy_cell"
    assert scheme.coarsen("hairy_cell", MODEL) == "lymphocyte"
    assert scheme["monocyte"].display == "Mono"
    assert scheme["monocyte"].loinc == "26485-3"
    assert scheme.resolve("MON") == scheme.resolve("Big-One") == "monocyte"
    assert scheme.resolve("bas") == "monocyte", "the laboratory's meaning of an abbreviation wins"
    assert scheme.resolve("basophil") == "basophil"
    assert default_scheme().resolve("hac") is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("classes = 3", "needs a list 'classes'"),
        ("not toml at all", "not valid TOML"),
        ('[[classes]]\nname = "x y"\ncolour = "#000000"', "lower-case letters"),
        ('[[classes]]\nname = "xy"', "colour: Field required"),
        ('[[classes]]\nname = "xy"\ncolour = "red"', "#rrggbb"),
        ('[[classes]]\nname = "xy"\ncolour = "#000000"\nfrobnicate = 1', "frobnicate"),
        ('[[classes]]\nname = "xy"\ncolour = "#000000"\nparent = "nobody"', "'nobody'"),
        ('[[classes]]\nname = "monocyte"\nparent = "monocyte"', "cannot be the parent"),
        ('[[classes]]\nname = "xy"\ncolour = "#000000"\nkey = "1"', "share a key"),
        ('[[classes]]\nname = "monocyte"\n[[classes]]\nname = "monocyte"', "twice"),
        ('format_version = 9\n[[classes]]\nname = "monocyte"', "format_version 9"),
        ("classes = [3]", "class None"),
    ],
)
def test_a_wrong_file_is_one_line_that_says_where(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "lab.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ArgumentError) as caught:
        load_scheme(file)
    assert says in str(caught.value)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_an_unknown_class_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="cannot be read"):
        load_scheme(tmp_path / "nowhere.toml")
    with pytest.raises(ArgumentError, match="did you mean 'monocyte'"):
        default_scheme()["monocite"]


def test_the_laboratorys_file_is_found_in_the_data_folder_and_read_again_when_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LEUKOCLS_SCHEME", raising=False)
    monkeypatch.setenv("LEUKOCLS_DATA", str(tmp_path))
    assert default_scheme().resolve("hairy_cell") is None
    entry = """format_version = 1
[[classes]]
name = "hairy_cell"
short = "HCL"
display = "Hairy cell"
colour = "#123456"
key = "h"
kind = "leukocyte"
counted_in_differential = true
"""
    (tmp_path / "scheme.toml").write_text(entry)
    assert default_scheme().resolve("Hairy cells") == "hairy_cell"
    (tmp_path / "lab.toml").write_text("format_version = 1\n[[classes]]\nname = 3\n")
    monkeypatch.setenv("LEUKOCLS_SCHEME", str(tmp_path / "lab.toml"))
    with pytest.raises(ArgumentError, match="lab.toml"):
        default_scheme()
