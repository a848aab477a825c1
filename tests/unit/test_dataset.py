"""Labelled crops as people have them: class folders and tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_leukocls.classification.dataset import list_crops
from napari_leukocls.errors import InputError
from napari_leukocls.scheme import default_scheme

SCHEME = default_scheme()


def image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8, 3), 200, np.uint8)).save(path)


def table(tmp_path: Path, text: str, encoding: str = "utf-8") -> Path:
    file = tmp_path / "crops.csv"
    file.write_text(text, encoding=encoding)
    return file


def test_class_folders_in_peoples_spellings(tmp_path):
    for name in (
        "Lymphocytes/b.png",
        "Lymphocytes/a.jpg",
        "ig/deeper/c.tif",
        "01_Basophil/d.png",
        "odd one/e.png",
    ):
        image(tmp_path / name)
    crops = list_crops(tmp_path, SCHEME)
    assert [(crop.file, crop.class_name) for crop in crops] == [
        ("01_Basophil/d.png", "basophil"),
        ("Lymphocytes/a.jpg", "lymphocyte"),
        ("Lymphocytes/b.png", "lymphocyte"),
        ("ig/deeper/c.tif", "immature_granulocyte"),
        # What the scheme does not know keeps its name: it is evaluated as an unknown class.
        ("odd one/e.png", "odd one"),
    ]
    assert all(crop.path.is_file() and crop.um_per_px is None for crop in crops)


def test_what_is_no_image_and_what_is_hidden_is_left_out(tmp_path):
    image(tmp_path / "monocyte" / "a.png")
    image(tmp_path / "monocyte" / "._a.png")
    image(tmp_path / ".cache" / "b.png")
    image(tmp_path / "loose.png")
    (tmp_path / "monocyte" / "notes.txt").write_text("x")
    assert [crop.file for crop in list_crops(tmp_path, SCHEME)] == ["monocyte/a.png"]


def test_a_table_with_all_columns(tmp_path):
    file = table(
        tmp_path,
        "file,class,patient,slide,split,um_per_px\n"
        "b/2.png,MO,p2,s2,test,0.1\n"
        "a 1.png,Neutrophils,p1,s1,train,\n",
        encoding="utf-8-sig",
    )
    first, second = list_crops(file, SCHEME)
    assert (first.file, first.class_name, first.patient, first.slide, first.split) == (
        "a 1.png",
        "neutrophil",
        "p1",
        "s1",
        "train",
    )
    assert first.um_per_px is None
    assert first.path == tmp_path / "a 1.png"
    assert (second.class_name, second.um_per_px) == ("monocyte", 0.1)
    assert second.path == tmp_path / "b" / "2.png"


def test_a_table_of_names_like_numbers_and_missing_values_stays_text(tmp_path):
    crops = list_crops(table(tmp_path, "file,class,patient\n001.png,NA,007\n"), SCHEME)
    assert (crops[0].file, crops[0].class_name, crops[0].patient) == ("001.png", "NA", "007")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("file,note\na.png,MO\n", "no column class"),
        ("name;kind\na.png;MO\n", "no column file and no column class"),
        ("file,class\n", "no labelled crop"),
        ("", "cannot be read as a CSV"),
        ('file,class\n"a.png,MO\n', "cannot be read as a CSV"),
        ("file,class\na.png,\n", "row 1 has no file or no class"),
        ("file,class\na.png,MO\n,MO\n", "row 2 has no file or no class"),
    ],
)
def test_a_wrong_table_is_refused_in_one_line(tmp_path, text, says):
    with pytest.raises(InputError, match=says) as caught:
        list_crops(table(tmp_path, text), SCHEME)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("size", ["zero", "-0.1", "0", "nan", "inf", "500"])
def test_a_wrong_pixel_size_is_refused(tmp_path, size):
    with pytest.raises(InputError, match="um_per_px"):
        list_crops(table(tmp_path, f"file,class,um_per_px\na.png,MO,{size}\n"), SCHEME)


def test_bytes_that_are_no_text_are_refused(tmp_path):
    file = tmp_path / "crops.csv"
    file.write_bytes(b"file,class\n\xff\xfe\x00.png,MO\n")
    with pytest.raises(InputError, match="cannot be read as a CSV"):
        list_crops(file, SCHEME)


def test_data_that_is_not_there_or_empty_is_refused(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        list_crops(tmp_path / "nowhere", SCHEME)
    (tmp_path / "monocyte").mkdir()
    with pytest.raises(InputError, match="no labelled crop"):
        list_crops(tmp_path, SCHEME)
