"""What labelled data is, and its labels: the one place that decides which reader reads it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from napari_leukocls.datasets import annotation_xml, coco, outlines, yolo
from napari_leukocls.datasets.folders import read_folders
from napari_leukocls.datasets.marked import Labels, files_below, is_image
from napari_leukocls.datasets.public import read_public
from napari_leukocls.datasets.tables import is_table, read_table
from napari_leukocls.errors import InputError
from napari_leukocls.plurals import count_text, first_names
from napari_leukocls.scheme import Scheme

_JSON = frozenset({".json", ".geojson"})
_YAML = frozenset({".yaml", ".yml"})
#: What can be given, for messages.
GIVE = (
    "give a folder of class folders, a table with the columns file and class, or annotations of YOLO, COCO, "
    "Pascal VOC, LabelMe, CVAT or QuPath"
)
#: Files of one kind that are looked at to tell what a folder is.
_LOOKS = 5


def read_labels(path: Path, scheme: Scheme) -> Labels | Path:
    """Read the labels of a folder or file.

    Parameters
    ----------
    path : Path
        A folder, or a file of annotations. A table is not read here.
    scheme : Scheme

    Returns
    -------
    Labels or Path
        The path of a table, if the data is one.

    Raises
    ------
    InputError
        If it does not exist, cannot be read, or is none of labelled cells.
    """
    if path.is_file():
        return _file(path)
    if not path.is_dir():
        raise InputError(f"{path} does not exist: {GIVE}.")
    found = annotations_in(path) or read_public(path)
    if found is not None:
        return found
    folders = read_folders(path, scheme)
    if folders.rows and folders.sure:
        return folders
    tables = [one for one in sorted(path.iterdir()) if one.is_file() and is_table(one) and _has_labels(one)]
    if len(tables) > 1:
        raise InputError(
            f"{path} holds several tables ({tables[0].name}, {tables[1].name}): give one of them."
        )
    return tables[0] if tables else folders


def annotations_in(folder: Path) -> Labels | None:
    """Read the annotations of another program in a folder.

    Parameters
    ----------
    folder : Path

    Returns
    -------
    Labels or None
        None if it holds none.

    Raises
    ------
    InputError
        If it holds annotations of more than one program, or they cannot be read.
    """
    files = [path for path in files_below(folder) if not is_image(path)]
    json_files = sorted((path for path in files if path.suffix.lower() in _JSON), key=_likely)
    xml_files = [path for path in files if path.suffix.lower() == ".xml"]
    kinds: list[str] = []
    if yolo.yaml_of(folder) is not None or any(
        yolo.is_label_file(path) for path in _first(files, ".txt") if "ImageSets" not in path.parts
    ):
        kinds.append("YOLO")
    contents = [content for content in map(_content, json_files[:_LOOKS]) if content is not None]
    for name, test in (
        ("COCO", coco.is_coco),
        ("LabelMe", outlines.is_labelme),
        ("GeoJSON", outlines.is_geojson),
    ):
        if any(test(content) for content in contents):
            kinds.append(name)
    roots = [annotation_xml.root_of(path) for path in xml_files[:_LOOKS]]
    for name, is_kind in (("VOC", annotation_xml.is_voc), ("CVAT", annotation_xml.is_cvat)):
        if any(is_kind(root) for root in roots):
            kinds.append(name)
    if len(kinds) > 1:
        raise InputError(
            f"{folder} holds annotations of {' and of '.join(kinds)}: give the file, or the folder, of one of them."
        )
    return _read_kind(kinds[0], folder, json_files, xml_files) if kinds else None


def _likely(path: Path) -> tuple[bool, bool]:
    """Sort files that are likely annotations first."""
    words = ("annot", "coco", "instances", "labels")
    return path.suffix.lower() != ".geojson", not any(word in path.name.lower() for word in words)


def _read_kind(kind: str, folder: Path, json_files: list[Path], xml_files: list[Path]) -> Labels | None:
    if kind == "YOLO":
        labels = yolo.read_yolo(folder)
        # A classification set of YOLO has a data.yaml, and class folders.
        return labels if labels.rows else None
    if kind in ("VOC", "CVAT"):
        read, test = {
            "VOC": (annotation_xml.read_voc, annotation_xml.is_voc),
            "CVAT": (annotation_xml.read_cvat, annotation_xml.is_cvat),
        }[kind]
        roots = {path: annotation_xml.root_of(path) for path in xml_files}
        labels = read([path for path, root in roots.items() if test(root)], folder)
        return _with_broken(labels, [path.name for path, root in roots.items() if root is None])
    tests = {"COCO": coco.is_coco, "LabelMe": outlines.is_labelme, "GeoJSON": outlines.is_geojson}
    contents = [(path, _content(path)) for path in json_files]
    labels = _read_json(kind, [(path, content) for path, content in contents if tests[kind](content)], folder)
    return _with_broken(labels, [path.name for path, content in contents if content is None])


def _with_broken(labels: Labels, names: list[str]) -> Labels:
    """The labels with a note on files that cannot be read."""
    if not names:
        return labels
    n = count_text(len(names), "file of annotations is", "files of annotations are")
    return replace(labels, notes=(*labels.notes, f"{n} damaged and left out: {first_names(names)}."))


def _read_json(kind: str, files: list[tuple[Path, Any]], root: Path) -> Labels:
    readers = {"COCO": coco.read_coco, "LabelMe": outlines.read_labelme, "GeoJSON": outlines.read_geojson}
    return readers[kind](files, root)


def _file(path: Path) -> Labels | Path:
    """Read one file."""
    kind = path.suffix.lower()
    if kind in _YAML:
        return yolo.read_yolo(path)
    if kind == ".xml":
        top = annotation_xml.root_of(path)
        if annotation_xml.is_cvat(top):
            return annotation_xml.read_cvat([path], path.parent)
        if annotation_xml.is_voc(top):
            return annotation_xml.read_voc([path], path.parent)
        raise InputError(f"{path} is no annotation of Pascal VOC or CVAT: {GIVE}.")
    if kind in _JSON:
        content = coco.read_json(path)
        for name, test in (
            ("COCO", coco.is_coco),
            ("LabelMe", outlines.is_labelme),
            ("GeoJSON", outlines.is_geojson),
        ):
            if test(content):
                return _read_json(name, [(path, content)], path.parent)
        raise InputError(f"{path} is no annotation of COCO, LabelMe or QuPath: {GIVE}.")
    if is_image(path):
        raise InputError(f"{path} is an image without a label: {GIVE}.")
    return path


def _content(path: Path) -> Any:
    try:
        return coco.read_json(path)
    except InputError:
        return None


def _first(files: Iterable[Path], suffix: str) -> list[Path]:
    """The first files of a kind that are not empty."""
    found = [path for path in files if path.suffix.lower() == suffix and path.stat().st_size]
    return found[:_LOOKS]


def _has_labels(path: Path) -> bool:
    try:
        read_table(path)
    except InputError:
        return False
    return True
