"""Speed and memory on this machine: medians, and ratios of times that were measured in the same run.

Seconds depend on the machine and on its other load; ratios hardly do. The functions that are compared are called in
turns, so that other load slows all of them equally.
"""

from __future__ import annotations

import platform
from typing import Any

from napari_leukocls.threads import cores


def measure(quick: bool = False) -> dict[str, Any]:
    """Measure the engine on the CPU, with the number of threads that torch uses on this machine.

    Parameters
    ----------
    quick : bool
        Fewer repeats, no image above 4 megapixels, and no 4096 x 3072 smear.

    Returns
    -------
    dict
        Nested; the names of figures end in their units. Instead of figures that cannot be measured on this
        machine there is a reason.

    Raises
    ------
    ModelError
        If a model is missing.
    DeviceError
        If the analysis of the large smear fails.
    """
    from napari_leukocls.analysis.engine import load_engine
    from napari_leukocls.benchmark._images import help_time, large_smear, sizes, small_field
    from napari_leukocls.benchmark._networks import classifiers, segmenters
    from napari_leukocls.benchmark._timing import left_out
    from napari_leukocls.config import make_config

    engine = load_engine(make_config(device="cpu"))
    return {
        "machine": _machine(3 if quick else 7),
        "segmenter": segmenters(engine, quick),
        "classifier": classifiers(engine, quick),
        "field_640x480": small_field(engine, 3 if quick else 7),
        "megapixels": sizes(engine, quick),
        "smear_4096x3072": left_out("--quick") if quick else large_smear(),
        "help": help_time(3 if quick else 11),
    }


def _machine(repeats: int) -> dict[str, Any]:
    import torch

    from napari_leukocls.benchmark._timing import MATMUL_GFLOP, matmul, take_turns

    rate = MATMUL_GFLOP / take_turns({"matmul": matmul()}, repeats)["matmul"]
    return {
        "processor": platform.processor() or platform.machine(),
        "cores": cores(),
        "torch_threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "matmul_float32_gflop_per_s": rate,
    }
