"""Puts the models and the sample smears into the wheel; an editable install finds them in the checkout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

BUNDLED = ("models", "sample_data")


class BundledFiles(BuildHookInterface):
    """Include the folders of `BUNDLED` under ``napari_leukocls/_bundled``."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling before it builds; `version` is "standard" or "editable"."""
        if version == "editable":
            # A copy here would hide what is changed in the checkout.
            return
        for name in BUNDLED:
            folder = Path(self.root) / name
            if not folder.is_dir():
                raise FileNotFoundError(f"{folder} is missing: a wheel without it would have no {name}")
            build_data["force_include"][str(folder)] = f"napari_leukocls/_bundled/{name}"
