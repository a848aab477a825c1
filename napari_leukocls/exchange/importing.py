"""Import of a classifier: from a model folder, a zip of one, or a state dict of a known architecture."""

from __future__ import annotations

import stat
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from napari_leukocls import architectures
from napari_leukocls.classification.loading import verify
from napari_leukocls.errors import ArgumentError, ModelError
from napari_leukocls.models.card import make_card
from napari_leukocls.models.install import check_model_name, install_folder, write_model
from napari_leukocls.models.registry import CARD_NAME, WEIGHTS_NAME

_TORCH = {".pt", ".pth", ".bin", ".ckpt", ".tar"}

#: Names under which training programs keep the state dict in a checkpoint.
_INSIDE = ("state_dict", "model_state_dict", "model_state", "model", "net", "weights")
#: What wrappers of networks put before every name of a state dict.
_PREFIXES = ("module.", "_orig_mod.", "model.", "net.")
#: A model file or package that unpacks to more is refused, bytes.
_MOST = 4 * 1024**3


@dataclass(frozen=True)
class ImportSettings:
    """What a state dict does not state itself.

    Attributes
    ----------
    architecture : str
        A name of the registry, or timm's.
    classes : tuple of str
        In the order of the network's outputs.
    arguments : dict
        For the architecture's builder.
    side_px : int or None
        Side of its input, pixels; by default the architecture's.
    side_um : float
        Side of a crop on the slide, micrometres.
    margin_um : float or None
        What is farther than this from the cell's outline (micrometres) is painted over; None keeps all.
    mean, std : tuple of float or None
        Of pixels scaled to 0-1; by default the architecture's.
    licence : str
    whole_image : bool
        The network was trained on images that were only resized; nothing is outlined for it.
    """

    architecture: str
    classes: tuple[str, ...]
    arguments: dict[str, Any]
    side_px: int | None = None
    side_um: float = 22.4
    margin_um: float | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    licence: str = ""
    whole_image: bool = False


def import_model(
    path: str | Path, name: str | None = None, settings: ImportSettings | None = None, replace: bool = False
) -> Path:
    """Install a classifier in the user's models, so that it can be used by name.

    Parameters
    ----------
    path : path-like
        A model folder (``model.json`` and ``weights.safetensors``), a zip of one, or a state dict:
        ``.safetensors``, or a torch file, which is read with ``weights_only`` so that nothing in it can run.
    name : str, optional
        By default the file's or folder's own.
    settings : ImportSettings, optional
        Needed for a state dict.
    replace : bool
        Whether a model of that name may be replaced.

    Returns
    -------
    Path
        The installed folder.

    Raises
    ------
    ModelError
        If the file is no model, does not fit the architecture, or asks to run code.
    ArgumentError
        If the name cannot be a folder's, or a state dict comes without `settings`.
    OutputError
        If there is a model of that name already, or it cannot be written.
    """
    source = Path(path)
    if not source.exists():
        raise ModelError(f"{source} does not exist: give a model folder, its zip, or a state dict.")
    chosen = check_model_name(name or source.name.split(".")[0])
    with tempfile.TemporaryDirectory(prefix="leukocls-import-") as scratch:
        if source.is_dir():
            folder = source
        elif source.suffix == ".zip":
            folder = _unzip(source, Path(scratch))
        elif source.suffix == ".safetensors" or source.suffix in _TORCH:
            folder = _convert(source, settings, chosen, Path(scratch) / chosen)
        else:
            raise ModelError(
                f"{source.name} is of no known kind: give a model folder, its zip, .safetensors or .pth."
            )
        verify(folder)
        return install_folder(folder, chosen, replace=replace)


def _unzip(file: Path, scratch: Path) -> Path:
    """Unpack the two files of a model, and nothing else, from a zip."""
    try:
        with zipfile.ZipFile(file) as archive:
            found = {}
            for info in archive.infolist():
                name = info.filename.rsplit("/", 1)[-1]
                if name in (CARD_NAME, WEIGHTS_NAME):
                    if name in found or stat.S_ISLNK(info.external_attr >> 16):
                        raise ModelError(
                            f"{file.name} holds more than one {name}, or a link: unpack it by hand."
                        )
                    found[name] = info
            if len(found) < 2:
                raise ModelError(f"{file.name} holds no model.json and weights.safetensors: it is no model.")
            if sum(info.file_size for info in found.values()) > _MOST:
                raise ModelError(
                    f"{file.name} unpacks to more than {_MOST / 1024**3:.0f} GB: it is not unpacked."
                )
            folder = scratch / "unpacked"
            folder.mkdir()
            for name, info in found.items():
                (folder / name).write_bytes(archive.read(info))
    except (zipfile.BadZipFile, OSError, RuntimeError) as error:
        raise ModelError(f"{file.name} cannot be unpacked ({error}): copy it again.") from error
    return folder


def read_state_dict(file: Path) -> dict[str, torch.Tensor]:
    """Read a state dict of safetensors or torch; nothing in the file is run.

    Parameters
    ----------
    file : Path

    Returns
    -------
    dict of str to torch.Tensor
        Without the prefixes that wrappers of networks add.

    Raises
    ------
    ModelError
        If it is damaged, holds more than tensors and plain values, or holds no state dict.
    """
    if file.suffix == ".safetensors":
        try:
            return _bare(load_file(file))
        except (SafetensorError, OSError, ValueError) as error:
            raise ModelError(f"{file.name} is damaged ({error}): copy it again.") from error
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 - torch raises what the unpickler meets: damage or code, all refused
        raise ModelError(
            f"{file.name} is damaged, or holds more than weights, which is not loaded: save its state_dict() alone."
        ) from error
    for key in _INSIDE:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
            break
    if not isinstance(content, dict) or not any(isinstance(v, torch.Tensor) for v in content.values()):
        raise ModelError(f"{file.name} holds no state dict: save the network's state_dict().")
    return _bare({key: value for key, value in content.items() if isinstance(value, torch.Tensor)})


def _bare(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Take wrappers' prefixes away where all names have them."""
    for prefix in _PREFIXES:
        if tensors and all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
    return tensors


def _convert(file: Path, settings: ImportSettings | None, name: str, folder: Path) -> Path:
    """Make a model folder of a state dict."""
    if settings is None or not settings.architecture or len(settings.classes) < 2:
        raise ArgumentError(
            f"{file.name} is a state dict: say what it is with --arch NAME and --classes A,B,..."
        )
    entry = architectures.entry(settings.architecture)
    tensors = read_state_dict(file)
    net = architectures.create(settings.architecture, len(settings.classes), **settings.arguments)
    wanted = net.state_dict()
    _check_fit(file, settings, tensors, wanted)
    side = settings.side_px or entry.input.side
    card = {
        "name": name,
        "architecture": settings.architecture,
        "arguments": settings.arguments,
        "classes": list(settings.classes),
        "input_size": [side, side],
        "mean": settings.mean or entry.mean,
        "std": settings.std or entry.std,
        "crop": {
            "side_um": settings.side_um,
            "side_px": side,
            "margin_um": None if settings.whole_image else settings.margin_um,
            "white": None if settings.whole_image else 235.0,
            "whole_image": settings.whole_image,
        },
        "training_data": {"sources": [f"unknown: imported from {file.name}"]},
        "licence": settings.licence,
        "intended_use": "Imported; not for diagnosis.",
        "known_limits": [
            "Imported: its temperature, review threshold and out-of-distribution score were not fitted here."
        ],
    }
    made = make_card(card, f"of {name}")
    write_model(folder, made, {key: tensors[key].to(wanted[key].dtype) for key in wanted})
    return folder


def _check_fit(
    file: Path,
    settings: ImportSettings,
    tensors: dict[str, torch.Tensor],
    wanted: dict[str, torch.Tensor],
) -> None:
    missing = [key for key in wanted if key not in tensors]
    unknown = [key for key in tensors if key not in wanted]
    shapes = [key for key in wanted if key in tensors and tensors[key].shape != wanted[key].shape]
    if not (missing or unknown or shapes):
        return
    if shapes and not missing and not unknown:
        first = shapes[0]
        detail = f"{first} is {tuple(tensors[first].shape)} and should be {tuple(wanted[first].shape)}"
        advice = f"give as many --classes as it has outputs ({len(settings.classes)} were given)"
    else:
        first = (missing or unknown)[0]
        detail = f"{len(missing)} tensors are missing and {len(unknown)} are unknown, first {first}"
        advice = "give the --arch that it was made with"
    raise ModelError(f"{file.name} does not fit {settings.architecture}: {detail}; {advice}.")
