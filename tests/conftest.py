"""What all tests share: no network, no files of the user's, and a display for those that open a window."""

from __future__ import annotations

import atexit
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

# How long an example takes says what else the machine is doing.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

ROOT = Path(__file__).resolve().parent.parent
SHARED_DATA = ROOT.parent / "shared" / "data"


@pytest.fixture(autouse=True, scope="session")
def _no_folders_of_the_user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Fixtures that many tests share do not see the models and choices of the user who runs them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LEUKOCLS_DATA", str(tmp_path_factory.mktemp("user_data")))
        patch.delenv("LEUKOCLS_MODELS", raising=False)
        patch.delenv("LEUKOCLS_REVIEW_STORE", raising=False)
        yield


@pytest.fixture(autouse=True)
def _own_folders(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test starts without models and choices of the user's."""
    monkeypatch.setenv("LEUKOCLS_DATA", str(tmp_path_factory.mktemp("user_data")))
    monkeypatch.delenv("LEUKOCLS_MODELS", raising=False)
    monkeypatch.delenv("LEUKOCLS_REVIEW_STORE", raising=False)


@pytest.fixture(autouse=True, scope="session")
def _no_network() -> Iterator[None]:
    """Connections to other machines fail: the product works without a network."""
    connect = socket.socket.connect

    def local_only(self: socket.socket, address: object) -> None:
        host = address[0] if isinstance(address, tuple) else ""
        if self.family in (socket.AF_INET, socket.AF_INET6) and host not in ("127.0.0.1", "::1", "localhost"):
            raise OSError(f"the tests do not use the network (tried {address!r})")
        connect(self, address)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", local_only)
        yield


@pytest.fixture
def shared_data() -> Path:
    """The public data sets that the project is measured on; tests that need them skip where they are not."""
    if not SHARED_DATA.is_dir():
        pytest.skip("needs the public data sets at ../shared/data")
    return SHARED_DATA


@pytest.fixture(scope="session")
def display() -> Iterator[str]:
    """A display with OpenGL: the one there is, else Xvfb."""
    if os.environ.get("DISPLAY") or sys.platform in ("win32", "darwin"):
        yield os.environ.get("DISPLAY", "")
        return
    xvfb = shutil.which("Xvfb")
    if xvfb is None:
        message = "needs a display: install xvfb and libgl1-mesa-dri (make system)"
        if os.environ.get("LEUKOCLS_REQUIRE_DISPLAY"):
            pytest.fail(message)
        pytest.skip(message)
    read, write = os.pipe()
    server = subprocess.Popen(
        [
            xvfb,
            "-displayfd",
            str(write),
            "-screen",
            "0",
            "1600x1200x24",
            "+extension",
            "GLX",
            "-nolisten",
            "tcp",
        ],
        pass_fds=(write,),
        stderr=subprocess.DEVNULL,
    )
    os.close(write)
    # Not at the end of the tests: Qt ends the process when its server goes while it still handles events.
    atexit.register(_stop, server)
    # Xvfb picks a free number and says so when it is ready; nothing comes if it dies.
    with os.fdopen(read) as pipe:
        number = pipe.readline().strip()
    if not number:
        pytest.fail("Xvfb did not start")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DISPLAY", f":{number}")
        # A real window, drawn by Mesa: Qt's offscreen platform has no OpenGL.
        patch.setenv("QT_QPA_PLATFORM", "xcb")
        patch.setenv("LIBGL_ALWAYS_SOFTWARE", "1")
        yield f":{number}"


def _stop(server: subprocess.Popen[bytes]) -> None:
    server.terminate()
    server.wait(timeout=20)
