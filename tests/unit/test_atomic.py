"""Files are whole or absent, and what went wrong is said in words."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from napari_leukocls.errors import OutputError
from napari_leukocls.io.atomic import atomic_bytes, atomic_path, atomic_text, atomic_write, make_folder


def test_the_file_appears_at_the_end_alone(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    with atomic_write(file, "w") as stream:
        stream.write("ä,b\n")
        assert not file.exists()
    assert file.read_bytes() == "ä,b\n".encode()
    assert os.listdir(tmp_path) == ["a.csv"]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    atomic_text(tmp_path / "a.txt", "old")
    with pytest.raises(KeyError), atomic_write(tmp_path / "a.txt", "w") as stream:
        stream.write("half")
        raise KeyError("x")
    assert (tmp_path / "a.txt").read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "the disk is full; free some space"),
        (errno.EACCES, "permission denied; choose an output folder"),
        (errno.EROFS, "the disk is read-only"),
        (errno.EBADMSG, "choose another output folder"),
    ],
)
def test_a_failing_disk_is_said_in_words(tmp_path: Path, number: int, words: str) -> None:
    atomic_bytes(tmp_path / "a.bin", b"old")
    with pytest.raises(OutputError, match=words), atomic_write(tmp_path / "a.bin") as stream:
        stream.write(b"half")
        raise OSError(number, os.strerror(number))
    assert (tmp_path / "a.bin").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.bin"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full, a device that is always full")
def test_a_full_disk_is_found_when_buffers_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_leukocls.io import atomic

    monkeypatch.setattr(
        atomic, "_create", lambda path: (os.symlink("/dev/full", path), os.open("/dev/null", 0))[1]
    )
    with pytest.raises(OutputError, match="the disk is full"):
        atomic_bytes(tmp_path / "a.bin", b"x" * 100_000)
    assert os.listdir(tmp_path) == []


def test_a_folder_that_is_missing_or_a_file(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="the folder does not exist; create it first"):
        atomic_text(tmp_path / "nix" / "a.txt", "")
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="a part of the path is a file"):
        make_folder(tmp_path / "file" / "deeper")
    with pytest.raises(OutputError, match="a file of that name is in the way"):
        make_folder(tmp_path / "file")


def test_a_folder_is_made_with_its_parents_and_left_empty(tmp_path: Path) -> None:
    made = make_folder(tmp_path / "a" / "b")
    assert made.is_dir() and os.listdir(made) == []
    assert make_folder(made) == made


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
def test_files_have_the_permissions_that_the_umask_gives(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        atomic_text(tmp_path / "a.txt", "")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o640


def test_writers_that_want_a_path_get_one_with_the_suffix(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "a.png") as path:
        assert path.suffix == ".png" and path.parent == tmp_path
        path.write_bytes(b"x")
    assert (tmp_path / "a.png").read_bytes() == b"x"


def test_a_long_name_is_no_longer_on_the_way(tmp_path: Path) -> None:
    name = "n" * 250 + ".csv"
    atomic_text(tmp_path / name, "x")
    assert os.listdir(tmp_path) == [name]
