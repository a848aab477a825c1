"""Public data sets are recognised by their layout, with their patients and classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from napari_leukocls.classification.dataset import list_labelled
from napari_leukocls.datasets.public import HEP2, MARROW, read_public
from napari_leukocls.scheme import default_scheme


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8, 3), 128, np.uint8)).save(path)


def test_c_nmc_names_its_patients(tmp_path: Path) -> None:
    train = tmp_path / "C-NMC_training_data"
    for name in ("UID_1_2_1_all", "UID_1_3_1_all", "UID_H10_1_1_hem"):
        picture(train / f"fold_{len(name) % 3}" / name.rpartition("_")[2] / f"{name}.bmp")
    test = tmp_path / "C-NMC_test_prelim_phase_data"
    for number in (1, 2):
        picture(test / "images" / f"{number}.bmp")
    (test / "C-NMC_test_prelim_phase_data_labels.csv").write_text(
        "Patient_ID,new_names,labels\nUID_57_29_1_all.bmp,1.bmp,1\nUID_H24_2_1_hem.bmp,2.bmp,0\n"
    )
    listing = list_labelled(tmp_path, default_scheme())
    assert listing.kind == "C-NMC 2019"
    found = sorted((crop.class_name, crop.patient) for crop in listing.crops)
    assert found == [("all", "1"), ("all", "1"), ("hem", "H10")]
    assert any("2 images of the test phases are left out" in note for note in listing.notes)
    listing = list_labelled(test, default_scheme())
    assert [(crop.class_name, crop.patient) for crop in listing.crops] == [("all", "57"), ("hem", "H24")]


def test_bone_marrow_codes_are_classes(tmp_path: Path) -> None:
    for code in ("EOS", "MMZ", "NIF", "PEB"):
        picture(tmp_path / code / "0001-1000" / f"{code}_00001.jpg")
    listing = list_labelled(tmp_path, default_scheme())
    assert {crop.class_name for crop in listing.crops} == {
        "eosinophil", "metamyelocyte", "unidentifiable", "pronormoblast"
    }  # fmt: skip
    assert not any(crop.patient for crop in listing.crops)


def test_no_two_classes_of_bone_marrow_become_one() -> None:
    scheme = default_scheme()
    names = [scheme.resolve(name) or name for name in MARROW.values()]
    assert len(set(names)) == len(MARROW)


def test_segmented_twins_of_the_four_stages_are_left_out(tmp_path: Path) -> None:
    for kind in ("Original", "Segmented"):
        for name in ("Benign", "Early", "Pre", "Pro"):
            picture(tmp_path / kind / name / f"WBC-{name}-001.jpg")
    listing = list_labelled(tmp_path, default_scheme())
    assert listing.kind == "four stages of ALL"
    assert [crop.class_name for crop in listing.crops] == ["Benign", "Early", "Pre", "Pro"]
    assert all(crop.file.startswith("Original/") for crop in listing.crops)


def test_hep2_patterns_come_from_the_table(tmp_path: Path) -> None:
    lines = ["Image ID,Label"]
    for number, name in enumerate(HEP2, 1):
        picture(tmp_path / "training" / f"{number:05}.png")
        picture(tmp_path / "training" / f"{number:05}_Mask.png")
        lines.append(f"{number:05},{name.capitalize()}")
    (tmp_path / "gt_training.csv").write_text("\n".join(lines))
    listing = list_labelled(tmp_path, default_scheme())
    assert sorted(crop.class_name for crop in listing.crops) == sorted(HEP2)


def test_plain_class_folders_are_none_of_these(tmp_path: Path) -> None:
    for name in ("basophil", "erythroblast", "monocyte", "myeloblast", "seg_neutrophil"):
        picture(tmp_path / name / "a.jpg")
    assert read_public(tmp_path) is None
    names = {crop.class_name for crop in list_labelled(tmp_path, default_scheme()).crops}
    assert len(names) == 5 and "segmented_neutrophil" in names
