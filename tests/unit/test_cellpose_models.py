"""Cellpose's own networks: found where the user put them, never fetched, and wrong files met with a line."""

from __future__ import annotations

import socket

import pytest
import torch

from napari_leukocls.errors import ModelError
from napari_leukocls.segmentation.base import CELLPOSE_NAMES
from napari_leukocls.segmentation.registry import segmenter


@pytest.fixture
def reached_for(monkeypatch) -> list[object]:
    """What was asked of the network."""
    asked: list[object] = []

    def refuse(*args: object, **kwargs: object) -> None:
        asked.append(args)
        raise OSError("no network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return asked


@pytest.mark.parametrize("name", CELLPOSE_NAMES)
def test_a_named_network_that_is_not_there_is_not_fetched(name, tmp_path, monkeypatch, reached_for):
    import cellpose.models

    monkeypatch.setattr(cellpose.models, "MODEL_DIR", tmp_path)
    with pytest.raises(ModelError, match="is not on this computer") as caught:
        segmenter(name, "cpu")
    assert str(tmp_path / name) in str(caught.value)
    assert "--segmenter compact" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert reached_for == []
    assert list(tmp_path.iterdir()) == []


class _Harmful:
    def __reduce__(self):
        return (open, ("harmed", "w"))


def _text(path):
    path.write_text("no network")


def _empty(path):
    path.write_bytes(b"")


def _cellpose_3(path):
    torch.save({"downsample.down.res_down_0.conv.conv_0.1.weight": torch.zeros(32, 2, 3, 3)}, path)


def _old_format(path):
    torch.save({"W2": torch.zeros(1)}, path, _use_new_zipfile_serialization=False)


def _pickle(path):
    torch.save({"W2": _Harmful()}, path)


@pytest.mark.parametrize("make", [_text, _empty, _cellpose_3, _old_format, _pickle])
def test_a_wrong_file_is_met_with_one_line_before_any_image(make, tmp_path, monkeypatch, reached_for):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "network"
    make(file)
    with pytest.raises(ModelError, match="no network that cellpose 4 can read") as caught:
        segmenter(str(file), "cpu")
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert reached_for == []
    assert not (tmp_path / "harmed").exists()


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("compcat", "compact"),
        ("cpsam_v3", "cpsam_v2"),
        ("treshold", "threshold"),
        ("cpdino-vit", "cpdino-vitb"),
    ],
)
def test_an_unknown_name_brings_the_nearest(name, near):
    with pytest.raises(ModelError, match=f"did you mean {near}"):
        segmenter(name, "cpu")


def test_a_name_like_nothing_brings_all_names():
    with pytest.raises(ModelError, match="use one of compact, threshold, cpsam_v2") as caught:
        segmenter("/nowhere/x.pt", "cpu")
    assert "path of a cellpose model" in str(caught.value)
