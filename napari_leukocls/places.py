"""Where the user's own files are."""

from __future__ import annotations

import os
from pathlib import Path


def user_data_dir() -> Path:
    """Folder of the user's own models, classes and choices; ``LEUKOCLS_DATA`` overrides it. It may not exist yet."""
    override = os.environ.get("LEUKOCLS_DATA")
    if override:
        return Path(override)
    from platformdirs import user_data_path

    return user_data_path("leukocls", appauthor=False)
