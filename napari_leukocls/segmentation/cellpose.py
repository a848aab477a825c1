"""Cellpose's own networks, by name or by file. Nothing is downloaded: the user puts the file into its folder."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from cellpose import models
from skimage.segmentation import relabel_sequential

from napari_leukocls.device import is_out_of_memory
from napari_leukocls.errors import DeviceError, ModelError
from napari_leukocls.io.serialise import sha256_of
from napari_leukocls.progress import Progress, Steps
from napari_leukocls.segmentation.base import Outlines


def model_file(name: str) -> Path:
    """Find the weights of a named cellpose network on this computer.

    Parameters
    ----------
    name : str
        One that cellpose 4 knows.

    Returns
    -------
    Path
        Of a file that is there.

    Raises
    ------
    ModelError
        Where they are not there: it says where to put them, and nothing is downloaded.
    """
    path = Path(models.MODEL_DIR) / name
    if not path.is_file():
        raise ModelError(
            f"cellpose's {name} is not on this computer, and is not downloaded: put its file at "
            f"{path}, or use --segmenter compact."
        )
    return path


class CellposeSegmenter:
    """`Segmenter` around one of cellpose's own networks.

    Parameters
    ----------
    path : Path
        Of the network's weights.
    name : str
    device : str

    Raises
    ------
    ModelError
        Where the file is no network of cellpose 4.
    """

    def __init__(self, path: Path, name: str, device: str) -> None:
        self.path = path
        self.name = name
        self.device = device
        self._model = _load(path, device)

    @cached_property
    def weights_hash(self) -> str:
        """SHA-256 of the weights' file."""
        return sha256_of(self.path)

    def segment(self, pixels: np.ndarray, diameter_px: float) -> Steps[Outlines]:
        """Outline cells; the kinds are left to the class map of the compact network.

        Parameters
        ----------
        pixels : numpy.ndarray, (H, W, 3), uint8
        diameter_px : float

        Returns
        -------
        Outlines
            With `kind_votes` None.
        """
        yield Progress("segment", 0, 1)
        try:
            # Cellpose leaves open whether torch checks its sparse tensors, and torch warns of that.
            with torch.sparse.check_sparse_tensor_invariants(enable=False):
                masks = self._model.eval(pixels, diameter=diameter_px, batch_size=4)[0]
        except RuntimeError as error:
            advice = "use --device cpu or a smaller image" if is_out_of_memory(error) else "use --device cpu"
            raise DeviceError(f"cellpose failed on {self.device} ({error}): {advice}.") from error
        labels = relabel_sequential(np.asarray(masks, np.int32).reshape(pixels.shape[:2]))[0].astype(np.int32)
        empty = labels == 0
        glass = np.median(pixels[empty], axis=0) if empty.any() else np.full(3, np.nan)
        return Outlines(labels, None, (float(glass[0]), float(glass[1]), float(glass[2])))


def _load(path: Path, device: str) -> models.CellposeModel:
    """Load a file that cellpose 4 made."""
    try:
        # Cellpose builds 300 million parameters before it looks at the file, and older torch would run a
        # pickle's code there; every network of cellpose 4 holds a tensor W2.
        tensors = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        if not any(str(key).endswith("W2") for key in tensors):
            raise KeyError("W2")
        return models.CellposeModel(
            gpu=device != "cpu",
            pretrained_model=str(path),
            device=torch.device(device),
            use_bfloat16=device != "cpu",
        )
    except Exception as error:
        if is_out_of_memory(error):
            raise DeviceError(f"{path} does not fit the memory of {device}: use another --device.") from error
        # Whatever a wrong file makes torch or cellpose raise, the user chose the wrong file.
        raise ModelError(
            f"{path} is no network that cellpose 4 can read ({type(error).__name__}): "
            "cellpose 3 models do not load; use one that cellpose 4 made."
        ) from error
