"""Speed of the networks, compared with other networks and with the speed of a matrix product on this machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from cellpose.vit import CPSAM

from napari_leukocls.architectures.registry import create
from napari_leukocls.benchmark._images import leukocyte_crops
from napari_leukocls.benchmark._timing import (
    free_memory,
    gflop_of,
    left_out,
    matmul,
    parameters_of,
    share_of_matmul,
    take_turns,
)
from napari_leukocls.segmentation.compact_net import TILE

if TYPE_CHECKING:
    from napari_leukocls.analysis.engine import Engine

#: Free memory (bytes) that is needed to build cellpose's network: twice its 1.2 GB of weights, and a reserve.
ROOM_FOR_CPSAM = 4_000_000_000
#: Batch sizes of the classifier.
BATCHES = (8, 16, 32, 64)
#: Images in one turn of the network that is compared: the first image of a turn is slower, since caches are cold.
OTHER_IMAGES = 16


def segmenters(engine: Engine, quick: bool) -> dict[str, Any]:
    """Compare the compact network with cpsam_v2's architecture (with random weights) on 256 px tiles.

    Parameters
    ----------
    engine : Engine
    quick : bool
        Fewer repeats.

    Returns
    -------
    dict
    """
    compact = engine.compact.net
    batch = engine.compact.batch_size
    megapixels = TILE**2 / 1e6
    tiles = torch.rand(batch, 3, TILE, TILE).to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def run_compact() -> None:
        compact(tiles)

    product = matmul()
    times = take_turns({"compact": run_compact, "matmul": product}, 5 if quick else 15)
    figures: dict[str, Any] = {
        "compact_parameters": parameters_of(compact),
        "compact_batch": batch,
        "compact_s_per_megapixel": times["compact"] / batch / megapixels,
        "compact_share_of_matmul": share_of_matmul(
            gflop_of(compact, tiles), times["compact"], times["matmul"]
        ),
    }
    if free_memory() < ROOM_FOR_CPSAM:
        figures["cpsam"] = left_out(f"less than {ROOM_FOR_CPSAM / 1e9:.0f} GB of memory is free")
    else:
        cpsam = CPSAM(dtype=torch.float32).eval()
        tile = torch.rand(1, 3, TILE, TILE)

        @torch.inference_mode()
        def run_cpsam() -> None:
            cpsam(tile)

        # It takes seconds for a tile, so that no warm-up is needed.
        turns = {"compact": run_compact, "cpsam": run_cpsam, "matmul": product}
        times = take_turns(turns, 1 if quick else 3, warm=False)
        figures["cpsam_s_per_megapixel"] = times["cpsam"] / megapixels
        figures["cpsam_share_of_matmul"] = share_of_matmul(
            gflop_of(cpsam, tile), times["cpsam"], times["matmul"]
        )
        figures["ratio_cpsam_to_compact"] = times["cpsam"] / (times["compact"] / batch)
    return figures


def classifiers(engine: Engine, quick: bool) -> dict[str, Any]:
    """Compare the classifier at its fastest batch size with EfficientNet-B0 at batch size 1.

    The classifier runs as in an analysis, on leukocytes of a sample smear.

    Parameters
    ----------
    engine : Engine
    quick : bool
        Fewer repeats.

    Returns
    -------
    dict
    """
    classifier = engine.classifier
    crops = leukocyte_crops(engine, max(BATCHES))
    other = create("efficientnet_b0", 1000).eval()
    image = torch.rand(1, 3, 224, 224)

    @torch.inference_mode()
    def run_other() -> None:
        for _ in range(OTHER_IMAGES):
            other(image)

    def run(batch: int) -> Callable[[], object]:
        return lambda: classifier.predict(crops, batch)

    works: dict[str, Callable[[], object]] = {"efficientnet_b0": run_other, "matmul": matmul()}
    works |= {str(batch): run(batch) for batch in BATCHES}
    times = take_turns(works, 5 if quick else 15)
    rates = {batch: len(crops) / times[str(batch)] for batch in BATCHES}
    best = max(rates, key=lambda batch: rates[batch])
    gflop = gflop_of(classifier.net, classifier.tensor(crops[:1]))
    other_seconds = times["efficientnet_b0"] / OTHER_IMAGES
    return {
        "name": classifier.card.name,
        "architecture": classifier.card.architecture,
        "parameters": parameters_of(classifier.net),
        "side_px": crops.shape[1],
        "images_per_s": {f"batch_{batch}": value for batch, value in rates.items()},
        "best_batch": best,
        "best_images_per_s": rates[best],
        "share_of_matmul": share_of_matmul(gflop, 1 / rates[best], times["matmul"]),
        "efficientnet_b0_images_per_s": 1 / other_seconds,
        "efficientnet_b0_share_of_matmul": share_of_matmul(
            gflop_of(other, image), other_seconds, times["matmul"]
        ),
        "ratio_to_efficientnet_b0": rates[best] * other_seconds,
    }
