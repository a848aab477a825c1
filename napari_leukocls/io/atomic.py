"""Files and folders that are whole or absent: written under a temporary name, and renamed at the end."""

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

#: A hidden file or folder of another machine counts as left by an interrupted run at this age, seconds.
_STALE_S = 3600.0
#: How often a rename is tried while another process renames the same folder.
_ATTEMPTS = 10


def output_error(path: str | os.PathLike[str], error: OSError) -> OutputError:
    """An operating-system error on writing, as one line with advice.

    Parameters
    ----------
    path : path-like
        The file or folder that could not be written.
    error : OSError

    Returns
    -------
    OutputError
        To be raised by the caller.
    """
    words = _ADVICE.get(error.errno or 0, f"{error.strerror or error}; choose another output folder")
    return OutputError(f"cannot write '{os.fspath(path)}': {words}.")


def make_folder(path: str | os.PathLike[str]) -> Path:
    """Create a folder with its parents, and check that files can be written to it.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    Path

    Raises
    ------
    OutputError
        If the folder cannot be created or written to.
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
    """Yield a temporary path beside `path`, and rename it to `path` at the end of the block.

    For writers that open files by themselves. If the block raises an error, the temporary file is removed
    and an older file stays as it was.

    Parameters
    ----------
    path : path-like
        Name of the finished file; its folder must exist. The temporary file has the same suffix.

    Yields
    ------
    Path
        Where the block writes.

    Raises
    ------
    OutputError
        For any `OSError` within the block, such as a full disk or a missing permission.
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
    """Open a file that appears under its name only when it is whole.

    Parameters
    ----------
    path : path-like
        Name of the finished file; its folder must exist.
    mode : {"wb", "w"}
        Text is written with its line ends as given, so that the bytes are the same on all systems.
    encoding : str, optional
        Of text; UTF-8 by default.

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
    """Write bytes as a whole file.

    Parameters
    ----------
    path : path-like
        Its folder must exist.
    data : bytes

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    with atomic_write(path) as file:
        file.write(data)


def atomic_text(path: str | os.PathLike[str], text: str, encoding: str = "utf-8") -> None:
    """Write text as a whole file.

    Parameters
    ----------
    path : path-like
        Its folder must exist.
    text : str
        Line ends stay as they are.
    encoding : str

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    with atomic_write(path, "w", encoding=encoding) as file:
        file.write(text)


def _temporary(target: Path) -> Path:
    """A hidden name of fixed length beside the target, so that a long name does not become too long."""
    return target.with_name(f".leukocls-{secrets.token_hex(8)}{target.suffix[:16]}")


def _create(path: Path) -> int:
    """Create a file that must not exist yet, with the permissions of the user's umask; its descriptor."""
    return os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)


def _sync(path: Path) -> None:
    """Write a file's bytes to the disk."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Write the names in a folder to the disk, so that a rename survives a power cut (not on Windows).

    Parameters
    ----------
    folder : Path

    Raises
    ------
    OSError
        If the folder cannot be opened, or the disk reports an error.
    """
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network disks cannot sync a folder; the file itself is on the disk by now.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


@contextmanager
def replacing_folder(target: Path, mark: str = "run.json") -> Iterator[Path]:
    """Yield an empty hidden folder beside `target`, which replaces `target` at the end of the block.

    If the block raises an error, the hidden folder is removed and an older `target` stays as it was.

    Parameters
    ----------
    target : Path
    mark : str
        Name of a file that every folder of this kind holds. An older `target` is replaced only if it has
        this file or is empty.

    Yields
    ------
    Path
        The hidden folder, to write into.

    Raises
    ------
    OutputError
        For any `OSError` within the block, and if `target` holds other files (`PlaceTaken`).
    """
    token = hashlib.sha256(os.fsencode(target.name)).hexdigest()[:12]
    hidden = target.with_name(f".leukocls-{token}-{_process_name()}-{secrets.token_hex(4)}.partial")
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
    """Refuse to replace a folder that holds other files."""
    try:
        names = None if target.is_symlink() else os.listdir(target)
    except FileNotFoundError:
        return
    except NotADirectoryError:
        names = None
    if names is None or (names and mark not in names):
        raise PlaceTaken(
            f"'{target}' exists and does not hold earlier results; move it or choose another output folder."
        )


def sweep(parent: Path) -> None:
    """Remove the hidden files and folders that interrupted runs left in a folder.

    Parameters
    ----------
    parent : Path
    """
    for old in parent.glob(".leukocls-*"):
        if old.is_dir():
            _sweep_one(old)
        elif _age(old) > _STALE_S:
            old.unlink(missing_ok=True)


def _sweep(parent: Path, token: str) -> None:
    """Remove what interrupted runs left of this target."""
    for old in parent.glob(f".leukocls-{token}-*"):
        _sweep_one(old)


def _sweep_one(folder: Path) -> None:
    if _process_has_ended(folder.name) or _age(folder) > _STALE_S:
        shutil.rmtree(folder, ignore_errors=True)


def _age(path: Path) -> float:
    """Seconds since a file or folder was changed; 0 if it is gone."""
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        # Another run has removed it.
        return 0.0


@lru_cache(maxsize=1)
def _machine() -> str:
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]


def _process_name() -> str:
    """Names this machine and process, so that another process can find out that it has ended."""
    return f"{_machine()}-{os.getpid()}"


def _process_has_ended(name: str) -> bool:
    """Whether a hidden folder is named for a process of this machine that has ended."""
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
            _sync(path)


def _swap(hidden: Path, target: Path) -> None:
    """Rename `hidden` to `target`; an older `target` is renamed first, and renamed back if that fails.

    Another process may finish the same folder at once (a cluster can give a slide to a second worker): then
    the renaming is tried again.
    """
    for attempt in range(_ATTEMPTS):
        try:
            os.rename(hidden, target)
            return
        except OSError as error:
            exists = error.errno in (errno.ENOTEMPTY, errno.EEXIST) or (os.name == "nt" and target.exists())
            if not exists or attempt == _ATTEMPTS - 1:
                raise
        aside = hidden.with_suffix(f".{attempt}.old")
        try:
            os.rename(target, aside)
        except FileNotFoundError:
            continue  # another program has moved it away meanwhile
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
