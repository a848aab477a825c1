"""Cards of small classifiers, as tests need them."""

from __future__ import annotations

from typing import Any

CLASSES = ("lymphocyte", "monocyte", "neutrophil")
SIDE = 64


def card_values(name: str, **more: Any) -> dict[str, Any]:
    """The fields that every card has, and `more`."""
    return {
        "name": name,
        "architecture": "mobilenetv2_035",
        "classes": list(CLASSES),
        "input_size": [SIDE, SIDE],
        "mean": [0.5] * 3,
        "std": [0.5] * 3,
        "crop": {"side_um": 22.4, "side_px": SIDE},
        **more,
    }
