"""The network of the embedded segmenter as ONNX: tiles in, maps out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from napari_leukocls.exchange.onnx import export_network
from napari_leukocls.io.images import read_image
from napari_leukocls.paths import sample_smear
from napari_leukocls.segmentation.compact_net import NETWORK_DIAMETER_PX, TILE
from napari_leukocls.segmentation.scale import RED_CELL_UM

if TYPE_CHECKING:
    from napari_leukocls.segmentation.compact import CompactSegmenter

#: The maps that the network gives, in their order.
MAPS = ("y_flow", "x_flow", "cell_probability", "background", "red_cell", "leukocyte", "platelet")
#: Percentiles of a channel that count as the darkest stain and as empty glass.
DARK, GLASS = 1.0, 98.0
#: What this program does beside the network.
LEFT_OUT = (
    f"This file is the network alone. napari-leukocls scales the image so that a red cell is {NETWORK_DIAMETER_PX:g} "
    "pixels across, evens out the light, takes glass and darkest stain of the whole image and not of a tile, "
    "makes cells of the maps (cellpose's dynamics), and looks again at cells in heaps.",
)


class MapsOfTiles(nn.Module):
    """The segmenter's network on brightness, without its style.

    Parameters
    ----------
    net : torch.nn.Module
        As `napari_leukocls.segmentation.compact_net.CompactNet`.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net.eval()

    def forward(self, brightness: torch.Tensor) -> torch.Tensor:
        """Compute the maps.

        Parameters
        ----------
        brightness : torch.Tensor, (N, 3, h, w)
            0 is the darkest stain and 1 empty glass, per channel.

        Returns
        -------
        torch.Tensor, (N, 7, h, w)
            As `MAPS` names them.
        """
        maps: torch.Tensor = self.net(1 - brightness)[0]
        return maps


def example_tiles(count: int = 3) -> np.ndarray:
    """Cut tiles from the bundled synthetic smear, at the scale of the network.

    Parameters
    ----------
    count : int

    Returns
    -------
    numpy.ndarray, (count, 3, TILE, TILE), float32
        0-255.
    """
    image = read_image(sample_smear())
    # Every second or third pixel: near enough to the scale of the network.
    step = max(1, round(RED_CELL_UM / (image.um_per_px or 0.16) / NETWORK_DIAMETER_PX))
    pixels = image.pixels[::step, ::step]
    starts = np.linspace(0, min(pixels.shape[:2]) - TILE, count).astype(int)
    tiles = [pixels[start : start + TILE, start : start + TILE] for start in starts]
    return np.stack(tiles).transpose(0, 3, 1, 2).astype(np.float32)


def stretched(tiles: np.ndarray) -> np.ndarray:
    """Stretch each channel of each tile from its darkest stain to its glass.

    Parameters
    ----------
    tiles : numpy.ndarray, (N, 3, h, w), float32

    Returns
    -------
    numpy.ndarray, (N, 3, h, w), float32
        0 is the darkest stain and 1 empty glass.
    """
    dark, glass = np.percentile(tiles, (DARK, GLASS), axis=(2, 3), keepdims=True)
    array: np.ndarray = ((tiles - dark) / (glass - dark + 1e-6)).astype(np.float32)
    return array


def write_segmenter_onnx(segmenter: CompactSegmenter, path: Path) -> float:
    """Export the network of a segmenter to ONNX, run it, and compare.

    Parameters
    ----------
    segmenter : CompactSegmenter
        On the processor.
    path : Path
        Of the file.

    Returns
    -------
    float
        Largest difference of an output.

    Raises
    ------
    ModelError
        As `napari_leukocls.exchange.onnx.export_network`.
    """
    metadata = {
        "maps": json.dumps(list(MAPS)),
        "red_cell_diameter_px": f"{NETWORK_DIAMETER_PX:g}",
        "weights_sha256": segmenter.weights_hash or "",
        "left_out": " ".join(LEFT_OUT),
    }
    tiles = torch.from_numpy(stretched(example_tiles()))
    return export_network(MapsOfTiles(segmenter.net), tiles, path, ("tiles", "maps"), metadata)


def segmenter_page(card: Mapping[str, Any]) -> str:
    """The page of a package, as Markdown.

    Parameters
    ----------
    card : mapping
        Of the model.

    Returns
    -------
    str
    """
    data = card.get("training_data") or {}
    sources = "\n".join(f"- {source}" for source in data.get("sources", ())) or "- not stated"
    limits = "\n".join(f"- {limit}" for limit in card.get("known_limits", ())) or "- none are stated"
    missing = "\n".join(f"- {part}" for part in LEFT_OUT)
    return f"""# {card["name"]}

{card.get("intended_use", "")}

Input: RGB tiles of {TILE} x {TILE} px in which a red cell is about {NETWORK_DIAMETER_PX:g} px across; each channel is
stretched from its {DARK:g}th to its {GLASS:g}th percentile (0 is the darkest stain, 1 empty glass).
Output: {", ".join(MAPS)}. The flows are those of cellpose.

Trained on:

{sources}

# Validation

The figures on the page of the model are those of napari-leukocls with this network, on images that were not trained on.

## What napari-leukocls does with this model and this package does not

{missing}

## Known limits

{limits}
"""
