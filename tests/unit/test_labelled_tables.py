"""Tables of labelled crops as spreadsheets save them."""

from __future__ import annotations

import datetime
import unicodedata
from pathlib import Path

import numpy as np
import openpyxl
import pytest
from PIL import Image

from napari_leukocls.classification.crop_table import write_crop_table
from napari_leukocls.classification.dataset import Listing, list_crops, list_labelled
from napari_leukocls.errors import InputError
from napari_leukocls.scheme import default_scheme

SCHEME = default_scheme()
ROWS = [("a.png", "Neutrophils"), ("b.png", "lymphocyte"), ("c d.png", "Monocyte")]


def save_image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.arange(40 * 40 * 3, dtype=np.uint8).reshape(40, 40, 3)).save(path)


def listed(path: Path) -> Listing:
    return list_labelled(path, SCHEME)


def text_table(folder: Path, sign: str, encoding: str, head: tuple[str, ...] = ("file", "class")) -> Path:
    path = folder / "crops.csv"
    path.write_bytes("".join(sign.join(row) + "\r\n" for row in [head, *ROWS]).encode(encoding))
    return path


def book(path: Path, rows: list[list[object]], *, sheet: str = "Tabelle1") -> Path:
    made = openpyxl.Workbook()
    made.active.title = sheet
    for row in rows:
        made.active.append(row)
    made.save(path)
    return path


def says(path: Path, *words: str) -> None:
    notes = " ".join(listed(path).notes)
    for word in words:
        assert word in notes, notes


@pytest.mark.parametrize(
    ("sign", "encoding", "head"),
    [
        (",", "utf-8", ("file", "class")),
        (";", "utf-8-sig", ("file", "class")),
        (";", "cp1252", ("File", "CLASS")),
        ("\t", "utf-16", ("File", "Class")),
        ("\t", "utf-16-le", ("file", "class")),
        (", ", "utf-8", (" file ", "class")),
        ("|", "utf-8", ("file", "class")),
    ],
)
def test_separators_encodings_and_headers(
    tmp_path: Path, sign: str, encoding: str, head: tuple[str, ...]
) -> None:
    crops = list_crops(text_table(tmp_path, sign, encoding, head), SCHEME)
    assert [(crop.file, crop.class_name) for crop in crops] == [
        ("a.png", "neutrophil"),
        ("b.png", "lymphocyte"),
        ("c d.png", "monocyte"),
    ]


def test_other_names_of_columns_are_understood_and_said(tmp_path: Path) -> None:
    path = text_table(tmp_path, ",", "utf-8", ("Image Path", "Label"))
    assert len(list_crops(path, SCHEME)) == 3
    says(path, "'image path' is taken as file", "'label' is taken as class")
    path.write_text("image,img,class\na.png,b.png,MO\n")
    with pytest.raises(InputError, match="no column file"):
        list_crops(path, SCHEME)


def test_other_names_of_the_other_columns_and_names_in_german(tmp_path: Path) -> None:
    path = tmp_path / "crops.csv"
    path.write_text(
        "Datei;Zelltyp;Patient ID;Slide-ID;Pixel size (um);Subset\na.png;MO;P1;S1;0,1;Test\nb.png;LY;P2;S2;;val\n"
    )
    first, second = list_crops(path, SCHEME)
    assert (first.patient, first.slide, first.um_per_px, first.split) == ("P1", "S1", 0.1, "test")
    assert second.split == "validation"
    path.write_text("file,class,set\na.png,MO,spring\n")
    assert list_crops(path, SCHEME)[0].split == ""
    path.write_text("file,Class,class\na.png,MO,LY\n")
    with pytest.raises(InputError, match="two columns class"):
        list_crops(path, SCHEME)


def test_a_line_that_names_the_separator_and_a_title_above_the_columns(tmp_path: Path) -> None:
    path = tmp_path / "crops.csv"
    path.write_text("sep=;\nCrops of spring;\n\nfile;class\na.png;MO\n")
    assert list_crops(path, SCHEME)[0].class_name == "monocyte"
    says(path, "names of the columns are in row 3")


def test_decimal_commas_empty_rows_and_columns_and_line_breaks_in_cells(tmp_path: Path) -> None:
    path = tmp_path / "crops.csv"
    path.write_text(
        'file;class;um_per_px;note;;\na.png;MO;0,16;"two\nlines; here";;\n;;;;;\nb.png;"Lymphocyte\n";1,234;;;\n;;;;;\n'
    )
    first, second = list_crops(path, SCHEME)
    assert (first.um_per_px, second.um_per_px, second.class_name) == (0.16, 1.234, "lymphocyte")
    path.write_text("file;class;um_per_px\na.png;MO;0.1.6\n")
    with pytest.raises(InputError, match="um_per_px '0.1.6'"):
        list_crops(path, SCHEME)


def test_umlauts_of_windows(tmp_path: Path) -> None:
    save_image(tmp_path / "Müller.png")
    path = tmp_path / "crops.csv"
    path.write_bytes("file;class;patient\nMüller.png;Jugendliche Größe;Jäger\n".encode("cp1252"))
    (crop,) = list_crops(path, SCHEME)
    assert crop.path.is_file() and crop.patient == "Jäger" and crop.class_name == "Jugendliche Größe"
    says(path, "Windows-1252")


def test_images_under_the_names_of_another_computer(tmp_path: Path) -> None:
    for name in ("x/A.PNG", "y/b.png", "y/c.png", unicodedata.normalize("NFD", "z/ä.png")):
        save_image(tmp_path / name)
    path = tmp_path / "crops.csv"
    path.write_text(
        "file,class\nx\\a.png,MO\nC:\\Users\\me\\crops\\y\\b.png,MO\n/home/me/y/c,MO\nz/ä.png,MO\n",
        encoding="utf-8",
    )
    crops = list_crops(path, SCHEME)
    assert len(crops) == 4 and all(crop.path.is_file() for crop in crops), crops
    says(path, "4 files are not where the data says")


def test_a_name_that_fits_two_images_is_not_guessed(tmp_path: Path) -> None:
    for name in ("x/a.png", "y/a.png"):
        save_image(tmp_path / name)
    path = tmp_path / "crops.csv"
    path.write_text("file,class\nD:\\a.png,MO\nD:\\y\\a.png,LY\n")
    found = {crop.class_name: crop.path for crop in list_crops(path, SCHEME)}
    assert not found["monocyte"].is_file() and found["lymphocyte"] == tmp_path / "y" / "a.png"


def test_a_repeated_row_counts_once_and_a_contradiction_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "crops.csv"
    path.write_text("file,class,patient\na.png,MO,\na.png,Monocytes,P1\nb.png,LY,P2\n")
    crops = list_crops(path, SCHEME)
    assert [(crop.file, crop.patient) for crop in crops] == [("a.png", "P1"), ("b.png", "P2")]
    says(path, "1 row of the table repeats a file")
    for bad, what in (("a.png,LY,P1", "class"), ("a.png,MO,P9", "patient")):
        path.write_text(f"file,class,patient\na.png,MO,P1\n{bad}\n")
        with pytest.raises(
            InputError, match=rf"a.png has two entries for {what}, .* in row 1 and .* in row 2"
        ):
            list_crops(path, SCHEME)


def test_what_a_spreadsheet_may_have_changed_is_said(tmp_path: Path) -> None:
    path = tmp_path / "crops.csv"
    path.write_text(
        "file;class;patient;slide\na.png;MO;1,23E+11;05. Mrz\nb.png;LY;1,24E+11;3/4/2024\nc.png;EO;P3;Jan-05\n"
    )
    says(
        path,
        "patient '1,23E+11' (and 1 more) looks like a number",
        "slide '05. Mrz' (and 2 more) looks like a date",
    )
    path.write_text("file,class\na.png,0\nb.png,1\n")
    says(path, "the classes 0, 1 are numbers")
    path.write_text("file,class\na.png,#NV\n")
    with pytest.raises(InputError, match="row 1 has the error #NV"):
        list_crops(path, SCHEME)
    path.write_text("file,class\na,b.png,MO\n")
    with pytest.raises(InputError, match="row 1 has more cells"):
        list_crops(path, SCHEME)


def test_a_workbook(tmp_path: Path) -> None:
    path = book(
        tmp_path / "crops.xlsx",
        [
            ["Crops", None, None, None],
            [None],
            ["File", "Class", "Patient", "um_per_px", "Slide"],
            ["a.png", "Neutrophil", 7, 0.16, datetime.datetime(2024, 5, 1)],
            ["b.png", "LY", 123456789012345678, "0,2", "S1"],
            [None, None, None, None, None],
        ],
    )
    first, second = list_crops(path, SCHEME)
    assert (first.patient, first.um_per_px, second.um_per_px, first.slide) == (
        "7",
        0.16,
        0.2,
        "2024-05-01",
    )
    says(path, "more than 15 digits", "slide '2024-05-01' looks like a date", "are in row 3")
    made = openpyxl.load_workbook(path)
    made.create_sheet("Notes", 0).append(["nothing", "here"])
    made.save(path)
    says(path, "the sheet 'Tabelle1' is read")


def test_what_is_no_workbook_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "crops.xlsx"
    path.write_text("file,class\na.png,MO\n")
    with pytest.raises(InputError, match="cannot be read as a table") as caught:
        list_crops(path, SCHEME)
    assert "\n" not in str(caught.value)


def test_a_table_in_a_folder_without_class_folders(tmp_path: Path) -> None:
    save_image(tmp_path / "images" / "a.png")
    (tmp_path / "metadata.csv").write_text("file_name,label\nimages/a.png,MO\n")
    (tmp_path / "readme.txt").write_text("nothing")
    assert [crop.class_name for crop in list_crops(tmp_path, SCHEME)] == ["monocyte"]
    (tmp_path / "other.csv").write_text("file,class\nimages/a.png,LY\n")
    with pytest.raises(InputError, match="several tables"):
        list_crops(tmp_path, SCHEME)


def test_a_table_that_is_written_is_read_back(tmp_path: Path) -> None:
    for name in ("a.png", "m.png"):
        save_image(tmp_path / name)
    path = tmp_path / "crops.csv"
    path.write_text(
        "file,class,patient,slide,split,um_per_px,mask,glass,box,outline\n"
        'a.png,MO,=P1,S,train,0.1,,"[1, 2, null]","[2, 3, 20, 25]","[[2, 3, 20, 3, 20, 25]]"\n'
        "a.png,LY,,,test,,m.png,,,\n"
    )
    crops = list_crops(path, SCHEME)
    assert [crop.file for crop in crops] == ["a.png", "a.png#2-3-20-25"]
    again = list_crops(write_crop_table(crops, tmp_path / "elsewhere.csv"), SCHEME)
    for one, other in zip(crops, again, strict=True):
        assert (one.class_name, one.patient, one.split, one.um_per_px, one.box, one.outline, repr(one.glass)) == (
            other.class_name, other.patient, other.split, other.um_per_px, other.box, other.outline, repr(other.glass)
        )  # fmt: skip
        assert one.raw() == other.raw() and one.raw_mask() == other.raw_mask()
    for bad in ("[1,2,3]", "[5,5,5,9]", "x"):
        path.write_text(f'file,class,box\na.png,MO,"{bad}"\n')
        with pytest.raises(InputError, match="row 1: the box"):
            list_crops(path, SCHEME)
