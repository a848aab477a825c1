"""The laboratories of labelled leukocytes, their classes and slides, for training with some of them left out.

`scripts.pack_crops` packs the crops; this module joins them with their classes, subclasses and slides. A held-out
crop is never trained on, whatever its laboratory, and nothing of a laboratory in `CHECKS_ONLY` is.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from napari_leukocls.scheme import default_scheme
from scripts.packs import Pack, read_classes

CLASSES = (
    "basophil",
    "eosinophil",
    "erythroblast",
    "immature_granulocyte",
    "lymphocyte",
    "monocyte",
    "neutrophil",
    "platelet",
)
#: Finer classes that PBC's file names tell, and the class that each belongs to.
SUBCLASSES = {"SNE": 6, "BNE": 6, "MY": 3, "MMY": 3, "PMY": 3}
#: Packs by laboratory: one laboratory's cells may lie in two packs.
PACKS = {
    "pbc": ("pbc", "pbc_full"),
    "raabin": ("raabin",),
    "bccd": ("bccd",),
    "bcisc": ("bcisc",),
    "krd": ("krd",),
    "tecom": ("tecom",),
}
CHECKS_ONLY = ("tecom",)
#: The slide of BCISC that is never trained on.
HELDOUT_SLIDE = "3"


@dataclass(frozen=True)
class Cells:
    """Packed crops of one laboratory with what is known of each.

    Attributes
    ----------
    laboratory : str
    pack : Pack
    target : numpy.ndarray, (N,), int
        Index into `CLASSES`; -1 where the class is not known.
    subclass : numpy.ndarray, (N,), int
        Index into `SUBCLASSES`; -1 where it is not known.
    slide : numpy.ndarray, (N,), str
        Slide, or else the file: cells that belong together.
    """

    laboratory: str
    pack: Pack
    target: np.ndarray
    subclass: np.ndarray
    slide: np.ndarray

    @property
    def heldout(self) -> np.ndarray:
        """Mask (N,) of the cells that are never trained on."""
        out = self.pack.heldout.astype(bool)
        if self.laboratory == "bcisc":
            out = out | (self.slide == HELDOUT_SLIDE)
        return out if self.laboratory not in CHECKS_ONLY else np.ones_like(out)

    def rows(self, part: str) -> np.ndarray:
        """Return the rows with a class of ``train``, ``validation``, ``heldout`` or ``all``."""
        validation = self.pack.validation & ~self.heldout
        mask = {
            "train": ~self.heldout & ~validation,
            "validation": validation,
            "heldout": self.heldout,
            "all": np.ones(len(self.target), bool),
        }[part]
        return np.flatnonzero(mask & (self.target >= 0))


def read_cells(packs: Path, data: Path, laboratory: str, pack_name: str | None = None) -> Cells:
    """Read the packed crops of a laboratory, with classes, subclasses and slides."""
    name = pack_name or laboratory
    pack = Pack(packs, name, torch.device("cpu"))
    tables = {
        "raabin": Path(__file__).with_name("raabin_classes.csv"),
        "bccd": data / "bccd" / "subtypes.csv",
    }
    if name in tables:
        known = read_classes(tables[name])
        classes = [known.get(file, "") for file in pack.names]
    else:
        classes = pack.classes.tolist()
    resolve = default_scheme().resolve
    names = [resolve(one) if one else None for one in classes]
    target = np.array([CLASSES.index(one) if one in CLASSES else -1 for one in names])
    prefix = [file.split("_")[0] for file in pack.names]
    order = list(SUBCLASSES)
    fine = np.array([order.index(one) if one in order and laboratory == "pbc" else -1 for one in prefix])
    slide = pack.names.astype(object)
    if name == "bcisc":
        with (data / "bcisc" / "labels.csv").open(newline="") as stream:
            slides = {Path(row["file"]).name: row["slide"] for row in csv.DictReader(stream)}
        slide = np.array([slides[file] for file in pack.names], dtype=object)
    return Cells(laboratory, pack, target, fine, slide)
