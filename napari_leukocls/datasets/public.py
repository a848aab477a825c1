"""Public data sets whose layout says more than class folders do: patients in file names, codes of classes, masks.

Sets that are plain class folders (PBC, Kaggle's sets of blood cells, BioMediTech) need nothing of this.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from pathlib import Path

from napari_leukocls.datasets.marked import Labels, Marked, files_below, is_image
from napari_leukocls.errors import InputError
from napari_leukocls.plurals import count_text

#: C-NMC 2019: subject (H for healthy), image, cell, and the class.
_CNMC = re.compile(r"UID_(H?\d+)_\d+_\d+_(all|hem)", re.IGNORECASE)
#: Columns of C-NMC's table of its preliminary test.
_CNMC_TABLE = {"patient_id", "new_names", "labels"}
#: Classes of bone-marrow cells (Matek et al. 2021, Blood 138, 1917-1927) by the codes that name their folders. With
#: these words the scheme does not take two of them for one class, as it would with proerythroblast and erythroblast.
MARROW = {
    "ABE": "dysplastic eosinophil",
    "ART": "artefact",
    "BAS": "basophil",
    "BLA": "blast",
    "EBO": "erythroblast",
    "EOS": "eosinophil",
    "FGC": "faggot cell",
    "HAC": "hairy cell",
    "KSC": "smudge cell",
    "LYI": "immature lymphocyte",
    "LYT": "lymphocyte",
    "MMZ": "metamyelocyte",
    "MON": "monocyte",
    "MYB": "myelocyte",
    "NGB": "band neutrophil",
    "NGS": "segmented neutrophil",
    "NIF": "unidentifiable",
    "OTH": "other cell",
    "PEB": "pronormoblast",
    "PLM": "plasma cell",
    "PMO": "promyelocyte",
}
#: Patterns of HEp-2 cells (ICPR 2014).
HEP2 = ("homogeneous", "speckled", "nucleolar", "centromere", "numem", "golgi")
#: Fewest images, as a share of all, that must have the names of a set.
_MOST = 0.9


def read_public(folder: Path) -> Labels | None:
    """Read a public data set, if a folder is one.

    Parameters
    ----------
    folder : Path

    Returns
    -------
    Labels or None
        None if it is none of those that are known here.
    """
    files = list(files_below(folder))
    images = [path for path in files if is_image(path)]
    readers: tuple[Callable[[Path, list[Path], list[Path]], Labels | None], ...] = (
        _cnmc,
        _marrow,
        _stages,
        _hep2,
    )
    found = (reader(folder, images, files) for reader in readers) if images else iter(())
    return next((labels for labels in found if labels is not None), None)


def _cnmc(folder: Path, images: list[Path], files: list[Path]) -> Labels | None:
    """C-NMC 2019: the training data with the patients in the names; its preliminary test by its table."""
    named = [(path, match) for path in images if (match := _CNMC.match(path.stem))]
    if named and len(named) >= _MOST * len([path for path in images if not path.stem.isdecimal()]):
        rows = [
            Marked(_relative(path, folder), path, match[2].lower(), group=match[1].upper())
            for path, match in named
        ]
        left = len(images) - len(named)
        notes = ["patients are taken from the names of the files (C-NMC 2019)."]
        if left:
            n = count_text(left, "image")
            notes.append(
                f"{n} of the test phases {'is' if left == 1 else 'are'} left out: give their folder."
            )
        return Labels("C-NMC 2019", tuple(rows), tuple(notes))
    table = next((path for path in files if path.suffix.lower() == ".csv" and _is_cnmc_table(path)), None)
    return None if table is None else _cnmc_test(folder, images, table)


def _is_cnmc_table(path: Path) -> bool:
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            return {name.strip().lower() for name in next(csv.reader(file), [])} >= _CNMC_TABLE
    except (OSError, UnicodeDecodeError, csv.Error):
        return False


def _cnmc_test(folder: Path, images: list[Path], table: Path) -> Labels:
    by_name = {path.name.casefold(): path for path in images}
    rows, missing = [], 0
    with open(table, encoding="utf-8-sig", newline="") as file:
        for raw in csv.DictReader(file):
            row = {key.strip().lower(): (value or "").strip() for key, value in raw.items() if key}
            match = _CNMC.match(row["patient_id"])
            if row["labels"] not in ("0", "1") or match is None:
                raise InputError(f"{table}: the row of {row['new_names']} is not one of C-NMC's: correct it.")
            path = by_name.get(row["new_names"].casefold())
            missing += path is None
            if path is not None:
                name = "all" if row["labels"] == "1" else "hem"
                rows.append(Marked(_relative(path, folder), path, name, group=match[1].upper()))
    lost = [f"{count_text(missing, 'image')} of the table {'is' if missing == 1 else 'are'} missing."]
    notes = ["classes and patients are taken from the table (C-NMC 2019).", *(lost if missing else [])]
    return Labels("C-NMC 2019, preliminary test", tuple(rows), tuple(notes))


def _marrow(folder: Path, images: list[Path], files: list[Path]) -> Labels | None:
    """Bone-marrow cells of Munich: folders of codes, each with folders of a thousand images."""
    coded = []
    for path in images:
        parts = path.relative_to(folder).parts[:-1]
        code = next((part.upper() for part in parts if part.upper() in MARROW), "")
        coded.append((path, code))
    codes = {code for _, code in coded if code}
    by_file = all(path.name.upper().startswith(f"{code}_") for path, code in coded if code)
    if len(codes) < 2 or not by_file or sum(bool(code) for _, code in coded) < _MOST * len(coded):
        return None
    rows = [Marked(_relative(path, folder), path, MARROW[code]) for path, code in coded if code]
    note = "codes of folders are read as classes of bone-marrow cells; the set names no patients."
    return Labels("bone-marrow cells (Munich)", tuple(rows), (note,))


def _stages(folder: Path, images: list[Path], files: list[Path]) -> Labels | None:
    """Four stages of ALL: the same pictures as they are, and segmented; only the first are taken."""
    kinds = {"original", "segmented"}
    names = {path.name.casefold(): path for path in folder.iterdir() if path.is_dir()}
    if not kinds <= set(names):
        return None
    inside = [path for path in images if path.is_relative_to(names["original"])]
    classes = {path.parent.name for path in inside}
    if not {name.casefold() for name in classes} <= {"benign", "early", "pre", "pro"} or len(classes) < 2:
        return None
    rows = [Marked(_relative(path, folder), path, path.parent.name) for path in inside]
    left = len(images) - len(inside)
    note = f"{count_text(left, 'segmented image')} of the same cells {'is' if left == 1 else 'are'} left out."
    return Labels("four stages of ALL", tuple(rows), (note,))


def _hep2(folder: Path, images: list[Path], files: list[Path]) -> Labels | None:
    """HEp-2 cells of ICPR 2014: numbered images with masks, and a table of their patterns."""
    table = next(
        (path for path in files if path.suffix.lower() == ".csv" and "gt" in path.stem.lower()), None
    )
    numbered = {int(path.stem): path for path in images if path.stem.isdecimal()}
    if table is None or not numbered:
        return None
    rows = []
    try:
        with open(table, encoding="utf-8-sig", newline="") as file:
            for row in csv.reader(file):
                if len(row) >= 2 and row[0].strip().isdecimal() and row[1].strip().lower() in HEP2:
                    path = numbered.get(int(row[0]))
                    if path is not None:
                        rows.append(Marked(_relative(path, folder), path, row[1].strip().lower()))
    except (OSError, UnicodeDecodeError, csv.Error):
        return None
    if len(rows) < _MOST * len(numbered):
        return None
    note = "patterns are taken from the table; the specimens of the cells are not named in it."
    return Labels("HEp-2 cells (ICPR 2014)", tuple(rows), (note,))


def _relative(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()
