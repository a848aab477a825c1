"""Folders of results that are whole or absent."""

from __future__ import annotations

import errno
import hashlib
import os
import platform
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

from napari_leukocls.errors import PlaceTaken
from napari_leukocls.io.atomic import output_error, sync_folder

#: Hidden folders of a run that died on another machine are swept once they are this old, seconds.
_STALE = 3600.0
_TURNS = 10


@contextmanager
def replacing_folder(target: Path, mark: str = "run.json") -> Iterator[Path]:
    """Give an empty hidden folder beside `target`; put it in the place of `target` at the end.

    Where the block raises, the hidden folder goes and an older `target` stays as it was.

    Parameters
    ----------
    target : Path
    mark : str
        The file by which an older `target` is known to be of the same kind, and so to be replaced.

    Raises
    ------
    OutputError
        For any `OSError` within the block, and where `target` is no result of an earlier analysis.
    """
    token = hashlib.sha256(os.fsencode(target.name)).hexdigest()[:12]
    hidden = target.with_name(f".leukocls-{token}-{_me()}-{secrets.token_hex(4)}.partial")
    try:
        _refuse_foreign(target, mark)
        _sweep(target.parent, token)
        hidden.mkdir()
        yield hidden
        _sync_files(hidden)
        sync_folder(hidden)
        _swap(hidden, target)
        sync_folder(target.parent)
    except OSError as error:
        raise output_error(target, error) from error
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def _refuse_foreign(target: Path, mark: str) -> None:
    """Never replace a folder that holds somebody's own files."""
    try:
        names = None if target.is_symlink() else os.listdir(target)
    except FileNotFoundError:
        return
    except NotADirectoryError:
        names = None
    if names is None or (names and mark not in names):
        raise PlaceTaken(
            f"'{target}' exists and is nothing that was written here before; "
            "move it or choose another output folder."
        )


def sweep(parent: Path) -> None:
    """Remove what runs that died have left hidden in a folder."""
    for old in parent.glob(".leukocls-*"):
        if old.is_dir():
            _sweep_one(old)
        elif _age(old) > _STALE:
            old.unlink(missing_ok=True)


def _sweep(parent: Path, token: str) -> None:
    """Remove what runs that died have left of this target."""
    for old in parent.glob(f".leukocls-{token}-*"):
        _sweep_one(old)


def _sweep_one(folder: Path) -> None:
    if _is_of_the_dead(folder.name) or _age(folder) > _STALE:
        shutil.rmtree(folder, ignore_errors=True)


def _age(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        # Another run swept it.
        return 0.0


@lru_cache(maxsize=1)
def _machine() -> str:
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]


def _me() -> str:
    """This process, in the name of what it writes: others can tell when it is gone."""
    return f"{_machine()}-{os.getpid()}"


def _is_of_the_dead(name: str) -> bool:
    """Whether a hidden folder's name is that of a process of this machine that is gone."""
    parts = name.split("-")
    if os.name == "nt" or len(parts) != 5 or parts[2] != _machine() or not parts[3].isdigit():
        return False
    try:
        os.kill(int(parts[3]), 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        return False
    return False


def _sync_files(folder: Path) -> None:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            descriptor = os.open(path, os.O_RDWR)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def _swap(hidden: Path, target: Path) -> None:
    """Rename `hidden` to `target`; an older `target` steps aside first and comes back if that fails.

    Two processes that finish the same at once (a slide that a cluster gave to a second worker) take turns.
    """
    for turn in range(_TURNS):
        try:
            os.rename(hidden, target)
            return
        except OSError as error:
            there = error.errno in (errno.ENOTEMPTY, errno.EEXIST) or (os.name == "nt" and target.exists())
            if not there or turn == _TURNS - 1:
                raise
        aside = hidden.with_suffix(f".{turn}.old")
        try:
            os.rename(target, aside)
        except FileNotFoundError:
            continue
        try:
            os.rename(hidden, target)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                shutil.rmtree(aside, ignore_errors=True)
                continue
            os.rename(aside, target)
            raise
        shutil.rmtree(aside, ignore_errors=True)
        return
