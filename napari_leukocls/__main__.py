"""``python -m napari_leukocls``: the same as ``leukocls``."""

from __future__ import annotations

import sys

from napari_leukocls.cli import main

if __name__ == "__main__":
    sys.exit(main())
