"""The receipt by which a finished slide is recognised, so that it is not analysed again.

The receipt is in the slide's own ``run.json``, which appears together with the rest of the folder. There is no separate
list that could disagree with the folders.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from napari_leukocls.batch.job import Job, SlideDone, success
from napari_leukocls.classification import fine
from napari_leukocls.config import AnalyzeConfig
from napari_leukocls.io.serialise import json_text, sha256_of, to_plain
from napari_leukocls.measurement.fine import FINE
from napari_leukocls.models.registry import CARD_NAME, WEIGHTS_NAME, active_classifier, find_model
from napari_leukocls.segmentation.registry import COMPACT, THRESHOLD, foreign_weights

RUN_FILE = "run.json"

_KEY = "receipt"


def content_hash(fields: Sequence[Path]) -> str:
    """Hash the bytes of the fields of a slide, in order.

    Parameters
    ----------
    fields : sequence of Path
        Files, or folders (OME-Zarr), whose files are hashed with their names.

    Returns
    -------
    str
        SHA-256.

    Raises
    ------
    OSError, ValueError
        If a file cannot be read.
    """
    total = hashlib.sha256()
    for field in fields:
        for name, path in _files_of(field):
            if not path.is_file():
                raise OSError(f"{path} is no file")
            digest = bytes.fromhex(sha256_of(path))
            total.update(name.encode("utf-8", "surrogatepass") + b"\0" + digest)
    return total.hexdigest()


def _files_of(field: Path) -> Iterator[tuple[str, Path]]:
    """A file under no name, the files of a folder under theirs; a slide's companion folder belongs to it."""
    if not field.is_dir():
        yield "", field
        # MIRAX keeps its pixels in a folder beside the file.
        field = field.with_suffix("") if field.suffix.lower() == ".mrxs" else field
    if field.is_dir():
        for path in sorted(field.rglob("*")):
            if path.is_file():
                yield path.relative_to(field).as_posix(), path


def model_hashes(config: AnalyzeConfig) -> dict[str, str | None]:
    """Hash the models that a configuration names, without loading them.

    Parameters
    ----------
    config : AnalyzeConfig

    Returns
    -------
    dict of str to str or None
        SHA-256 by role: ``segmenter``, ``ruler``, ``classifier``, and ``fine`` at that depth.

    Raises
    ------
    ModelError
        If one is missing.
    """
    ruler = _hash_of(find_model(COMPACT).path)
    segmenter = {COMPACT: ruler, THRESHOLD: None}.get(config.segmenter, "")
    if segmenter == "":
        segmenter = _foreign_segmenter(config.segmenter)
    classifier = find_model(config.classifier or active_classifier())
    found = {"segmenter": segmenter, "ruler": ruler, "classifier": _hash_of(classifier.path)}
    if config.depth == FINE:
        found["fine"] = _hash_of(classifier.path, (fine.CARD_NAME, fine.WEIGHTS_NAME))
    return found


def _foreign_segmenter(name: str) -> str | None:
    path = foreign_weights(name)
    # If there is no such file, loading the segmenter raises an error with advice.
    return _hash_of(path) if path.is_file() else None


def _hash_of(path: Path, names: Sequence[str] = (CARD_NAME, WEIGHTS_NAME)) -> str:
    """Of a file, or of the card and the weights in a model's folder; files that are missing are left out."""
    files = [path] if path.is_file() else [path / name for name in names]
    total = hashlib.sha256()
    for file in files:
        if file.is_file():
            total.update(bytes.fromhex(sha256_of(file)))
    return total.hexdigest()


def job_key(job: Job, content: str) -> str:
    """Hash all that the result depends on: pixels, settings, models, version, sample, rules and the slide's name.

    Parameters
    ----------
    job : Job
    content : str
        As `content_hash` gives it.

    Returns
    -------
    str
        SHA-256.
    """
    facts = {
        "content": content,
        "fields": [field.name for field in job.slide.fields],
        "slide_id": job.slide.slide_id,
        "settings": job.config.model_dump(mode="json"),
        "models": dict(job.models),
        "version": job.version,
        "sample": None if job.sample is None else asdict(job.sample),
        "rules": job.rules,
    }
    return sha256_of(json.dumps(facts, sort_keys=True).encode())


def finished(job: Job, content: str, seconds: float = 0.0) -> SlideDone | None:
    """Find the result of an earlier run, if its files are there and nothing has changed since.

    Parameters
    ----------
    job : Job
    content : str
        As `content_hash` gives it.
    seconds : float

    Returns
    -------
    SlideDone or None
    """
    folder = job.out_dir / job.slide.slide_id
    try:
        run = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))
        receipt: Mapping[str, Any] = run[_KEY]
        whole = receipt["key"] == job_key(job, content) and all(
            (folder / name).exists() for name in receipt["files"]
        )
        row = {**receipt["row"], "source": job.slide.source}
        warnings = tuple(dict.fromkeys([*run["warnings"], *job.notes]))
        return success(row, warnings, seconds, resumed=True) if whole else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        # Without a readable receipt the slide is analysed again.
        return None


def add_receipt(folder: Path, job: Job, content: str, row: Mapping[str, Any]) -> None:
    """Add the receipt to the ``run.json`` of a slide's folder that is being filled.

    Parameters
    ----------
    folder : Path
    job : Job
    content : str
        As `content_hash` gives it.
    row : mapping
        The slide's row of ``summary.csv``.
    """
    file = folder / RUN_FILE
    run = json.loads(file.read_text(encoding="utf-8"))
    run[_KEY] = {
        "key": job_key(job, content),
        "content_sha256": content,
        "files": sorted(path.name for path in folder.iterdir()),
        "row": to_plain(row),
    }
    file.write_text(json_text(run, sort_keys=True), encoding="utf-8", newline="\n")
