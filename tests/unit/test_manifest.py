"""The manifest of the plugin: everything that it names is there and works."""

from __future__ import annotations

import hashlib
import http.server
import threading
import xml.etree.ElementTree
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from napari_leukocls import _sample_data, _writer
from napari_leukocls.errors import InputError
from napari_leukocls.io import download

MANIFEST = Path(_writer.__file__).with_name("napari.yaml")


@pytest.fixture(scope="module")
def manifest() -> Any:
    from npe2 import PluginManifest

    return PluginManifest.from_file(MANIFEST)


def test_every_command_can_be_imported(manifest: Any) -> None:
    from npe2._command_registry import CommandHandler

    for command in manifest.contributions.commands:
        assert callable(CommandHandler(command.id, python_name=command.python_name).resolve()), command.id


def test_everything_that_is_contributed_is_a_command(manifest: Any) -> None:
    found = manifest.contributions
    commands = {command.id for command in found.commands}
    used = {one.command for one in (*found.readers, *found.writers, *found.widgets, *found.sample_data)}
    used |= {item.command for items in found.menus.values() for item in items}
    assert used == commands
    # What older versions of npe2 forbid.
    text = MANIFEST.read_text(encoding="utf-8")
    assert "default_dock_area" not in text and "tabify" not in text


def test_the_icon_is_a_picture_in_the_package(manifest: Any) -> None:
    package, _, name = manifest.icon.partition(":")
    assert package == "napari_leukocls"
    root = xml.etree.ElementTree.parse(MANIFEST.with_name(name)).getroot()
    assert root.tag.endswith("svg")


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A server on this machine whose files lie in the returned folder."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, directory=str(folder), **options)

        def log_message(self, *_: Any) -> None:
            """Keep the tests' output clean."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        monkeypatch.setenv(download.BASE_URL_VARIABLE, f"http://127.0.0.1:{running.server_port}")
        yield folder
        running.shutdown()
        thread.join()


@pytest.fixture
def smear(monkeypatch: pytest.MonkeyPatch) -> bytes:
    """A picture that stands for the real one, with its checksum."""
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.full((64, 80, 3), 200, np.uint8)).save(buffer, "PNG")
    data = buffer.getvalue()
    known = download.OpenSmear("field.png", hashlib.sha256(data).hexdigest())
    monkeypatch.setitem(download.OPEN_SMEARS, "bccd_neutrophil", known)
    return data


def test_a_real_smear_is_fetched_once_and_kept(server: Path, smear: bytes) -> None:
    (server / "field.png").write_bytes(smear)
    ((pixels, options, kind),) = _sample_data.open_neutrophil()
    assert pixels.shape == (64, 80, 3) and kind == "image" and options["rgb"]
    (server / "field.png").unlink()
    assert _sample_data.open_neutrophil()[0][0].shape == (64, 80, 3)


def test_another_file_than_the_smear_is_refused(server: Path, smear: bytes) -> None:
    (server / "field.png").write_bytes(smear + b"more")
    with pytest.raises(InputError, match="not the expected smear"):
        _sample_data.open_neutrophil()
    (server / "field.png").unlink()
    with pytest.raises(InputError, match="status 404"):
        _sample_data.open_neutrophil()


def test_without_a_network_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    # Nothing listens there.
    monkeypatch.setenv(download.BASE_URL_VARIABLE, "http://127.0.0.1:9")
    with pytest.raises(
        InputError,
        match="no network: .* by hand; the synthetic samples need no network. .* cannot be reached",
    ):
        _sample_data.open_monocyte()
    monkeypatch.setenv(download.BASE_URL_VARIABLE, "file:///etc")
    with pytest.raises(InputError, match="not a safe address"):
        _sample_data.open_monocyte()


def test_the_checksums_are_those_of_the_originals(shared_data: Path) -> None:
    for smear in download.OPEN_SMEARS.values():
        data = (shared_data / "bccd" / "images" / smear.file).read_bytes()
        assert hashlib.sha256(data).hexdigest() == smear.sha256


def test_tables_are_written_of_a_result_and_of_any_labels_with_classes(tmp_path: Path) -> None:
    labels = np.zeros((40, 50), np.int32)
    labels[2:12, 3:13], labels[20:30, 30:44] = 1, 2
    features = pd.DataFrame({"index": [0, 1, 2], "class": [None, "neutrophil", "RBC"]})
    meta = {"name": "drawn", "features": features, "metadata": {}}
    _writer.write_cells(str(tmp_path / "cells.csv"), labels, meta)
    _writer.write_counts(str(tmp_path / "counts.csv"), labels, meta)
    cells = pd.read_csv(tmp_path / "cells.csv")
    assert list(cells["class"]) == ["neutrophil", "red_cell"] and list(cells["area_px"]) == [100, 140]
    counts = pd.read_csv(tmp_path / "counts.csv").set_index("class")
    assert counts.loc["neutrophil", "percent"] == 100 and counts.loc["red_cell", "count"] == 1
    with pytest.raises(InputError, match="has no classes"):
        _writer.write_cells(str(tmp_path / "no.csv"), labels, {"name": "plain", "features": {}})
