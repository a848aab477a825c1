"""Folders of results that are whole or absent."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from napari_leukocls.errors import OutputError
from napari_leukocls.io.atomic import output_error

#: Hidden folders of a run that died are swept once they are this old, seconds.
_STALE = 3600.0


@contextmanager
def replacing_folder(target: Path) -> Iterator[Path]:
    """Give an empty hidden folder beside `target`; put it in the place of `target` at the end.

    Where the block raises, the hidden folder goes and an older `target` stays as it was.

    Raises
    ------
    OutputError
        For any `OSError` within the block, and where `target` is no result of an earlier analysis.
    """
    token = hashlib.sha256(os.fsencode(target.name)).hexdigest()[:12]
    hidden = target.with_name(f".leukocls-{token}-{secrets.token_hex(4)}.partial")
    try:
        _refuse_foreign(target)
        _sweep(target.parent, token)
        hidden.mkdir()
        yield hidden
        _sync_files(hidden)
        _swap(hidden, target)
    except OSError as error:
        raise output_error(target, error) from error
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def _refuse_foreign(target: Path) -> None:
    """Never replace a folder that holds somebody's own files."""
    if not target.exists() and not target.is_symlink():
        return
    ours = target.is_dir() and ((target / "run.json").is_file() or not any(target.iterdir()))
    if target.is_symlink() or not ours:
        raise OutputError(
            f"'{target}' exists and is no earlier result; move it or choose another output folder."
        )


def _sweep(parent: Path, token: str) -> None:
    """Remove what a run that died has left of this slide."""
    for old in parent.glob(f".leukocls-{token}-*"):
        if time.time() - old.stat().st_mtime > _STALE:
            shutil.rmtree(old, ignore_errors=True)


def _sync_files(folder: Path) -> None:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            descriptor = os.open(path, os.O_RDWR)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def _swap(hidden: Path, target: Path) -> None:
    """Rename `hidden` to `target`; an older `target` steps aside first and comes back if that fails."""
    if not target.exists():
        os.rename(hidden, target)
        return
    aside = hidden.with_suffix(".old")
    os.rename(target, aside)
    try:
        os.rename(hidden, target)
    except OSError:
        os.rename(aside, target)
        raise
    shutil.rmtree(aside, ignore_errors=True)
