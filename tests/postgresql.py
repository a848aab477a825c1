"""A PostgreSQL server of one's own for a test: made in a temporary folder, on loopback, gone afterwards."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

NEEDED = ("initdb", "pg_ctl")


def programs() -> Path | None:
    """Folder of the server's programs: on the path, or where Debian keeps them."""
    found = shutil.which("initdb")
    folders = [Path(found).parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((folder for folder in folders if all((folder / name).is_file() for name in NEEDED)), None)


def _ordinary_user() -> str | None:
    """Who shall run the server: it refuses to be root."""
    if os.geteuid() != 0:
        return None
    import pwd

    for name in ("postgres", "nobody"):
        try:
            pwd.getpwnam(name)
        except KeyError:
            continue
        return name
    pytest.skip("PostgreSQL does not run as root, and there is no other user")


@contextmanager
def server() -> Iterator[str]:
    """Start a server; yields its URL, or skips the test naming what is missing."""
    folder = programs()
    if folder is None:
        pytest.skip("needs a PostgreSQL server: install the package postgresql (make system)")
    pytest.importorskip("psycopg", reason="needs psycopg: pip install 'napari-leukocls[postgres]'")
    user = _ordinary_user()
    home = Path(tempfile.mkdtemp(prefix="leukocls-pg-"))
    try:
        if user is not None:
            shutil.chown(home, user)

        def call(*words: str) -> None:
            done = subprocess.run(
                [str(folder / words[0]), *words[1:]],
                user=user,
                cwd=home,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stderr + done.stdout

        data = home / "data"
        call("initdb", "-D", str(data), "-U", "leukocls", "-A", "trust", "-E", "UTF8", "--no-sync")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='{home}'"
        call("pg_ctl", "-D", str(data), "-l", str(home / "log"), "-w", "-o", options, "start")
        try:
            yield f"postgresql://leukocls@127.0.0.1:{port}/postgres"
        finally:
            call("pg_ctl", "-D", str(data), "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(home, ignore_errors=True)
