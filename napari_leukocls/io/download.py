"""Public sample smears: downloaded on first use, checked by their hash, and kept."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from napari_leukocls.errors import InputError
from napari_leukocls.io.atomic import atomic_bytes, make_folder
from napari_leukocls.io.serialise import sha256_of
from napari_leukocls.paths import user_data_dir

#: Address of the Blood Cell Count and Detection data set (Shenggan/BCCD_Dataset on GitHub, MIT licence).
BASE_URL = "https://raw.githubusercontent.com/Shenggan/BCCD_Dataset/master/BCCD/JPEGImages"
#: Environment variable: another address of the same files, such as a mirror within a hospital.
BASE_URL_VARIABLE = "LEUKOCLS_SAMPLES_URL"
TIMEOUT_S = 20
#: A larger file is not one of these smears.
MOST_BYTES = 2_000_000


@dataclass(frozen=True)
class OpenSmear:
    """A public smear: the name of its file, and the SHA-256 that the file must have."""

    file: str
    sha256: str


#: Fields of this data set, by the class of their leukocyte as its authors labelled it.
OPEN_SMEARS = {
    "bccd_neutrophil": OpenSmear(
        "BloodImage_00000.jpg", "e1dcc488889acba247a895df7be839e514850030217b4025048619f664fd4cb3"
    ),
    "bccd_eosinophil": OpenSmear(
        "BloodImage_00009.jpg", "f36e5d7cb1ca9b496cde4608c7157d0e7214d6dc33285ec3850fe19f4f4bb9d5"
    ),
    "bccd_monocyte": OpenSmear(
        "BloodImage_00015.jpg", "6b4b951796d630fe4206638ab876e87554e719a2cde74e78e09601a71eda6076"
    ),
    "bccd_lymphocyte": OpenSmear(
        "BloodImage_00021.jpg", "53cc353dcc9a31a14f03173583c4d5fd14c4496d91ce464f21602eeb0be04715"
    ),
}


def fetch(name: str) -> Path:
    """The file of a public smear, downloaded on first use into the user's data folder.

    Parameters
    ----------
    name : str
        One of `OPEN_SMEARS`.

    Returns
    -------
    Path

    Raises
    ------
    InputError
        If it cannot be downloaded, or another file arrives. The message says where to put the file by hand.
    OutputError
        If it cannot be saved.
    """
    smear = OPEN_SMEARS[name]
    target = user_data_dir() / "samples" / smear.file
    if target.is_file() and sha256_of(target) == smear.sha256:
        return target
    url = f"{os.environ.get(BASE_URL_VARIABLE) or BASE_URL}/{smear.file}"
    by_hand = f"or put it at '{target}' by hand"
    data = _download(url, by_hand)
    if sha256_of(data) != smear.sha256:
        raise InputError(f"the file from {url} is not the expected smear: try again later, {by_hand}.")
    make_folder(target.parent)
    atomic_bytes(target, data)
    return target


def _download(url: str, by_hand: str) -> bytes:
    if not url.startswith(("https://", "http://127.0.0.1", "http://localhost")):
        raise InputError(f"{url} is not a safe address: {BASE_URL_VARIABLE} must begin with https://.")
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:
            data: bytes = answer.read(MOST_BYTES + 1)
    except urllib.error.HTTPError as error:
        raise InputError(
            f"{url} could not be downloaded (status {error.code}): try again later, {by_hand}."
        ) from error
    except OSError as error:
        reason = getattr(error, "reason", error)
        raise InputError(
            f"no network: connect to the internet, {by_hand}; the synthetic samples need no network. "
            f"({url} cannot be reached: {reason})"
        ) from error
    if len(data) > MOST_BYTES:
        raise InputError(f"{url} is larger than it should be: try again later, {by_hand}.")
    return data
