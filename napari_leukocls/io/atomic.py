"""Files and folders that are whole or absent."""

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
from typing import IO, Any

from napari_leukocls.errors import OutputError, PlaceTaken

_ADVICE = {
    errno.ENOSPC: "the disk is full; free some space or choose another output folder",
    errno.EACCES: "permission denied; choose an output folder that you may write to",
    errno.EPERM: "permission denied; choose an output folder that you may write to",
    errno.EROFS: "the disk is read-only; choose another output folder",
    errno.ENOENT: "the folder does not exist; create it first",
    errno.ENOTDIR: "a part of the path is a file, not a folder; choose another output folder",
    errno.EEXIST: "a file of that name is in the way; choose another output folder",
    errno.EISDIR: "a folder of that name is in the way; choose another output folder",
    errno.ENAMETOOLONG: "the name is too long; rename the image or choose a shorter output folder",
    errno.EFBIG: "the file is too large for this disk; choose another output folder",
    errno.EIO: "the disk reports an error; check it or choose another output folder",
}

# EDQUOT is missing on some platforms.
_ADVICE[getattr(errno, "EDQUOT", errno.ENOSPC)] = _ADVICE[errno.ENOSPC]


def output_error(path: str | os.PathLike[str], error: OSError) -> OutputError:
    """Say an operating-system error on writing `path` in words, with what to do."""
    words = _ADVICE.get(error.errno or 0, f"{error.strerror or error}; choose another output folder")
    return OutputError(f"cannot write '{os.fspath(path)}': {words}.")


def make_folder(path: str | os.PathLike[str]) -> Path:
    """Create a folder and its parents, and make sure that it can be written to.

    Raises
    ------
    OutputError
        Where it cannot be created or written to.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = _temporary(folder / "probe")
        os.close(_create(probe))
        probe.unlink()
    except OSError as error:
        raise output_error(folder, error) from error
    return folder


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path in the same folder, with the same suffix; rename it to `path` at the end.

    For writers that open files by themselves. Where the block raises, nothing is left behind and an
    older file stays as it was.

    Raises
    ------
    OutputError
        For any `OSError` within the block: the disk is full, no permission, and so on.
    """
    target = Path(path)
    temporary = _temporary(target)
    try:
        os.close(_create(temporary))
        yield temporary
        _sync(temporary)
        os.replace(temporary, target)
        sync_folder(target.parent)
    except OSError as error:
        raise output_error(target, error) from error
    finally:
        # After the rename there is nothing to remove.
        if temporary.exists():
            temporary.unlink()


@contextmanager
def atomic_write(
    path: str | os.PathLike[str], mode: str = "wb", encoding: str | None = None
) -> Iterator[IO[Any]]:
    """Open a file for writing that appears under its name only when it is whole.

    Parameters
    ----------
    path : path-like
        Where the file shall be; its folder must exist.
    mode : {"wb", "w"}
        Text is UTF-8 with line ends as given (no translation), so that the bytes are the same everywhere.
    encoding : str, optional
        Another encoding than UTF-8.

    Yields
    ------
    file
        Open for writing.

    Raises
    ------
    OutputError
        For any `OSError` within the block.
    """
    if mode not in ("wb", "w"):
        raise ValueError(f"mode must be 'wb' or 'w', not {mode!r}")
    text = mode == "w"
    with atomic_path(path) as temporary:
        file = open(
            temporary, mode, encoding=(encoding or "utf-8") if text else None, newline="" if text else None
        )
        with file:
            yield file


def atomic_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write bytes as a whole file; see `atomic_write`."""
    with atomic_write(path) as file:
        file.write(data)


def atomic_text(path: str | os.PathLike[str], text: str, encoding: str = "utf-8") -> None:
    """Write text as a whole file; see `atomic_write`."""
    with atomic_write(path, "w", encoding=encoding) as file:
        file.write(text)


def _temporary(target: Path) -> Path:
    """A hidden name of fixed length beside the target: a long name cannot become too long by it."""
    return target.with_name(f".leukocls-{secrets.token_hex(8)}{target.suffix[:16]}")


def _create(path: Path) -> int:
    """Create a file that must not exist yet, with the permissions that the user's umask gives."""
    return os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Make the rename itself last through a power cut, where the system can (not on Windows)."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network folders cannot sync a folder; the file itself is safe by then.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


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
    """Machine and process, for the names of hidden files: another process can find out whether it still runs."""
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
