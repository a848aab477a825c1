"""Reports as PDF, printed without a screen."""

from __future__ import annotations

import base64
import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_leukocls.results.writer import write_result
from tests.results import make_result

pytest.importorskip("qtpy")

#: Qt keeps one application in a process: printing without a screen has a process of its own.
SCRIPT = """
import sys
from pathlib import Path
from napari_leukocls.widgets.common.printing import print_html
folder = Path(sys.argv[1])
print_html((folder / "report.html").read_text(encoding="utf-8"), folder / "report.pdf", "Report")
print_html(Path(sys.argv[2]).read_text(encoding="utf-8"), folder / "wide.pdf", "Wide")
"""


def test_a_report_is_printed_without_a_screen(tmp_path: Path) -> None:
    folder = write_result(make_result(), tmp_path)["folder"]
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((40, 3000, 3), np.uint8)).save(buffer, "PNG")
    picture = base64.b64encode(buffer.getvalue()).decode("ascii")
    page = tmp_path / "wide.html"
    page.write_text(f"<p>Rümke, µm</p><img src='data:image/png;base64,{picture}'>" * 3, encoding="utf-8")
    environment = {
        key: value for key, value in os.environ.items() if key not in ("DISPLAY", "WAYLAND_DISPLAY")
    }
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder), str(page)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    for name in ("report.pdf", "wide.pdf"):
        data = (folder / name).read_bytes()
        assert data.startswith(b"%PDF") and b"%%EOF" in data[-1024:]
        # A4, in points.
        assert b"595" in data and b"842" in data
    # The three wide pictures fit on one page each, and the page is one.
    assert b"/Count 1" in (folder / "wide.pdf").read_bytes()
